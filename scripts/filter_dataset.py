"""Keeps the generated pairs whose masks agree best with their images, as another model sees them.

    python scripts/filter_dataset.py --dataset GENERATED --judge RUN/seed-0 --output_dir DATASET

The judge is a segmenter, best one that was trained on real photos, or a generator that draws masks of images. Without
one, pairs are kept by the column `agreement` of `synthset generate --refine_masks`. `datasets.load_dataset(DATASET)`
opens the result; `best.png` and `worst.png` show the pairs that agree most and least.
"""

import io
from collections.abc import Iterator
from pathlib import Path
from shlex import quote

import datasets
import numpy as np
import torch
from PIL import Image

from synthset import keyed_generator
from synthset.arguments import FilterArguments
from synthset.arguments.datasets import DrawArguments
from synthset.cli import run
from synthset.console import progress
from synthset.data import load_pairs, pairs_digest, write_pairs
from synthset.data.scale import recorded_crop_size
from synthset.data.writer import image_columns
from synthset.devices import default_device
from synthset.errors import InputError
from synthset.evaluation.metrics import dice
from synthset.output_dir import atomic_path, claim_output_dir, require_readable_name
from synthset.publishing.cards import describe, license_of_pairs, public_name, write_dataset_card
from synthset.segmentation.mask_sampler import MaskSampler, load_labeler
from synthset.visualization.previews import pair_grid

CARD = Path(__file__).parents[1] / "model_cards" / "dataset.md"
COLUMNS = {
    "agreement": "Dice of the mask with the one that the judge predicts, 1 where both are empty",
    "confidence": "the judge's confidence in its mask, 0 to 1: its expected Dice",
    "number": "number of the pair in the dataset that was filtered",
    "ignore": "255 where `first_mask` and `mask` differ, from which `synthset segment` does not learn",
}


def judge_pairs(args: FilterArguments, pairs: datasets.Dataset) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Measures the agreement of every pair, and the judge's confidence where there is one, (N,) each; with the SHA-256
    of the judge."""
    if args.judge is None:
        if "agreement" not in pairs.column_names:
            raise InputError(
                f"--dataset {args.dataset} has no column agreement; give a --judge, or generate it with --refine_masks"
            )
        return {"agreement": np.array(pairs["agreement"])}, {}
    judge, sha256 = load_labeler(args.judge, args, "--judge")
    judge.to(default_device())
    agreement, sure = [], []
    for row in progress(pairs, "judging", unit="pair"):
        found = judge.label(row["image"])
        agreement.append(dice(found.mask, np.asarray(row["mask"])))
        sure.append(found.confidence)
    settings = {"judge_sha256": sha256}
    if isinstance(judge, MaskSampler):
        settings |= {name: getattr(args, name) for name in vars(DrawArguments())}
    return {"agreement": np.array(agreement), "confidence": np.array(sure)}, settings


def differing(row: dict) -> Image.Image:
    """Where the first mask and the vote of a pair, which may have been enlarged, differ, "L" with 0 and 255."""
    first = row["first_mask"]
    first = first if isinstance(first, Image.Image) else Image.open(io.BytesIO(first["bytes"]))
    first = first.resize(row["mask"].size, Image.Resampling.NEAREST)
    return Image.fromarray(((np.asarray(first) > 0) != (np.asarray(row["mask"]) > 0)).astype(np.uint8) * 255)


def choose(agreement: np.ndarray, has_object: np.ndarray, keep: float) -> np.ndarray:
    """Numbers of the pairs to keep, in order: the share `keep` that agrees best of those with an object, and of those
    without, since two empty masks agree completely."""
    kept = []
    for part in (np.flatnonzero(has_object), np.flatnonzero(~has_object)):
        best = part[np.argsort(-agreement[part], kind="stable")]
        kept.append(best[: round(keep * len(part))])
    return np.sort(np.concatenate(kept))


def resample(kept: np.ndarray, sure: np.ndarray, difficulty: float, seed: int) -> np.ndarray:
    """As many of the kept numbers, drawn with replacement in proportion to (1 - confidence) ** difficulty: harder ones
    more often, as FreeMask (arXiv 2310.15160) does with its own measure."""
    weights = torch.from_numpy((1 - sure[kept] + 1e-3) ** difficulty)
    drawn = torch.multinomial(weights, len(kept), replacement=True, generator=keyed_generator(seed))
    return np.sort(kept[drawn.numpy()])


def save_grid(path: Path, pairs: datasets.Dataset, numbers: np.ndarray, agreement: np.ndarray) -> None:
    rows = pairs.select(numbers)
    captions = [f"{value:.2f}" for value in agreement[numbers]]
    with atomic_path(path) as temporary:
        pair_grid(rows["image"][:], rows["mask"][:], tile=128, captions=captions).save(temporary, "PNG")


def main(args: FilterArguments) -> None:
    # 1. judgment
    output_dir = Path(args.output_dir)
    require_readable_name(output_dir)
    pairs = load_pairs(args.dataset, args.split)
    if args.ignore_differing and "first_mask" not in pairs.column_names:
        raise InputError(
            f"--ignore_differing is true, but --dataset {args.dataset} has no column first_mask; generate it with "
            "--refine_masks, or leave --ignore_differing out"
        )
    measured, found = judge_pairs(args, pairs)
    agreement = measured["agreement"]
    has_object = np.array([np.asarray(row["mask"]).any() for row in pairs])
    kept = choose(agreement, has_object, args.keep)
    if not len(kept):
        raise InputError(f"--keep is {args.keep}, which leaves none of {len(pairs)} pairs; raise it")
    numbers = kept if not args.difficulty else resample(kept, measured["confidence"], args.difficulty, args.seed)

    # 2. the kept pairs, and what was dropped
    chosen = {
        name: getattr(args, name) for name in ("dataset", "judge", "keep", "difficulty", "ignore_differing", "seed")
    }
    settings = {**chosen, **found, "dataset_sha256": pairs_digest(pairs)}
    crop_size = recorded_crop_size(args.dataset)
    settings |= {} if crop_size is None else {"crop_size": crop_size}
    claim_output_dir(output_dir, "filter.json", settings, uncounted=("dataset", "judge"))
    features = dict(pairs.features) | {name: datasets.Image() for name in image_columns(pairs.features)}  # decoded
    features |= {name: datasets.Value("float32") for name in measured} | {"number": datasets.Value("int64")}
    features |= {"ignore": datasets.Image()} if args.ignore_differing else {}

    def rows() -> Iterator[dict]:
        for number in numbers.tolist():
            row = {**pairs[number], **{name: float(column[number]) for name, column in measured.items()}}
            if args.ignore_differing:
                row["ignore"] = differing(row)
            yield row | {"number": number}

    if not (output_dir / "README.md").exists():
        write_pairs(output_dir, "train", rows(), datasets.Features(features))
        order = np.argsort(-agreement, kind="stable")
        shown = order[has_object[order]] if has_object.any() else order
        save_grid(output_dir / "best.png", pairs, shown[:16], agreement)
        save_grid(output_dir / "worst.png", pairs, shown[-16:][::-1], agreement)
        finish(args, settings, features, len(numbers), len(pairs))
    dropped = np.setdiff1d(np.arange(len(pairs)), kept)
    said = f", agreement {np.mean(agreement[kept]):.3f}" + (
        f"; {len(dropped)} dropped, {np.mean(agreement[dropped]):.3f}" if len(dropped) else ""
    )
    print(
        f"Kept {len(kept)} of {len(pairs)} pairs in {output_dir}{said}. Look at {output_dir / 'worst.png'}, then run: "
        f"synthset segment --dataset {quote(str(output_dir))} --test_dataset REAL --output_dir RUN"
    )


def finish(args: FilterArguments, settings: dict, features: dict, kept: int, total: int) -> None:
    """Writes the dataset card."""
    by = f"the judge {describe(args.judge, kind='')}" if args.judge else "masks that were drawn again"
    description = (
        f"{kept} of the {total} pairs of `{public_name(args.dataset)}`: the {args.keep:.0%} whose masks agree best "
        f"with {by}"
    )
    if args.difficulty:
        description += ", drawn again with replacement, those more often of which the judge is less sure"
    write_dataset_card(
        args.output_dir,
        CARD,
        datasets.Features(features),
        splits={"train": kept},
        tags=["synthetic"],
        title=Path(args.output_dir).resolve().name,
        description=f"{description}.",
        preview="best.png",
        columns=COLUMNS,
        details=settings,
        data_license=license_of_pairs([args.dataset]),
    )


if __name__ == "__main__":
    run(main, FilterArguments)
