"""Malformed inputs for `synthset prepare`, in every format and with every flag, from a seed.

    python tests/fuzz_prepare.py --count 500 --seed 0

Each input is a small valid source of one format, damaged once or twice. Whatever it is, `prepare` either writes a
dataset that can be read, or ends with one line that names a file or flag, what was found and a remedy, and leaves
nothing behind. Everything else is printed and counted as a failure.
"""

import argparse
import contextlib
import io
import json
import os
import random
import resource
import shutil
import sys
import tempfile
import threading
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
from PIL import Image

from synthset.arguments import PrepareArguments
from synthset.arguments.parser import parse
from synthset.cli import load_script
from synthset.data import load_pairs
from synthset.errors import InputError

WIDTH, HEIGHT, PHOTOS = 24, 16, 4
BOX = (4, 3, 12, 9)  # left, top, right, bottom of the object in every photo

# ---- valid sources ----


def photo(rng: random.Random) -> Image.Image:
    pixels = np.random.default_rng(rng.getrandbits(32)).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def mask(value: int = 255) -> Image.Image:
    pixels = np.zeros((HEIGHT, WIDTH), np.uint8)
    left, top, right, bottom = BOX
    pixels[top:bottom, left:right] = value
    return Image.fromarray(pixels)


def save_photos(folder: Path, rng: random.Random, suffix: str = ".png") -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{number:03d}{suffix}" for number in range(PHOTOS)]
    for name in names:
        photo(rng).save(folder / name)
    return names


def save_masks(folder: Path, make: Callable[[], Image.Image] = mask) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{number:03d}.png" for number in range(PHOTOS)]
    for name in names:
        make().save(folder / name)
    return names


def corners() -> list[list[float]]:
    left, top, right, bottom = BOX
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def plain(folder: Path, rng: random.Random) -> list[str]:
    save_photos(folder / "images", rng, rng.choice([".png", ".jpg", ".tif", ".webp", ".bmp", ".gif"]))
    save_masks(folder / "masks")
    return []


def suffixed(folder: Path, rng: random.Random) -> list[str]:
    save_photos(folder / "images", rng)
    for name in save_masks(folder / "masks"):
        (folder / "masks" / name).rename(folder / "masks" / name.replace(".png", "_mask.png"))
    return ["--mask_suffix", "_mask"]


def patterns(folder: Path, rng: random.Random) -> list[str]:
    save_photos(folder / "rgb", rng)
    for name in save_masks(folder / "gt"):
        shutil.copy(folder / "gt" / name, folder / "gt" / name.replace(".png", "_2.png"))
        (folder / "gt" / name).rename(folder / "gt" / name.replace(".png", "_1.png"))
    return ["--image_pattern", "rgb/{name}.png", "--mask_pattern", "gt/{name}_*.png", "--merge_masks"]


def valued(folder: Path, rng: random.Random) -> list[str]:
    save_photos(folder / "images", rng)
    save_masks(folder / "masks", lambda: mask(7))
    return rng.choice([["--object_value", "7"], ["--instances"], ["--mask_threshold", "3"]])


def colored(folder: Path, rng: random.Random) -> list[str]:
    save_photos(folder / "images", rng)
    save_masks(folder / "masks", lambda: Image.merge("RGB", [mask(176), mask(0), mask(3)]))
    if rng.random() < 0.5:
        return ["--object_color", "#b00003"]
    (folder / "classes.json").write_text(json.dumps({"soil": "#000000", "leaf": "#b00003"}))
    return ["--classes", str(folder / "classes.json"), "--object_class", "leaf"]


def transparent(folder: Path, rng: random.Random) -> list[str]:
    folder = folder / "images"
    folder.mkdir(parents=True)
    for name in save_masks(folder.with_name("masks")):
        picture = photo(rng)
        picture.putalpha(mask())
        picture.save(folder / name)
    return ["--background_color", "#102030"]


def deep(folder: Path, rng: random.Random) -> list[str]:
    (folder / "images").mkdir(parents=True)
    for name in save_masks(folder / "masks"):
        pixels = np.random.default_rng(rng.getrandbits(32)).integers(0, 4096, (HEIGHT, WIDTH), dtype=np.uint16)
        Image.fromarray(pixels).save(folder / "images" / name)
    return ["--bit_depth", "12"]


def metadata(folder: Path, rng: random.Random) -> list[str]:
    images, masks = save_photos(folder / "images", rng), save_masks(folder / "masks")
    rows = [
        {"file_name": f"images/{image}", "mask_file_name": f"masks/{drawn}", "day": day}
        for day, (image, drawn) in enumerate(zip(images, masks, strict=True))
    ]
    if rng.random() < 0.5:
        (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        lines = ["file_name,mask_file_name,day", *(",".join(map(str, row.values())) for row in rows)]
        (folder / "metadata.csv").write_text("\r\n".join(lines), encoding="utf-8-sig")
    return rng.choice([[], ["--group_column", "day"]])


def listed(folder: Path, rng: random.Random) -> list[str]:
    images, masks = save_photos(folder / "a", rng), save_masks(folder / "b")
    rows = {"image": [f"a/{name}" for name in images], "mask": [f"b/{name}" for name in masks]}
    path = folder / rng.choice(["list.csv", "list.parquet", "list.jsonl"])
    table = datasets.Dataset.from_dict(rows)
    if path.suffix == ".csv":
        path.write_text("image;mask\n" + "\n".join(map(";".join, zip(*rows.values(), strict=True))), encoding="utf-16")
    elif path.suffix == ".parquet":
        table.to_parquet(str(path))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in table))
    return ["--pairs_list", str(path)]


def coco(folder: Path, rng: random.Random) -> list[str]:
    names = save_photos(folder / "train", rng)
    outline = [value for corner in corners() for value in corner]
    left, top, right, bottom = BOX
    column = [bottom - top, HEIGHT - (bottom - top)] * (right - left)
    runs = [left * HEIGHT + top, *column[:-1], HEIGHT * WIDTH - left * HEIGHT - top - sum(column[:-1])]
    segmentation = rng.choice([[outline], {"size": [HEIGHT, WIDTH], "counts": runs}])
    export = {
        "images": [{"id": i, "file_name": name, "width": WIDTH, "height": HEIGHT} for i, name in enumerate(names)],
        "categories": [{"id": 3, "name": "leaf"}],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 3, "segmentation": segmentation, "iscrowd": 0, "bbox": [4, 3, 8, 6]}
            for i in range(PHOTOS)
        ],
    }
    (folder / "train" / "_annotations.coco.json").write_text(json.dumps(export))
    return []


def labelme(folder: Path, rng: random.Random) -> list[str]:
    for name in save_photos(folder, rng):
        shape = {"label": "leaf", "points": corners(), "shape_type": "polygon", "flags": {}, "group_id": None}
        export = {
            "version": "5.4.1",
            "flags": {},
            "shapes": [shape],
            "imagePath": name,
            "imageData": None,
            "imageHeight": HEIGHT,
            "imageWidth": WIDTH,
        }
        (folder / name).with_suffix(".json").write_text(json.dumps(export))
    return []


def yolo(folder: Path, rng: random.Random) -> list[str]:
    names = save_photos(folder / "images" / "train", rng)
    outline = " ".join(f"{x / WIDTH:.6f} {y / HEIGHT:.6f}" for x, y in corners())
    (folder / "labels" / "train").mkdir(parents=True)
    for name in names:
        (folder / "labels" / "train" / name).with_suffix(".txt").write_text(f"0 {outline}\n")
    (folder / "data.yaml").write_text("path: .\ntrain: images/train\nval: images/train\nnames:\n  0: leaf\n")
    return []


def cvat(folder: Path, rng: random.Random) -> list[str]:
    names = save_photos(folder / "images", rng)
    points = ";".join(f"{x:.2f},{y:.2f}" for x, y in corners())
    images = "".join(
        f'<image id="{i}" name="{name}" width="{WIDTH}" height="{HEIGHT}">'
        f'<polygon label="leaf" source="manual" occluded="0" points="{points}" z_order="0"></polygon></image>'
        for i, name in enumerate(names)
    )
    labels = "<meta><task><labels><label><name>leaf</name></label></labels></task></meta>"
    text = f'<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>{labels}{images}</annotations>'
    (folder / "annotations.xml").write_text(text)
    return []


def datumaro(folder: Path, rng: random.Random) -> list[str]:
    names = save_photos(folder / "images" / "train", rng)
    outline = [value for corner in corners() for value in corner]
    export = {
        "info": {},
        "categories": {"label": {"labels": [{"name": "leaf", "parent": "", "attributes": []}], "attributes": []}},
        "items": [
            {
                "id": name.removesuffix(".png"),
                "annotations": [{"id": 0, "type": "polygon", "label_id": 0, "points": outline, "z_order": 0}],
                "image": {"path": name, "size": [HEIGHT, WIDTH]},
            }
            for name in names
        ],
    }
    (folder / "annotations").mkdir()
    (folder / "annotations" / "train.json").write_text(json.dumps(export))
    return []


def label_studio(folder: Path, rng: random.Random) -> list[str]:
    names = save_photos(folder / "images", rng)
    points = [[100 * x / WIDTH, 100 * y / HEIGHT] for x, y in corners()]
    export = [
        {
            "id": i,
            "data": {"image": f"/data/upload/1/0a1b2c3d-{name}"},
            "annotations": [
                {
                    "id": i,
                    "was_cancelled": False,
                    "result": [
                        {
                            "type": "polygonlabels",
                            "original_width": WIDTH,
                            "original_height": HEIGHT,
                            "image_rotation": 0,
                            "from_name": "label",
                            "to_name": "image",
                            "value": {"points": points, "closed": True, "polygonlabels": ["leaf"]},
                        }
                    ],
                }
            ],
        }
        for i, name in enumerate(names)
    ]
    (folder / "project.json").write_text(json.dumps(export))
    return []


def via(folder: Path, rng: random.Random) -> list[str]:
    export = {}
    for name in save_photos(folder, rng):
        size = (folder / name).stat().st_size
        xs, ys = zip(*corners(), strict=True)
        shape = {"name": "polygon", "all_points_x": xs, "all_points_y": ys}
        region = {"shape_attributes": shape, "region_attributes": {"plant": "leaf"}}
        export[f"{name}{size}"] = {"filename": name, "size": size, "regions": [region], "file_attributes": {}}
    (folder / "via_region_data.json").write_text(json.dumps(export))
    return []


def saved(folder: Path, rng: random.Random) -> list[str]:
    features = datasets.Features(image=datasets.Image(), mask=datasets.Image())
    pairs = datasets.Dataset.from_list(
        [{"image": photo(rng), "mask": mask()} for _ in range(PHOTOS)], features=features
    )
    if rng.random() < 0.5:
        pairs.save_to_disk(str(folder))
    else:
        pairs.to_parquet(str(folder / "data" / "train-00000-of-00001.parquet"))
    return []


def raster(folder: Path, rng: random.Random) -> list[str]:
    import rasterio

    options = {"driver": "GTiff", "width": 3 * WIDTH, "height": 3 * HEIGHT, "dtype": "uint8", "crs": "EPSG:32632"}
    transform = rasterio.Affine(0.1, 0, 500000, 0, -0.1, 5000000)
    for place, bands in (("images", 5), ("masks", 1)):
        (folder / place).mkdir(parents=True)
        for number in range(PHOTOS):
            path = folder / place / f"{number:03d}.tif"
            pixels = np.random.default_rng(rng.getrandbits(32)).integers(0, 256, (bands, 3 * HEIGHT, 3 * WIDTH))
            pixels = pixels if bands > 1 else (pixels > 128) * 255
            with rasterio.open(path, "w", count=bands, transform=transform, **options) as file:
                file.write(pixels.astype(np.uint8))
    return ["--bands", "3", "2", "1", "--tile_size", "16", "--tile_overlap", "4"]


SOURCES = (
    plain, suffixed, patterns, valued, colored, transparent, deep, metadata, listed, coco, labelme, yolo, cvat,
    datumaro, label_studio, via, saved, raster,
)  # fmt: skip
FLAGS = (
    ["--missing_masks", "empty"], ["--missing_masks", "skip"], ["--merge_masks"], ["--mask_suffix", "_mask"],
    ["--image_column", "photos"], ["--image_pattern", "{name}.png"], ["--mask_pattern", "*"], ["--object_value", "1"],
    ["--object_value", "-5"], ["--object_color", "#ff0000"], ["--object_color", "red"], ["--object_class", "stem"],
    ["--classes", "nowhere.json"], ["--mask_threshold", "999"], ["--instances"], ["--mask_channel", "alpha"],
    ["--mask_orientation", "stored"], ["--bit_depth", "12"], ["--bit_depth", "40"], ["--background_color", "#fff"],
    ["--bands", "9", "9", "9"], ["--bands", "0"], ["--tile_size", "8"], ["--tile_size", "8", "--tile_overlap", "8"],
    ["--tile_size", "100000"], ["--group_column", "field"], ["--strict"], ["--pairs_list", "nowhere.csv"],
    ["--validation_fraction", "0.99"], ["--crop_size", "100000"], ["--resolution", "0"],
)  # fmt: skip

# ---- damage ----


def pick(folder: Path, rng: random.Random) -> Path:
    return rng.choice(sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()))


def truncate(folder: Path, rng: random.Random) -> None:
    path = pick(folder, rng)
    path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size + 1)])


def flip_bits(folder: Path, rng: random.Random) -> None:
    path = pick(folder, rng)
    content = bytearray(path.read_bytes())
    for _ in range(rng.choice([1, 1, 3, 30])):
        if content:
            content[rng.randrange(min(len(content), rng.choice([64, 10**9])))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def junk(folder: Path, rng: random.Random) -> None:
    pick(folder, rng).write_bytes(
        rng.choice(
            [b"", b"\0" * 99, b"\xff\xd8\xff\xe0", b"[[[[" * 20000, b"{", b"null", b"\xef\xbb\xbf", b"<a>&b;</a>"]
        )
    )


def swap(folder: Path, rng: random.Random) -> None:
    one, other = pick(folder, rng), pick(folder, rng)
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


def delete(folder: Path, rng: random.Random) -> None:
    pick(folder, rng).unlink()


def rename(folder: Path, rng: random.Random) -> None:
    path = pick(folder, rng)
    names = [
        "ä.png",
        "a\u0308.png",
        "x\ny.png",
        " .png",
        "CON.png",
        path.name.upper(),
        "a[1].png",
        "..png",
        b"\xff.png",
    ]
    target = rng.choice(names)
    os.rename(os.fsencode(path), os.path.join(os.fsencode(path.parent), os.fsencode(target)))


def link_loop(folder: Path, rng: random.Random) -> None:
    path = pick(folder, rng)
    target = rng.choice([path, path.parent, Path("/nonexistent")])
    link = path.with_name(rng.choice(["loop.png", "masks", "zz"]))
    if not link.exists() and not link.is_symlink():
        link.symlink_to(target)
    if rng.random() < 0.5:
        path.unlink()


def directory(folder: Path, rng: random.Random) -> None:
    path = pick(folder, rng)
    path.unlink()
    rng.choice([path.mkdir, lambda: os.mkfifo(path)])()


def huge_header(folder: Path, rng: random.Random) -> None:
    path = pick(folder, rng)
    sides = rng.choice([(10**5, 10**5), (2**31 - 1, 1), (60000, 60000), (0, 5)])
    header = b"IHDR" + sides[0].to_bytes(4, "big") + sides[1].to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    data = zlib.compress(b"\0" * 999)
    chunks = [header, b"IDAT" + data, b"IEND"]
    body = b"".join((len(c) - 4).to_bytes(4, "big") + c + zlib.crc32(c).to_bytes(4, "big") for c in chunks)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def other_picture(folder: Path, rng: random.Random) -> None:
    path = pick(folder, rng)
    pictures = [
        lambda: Image.new("RGBA", (WIDTH, HEIGHT), (1, 2, 3, 100)),
        lambda: Image.new("L", (HEIGHT, WIDTH), 255),
        lambda: Image.new("L", (1, 1)),
        lambda: Image.new("L", (WIDTH, HEIGHT), 77),
        lambda: Image.new("I", (WIDTH, HEIGHT), 70000),
        lambda: Image.new("I;16", (WIDTH, HEIGHT), 300),
        lambda: Image.new("P", (WIDTH, HEIGHT)),
        lambda: Image.new("LA", (WIDTH, HEIGHT), (255, 0)),
        lambda: Image.new("1", (WIDTH, HEIGHT), 1),
    ]
    picture = rng.choice(pictures)()
    picture.save(path, "TIFF" if picture.mode == "I" else "PNG")


def exif(folder: Path, rng: random.Random) -> None:
    path, tags = pick(folder, rng), Image.Exif()
    tags[0x0112] = rng.choice([0, 2, 3, 5, 6, 8, 9, 1000])
    size = rng.choice([(WIDTH, HEIGHT), (HEIGHT, WIDTH), (16, 16)])
    Image.new("RGB", size, (9, 99, 9)).save(path, "JPEG", exif=tags)


def wrong_json(folder: Path, rng: random.Random) -> None:
    """Replaces a value in a JSON or text file by one of another type."""
    texts = sorted(p for p in folder.rglob("*") if p.suffix in (".json", ".jsonl", ".txt", ".yaml", ".xml", ".csv"))
    if not texts:
        return flip_bits(folder, rng)
    path = rng.choice(texts)
    raw = path.read_bytes()
    try:
        lines = raw.decode().splitlines() if path.suffix == ".jsonl" else [raw.decode()]
        chosen = rng.randrange(len(lines))
        content = json.loads(lines[chosen])
    except (ValueError, IndexError, RecursionError):
        text = raw.decode(errors="replace")
        found = [i for i, letter in enumerate(text) if letter.isdigit()]
        if found:
            i = rng.choice(found)
            text = (
                text[:i]
                + rng.choice(["-1", "nan", "1e999", "x", "", '"', "99999999999", "../../etc/passwd"])
                + text[i + 1 :]
            )
        path.write_text(text)
        return None
    spots: list[tuple] = []

    def walk(node: object) -> None:
        items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, value in items:
            spots.append((node, key))
            walk(value)

    walk(content)
    if spots:
        node, key = rng.choice(spots)
        values = [
            None,
            [],
            {},
            "",
            "x",
            -1,
            10**30,
            float("nan"),
            1e308,
            True,
            [[]],
            [1, 2, 3],
            "../../x.png",
            "C:\\a\\b.png",
        ]
        if rng.random() < 0.2:
            del node[key]
        else:
            node[key] = rng.choice(values)
    lines[chosen] = json.dumps(content)
    path.write_text("\n".join(lines))
    return None


def vanish(folder: Path, rng: random.Random) -> None:
    """A file that is removed while the command runs."""
    path, wait = pick(folder, rng), rng.random() * 0.15

    def remove() -> None:
        time.sleep(wait)
        path.unlink(missing_ok=True)

    threading.Thread(target=remove).start()


def nothing(folder: Path, rng: random.Random) -> None:
    """Leaves the source valid: it may still meet flags that don't fit."""


DAMAGES = (
    truncate, flip_bits, junk, swap, delete, rename, link_loop, directory, huge_header, other_picture, exif, wrong_json,
    wrong_json, wrong_json, vanish, nothing,
)  # fmt: skip

# ---- the check ----


def run_one(number: int, seed: int, work: Path, prepare: Callable) -> tuple[str, str]:
    """Makes input `number` and runs `prepare` on it; returns the outcome and its description."""
    rng = random.Random(f"{seed} {number}")
    make = SOURCES[number % len(SOURCES)]
    source, output = work / "source", work / "output"
    source.mkdir()
    flags = make(source, rng)
    described = make.__name__
    for _ in range(rng.choice([1, 1, 2])):
        damage = rng.choice(DAMAGES)
        described += f", {damage.__name__}"
        try:
            damage(source, rng)
        except IndexError:  # nothing is left to damage
            pass
    if rng.random() < 0.25:
        flags = [*flags, *rng.choice(FLAGS)]
    described += f", {' '.join(flags)}"
    before = {path.name for path in work.iterdir()}
    try:
        args, _ = parse(
            PrepareArguments, ["--dataset", str(source), "--output_dir", str(output), *flags], "prepare", False
        )
        prepare(args)
    except InputError as error:
        message = str(error)
        left = {path.name for path in work.iterdir()} - before
        names_something = str(work) in message or "--" in message or any(p.name in message for p in source.rglob("*"))
        if left:
            return "left behind", f"{described}: {left} after {message}"
        if not message.isprintable() or not names_something or ";" not in message:
            return "bad message", f"{described}: {message!r}"
        return "refused", f"{described}: {message}"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return "traceback", f"{described}: {type(error).__name__}: {error}\n{traceback.format_exc(limit=-4)}"
    left = {path.name for path in work.iterdir()} - before - {"output"}
    if left:
        return "left behind", f"{described}: {left}"
    for split in ("train", "validation"):
        pairs = load_pairs(str(output), split)
        assert len(pairs)
        for row in pairs:
            assert row["image"].size == row["mask"].size
    return "written", described


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="number of one input to run")
    parser.add_argument("--verbose", action="store_true")
    args = parser.parse_args()
    datasets.disable_progress_bars()
    prepare = load_script("prepare_dataset").main
    outcomes: Counter[str] = Counter()
    since = time.monotonic()
    for number in range(args.count) if args.only is None else [args.only]:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            with contextlib.redirect_stdout(io.StringIO()):
                outcome, description = run_one(number, args.seed, Path(folder), prepare)
        outcomes[outcome] += 1
        if args.verbose or outcome not in ("refused", "written"):
            print(f"{number} {outcome}: {description}", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{dict(outcomes)} in {time.monotonic() - since:.0f} s, peak memory {peak:.1f} GiB")
    return sum(count for outcome, count in outcomes.items() if outcome not in ("refused", "written"))


if __name__ == "__main__":
    sys.exit(min(main(), 100))
