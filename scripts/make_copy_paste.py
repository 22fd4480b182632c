"""Makes a dataset of image-mask pairs by pasting annotated objects on backgrounds, as a baseline for generators.

    python scripts/make_copy_paste.py --dataset ANNOTATED --backgrounds FOLDER_OR_VIDEO --output_dir DATASET

After Najafian et al. (Plant Phenomics 5, 0025, 2023), the baseline of SynthSet's table 1. A few annotated photos
suffice. Without `--backgrounds`, the annotated photos are used, with their objects replaced by surrounding background.
`datasets.load_dataset(DATASET)` opens the result once all pairs are complete. An interrupted run is continued by the
same command, and a larger `--num_samples` adds pairs. The files are identical for any number of processes.
"""

from dataclasses import asdict, fields
from pathlib import Path
from shlex import quote
from tempfile import TemporaryDirectory

import datasets
import numpy as np
from PIL import Image

from synthset.arguments import CopyPasteArguments
from synthset.cli import run
from synthset.console import progress
from synthset.data import GrowingDataset, files_digest, load_pairs, pairs_digest
from synthset.data.copy_paste import (
    COLUMNS,
    FEATURES,
    CopyPaste,
    CutOut,
    cut_out_objects,
    fill_objects,
    fit_crop_size,
)
from synthset.data.frames import count_frames, iter_frames
from synthset.data.growing import write_missing
from synthset.errors import InputError
from synthset.output_dir import atomic_path, claim_output_dir, require_readable_name
from synthset.publishing.cards import describe, license_of_pairs, public_name, write_dataset_card
from synthset.sources.names import SUFFIXES
from synthset.visualization.previews import pair_grid

CARD = Path(__file__).parents[1] / "model_cards" / "dataset.md"


def fill_annotated(pairs: datasets.Dataset, folder: Path, seed: int) -> list[Path]:
    """Writes the annotated images to `folder`, with their objects replaced by background."""
    paths = []
    for number, row in enumerate(progress(pairs, "removing objects", unit="image")):
        mask = np.asarray(row["mask"])
        if mask.mean() < 0.7:  # other images have too little background to copy from
            filled = fill_objects(np.asarray(row["image"]), mask, np.random.default_rng((seed, number, 1)))
            paths.append(folder / f"{number:06d}.png")
            Image.fromarray(filled).save(paths[-1], compress_level=1)
    if not paths:
        raise InputError("objects cover most of every annotated image; give --backgrounds without objects")
    return paths


def find_backgrounds(args: CopyPasteArguments, pairs: datasets.Dataset, scratch: Path) -> list[Path]:
    """Returns the background files; frames of a video and filled images are written to `scratch`."""
    if args.backgrounds is None:
        return fill_annotated(pairs, scratch, args.seed)
    source = Path(args.backgrounds).expanduser()
    if not source.exists():
        raise InputError(f"--backgrounds {source} does not exist; give a folder of images or a video")
    if source.is_dir():
        paths = [p for p in sorted(source.iterdir()) if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")]
        if not paths:
            raise InputError(f"--backgrounds {source} holds no images ({', '.join(SUFFIXES)}); add some")
        return paths
    paths = []
    frames = iter_frames(source, args.video_every)
    for frame in progress(frames, "decoding frames", total=count_frames(source, args.video_every), unit="frame"):
        paths.append(scratch / f"frame-{len(paths) * args.video_every:06d}.png")
        frame.save(paths[-1], compress_level=1)
    return paths


def finish(args: CopyPasteArguments, settings: dict, copy_paste: CopyPaste) -> None:
    """Writes the preview, and last the dataset card."""
    output_dir = Path(args.output_dir)
    rows = [copy_paste(number) for number in range(min(32, args.num_samples))]
    with atomic_path(output_dir / "preview.png") as temporary:
        pair_grid([row["image"] for row in rows], [row["mask"] for row in rows]).save(temporary, "PNG")
    backgrounds = (
        f"`{public_name(args.backgrounds)}`" if args.backgrounds else "the same images with their objects filled"
    )
    description = (
        f"{args.num_samples} synthetic pairs of image and segmentation mask: objects cut out of the annotated images "
        f"of {describe(args.dataset)}, pasted on {backgrounds}, after Najafian et al. (Plant Phenomics 5, 0025, 2023)."
    )
    write_dataset_card(
        output_dir,
        CARD,
        FEATURES,
        splits={"train": args.num_samples},
        tags=["synthetic", "copy-paste"],
        title=output_dir.resolve().name,
        description=description,
        preview="preview.png",
        columns={name: meaning for name, (_, meaning) in COLUMNS.items()},
        details=settings | {"num_samples": args.num_samples},
        data_license=license_of_pairs([args.dataset]),
    )


def main(args: CopyPasteArguments) -> None:
    output_dir = Path(args.output_dir)

    # 1. objects
    pairs = load_pairs(args.dataset, args.split, args.image_column, args.mask_column)
    cutouts: list[CutOut] = []
    area = 0
    for row in progress(pairs, "cutting out objects", unit="image"):
        cutouts += cut_out_objects(np.asarray(row["image"]), np.asarray(row["mask"]), args.min_area)
        area += row["mask"].width * row["mask"].height
    if not cutouts:
        raise InputError(
            f"--dataset {args.dataset} has no object of {args.min_area} pixels or more in {len(pairs)} masks; lower "
            "--min_area or annotate some"
        )
    # objects cut off by the border of their photo have a straight edge, so they are used only if there are no others
    whole = [cutout for cutout in cutouts if cutout.whole] or cutouts

    with TemporaryDirectory(prefix="synthset-backgrounds-") as scratch:
        # 2. backgrounds
        backgrounds = find_backgrounds(args, pairs, Path(scratch))
        crop_size = fit_crop_size(backgrounds, args.crop_size)
        found: dict[str, int | str] = {
            "crop_size": crop_size,
            "found_objects": len(whole),
            "found_backgrounds": len(backgrounds),
        }
        found["dataset_sha256"] = pairs_digest(pairs)
        if args.backgrounds is not None:
            found["backgrounds_sha256"] = files_digest(backgrounds)
        settings = {name: value for name, value in {**asdict(args), **found}.items() if value is not None}
        for name in ("output_dir", "num_workers", "num_samples"):
            settings.pop(name)
        growing = GrowingDataset(output_dir, args.num_samples, args.samples_per_shard)
        spelled = ("dataset", "split", "image_column", "mask_column", "backgrounds")
        require_readable_name(output_dir)
        claim_output_dir(output_dir, "copy_paste.json", settings, uncounted=("num_samples", *spelled))
        growing.prepare()
        chosen = [field.name for field in fields(CopyPaste) if hasattr(args, field.name)]
        values = {name: getattr(args, name) for name in chosen} | {"backgrounds": backgrounds, "crop_size": crop_size}
        copy_paste = CopyPaste(cutouts=whole, mean_objects=len(cutouts) / area * crop_size**2, **values)

        # 3. pairs
        write_missing(growing, copy_paste.write_shard, args.num_workers)
        growing.publish()
        if not (output_dir / "README.md").exists():
            finish(args, settings, copy_paste)
    print(
        f"Wrote {args.num_samples} pairs to {output_dir}. Look at {output_dir / 'preview.png'}, then run: "
        f"synthset segment --dataset {quote(str(output_dir))} --test_dataset REAL --output_dir RUN"
    )


if __name__ == "__main__":
    run(main, CopyPasteArguments)
