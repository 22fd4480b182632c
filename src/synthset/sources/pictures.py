"""Picture files: opened and decoded completely, with everything that a file says about its pixels."""

import io
import logging
import math
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageFile, TiffImagePlugin, UnidentifiedImageError

from ..errors import InputError
from .samples import bits_of_png, bits_of_tiff, rawmode, read_samples

FORMATS = ("AVIF", "BMP", "GIF", "HEIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
MAX_PIXELS = (
    2**28
)  # of one picture; also Pillow's limit in this process, which refuses photos of 180 megapixels if unset
Image.MAX_IMAGE_PIXELS = MAX_PIXELS
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)  # Pillow raises only beyond twice its limit
warnings.filterwarnings("ignore", category=UserWarning, module="PIL")  # damaged metadata; damaged pixels raise
logging.getLogger("PIL").setLevel(logging.CRITICAL)  # the same

TURNS = {  # EXIF orientation -> what turns stored pixels upright (EXIF 2.32, table 6)
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
LATE_METADATA = b"metadata after pixels"  # key of `_png_chunks`
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1")
TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
WHITE_IS_ZERO = 0  # of TIFF's tag PhotometricInterpretation
HDR_TRANSFERS = (16, 18)  # PQ and HLG in ITU-T H.273


@dataclass
class Picture:
    """A decoded picture.

    Attributes:
        image: upright, of any mode; of the first bytes of `samples` where those are color.
        format: of the file, in Pillow's words.
        orientation: of EXIF, 1 to 8: how `image` was turned; 1 is not at all.
        samples: (H, W) or (H, W, channels) uint16, if there are more than 8 bits per channel; the last of 2 or 4
            channels is alpha.
        significant_bits: bits per channel that are used as far as the file says so, if there are more than 8.
        repaired: as in [`Decoded`].
        suspicious: as in [`Decoded`].
    """

    image: Image.Image
    format: str = ""
    orientation: int = 1
    samples: np.ndarray | None = None
    significant_bits: int | None = None
    repaired: list[str] = field(default_factory=list)
    suspicious: list[str] = field(default_factory=list)

    @property
    def stored_size(self) -> tuple[int, int]:
        """(width, height) in pixels before EXIF turned the picture."""
        return turned_size(self.image.size, self.orientation)

    def split_samples(self) -> tuple[np.ndarray, np.ndarray | None]:
        """`samples` without alpha, (H, W) or (H, W, 3), and alpha (H, W) uint16 if there is transparency."""
        samples = self.samples
        assert samples is not None
        if samples.ndim == 3 and samples.shape[2] in (2, 4):
            color = samples[..., :-1]
            return color if color.shape[2] == 3 else color[..., 0], samples[..., -1]
        if "transparency" not in self.image.info:
            return samples, None
        different = samples != np.asarray(self.image.info["transparency"], dtype=np.int64)
        return samples, (different.any(axis=-1) if samples.ndim == 3 else different) * np.uint16(65535)


def turned_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """(width, height) of a picture that is turned by an EXIF orientation, or turned back."""
    return (size[1], size[0]) if orientation >= 5 else size


def turn(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turns stored pixels (H, W) or (H, W, C) upright."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    flips = {2: (1,), 3: (0, 1), 4: (0,), 6: (1,), 7: (0, 1), 8: (0,)}
    return np.flip(pixels, flips.get(orientation, ()))


def open_image(value: dict | None) -> Picture:
    """Decodes `value`, a row of an undecoded `datasets.Image` column ({"path", "bytes"}), and turns it as EXIF says.

    Raises:
        InputError: the value is missing, is not an image that can be read completely, has more than `MAX_PIXELS`, or
            holds several pictures or bands that are neither color nor transparency.
    """
    with _opened(value) as (file, image):
        form, chunks = image.format or "", _png_chunks(file, verify=True) if image.format == "PNG" else {}
        _require_one_picture(image)
        tags = getattr(image, "tag_v2", TiffImagePlugin.ImageFileDirectory_v2())
        if form == "TIFF":
            _require_readable_tiff(image, tags)
        layout = rawmode(image)
        orientation, suspicious = _read_exif(image, chunks)
        samples, bits = None, None
        if image.mode in ("RGB", "RGBA") and ";16" in layout:
            picture, samples = read_samples(file, layout)
        else:
            image.load()
            picture = image
            if image.mode.startswith("I;16") or (image.mode == "I" and form == "PPM"):
                samples = np.asarray(image).astype(np.uint16)
        if samples is not None and form == "PNG":
            bits = bits_of_png(max(chunks.get(b"sBIT", b"\0")), samples)
        elif samples is not None and form == "TIFF":
            bits = bits_of_tiff(tags)
        if form == "PNG":
            suspicious += _ignored_colors_of_png(image, chunks)
        if (image.info.get("nclx_profile") or {}).get("transfer_characteristics") in HDR_TRANSFERS:
            suspicious.append("high dynamic range, read as sRGB")
        if orientation > 1 and form != "TIFF":  # Pillow turns those when it loads them
            picture = picture.transpose(TURNS[orientation])
        if orientation > 1 and form != "TIFF" and samples is not None:
            samples = turn(samples, orientation)
        repaired = ["rotated upright by EXIF"] if orientation > 1 else []
        return Picture(picture, form, orientation, samples, bits, repaired, suspicious)


def upright_size(value: dict | None) -> tuple[int, int]:
    """(width, height) in pixels that [`open_image`] would give, from the file's header.

    Raises:
        InputError: the value is missing, or has no header of an image of at most `MAX_PIXELS`.
    """
    with _opened(value) as (file, image):
        orientation, _ = _read_exif(image, _png_chunks(file) if image.format == "PNG" else {})
        if image.format == "TIFF":
            return turned_size((image.tag_v2[256], image.tag_v2[257]), orientation)
        return turned_size(image.size, orientation)


def reason_of(error: Exception) -> str:
    """The message of a library's exception in one printable line."""
    return printable(str(error)) or type(error).__name__


def printable(text: str) -> str:
    """A text of a file or library in one printable line."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


@contextmanager
def _opened(value: dict | None) -> Iterator[tuple[BinaryIO, Any]]:
    """Opens a value and reads its header; errors of libraries, in the block as well, become `InputError`."""
    if not isinstance(value, dict) or (value.get("bytes") is None and value.get("path") is None):
        raise InputError("is missing; remove the row or add it")
    content, path = value.get("bytes"), value.get("path") or ""
    start, unknown_heif = b"", False
    try:
        if content is None and not Path(path).is_file():
            Path(path).stat()
            raise InputError("is not a file; replace or remove it")
        with open(path, "rb") if content is None else io.BytesIO(content) as file:
            start = file.read(16)
            is_heif = start[4:8] == b"ftyp" and start[8:12] in HEIF_BRANDS
            unknown_heif = is_heif and not _register_heif()
            file.seek(0)
            with Image.open(file, formats=_formats()) as image:
                _require_size(image.size)
                yield file, image
            return
    except InputError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise InputError(f"has more than {MAX_PIXELS:,} pixels; {_TILES}") from None
    except UnidentifiedImageError:
        if start.startswith(TIFF_SIGNATURES):
            raise InputError(f"is a TIFF of a kind that only rasters have{_bands_found(value)}; {_BANDS}") from None
        if unknown_heif:
            raise InputError(
                "is a HEIC picture, which needs pillow-heif; pip install 'synthset[heic]', or save it as JPEG"
            ) from None
        found = "an empty file (0 bytes)"
        if start:
            size = Path(path).stat().st_size if content is None else len(content)
            found = f"{size} bytes in no image format that is read ({', '.join(FORMATS)})"
    except FileNotFoundError:
        found = "no such file"
    except MemoryError:
        found = "not enough memory"
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and more
        found = reason_of(error)
    raise InputError(f"can't be read as an image: {found}; replace or remove it")


_TILES = "cut it into tiles with synthset prepare --tile_size (needs pip install 'synthset[raster]')"
_BANDS = (
    "choose those of red, green and blue with synthset prepare --bands (needs pip install 'synthset[raster]'), "
    "or save it as 8-bit RGB"
)


@cache
def _register_heif() -> bool:
    """Teaches Pillow to read HEIC files; false if pillow-heif is not installed."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def _formats() -> list[str]:
    """The formats of `FORMATS` that this Pillow reads."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _require_size(size: tuple[int, int]) -> None:
    if math.prod(size) > MAX_PIXELS:
        raise InputError(f"is {size[0]} x {size[1]} pixels, more than {MAX_PIXELS:,}; {_TILES}")


def _require_one_picture(image: Any) -> None:
    """Refuses animations and files of several pages. Further frames of MPO files are previews or gain maps, and
    reduced pages of TIFF files are previews."""
    count = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    if count > 1 and image.format == "TIFF":
        previews = 0
        for page in range(1, count):
            with suppress(Exception):  # a page that can't be read is no preview
                image.seek(page)
                previews += image.tag_v2.get(254, 0) & 1  # NewSubfileType
        count -= previews
    if getattr(image, "tell", int)() > 0:
        image.seek(0)
    if count > 1:
        raise InputError(f"holds {count} pictures (pages or frames); save the one that is meant as a file of its own")


def _require_readable_tiff(image: ImageFile.ImageFile, tags: TiffImagePlugin.ImageFileDirectory_v2) -> None:
    """Refuses TIFF files of which Pillow would show other values than they hold."""
    bands = tags.get(277, 1)  # SamplesPerPixel
    unknown = sum(kind not in (1, 2) for kind in tags.get(338, ()))  # ExtraSamples: neither kind of alpha
    if unknown:
        raise InputError(f"has {bands} bands, of which {unknown} are neither color nor transparency; {_BANDS}")
    ends = [
        (tile.extents or (0, 0, 0, 0))[2:] for tile in image.tile
    ]  # a file of fewer strips than its size needs is black beyond them
    if ends and (max(right for right, _ in ends) < tags[256] or max(bottom for _, bottom in ends) < tags[257]):
        raise InputError(f"is truncated: it claims {tags[256]} x {tags[257]} pixels, and holds fewer; replace it")
    deep = max(tags.get(258, (1,))) > 8  # BitsPerSample
    if deep and tags.get(262) == WHITE_IS_ZERO:
        raise InputError("is a TIFF of more than 8 bits whose zero is white; save it with zero as black")
    if deep and bands > 1 and tags.get(284, 1) == 2:  # PlanarConfiguration
        raise InputError(f"is a TIFF of more than 8 bits with one plane per color; {_BANDS}")
    if deep and image.mode == "CMYK":
        raise InputError("is a CMYK picture of more than 8 bits; save it as RGB")


def _bands_found(value: dict) -> str:
    """Bands and bits of a TIFF that Pillow does not open, in parentheses; empty if its header can't be read."""
    try:
        with open(value["path"], "rb") if value.get("bytes") is None else io.BytesIO(value["bytes"]) as file:
            start = file.read(8)
            tags = TiffImagePlugin.ImageFileDirectory_v2(start + (file.read(8) if start[2] == 43 else b""))
            file.seek(tags.next)
            tags.load(file)
            return f" ({int(tags.get(277, 1))} bands of {int(max(tags.get(258, (1,))))} bits)"
    except Exception:  # of a header that is damaged as well
        return ""


def _read_exif(image: ImageFile.ImageFile, chunks: dict[bytes, bytes]) -> tuple[int, list[str]]:
    """Reads the EXIF orientation, 1 to 8, and what is suspicious in EXIF, without decoding the pixels (unless it comes
    after them in a PNG)."""
    if LATE_METADATA in chunks:
        image.load()
    try:
        exif = Image.Image.getexif(image)  # PNG's own decodes the pixels
        orientation = exif.get(ExifTags.Base.Orientation)
    except Exception as error:  # of a damaged block: SyntaxError, struct.error, KeyError and more
        return 1, [f"EXIF that can't be read ({reason_of(error)}), ignored"]
    adobe_rgb = False
    with suppress(Exception):  # it is damaged, or (before Pillow 12) missing
        adobe_rgb = exif.get_ifd(ExifTags.IFD.Interop).get(1) == "R03" and "icc_profile" not in image.info
    suspicious = ["Adobe RGB by EXIF without a color profile, read as sRGB"] if adobe_rgb else []
    return orientation if orientation in TURNS else 1, suspicious


def _png_chunks(file: BinaryIO, verify: bool = False) -> dict[bytes, bytes]:
    """Reads the chunks of a PNG that Pillow ignores, and notes metadata after the pixels.

    Args:
        file: is left where it was.
        verify: compare the checksums of the pixels, which Pillow does not.

    Raises:
        InputError: a checksum is wrong.
    """
    place = file.tell()
    file.seek(len(PNG_SIGNATURE))
    chunks: dict[bytes, bytes] = {}
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"IDAT":
            chunks[kind] = b""
            if verify:
                content = file.read(length)
                if file.read(4) != struct.pack(">I", zlib.crc32(kind + content)) and len(content) == length:
                    raise InputError("is damaged (a checksum of its pixels is wrong); replace or remove it")
                continue
        elif kind in (b"sBIT", b"cICP") and length <= 4:
            chunks[kind] = file.read(length)
            length = 0
        elif kind in (b"eXIf", b"iTXt", b"tEXt", b"zTXt") and b"IDAT" in chunks:
            chunks[LATE_METADATA] = kind
        file.seek(length + 4, io.SEEK_CUR)
    file.seek(place)
    return chunks


def _ignored_colors_of_png(image: Image.Image, chunks: dict[bytes, bytes]) -> list[str]:
    """Properties of a PNG's colors that Pillow ignores."""
    if len(chunks.get(b"cICP", b"")) == 4 and chunks[b"cICP"][1] in HDR_TRANSFERS:
        return ["high dynamic range, read as sRGB"]
    gamma = image.info.get("gamma")
    if gamma and not image.info.keys() & {"srgb", "icc_profile"} and abs(gamma * 2.2 - 1) > 0.1:
        return [f"gamma {gamma:g} in the file, read as sRGB"]
    return []
