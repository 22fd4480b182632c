"""Renders a dataset of image-mask pairs, heads of cereals and seedlings among weeds, to try things on or begin with.

    python scripts/render_dataset.py --num_samples 4000 --output_dir DATASET

`datasets.load_dataset(DATASET)` opens the result once all pairs are complete. An interrupted run is continued by the
same command, and a larger `--num_samples` adds pairs. The files are identical for any number of processes.
"""

from dataclasses import asdict
from itertools import islice
from pathlib import Path
from shlex import quote

from synthset.arguments import RenderArguments
from synthset.cli import run
from synthset.data import GrowingDataset
from synthset.data.growing import write_missing
from synthset.output_dir import atomic_path, claim_output_dir, require_readable_name
from synthset.publishing.cards import write_dataset_card
from synthset.rendering.renderer import COLUMNS, FEATURES, Renderer
from synthset.visualization.previews import pair_grid

CARD = Path(__file__).parents[1] / "model_cards" / "dataset.md"


def main(args: RenderArguments) -> None:
    output_dir = Path(args.output_dir)
    require_readable_name(output_dir)
    settings = {k: v for k, v in asdict(args).items() if k not in ("output_dir", "num_workers", "num_samples")}
    claim_output_dir(output_dir, "rendering.json", settings, uncounted=())
    pairs = GrowingDataset(output_dir, args.num_samples, args.samples_per_shard)
    pairs.prepare()
    renderer = Renderer(args.scenes, args.resolution, args.seed)
    write_missing(pairs, renderer.write_shard, args.num_workers)
    pairs.publish()
    if not (output_dir / "README.md").exists():
        rows = list(islice(map(renderer, range(args.num_samples)), 32))
        with atomic_path(output_dir / "preview.png") as temporary:
            pair_grid([row["image"] for row in rows], [row["mask"] for row in rows]).save(temporary, "PNG")
        write_dataset_card(
            output_dir,
            CARD,
            FEATURES,
            splits={"train": args.num_samples},
            tags=["synthetic"],
            title=output_dir.resolve().name,
            description=f"{args.num_samples} rendered pairs of image and segmentation mask: {', '.join(args.scenes)}.",
            preview="preview.png",
            columns=COLUMNS,
            details=settings | {"num_samples": args.num_samples},
            data_license="apache-2.0",
        )
    print(
        f"Wrote {args.num_samples} pairs to {output_dir}. Look at {output_dir / 'preview.png'}, then run: "
        f"synthset train --dataset {quote(str(output_dir))} --output_dir RUN"
    )


if __name__ == "__main__":
    run(main, RenderArguments)
