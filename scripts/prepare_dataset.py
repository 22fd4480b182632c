"""Converts a raw folder of images and masks, or any other source of pairs, to a Hugging Face dataset.

    python scripts/prepare_dataset.py --dataset FIELD_PHOTOS --output_dir PREPARED

PREPARED then holds `data/*.parquet` with the splits train and validation (and test, if the source has one), a dataset
card, `summary.json` and `overlay.png`, and can be used as `--dataset` of every other command. Check in `overlay.png`
that the masks cover their objects.
"""

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from shlex import quote

import datasets
import numpy as np

from synthset.arguments import PrepareArguments
from synthset.cli import run
from synthset.console import progress
from synthset.data import SplitNotFoundError, load_pairs, load_train_validation, write_pairs_shard
from synthset.errors import InputError
from synthset.publishing.cards import license_of_pairs, write_dataset_card
from synthset.visualization.previews import pair_grid

CARD = Path(__file__).parents[1] / "model_cards" / "dataset.md"
PAIRS_PER_SHARD = 1000


class Summary:
    """Image sizes and mask coverage of pairs, collected while they are iterated over."""

    def __init__(self) -> None:
        self.sizes: Counter[str] = Counter()
        self.coverage: list[float] = []

    def count(self, pairs: Iterable[dict]) -> Iterator[dict]:
        """Yields the rows of `pairs` unchanged."""
        for row in pairs:
            self.sizes["{}x{}".format(*row["image"].size)] += 1
            self.coverage.append(float(np.asarray(row["mask"]).mean()))
            yield row

    def as_dict(self) -> dict:
        coverage = {"min": np.min(self.coverage), "median": np.median(self.coverage), "max": np.max(self.coverage)}
        return {
            "pairs": len(self.coverage),
            "sizes": dict(self.sizes.most_common()),
            "mask_coverage": {name: round(float(value), 4) for name, value in coverage.items()},
            "empty_masks": self.coverage.count(0),
        }


def main(args: PrepareArguments) -> None:
    output_dir = Path(args.output_dir)
    if output_dir.exists() and (not output_dir.is_dir() or any(output_dir.iterdir())):
        raise InputError(f"--output_dir {output_dir} exists and is not empty; remove it or choose another")

    # 1. splits
    source = (args.image_column, args.mask_column)
    train, validation = load_train_validation(args.dataset, *source, args.validation_fraction, args.seed)
    splits = {"train": train, "validation": validation}
    try:
        splits["test"] = load_pairs(args.dataset, "test", *source)
    except SplitNotFoundError:
        pass
    features = train.features.copy()
    features.update(image=datasets.Image(), mask=datasets.Image())

    # 2. written to a hidden folder next to output_dir, renamed when it is complete
    unfinished = output_dir.resolve().with_name(f".{output_dir.resolve().name}.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        summary = {}
        for split, pairs in splits.items():
            rows, seen = iter(progress(pairs, split, unit="pair")), Summary()
            shards = -(-len(pairs) // PAIRS_PER_SHARD)
            for i in range(shards):
                path = unfinished / "data" / f"{split}-{i:05d}-of-{shards:05d}.parquet"
                write_pairs_shard(path, seen.count(islice(rows, PAIRS_PER_SHARD)), features)
            summary[split] = seen.as_dict()
        (unfinished / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
        first = train[: min(16, len(train))]
        pair_grid(first["image"], first["mask"], tile=256).save(unfinished / "overlay.png")
        write_dataset_card(
            unfinished,
            CARD,
            features,
            {split: len(pairs) for split, pairs in splits.items()},
            title=output_dir.resolve().name,
            description="Image-mask pairs for binary segmentation, prepared with SynthSet.",
            preview="overlay.png",
            details={"validation_fraction": args.validation_fraction, "seed": args.seed},
            data_license=args.data_license or license_of_pairs([args.dataset]),
        )
        unfinished.replace(output_dir)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise

    # 3. report
    for split, found in summary.items():
        sizes = ", ".join(f"{count} of {size}" for size, count in list(found["sizes"].items())[:4])
        coverage = "min {min:.1%}, median {median:.1%}, max {max:.1%}".format(**found["mask_coverage"])
        print(f"{split}: {found['pairs']} pairs ({sizes} px), mask coverage {coverage}, {found['empty_masks']} empty")
    print(
        f"Wrote {sum(found['pairs'] for found in summary.values())} pairs to {output_dir}. Check the masks in "
        f"{output_dir / 'overlay.png'}, then run: synthset train --dataset {quote(str(output_dir))} --output_dir RUN"
    )


if __name__ == "__main__":
    run(main, PrepareArguments)
