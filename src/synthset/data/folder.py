"""Raw folders of images and masks, and the decoding and checking of pairs of any source."""

import io
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import datasets
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..console import progress
from ..errors import InputError

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".pgm", ".tif", ".tiff", ".webp")


def open_image(value: dict | None) -> Image.Image:
    """Decodes `value`, a row of an undecoded `datasets.Image` column ({"path", "bytes"}), and applies its EXIF
    orientation, as `datasets` does.

    Raises:
        InputError: the value is missing, or is not an image that Pillow can read completely.
    """
    if value is None:
        raise InputError("is missing; remove the row or add it")
    try:
        with Image.open(value["path"] if value["bytes"] is None else io.BytesIO(value["bytes"])) as image:
            image.load()
            return ImageOps.exif_transpose(image)
    except UnidentifiedImageError:
        size = Path(value["path"]).stat().st_size if value["bytes"] is None else len(value["bytes"])
        found = f"{size} bytes in no image format that Pillow knows" if size else "an empty file (0 bytes)"
    except FileNotFoundError:
        found = "no such file"
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and more
        found = " ".join(str(error).split())
    raise InputError(f"can't be read as an image: {found}; replace or remove it")


def to_rgb(image: Image.Image) -> Image.Image:
    """Converts `image` to 8-bit RGB: gray is repeated, a palette looked up, an alpha channel dropped.

    Raises:
        InputError: 16 or 32 bits per channel, because the file does not define the range from black to white.
    """
    if image.mode.startswith(("I", "F")):
        raise InputError(f"has mode {image.mode!r}, more than 8 bits per channel; convert it to 8-bit RGB")
    return image.convert("RGB")


def to_binary(image: Image.Image) -> Image.Image:
    """Converts `image` to a mask of mode "L" that holds 0 and 1.

    Accepts masks of 0 and 255 or of 0 and 1, in one channel of any depth, as palette indices (their colors are ignored)
    or as RGB with three equal channels.

    Raises:
        InputError: the mask has other values or color.
    """
    values = np.asarray(image)
    if image.mode == "RGB" and (values == values[..., :1]).all():
        values = values[..., 0]
    if values.ndim != 2:
        raise InputError(
            f"is a mask of mode {image.mode!r} with color or transparency; "
            "save it as one gray channel with 0 for background and 255 for the object"
        )
    mask = values != 0
    if values.max() not in (0, 1, 255) or (values[mask] != values.max()).any():
        found = np.unique(values)
        listed = ", ".join(str(v) for v in found[:6]) + (f", ... ({len(found)} different)" if len(found) > 6 else "")
        raise InputError(
            f"is a mask with values {listed}; save it losslessly (PNG) with 0 for background and 255 (or 1) for the "
            "object"
        )
    return Image.fromarray(mask.astype(np.uint8))


def decode_pair(row: dict, name: Callable[[str], str]) -> dict[str, Image.Image]:
    """Decodes and checks "image" and "mask" of a row, whichever it has.

    Args:
        row: undecoded values ({"path", "bytes"}) under "image", "mask" or both.
        name: returns the name of a column's value for error messages.

    Returns:
        The same keys with the RGB image and the "L" mask of 0 and 1.

    Raises:
        InputError: a value is unreadable or not usable as image or mask, or the sizes differ.
    """
    pair = {}
    for column, convert in (("image", to_rgb), ("mask", to_binary)):
        if column in row:
            try:
                pair[column] = convert(open_image(row[column]))
            except InputError as error:
                raise InputError(f"{name(column)} {error}") from None
    if len(pair) == 2 and pair["image"].size != pair["mask"].size:
        sizes = {column: "{}x{}".format(*image.size) for column, image in pair.items()}
        raise InputError(
            f"{name('mask')} is {sizes['mask']} pixels but {name('image')} is {sizes['image']}; make both one size"
        )
    return pair


def is_raw_folder(folder: Path, image_column: str | None = None) -> bool:
    """True if `folder` itself (not a sub-folder of it) holds pairs as files."""
    return any(recognizes(folder, image_column) for recognizes, _ in RAW_FORMATS)


def load_raw_folder(folder: Path, image_column: str | None = None, mask_column: str | None = None) -> datasets.Dataset:
    """Lists the pairs of a raw folder and decodes each of them once, so that invalid files are found first.

    Either `folder` has a `metadata.jsonl` whose lines hold `file_name`, `mask_file_name` (paths relative to `folder`)
    and anything else to keep as a column, as in `datasets`' imagefolder; or it has two sub-folders whose files match
    by stem (`images/012.jpg`, `masks/012.png`). Hidden files and files without an image suffix are ignored.

    Args:
        folder: holds the pairs.
        image_column: sub-folder of the images, `images` when not given. With `metadata.jsonl` the field is
            `<image_column>_file_name`, `file_name` when not given.
        mask_column: the same for the masks; `masks` and `mask_file_name` when not given.

    Returns:
        A dataset with undecoded columns `image` and `mask` (paths) and the other fields of `metadata.jsonl`.

    Raises:
        InputError: there are no pairs, a file has no counterpart, or a file is invalid.
    """
    formats = (list_pairs for recognizes, list_pairs in RAW_FORMATS if recognizes(folder, image_column))
    rows = next(formats, pairs_from_stems)(folder, image_column, mask_column)

    def problem(row: dict) -> str | None:
        try:
            values = {column: {"path": row[column], "bytes": None} for column in ("image", "mask")}
            decode_pair(values, name=lambda column: row[column])
        except InputError as error:
            return str(error)
        return None

    with ThreadPoolExecutor() as pool:  # Pillow decodes without holding the interpreter's lock
        checked = progress(
            pool.map(problem, rows), "checking pairs", total=len(rows), unit="pair", leave=False, delay=1
        )
        problems = [found for found in checked if found]
    if problems:
        count = f" ({len(problems)} of {len(rows)} pairs in {folder} can't be used)" if len(problems) > 1 else ""
        raise InputError(problems[0] + count)
    columns = dict.fromkeys(key for row in rows for key in row)
    try:
        pairs = datasets.Dataset.from_dict({key: [row.get(key) for row in rows] for key in columns})
    except Exception as error:  # pyarrow and datasets raise several kinds
        reason = " ".join(str(error).split())
        raise InputError(
            f"{folder / 'metadata.jsonl'} mixes types in one field: {reason}; make them the same"
        ) from None
    for column in ("image", "mask"):
        pairs = pairs.cast_column(column, datasets.Image(decode=False))
    return pairs


def has_metadata(folder: Path, image_column: str | None) -> bool:
    """True if `folder` has a `metadata.jsonl`."""
    return (folder / "metadata.jsonl").is_file()


def pairs_from_metadata(folder: Path, image_column: str | None, mask_column: str | None) -> list[dict]:
    """Reads the rows of `metadata.jsonl`; its file names become the paths "image" and "mask"."""
    image_field = f"{image_column}_file_name" if image_column else "file_name"
    mask_field = f"{mask_column or 'mask'}_file_name"
    metadata = folder / "metadata.jsonl"
    rows = []
    for number, line in enumerate(metadata.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{metadata} line {number} is not JSON ({error}); write one object per line") from None
        paths = {}
        for column, field in (("image", image_field), ("mask", mask_field)):
            file_name = fields.pop(field, None) if isinstance(fields, dict) else None
            if not isinstance(file_name, str):
                raise InputError(
                    f"{metadata} line {number} has no text field {field!r}; add it, or name another column"
                )
            if Path(file_name).is_absolute() or ".." in Path(file_name).parts:
                raise InputError(
                    f"{metadata} line {number}: {field!r} is {file_name!r}, outside {folder}; "
                    "use a path relative to the folder, without '..'"
                )
            paths[column] = str(folder / file_name)
        rows.append({**fields, **paths})
    if not rows:
        raise InputError(f"{metadata} has no lines; write one per pair, or remove it to match files by name")
    return rows


def has_subfolders(folder: Path, image_column: str | None) -> bool:
    """True if `folder` has a sub-folder of images."""
    return (folder / (image_column or "images")).is_dir()


def pairs_from_stems(folder: Path, image_column: str | None, mask_column: str | None) -> list[dict]:
    """Matches the files of two sub-folders by stem: rows {"image": path, "mask": path}, sorted by stem."""
    image_folder, mask_folder = image_column or "images", mask_column or "masks"
    files: dict[str, dict[str, Path]] = {}
    for name, flag in ((image_folder, "--image_column"), (mask_folder, "--mask_column")):
        if not (folder / name).is_dir():
            there = ", ".join(sorted(path.name for path in folder.iterdir() if path.is_dir())) or "none"
            raise InputError(f"{folder} has no sub-folder {name!r} (sub-folders: {there}); name one with {flag}")
        files[name] = {}
        for path in sorted((folder / name).iterdir()):
            if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
                other = files[name].setdefault(path.stem, path)
                if other != path:
                    raise InputError(f"{path} and {other.name} have the same name; keep one of them")
        if not files[name]:
            raise InputError(f"{folder / name} holds no images ({', '.join(SUFFIXES)}); add some")
    images, masks = files[image_folder], files[mask_folder]
    for files_by_stem, partners, kind, partner_folder in (
        (images, masks, "mask", mask_folder),
        (masks, images, "image", image_folder),
    ):
        alone = [path for stem, path in files_by_stem.items() if stem not in partners]
        if alone:
            count = f" ({len(alone)} such files)" if len(alone) > 1 else ""
            raise InputError(
                f"{alone[0]} has no {kind} in {folder / partner_folder}{count}; "
                f"add {alone[0].stem}.png there or remove it"
            )
    return [{"image": str(images[stem]), "mask": str(masks[stem])} for stem in sorted(images)]


# Formats of a raw folder; the first that recognizes it counts. A format is two functions: one is called
# (folder, image_column) and returns a bool, the other (folder, image_column, mask_column) and returns the paths of each
# pair as {"image": path, "mask": path}, with other keys for other columns.
RAW_FORMATS = (
    (has_metadata, pairs_from_metadata),
    (has_subfolders, pairs_from_stems),
)
