"""Masks: background and object, and the labels behind them, from the values or colors of a picture."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from ..errors import InputError
from .labels import to_code, to_color
from .pictures import Picture, turn
from .reading import Reading

LabelKind = Literal["values", "colors", "classes", ""]
REMEDY = "save it as one gray channel with 0 for background and 255 for the object"
WHITES = (0, 1, 255, 65535)  # the largest value of a mask of two values
BLACK_AND_WHITE = {0x000000, 0xFFFFFF}


class Mask(NamedTuple):
    """Object and labels of a mask.

    Attributes:
        pixels: bool (H, W), true for the object.
        labels: as in [`Decoded`].
        label_kind: as in [`Decoded`]; "" also for labels of 0 only that fit any.
        convention: as in [`Decoded`]; empty for what fits any.
    """

    pixels: np.ndarray
    labels: np.ndarray | None
    label_kind: LabelKind
    convention: str

    def turned(self, orientation: int) -> "Mask":
        """The mask of a photo that is turned by this EXIF orientation."""
        labels = None if self.labels is None else turn(self.labels, orientation)
        return self._replace(pixels=turn(self.pixels, orientation), labels=labels)


class Stored(NamedTuple):
    """Pixels of a mask file.

    Attributes:
        pixels: (H, W) values or palette indices, or (H, W, 3) colors.
        palette: uint8 (256, 3), if there is one.
        alpha: (H, W), if there is a channel of transparency.
        white: value of full opacity in `alpha`.
    """

    pixels: np.ndarray
    palette: np.ndarray | None = None
    alpha: np.ndarray | None = None
    white: int = 255


def stored_pixels(picture: Picture | np.ndarray) -> Stored:
    """Takes a picture, or (H, W) or (H, W, C) values, apart.

    Raises:
        InputError: it has neither values nor red, green and blue.
    """
    if isinstance(picture, np.ndarray):
        channels = picture.shape[2] if picture.ndim == 3 else 1
        if channels > 4:
            raise InputError(f"is a mask of {channels} bands; {REMEDY}")
        alpha = picture[..., -1] if channels in (2, 4) else None
        pixels = picture if picture.ndim == 2 else picture[..., :3] if channels >= 3 else picture[..., 0]
        return Stored(pixels, None, alpha, 65535 if picture.dtype == np.uint16 else 255)
    if picture.samples is not None:
        pixels, alpha = picture.split_samples()
        return Stored(pixels, None, alpha, 65535)
    image = picture.image
    if image.mode in ("CMYK", "LAB", "HSV"):
        raise InputError(f"is a mask of mode {image.mode!r}; {REMEDY}")
    palette = None
    if image.mode in ("P", "PA"):
        colors = np.asarray(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
        palette = np.zeros((256, 3), np.uint8)
        palette[: len(colors)] = colors[:256]
    alpha = None
    if image.has_transparency_data:
        alpha = np.asarray(image.convert("RGBA").getchannel("A"))
    if image.mode == "YCbCr":
        image = image.convert("RGB")
    pixels = np.asarray(image)
    if pixels.dtype == bool:
        pixels = pixels * np.uint8(255)
    if pixels.ndim == 3:
        pixels = pixels[..., :3] if pixels.shape[2] >= 3 else pixels[..., 0]
    return Stored(pixels, palette, alpha)


def read_mask(stored: Stored, reading: Reading) -> Mask:
    """Finds the object by `reading`; by default, masks hold 0 and 255, or 0 and 1, in one channel of any depth, as
    palette indices, as a palette of black and white, or as three equal channels.

    Raises:
        InputError: the mask holds something else.
    """
    if stored.alpha is not None:
        stored = _without_alpha(stored, reading)
    elif reading.mask_channel == "alpha":
        raise InputError("is a mask without an alpha channel, from which --mask_channel alpha takes it; leave that out")
    if stored.palette is None and stored.pixels.ndim == 3 and (stored.pixels == stored.pixels[..., :1]).all():
        gray = stored._replace(pixels=stored.pixels[..., 0])
    else:
        gray = stored
    if reading.mask_threshold is not None:
        return Mask(_gray_values(gray) > reading.mask_threshold, None, "", "gray levels")
    if reading.instances:
        kind: LabelKind = "colors" if gray.pixels.ndim == 3 else "values"
        labels = _colors(stored) if kind == "colors" else _integers(gray.pixels)
        return Mask(labels != 0, labels, kind if labels.any() else "", "numbers of instances")
    kind = label_kind(reading)
    if kind == "":
        return _read_binary(gray)
    if kind == "colors":
        labels = _colors(stored)
    elif gray.pixels.ndim == 3:
        raise InputError(
            f"is a mask of colors ({_listed(_colors(stored), to_color)}), not of values; name the object's with "
            "synthset prepare --object_color"
        )
    else:
        labels = _integers(gray.pixels)
    _require_classes(labels, reading, kind)
    return Mask(np.isin(labels, object_codes(reading)), labels, kind, kind)


def label_kind(reading: Reading) -> LabelKind:
    """Kind of the labels that every mask read by `reading` has; "" if none, or as the masks are."""
    if reading.object_colors or any(isinstance(code, tuple) for code in (reading.classes or {}).values()):
        return "colors"
    return "values" if reading.object_values or reading.classes else ""


def object_codes(reading: Reading) -> list[int]:
    """Codes in `Mask.labels` of the values, colors or classes that are the object.

    Raises:
        InputError: a class does not exist, or there are several and none is chosen.
    """
    if reading.object_values:
        return list(reading.object_values)
    if reading.object_colors:
        return [to_code(color) for color in reading.object_colors]
    codes = {name: to_code(code) for name, code in (reading.classes or {}).items()}
    names = [name for name, code in codes.items() if code != 0]
    return [codes[name] for name in chosen_classes(reading, names, tuple(codes))]


def chosen_classes(reading: Reading, names: list[str], known: tuple[str, ...]) -> tuple[str, ...]:
    """Classes that are the object: `reading.object_classes`, or the only one of `names`.

    Raises:
        InputError: a chosen class is not in `known`, or none is chosen and `names` are several or none.
    """
    for name in reading.object_classes:
        if name not in known:
            raise InputError(
                f"has no class {name!r} (classes: {', '.join(known) or 'none'}); give another with --object_class"
            )
    if reading.object_classes or len(names) == 1:
        return reading.object_classes or tuple(names)
    raise InputError(
        f"has {len(names)} classes ({', '.join(names) or 'none'}); name the object's with synthset prepare "
        "--object_class"
    )


def drawn_mask(labels: np.ndarray, reading: Reading, classes: tuple[str, ...]) -> Mask:
    """Finds the object among drawn objects.

    Args:
        labels: (H, W), 0 or the position, from 1, of a class in `classes`.
        reading: which classes are the object.
        classes: names of the classes.

    Raises:
        InputError: there are several classes and none is chosen, or a chosen one does not exist.
    """
    chosen = [classes.index(name) + 1 for name in chosen_classes(reading, list(classes), classes)]
    several = labels.astype(np.int32) if len(classes) > 1 else None
    return Mask(np.isin(labels, chosen), several, "" if several is None else "classes", "drawn objects")


def _without_alpha(stored: Stored, reading: Reading) -> Stored:
    """Takes the mask from the alpha channel, or drops that if it is opaque."""
    alpha = stored.alpha
    assert alpha is not None
    if reading.mask_channel == "alpha":
        return Stored(alpha)
    if (alpha == stored.white).all():
        return stored._replace(alpha=None)
    share = f"{100 * np.mean(alpha != stored.white):.3g} %"
    shown = stored.pixels if stored.palette is None else stored.palette[stored.pixels]
    if (shown == shown[0, 0]).all():
        raise InputError(
            f"is a mask of one color whose transparency varies ({share} of the pixels); take the mask from that with "
            f"synthset prepare --mask_channel alpha, or {REMEDY}"
        )
    raise InputError(f"is a mask with transparent pixels ({share}), which hide values; {REMEDY}, without transparency")


def _packed(colors: np.ndarray) -> np.ndarray:
    """Codes, int32 (...), of colors (..., 3) of 8 bits."""
    wide = colors.astype(np.int32)
    return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]


def _colors(stored: Stored) -> np.ndarray:
    """Codes of colors, int32 (H, W)."""
    pixels = stored.pixels
    if stored.palette is not None:
        return _packed(stored.palette)[pixels]
    if pixels.ndim == 2:
        if pixels.any():
            raise InputError(
                f"is a gray mask ({_values_found(pixels)}), not one of colors; name the object's values with synthset "
                "prepare --object_value"
            )
        return np.zeros(pixels.shape, np.int32)
    if pixels.dtype == np.uint16:
        if (pixels % 257).any():
            raise InputError("is a mask of colors of 16 bits per channel; save it as 8-bit RGB")
        pixels = pixels // 257
    return _packed(pixels)


def _integers(pixels: np.ndarray) -> np.ndarray:
    """Values as int32 (H, W)."""
    if pixels.dtype.kind == "f":
        whole = np.where(np.isfinite(pixels) & (np.abs(pixels) < 2**31), pixels, 0.5)
        if (whole != np.trunc(whole)).any():
            raise InputError(f"is a mask with values that are not whole ({_values_found(pixels)}); save it as integers")
    return pixels.astype(np.int32)


def _gray_values(gray: Stored) -> np.ndarray:
    """Gray levels (H, W), of a palette those of its colors."""
    if gray.palette is not None:
        used = gray.palette[distinct(gray.pixels)]
        if (used == used[:, :1]).all():
            return gray.palette[:, 0][gray.pixels]
    elif gray.pixels.ndim == 2:
        return gray.pixels
    raise InputError(
        f"is a mask of colors ({_listed(_colors(gray), to_color)}), to which --mask_threshold does not apply; name "
        "the object's color with synthset prepare --object_color"
    )


def _read_binary(gray: Stored) -> Mask:
    """Reads a mask of two values, of which 0 (or black) is the background."""
    pixels, convention = gray.pixels, ""
    if gray.palette is not None:
        used = set(_packed(gray.palette[distinct(pixels)]).tolist())
        if used <= BLACK_AND_WHITE:
            pixels = gray.palette[:, 0][pixels]
            convention = "palette of black and white"
        else:
            convention = "palette of other colors"
    if pixels.ndim == 3:
        raise InputError(
            f"is a mask of colors ({_listed(_colors(gray), to_color)}); name the object's with synthset prepare "
            f"--object_color, or {REMEDY}"
        )
    largest, mask = pixels.max(), pixels != 0
    if largest not in WHITES or (pixels[mask] != largest).any():
        raise InputError(
            f"is a mask with {_values_found(pixels)}; save it losslessly (PNG) with 0 for background and 255 (or 1) "
            "for the object, or say what its values mean with synthset prepare --object_value, --mask_threshold or "
            "--instances"
        )
    return Mask(mask, None, "", convention or ("" if largest == 0 else f"0 and {int(largest)}"))


def _require_classes(labels: np.ndarray, reading: Reading, kind: LabelKind) -> None:
    """Refuses codes that are no class, but 0 and black."""
    if reading.classes:
        known = {0, *(to_code(code) for code in reading.classes.values())}
        unknown = np.array([code for code in distinct(labels) if code not in known], np.int64)
        if unknown.size:
            listed = _listed(unknown, to_color if kind == "colors" else str)
            raise InputError(f"is a mask with {kind} {listed} that are not in --classes; add them there")


def distinct(pixels: np.ndarray) -> np.ndarray:
    """Sorted distinct values of integers."""
    if pixels.dtype.kind == "f" or pixels.min() < 0 or pixels.max() >= 2**24:
        return np.unique(pixels)
    seen = np.zeros(int(pixels.max()) + 1, bool)  # several times faster than sorting a photo's pixels
    seen[pixels] = True
    return np.flatnonzero(seen)


def _values_found(pixels: np.ndarray) -> str:
    return f"values {_listed(pixels, str)}"


def _listed(values: np.ndarray, spell: Callable[[int], str]) -> str:
    """The first distinct values, and how many there are."""
    found = distinct(values)
    listed = ", ".join(spell(value) for value in found[:6])
    return listed + (f", ... ({len(found)} different)" if len(found) > 6 else "")
