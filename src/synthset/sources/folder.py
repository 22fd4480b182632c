"""Raw folders of images and masks."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import datasets

from ..console import progress
from ..errors import InputError
from .decoding import decode_pair

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".pgm", ".tif", ".tiff", ".webp")


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
