"""Objects that annotation tools store as outlines, runs of pixels or small pictures, and how they are drawn."""

import base64
import binascii
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from pycocotools import mask as coco_masks

from ...errors import InputError
from ..reading import Window

GRID = 5  # pycocotools draws on a grid of a fifth of a pixel
LARGEST = 1e12  # number that may be a place in a photo
LONGEST_OUTLINE = 10**7  # pixels; pycocotools needs 80 bytes for each


class Part(NamedTuple):
    """Drawn pixels: `mask` (height, width), true where the object is, belongs at `left`, `top` of the photo."""

    left: int
    top: int
    mask: np.ndarray


@dataclass(frozen=True, eq=False)
class Outline:
    """One or several closed outlines, whose union is the object.

    Attributes:
        label: class.
        entry: what error messages call it.
        pieces: (N, 2) of x and y, N at least 3, in pixels from the upper left corner of the photo.
        whole: what a side of the photo is in the numbers of `pieces`, such as 1 for shares; None for pixels.
        upright: it is a rectangle with sides along those of the photo.
    """

    label: str
    entry: str
    pieces: tuple[np.ndarray, ...]
    whole: float | None = None
    upright: bool = False

    def bounds(self, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Smallest and largest x and y in pixels."""
        points = np.concatenate(self.pieces) * (np.divide(size, self.whole) if self.whole else 1)
        return points.min(axis=0), points.max(axis=0)

    def draw(self, size: tuple[int, int], window: Window) -> Part | None:
        """Draws what is in `window`, by the rule of COCO: a pixel belongs to the object if its center does."""
        lowest, highest = self.bounds(size)
        if (lowest < -np.array(size)).any() or (highest > 2 * np.array(size)).any():
            x, y = np.where(lowest < -np.array(size), lowest, highest)
            raise InputError(
                f"{self.entry} reaches to x {x:.6g}, y {y:.6g}, far outside its photo of {size[0]}x{size[1]} pixels; "
                "correct it, or export the annotations of this very photo"
            )
        left, top = np.maximum(np.floor(lowest).astype(int) - 1, window[:2])
        right, bottom = np.minimum(np.ceil(highest).astype(int) + 1, np.add(window[:2], window[2:]))
        if left >= right or top >= bottom:
            return None
        mask = np.zeros((bottom - top, right - left), dtype=bool)
        for piece in self.pieces:
            points = np.floor(piece * (np.divide(size, self.whole) if self.whole else 1) * GRID + 0.5)
            length = np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum() / GRID
            if length > LONGEST_OUTLINE:
                raise InputError(f"{self.entry} has an outline {length:.0f} pixels long, too long to draw; split it")
            points -= GRID * np.array([left, top])
            # pycocotools adds a half and cuts off decimals, so that it rounds negative numbers differently.
            points = np.where(points < 0, points - 0.9, points) / GRID
            (drawn,) = coco_masks.frPyObjects([points.ravel().tolist()], *mask.shape)
            counts = uncompressed(drawn["counts"])
            mask |= np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(mask.shape[::-1]).T
        return Part(int(left), int(top), mask)


@dataclass(frozen=True, eq=False)
class Runs:
    """A mask as lengths of runs.

    Attributes:
        label: class.
        entry: what error messages call it.
        counts: int64, lengths in turn of background and object, beginning with background.
        box: where the mask lies in the photo.
        down: runs go down the columns, as in COCO, instead of along the rows.
        whole: the mask must be that of the whole photo.
    """

    label: str
    entry: str
    counts: np.ndarray
    box: Window
    down: bool = True
    whole: bool = True

    def draw(self, size: tuple[int, int], window: Window) -> Part | None:
        """Draws what is in `window`."""
        box = self.box
        if self.whole and (box.width, box.height) != size:
            raise InputError(
                f"{self.entry} is a mask of {box.width}x{box.height} pixels but the photo is {size[0]}x{size[1]}; "
                "export the annotations of this very photo"
            )
        if min(box) < 0 or box.left + box.width > size[0] or box.top + box.height > size[1]:
            raise InputError(
                f"{self.entry} is a mask of {box.width}x{box.height} pixels at {box.left}, {box.top}, partly outside "
                f"its photo of {size[0]}x{size[1]}; correct it"
            )
        if self.counts.sum() != box.width * box.height:
            raise InputError(
                f"{self.entry} has runs of {self.counts.sum()} pixels in all, but its mask is "
                f"{box.width}x{box.height} = {box.width * box.height}; export it again"
            )
        ends = np.cumsum(self.counts)
        filled = np.flatnonzero(self.counts[1::2]) * 2 + 1
        if not len(filled):
            return None
        length = box.height if self.down else box.width
        first, last = int(ends[filled[0] - 1] // length), int((ends[filled[-1]] - 1) // length)
        rows = (window.top - box.top, window.top - box.top + window.height, box.height)
        columns = (window.left - box.left, window.left - box.left + window.width, box.width)
        lines, along = (columns, rows) if self.down else (rows, columns)
        start, stop = max(lines[0], first, 0), min(lines[1], last + 1)
        low, high = max(along[0], 0), min(along[1], length)
        if start >= stop or low >= high:
            return None
        inside = np.diff(np.clip(ends, start * length, stop * length), prepend=start * length)
        mask = np.repeat(np.arange(len(inside)) % 2 == 1, inside).reshape(stop - start, length)[:, low:high]
        left, top = (start, low) if self.down else (low, start)
        return Part(box.left + left, box.top + top, mask.T if self.down else mask)


@dataclass(frozen=True, eq=False)
class Patch:
    """A mask as a picture in base64, any value but 0 the object, whose upper left corner is at `left`, `top`."""

    label: str
    entry: str
    data: str
    left: int
    top: int

    def draw(self, size: tuple[int, int], window: Window) -> Part | None:
        """Draws all of it."""
        try:
            with Image.open(io.BytesIO(base64.b64decode(self.data))) as picture:
                if picture.width > 2 * size[0] or picture.height > 2 * size[1]:
                    raise ValueError(f"it is {picture.width}x{picture.height} pixels, far more than its photo")
                mask = np.asarray(picture) != 0
            if mask.ndim != 2:
                raise ValueError(f"it has mode {picture.mode!r}")
        except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and more
            reason = " ".join(str(error).split())
            raise InputError(f"{self.entry} holds a mask that can't be read: {reason}; draw it again") from None
        return Part(self.left, self.top, mask)


Shape = Outline | Runs | Patch


@dataclass(eq=False)
class Drawing:
    """The objects of one photo; a `reading.Drawing`.

    Attributes:
        name: file and entry for error messages.
        size: (width, height) of the photo that the annotation states, or None.
        shapes: drawn in this order, later ones over earlier ones.
        numbers: number of each class in the label map, 1 to 255.
    """

    name: str
    size: tuple[int, int] | None
    shapes: Sequence[Shape]
    numbers: Mapping[str, int] = field(repr=False)

    def label_map(self, size: tuple[int, int], window: Window | None = None) -> np.ndarray:
        """Draws the objects; see `reading.Drawing`."""
        if self.size is not None and self.size != tuple(size):
            stated, found = ("{}x{}".format(*value) for value in (self.size, size))
            raise InputError(
                f"{self.name} is of a photo of {stated} pixels but the photo is {found}; export the annotations of "
                "this very photo"
            )
        window = window or Window(0, 0, *size)
        labels = np.zeros((window.height, window.width), dtype=np.uint8)
        for shape in self.shapes:
            try:
                part = shape.draw((size[0], size[1]), window)
            except InputError as error:
                raise InputError(f"{self.name}: {error}") from None
            if part is None:
                continue
            x, y = part.left - window.left, part.top - window.top
            mask = part.mask[max(-y, 0) :, max(-x, 0) :]
            place = labels[max(y, 0) :, max(x, 0) :][: mask.shape[0], : mask.shape[1]]
            place[mask[: place.shape[0], : place.shape[1]]] = self.numbers[shape.label]
        return labels


def outline(label: str, entry: str, points: Any, whole: float | None = None) -> Outline:
    """Checks points, [[x, y], ...] or [x, y, x, y, ...], as numbers or as text.

    Raises:
        InputError: they are no pairs of finite numbers.
    """
    try:
        values = np.array(points, dtype=np.float64).reshape(-1, 2)
        if not (abs(values) <= LARGEST).all():  # false for NaN
            raise ValueError
    except (ValueError, TypeError, OverflowError, RecursionError, MemoryError):
        raise InputError(f"{entry} has points that are no pairs of numbers; correct or remove it") from None
    return Outline(label, entry, (values,), whole)


def ellipse(label: str, entry: str, center: Any, radii: Any, degrees: Any = 0) -> Outline:
    """An ellipse in pixels, turned clockwise by `degrees`, as an outline of 360 points (off by up to 0.004 % of its
    radius).

    Raises:
        InputError: the numbers are not finite, or a radius is negative.
    """
    (x, y), (rx, ry), (turn,) = (numbers(entry, values) for values in (center, radii, [degrees]))
    if rx < 0 or ry < 0:
        raise InputError(f"{entry} has a negative radius; correct or remove it")
    angles, turn = np.deg2rad(np.arange(360.0)), np.deg2rad(turn)
    across, down = rx * np.cos(angles), ry * np.sin(angles)
    points = (x + across * np.cos(turn) - down * np.sin(turn), y + across * np.sin(turn) + down * np.cos(turn))
    return outline(label, entry, np.stack(points, axis=1))


def rectangle(label: str, entry: str, corner: Any, opposite: Any) -> Outline:
    """A rectangle between two corners in pixels.

    Raises:
        InputError: the numbers are not finite.
    """
    (x, y), (u, v) = numbers(entry, corner), numbers(entry, opposite)
    return Outline(label, entry, (np.array([[x, y], [u, y], [u, v], [x, v]]),), upright=True)


def numbers(entry: str, values: Iterable[Any]) -> list[float]:
    """Finite numbers, also from text.

    Raises:
        InputError: one is none.
    """
    try:
        found = [float(value) for value in values]
        if not all(abs(value) <= LARGEST for value in found):  # false for NaN
            raise ValueError
    except (ValueError, TypeError, OverflowError):
        raise InputError(f"{entry} lacks a number where its place or size should be; correct or remove it") from None
    return found


def runs(label: str, entry: str, counts: Any, box: Window, down: bool = True, whole: bool = True) -> Runs:
    """Checks lengths of runs: a list of numbers, or text as COCO compresses them.

    Raises:
        InputError: they are neither.
    """
    try:
        if isinstance(counts, str):
            lengths = uncompressed(counts.encode("ascii"))
        else:
            found = np.array(counts, dtype=np.float64)
            if found.ndim != 1 or not ((abs(found) <= LARGEST) & (found == np.trunc(found))).all():
                raise ValueError
            lengths = found.astype(np.int64)
        if not len(lengths) or (lengths < 0).any():
            raise ValueError
    except (ValueError, TypeError, OverflowError, RecursionError, MemoryError):
        raise InputError(f"{entry} has runs that are no lengths in COCO's way; export it again") from None
    return Runs(label, entry, lengths, box, down, whole)


def uncompressed(text: bytes) -> np.ndarray:
    """Lengths of runs from COCO's compression: 5 bits in each character, the least first, bit 6 if more follow, and
    from the fourth number on the difference to the last but one.

    Raises:
        ValueError: the text is broken.
    """
    codes = np.frombuffer(text, dtype=np.uint8).astype(np.int64) - 48
    if not len(codes) or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise ValueError
    ends = np.flatnonzero(codes & 32 == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    place = np.arange(len(codes)) - np.repeat(starts, ends - starts + 1)
    if place.max() > 7:
        raise ValueError
    values = np.add.reduceat((codes & 31) << 5 * place, starts)
    values -= np.where(codes[ends] & 16, 1 << 5 * (place[ends] + 1), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def patch(label: str, entry: str, data: Any, corner: Any) -> Patch:
    """Checks a picture in base64.

    Raises:
        InputError: it is none, or its place is no pair of numbers.
    """
    left, top = numbers(entry, corner)
    try:
        base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise InputError(f"{entry} holds no mask in base64; draw it again") from None
    return Patch(label, entry, data, round(left), round(top))
