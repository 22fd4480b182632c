"""Converts a raw folder of images and masks, the export of an annotation tool, or any other source of pairs, to a
Hugging Face dataset.

    python scripts/prepare_dataset.py --dataset FIELD_PHOTOS --output_dir PREPARED

PREPARED then holds `data/*.parquet` with the splits train and validation (and test, if the source has one), a dataset
card, `report.html` with what was found, `report.json` with the same, and `overlay.png`. It can be used as `--dataset`
of every other command. Check in `report.html` that the masks cover their objects.
"""

import json
import math
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from shlex import join, quote
from typing import Any

import datasets
import numpy as np
from PIL import Image

from synthset.arguments import PrepareArguments
from synthset.cli import run
from synthset.console import progress
from synthset.data.scale import PAPER_CROP_SIZE
from synthset.data.source import SPLITS, SourcePairs, open_source
from synthset.data.writer import pair_features, verify_pairs, write_pairs
from synthset.errors import InputError
from synthset.output_dir import require_readable_name
from synthset.publishing.cards import license_of_pairs, write_dataset_card
from synthset.sources.classes import read_classes
from synthset.sources.inspection import (
    SMALLEST_OBJECT,
    Measured,
    count_photos,
    find_suspicious,
    group_pairs,
    hold_out,
    list_repaired,
    measure,
    near_duplicates,
    sides_when_trained,
    summarize,
)
from synthset.sources.labels import LabelTable, label_table, to_code, to_color
from synthset.sources.masks import object_codes
from synthset.sources.reading import Color, Reading
from synthset.visualization.dataset_page import plot_sizes, render_dataset_page
from synthset.visualization.previews import pair_grid

CARD = Path(__file__).parents[1] / "model_cards" / "dataset.md"
SHOWN = 16  # pairs in a preview
EXAMPLES = 4  # pictures of a suspicious finding


def parse_color(text: str) -> Color:
    """Converts `#rrggbb`."""
    red, green, blue = bytes.fromhex(text[1:])
    return red, green, blue


def reading_of(args: PrepareArguments) -> Reading:
    """The choices of the flags."""
    try:
        classes = read_classes(args.classes) if args.classes else None
    except InputError as error:
        raise InputError(f"--classes {error}") from None
    bands = tuple(args.bands * (3 // len(args.bands))) if args.bands else None
    reading = Reading(
        image_column=args.image_column,
        mask_column=args.mask_column,
        image_pattern=args.image_pattern,
        mask_pattern=args.mask_pattern,
        mask_suffix=args.mask_suffix,
        pairs_list=args.pairs_list,
        missing_masks=args.missing_masks,
        merge_masks=args.merge_masks,
        bit_depth=args.bit_depth,
        background_color=parse_color(args.background_color) if args.background_color else None,
        bands=bands,
        tile_size=args.tile_size,
        tile_overlap=args.tile_overlap,
        object_values=tuple(args.object_value or ()),
        object_colors=tuple(map(parse_color, args.object_color or ())),
        classes=classes,
        object_classes=tuple(args.object_class or ()),
        mask_threshold=args.mask_threshold,
        instances=args.instances,
        mask_channel=args.mask_channel,
        mask_orientation=args.mask_orientation,
    )
    if classes:
        object_codes(reading)  # says which class is missing, not in which mask
    return reading


def measure_all(pairs: SourcePairs, folder: str, group_column: str | None) -> tuple[list[Measured], str]:
    """Decodes and measures every pair.

    Args:
        pairs: all pairs.
        folder: what names of files begin with and the report leaves out.
        group_column: column by which pairs are grouped.

    Returns:
        The properties of the pairs, and the kind of the label maps, "" if there are none.

    Raises:
        InputError: a pair can't be used, or a column is missing.
    """
    kinds = set()

    def examine(number: int) -> Measured | str:
        try:
            pair = pairs[number]
            columns, group = pair.record.columns, None
            if group_column is not None:
                if group_column not in columns:
                    there = ", ".join(columns) or "none"
                    raise InputError(
                        f"--group_column {group_column} is no column of {pair.photo} (columns: {there}); give one"
                    )
                group = str(columns[group_column])
            decoded = pairs.decode(number)
        except InputError as error:
            return str(error)
        kinds.add(decoded.label_kind)
        photo = f"{pair.split}: {pair.photo}"  # a photo in two splits is a duplicate
        return measure(decoded, pair.record.name.removeprefix(folder), pair.split, photo, group)

    with ThreadPoolExecutor() as pool:  # Pillow and scipy compute without holding the interpreter's lock
        options = {"total": len(pairs), "unit": "pair", "leave": False, "delay": 1}
        examined = list(progress(pool.map(examine, range(len(pairs))), "checking pairs", **options))
    problems = [found for found in examined if isinstance(found, str)]
    if problems:
        count = f" ({len(problems)} of {len(examined)} pairs can't be used)" if len(problems) > 1 else ""
        raise InputError(problems[0] + count)
    return [found for found in examined if isinstance(found, Measured)], max(kinds)


def assign_splits(splits: Sequence[str], groups: Sequence[int], args: PrepareArguments) -> dict[str, list[int]]:
    """Lists the pairs of each split. Pairs of `train` are held out for `validation`, whole groups, if there is no such
    split.

    Args:
        splits: the source's split of every pair.
        groups: the group of every pair.
        args: flags.

    Raises:
        InputError: none can be held out.
    """
    members = {split: [n for n, own in enumerate(splits) if own == split] for split in SPLITS if split in splits}
    if "validation" in members:
        return members
    train, order = members["train"], dict[int, int]()
    own = [order.setdefault(groups[number], len(order)) for number in train]
    kept, held_out = hold_out(own, math.ceil(args.validation_fraction * len(train)), args.seed)
    if not held_out:
        raise InputError(
            f"{args.dataset} has {len(train)} pairs to train on, of one photo or group, so none can be held out for "
            "validation; add photos, or a split validation"
        )
    parts = members | {"train": [train[n] for n in kept], "validation": [train[n] for n in held_out]}
    return {split: parts[split] for split in SPLITS if split in parts}


def check_objects(args: PrepareArguments, pixels: Counter[int]) -> None:
    """Refuses values and colors that occur in no mask.

    Args:
        args: flags.
        pixels: code of a label -> its number of pixels in all masks.

    Raises:
        InputError: there is one.
    """
    values = {str(value): value for value in args.object_value or ()}
    colors = {color: to_code(parse_color(color)) for color in args.object_color or ()}
    for flag, wanted, write in (("--object_value", values, str), ("--object_color", colors, to_color)):
        for given, code in wanted.items():
            if code not in pixels:
                there = ", ".join(write(found) for found, _ in pixels.most_common(8))
                raise InputError(f"{flag} {given} occurs in no mask (found: {there}); give one that does")


def describe_classes(args: PrepareArguments, pixels: Counter[int], table: LabelTable) -> list[dict]:
    """Value, name and share of the pixels of every label, and whether it is the object."""
    chosen = set(args.object_class or ())
    codes = {to_code(parse_color(color)) for color in args.object_color or ()} | set(args.object_value or ())
    drawn = [name for value, name in table.names.items() if value]
    return [
        {
            "value": value,
            "name": table.names[value],
            "share": round(pixels[code] / pixels.total(), 6),
            "object": code in codes or table.names[value] in (chosen or (drawn if len(drawn) == 1 else ())),
        }
        for code, value in sorted(table.numbers.items(), key=lambda item: item[1])
    ]


def rows(pairs: SourcePairs, numbers: Iterable[int], features: datasets.Features, table: LabelTable) -> Iterator[dict]:
    """Decodes pairs to rows of the dataset."""
    for number in numbers:
        decoded, row = pairs.decode(number), dict.fromkeys(features)
        row |= pairs[number].record.columns | {"image": decoded.image, "mask": decoded.mask}
        if decoded.labels is not None:
            row["labels"] = table.encode(decoded.labels)
        yield row


def draw_examples(
    pairs: SourcePairs,
    measured: Sequence[Measured],
    suspicious: dict[str, list[str]],
    duplicates: Sequence[tuple[int, int]],
) -> tuple[dict[str, Image.Image], dict[str, str]]:
    """Draws a grid of the first pairs of every suspicious finding; near-duplicates side by side.

    Returns:
        Figures, and their captions.
    """
    figures, captions = {}, {}
    numbers = {found.name: number for number, found in enumerate(measured)}

    def draw(name: str, caption: str, shown: Sequence[int]) -> None:
        decoded = [pairs.decode(number) for number in shown]
        figures[name] = pair_grid([pair.image for pair in decoded], [pair.mask for pair in decoded], 8, tile=192)
        captions[name] = f"{caption}: {', '.join(measured[number].name for number in shown)}"

    if duplicates:
        draw("duplicates", "near-duplicates", [number for pair in duplicates[:EXAMPLES] for number in pair])
    for reason, names in suspicious.items():
        if shown := [numbers[name] for name in names if name in numbers][:EXAMPLES]:
            draw(f"suspicious {len(figures)}", reason, shown)
    return figures, captions


def write_dataset(
    folder: Path,
    name: str,
    pairs: SourcePairs,
    measured: Sequence[Measured],
    duplicates: Sequence[tuple[int, int]],
    members: dict[str, list[int]],
    table: LabelTable,
    report: dict[str, Any],
    args: PrepareArguments,
) -> None:
    """Writes the pairs and reads them back, the report with its pictures, and the card.

    Args:
        folder: new folder.
        name: of the dataset.
        pairs: all pairs.
        measured: their properties.
        duplicates: result of `near_duplicates`.
        members: split -> numbers of its pairs.
        table: values of the label maps; empty if there are none.
        report: content of `report.json`.
        args: flags.
    """
    features = pair_features(**({"labels": "image"} if table.numbers else {}))
    features.update({name: feature for name, feature in pairs.features().items() if name not in features})
    for split, numbers in members.items():
        shown = progress(rows(pairs, numbers, features, table), split, total=len(numbers), unit="pair")
        write_pairs(folder, split, shown, features)
    verify_pairs(folder)
    first = [pairs.decode(number) for number in members["train"][:SHOWN]]
    grid = pair_grid([pair.image for pair in first], [pair.mask for pair in first], tile=256)
    grid.save(folder / "overlay.png")
    sides = sides_when_trained(measured, report["trained_at"]["crop_size"], args.resolution)
    coverage = np.array([pair.coverage for pair in measured])
    figures, examples = draw_examples(pairs, measured, report["suspicious"], duplicates)
    figures |= {"pairs": grid, "sizes": plot_sizes(sides, coverage, SMALLEST_OBJECT)}
    flags = join(f"--{name}={value}" for name, value in asdict(args).items() if value not in (None, False, ""))
    page = render_dataset_page(report, figures, examples, name, f"synthset prepare {flags}")
    (folder / "report.html").write_text(page, encoding="utf-8")
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    classes = ", ".join(f"{value} {name}" for value, name in table.names.items())
    write_dataset_card(
        folder,
        CARD,
        features,
        {split: len(numbers) for split, numbers in members.items()},
        title=name,
        description="Image-mask pairs for binary segmentation, prepared with SynthSet.",
        preview="overlay.png",
        columns={"labels": f"label map of the same size, one channel: {classes}"},
        details={"validation_fraction": args.validation_fraction, "seed": args.seed},
        data_license=args.data_license or license_of_pairs([args.dataset]),
    )


def print_report(report: dict[str, Any]) -> None:
    """Prints counts, and the first of every finding."""
    for split, found in report["splits"].items():
        sizes = ", ".join(f"{count} of {size}" for size, count in list(found["sizes"].items())[:4])
        coverage = "min {min:.1%}, median {median:.1%}, max {max:.1%}".format(**found["mask_coverage"])
        print(f"{split}: {found['pairs']} pairs ({sizes} px), mask coverage {coverage}, {found['empty_masks']} empty")
    for kind in ("skipped", "repaired", "suspicious"):
        for reason, names in report[kind].items():
            print(f"{kind}: {reason}: {names[0]}" + (f" and {len(names) - 1} more" if len(names) > 1 else ""))


def main(args: PrepareArguments) -> None:
    output_dir = Path(args.output_dir)
    require_readable_name(output_dir)
    if output_dir.exists() and (not output_dir.is_dir() or any(output_dir.iterdir())):
        raise InputError(f"--output_dir {output_dir} exists and is not empty; remove it or choose another")

    # 1. every pair is decoded and measured
    reading = reading_of(args)
    pairs = SourcePairs(open_source(args.dataset, reading), reading)
    measured, kind = measure_all(pairs, f"{Path(args.dataset).expanduser()}/", args.group_column)
    pixels: Counter[int] = sum((Counter(pair.label_pixels) for pair in measured), Counter())
    check_objects(args, pixels)
    table = label_table(pixels, kind, reading.classes, pairs.classes) if kind else LabelTable({}, {})

    # 2. what is suspicious, and splits: by photo, with near-duplicates and groups together
    crop_size = args.crop_size or min(PAPER_CROP_SIZE, min(min(pair.size) for pair in measured))
    duplicates = near_duplicates(measured)
    suspicious = {**pairs.suspicious, **find_suspicious(measured, duplicates, crop_size, args.resolution)}
    if args.strict and suspicious:
        reason, names = next(iter(suspicious.items()))
        raise InputError(
            f"--strict refuses {len(suspicious)} kinds of findings; the first is {reason}: {names[0]} "
            f"({len(names)} in all); mend them, or leave --strict out to see all in the report"
        )
    members = assign_splits([pair.split for pair in measured], group_pairs(measured, duplicates), args)
    report: dict[str, Any] = {
        "format": pairs.format,
        "distinct_photos": count_photos(measured, duplicates),
        "splits": {
            split: summarize([measured[number] for number in numbers], crop_size, args.resolution)
            for split, numbers in members.items()
        },
        "trained_at": {"resolution": args.resolution, "crop_size": crop_size, "smallest_object": SMALLEST_OBJECT},
        "classes": describe_classes(args, pixels, table),
        "skipped": pairs.skipped,
        "repaired": list_repaired(measured),
        "suspicious": suspicious,
    }

    # 3. written to a hidden folder next to output_dir, renamed when it is complete
    place = output_dir.resolve()
    unfinished = place.with_name(f".{place.name}.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        write_dataset(unfinished, place.name, pairs, measured, duplicates, members, table, report, args)
        unfinished.replace(output_dir)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    print_report(report)
    print(
        f"Wrote {len(measured)} pairs of {report['distinct_photos']} distinct photos, read as {pairs.format}, to "
        f"{output_dir}. Check the masks in {output_dir / 'report.html'}, then run: synthset train --dataset "
        f"{quote(str(output_dir))} --output_dir RUN"
    )


if __name__ == "__main__":
    run(main, PrepareArguments)
