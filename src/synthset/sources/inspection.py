"""Findings about the pairs of a dataset: sizes, coverage, objects, near-duplicates, and what is suspicious."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import imagehash
import numpy as np
from PIL import Image
from scipy import ndimage

from .reading import Decoded

HASH_SIZE = 16  # side of the perceptual hash: 256 bits
THUMBNAIL = 32  # side in pixels of the gray thumbnail
# Near-duplicates have hashes that differ in few bits, or thumbnails that correlate. A photo saved as JPEG of quality
# 30, at a third of its size or without 1 % of its border differs from itself in at most 24 bits, and where it is too
# smooth for a hash, its thumbnails correlate to 0.97 or more. The closest two of 60 photos of a carrot field (CWFID)
# differ in 100 bits and correlate to 0.54, those of 200 single coffee leaves on paper in 60 bits and to 0.93.
MAX_DIFFERENT_BITS = 30
MIN_CORRELATION = 0.97
NEARLY_FULL = 0.95  # share of object pixels
SMALLEST_OBJECT = 3  # pixels at the resolution to be trained
MANY = 0.1  # share of smaller objects that is suspicious


@dataclass(frozen=True)
class Measured:
    """Properties of one pair.

    Attributes:
        name: file, or row and dataset.
        split: its split, before any pairs are held out.
        photo: name of the photo that it is, or is a tile of.
        size: (width, height) in pixels.
        coverage: share of object pixels, 0 to 1.
        object_areas: pixels of every connected component (8 neighbors) of the mask.
        label_pixels: code of a label -> its number of pixels; empty without a label map.
        fingerprint: bool (256,), the perceptual hash; None for a photo of one color, which has none.
        thumbnail: float32 (1024,), the gray thumbnail with mean 0 and norm 1; None likewise.
        repaired: as in `Decoded`.
        suspicious: as in `Decoded`, and more.
        convention: as in `Decoded`.
        group: value of the column by which pairs are grouped, or None.
    """

    name: str
    split: str
    photo: str
    size: tuple[int, int]
    coverage: float
    object_areas: np.ndarray
    label_pixels: dict[int, int]
    fingerprint: np.ndarray | None
    thumbnail: np.ndarray | None
    repaired: tuple[str, ...]
    suspicious: tuple[str, ...]
    convention: str
    group: str | None


def measure(decoded: Decoded, name: str, split: str, photo: str, group: str | None = None) -> Measured:
    """Measures a pair."""
    mask = np.asarray(decoded.mask)
    labeled, count = ndimage.label(mask, structure=np.ones((3, 3)))
    areas = np.bincount(labeled.ravel(), minlength=count + 1)[1:]
    label_pixels = {}
    if decoded.labels is not None:
        counts = np.bincount(decoded.labels.ravel())
        label_pixels = {int(code): int(counts[code]) for code in np.flatnonzero(counts)}
    suspicious = list(decoded.suspicious)
    coverage = float(mask.mean())
    if coverage > NEARLY_FULL:
        suspicious.append(f"masks cover more than {NEARLY_FULL:.0%} of the photo")
    low, high = zip(*decoded.image.reduce(max(1, min(decoded.image.size) // 256)).getextrema(), strict=True)
    fingerprint = thumbnail = None
    if max(np.subtract(high, low)) < 4:
        suspicious.append("photos of one color")
    else:
        fingerprint = imagehash.phash(decoded.image, HASH_SIZE).hash.ravel()
        gray = decoded.image.convert("L").resize((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
        thumbnail = np.asarray(gray, dtype=np.float32).ravel()
        thumbnail = thumbnail - thumbnail.mean()
        thumbnail /= max(float(np.linalg.norm(thumbnail)), 1e-6)
    return Measured(
        name,
        split,
        photo,
        decoded.image.size,
        coverage,
        areas,
        label_pixels,
        fingerprint,
        thumbnail,
        decoded.repaired,
        tuple(suspicious),
        decoded.convention,
        group,
    )


def near_duplicates(pairs: Sequence[Measured]) -> list[tuple[int, int]]:
    """Finds pairs of different photos that look the same, by perceptual hash or thumbnail.

    Returns:
        (index, later index), sorted. Of the tiles of two photos, only the first two that are alike are listed.
    """
    numbers = [number for number, pair in enumerate(pairs) if pair.fingerprint is not None]
    if not numbers:
        return []
    signs = np.stack([pairs[number].fingerprint for number in numbers]).astype(np.float32) * 2 - 1  # type: ignore
    thumbnails = np.stack([pairs[number].thumbnail for number in numbers])  # type: ignore
    found: list[tuple[int, int]] = []
    photos: set[tuple[str, str]] = set()
    for start in range(0, len(numbers), 1024):
        different = (signs.shape[1] - signs[start : start + 1024] @ signs[start:].T) / 2
        correlation = thumbnails[start : start + 1024] @ thumbnails[start:].T
        for row, column in np.argwhere((different <= MAX_DIFFERENT_BITS) | (correlation >= MIN_CORRELATION)):
            one, other = numbers[start + row], numbers[start + column]
            between = pairs[one].photo, pairs[other].photo
            if row < column and between[0] != between[1] and between not in photos:
                photos.add(between)
                found.append((one, other))
    return found


def group_pairs(pairs: Sequence[Measured], duplicates: Iterable[tuple[int, int]]) -> list[int]:
    """Numbers the groups that must not be torn apart by a split: tiles of one photo, near-duplicates, and pairs with
    the same group.

    Returns:
        The group of every pair, numbered in order of appearance.
    """
    parent = list(range(len(pairs)))

    def root(number: int) -> int:
        while parent[number] != number:
            parent[number] = number = parent[parent[number]]
        return number

    first: dict[tuple[str, str], int] = {}
    links = list(duplicates)
    for number, pair in enumerate(pairs):
        links.append((first.setdefault(("photo", pair.photo), number), number))
        if pair.group is not None:
            links.append((first.setdefault(("group", pair.group), number), number))
    for one, other in links:
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    order: dict[int, int] = {}
    return [order.setdefault(root(number), len(order)) for number in range(len(pairs))]


def count_photos(pairs: Sequence[Measured], duplicates: Iterable[tuple[int, int]]) -> int:
    """Counts distinct photos: tiles of one photo and near-duplicates count once."""
    return len(set(group_pairs([replace(pair, group=None) for pair in pairs], duplicates)))


def hold_out(groups: Sequence[int], wanted: int, seed: int) -> tuple[list[int], list[int]]:
    """Draws whole groups with at most `wanted` pairs together, or the smallest group if all are larger.

    Args:
        groups: the group of every pair, from 0 without gaps.
        wanted: number of pairs, 1 or more.
        seed: decides which.

    Returns:
        Numbers of the pairs that remain, and of those held out, both in the order drawn: if every pair is a group, as
        `datasets.Dataset.train_test_split` has them. None is held out of a single group.
    """
    members: dict[int, list[int]] = {}
    for number, group in enumerate(groups):
        members.setdefault(group, []).append(number)
    drawn = np.random.default_rng(seed).permutation(len(members)).tolist()
    chosen, room = set(), wanted
    for group in drawn[: len(drawn) - 1]:
        if len(members[group]) <= room:
            chosen.add(group)
            room -= len(members[group])
    if not chosen and len(drawn) > 1:
        chosen.add(min(drawn, key=lambda group: len(members[group])))
    kept = [number for group in drawn if group not in chosen for number in members[group]]
    return kept, [number for group in drawn if group in chosen for number in members[group]]


def sides_when_trained(pairs: Iterable[Measured], crop_size: int, resolution: int) -> np.ndarray:
    """Computes the side in pixels of the square of every object's area, in crops of `crop_size` pixels that are resized
    to `resolution`."""
    areas = np.concatenate([np.zeros(0), *(pair.object_areas for pair in pairs)])
    return np.sqrt(areas) * resolution / crop_size


def summarize(pairs: Sequence[Measured], crop_size: int, resolution: int) -> dict:
    """Counts and sizes of the pairs of a split, JSON-serializable; see `docs/data.md`."""
    coverage = np.array([pair.coverage for pair in pairs])
    sides = sides_when_trained(pairs, crop_size, resolution)
    smallest = min(pairs, key=lambda pair: min(pair.size))
    objects: dict[str, float] = {"count": len(sides)}
    if len(sides):
        low, middle, high = np.quantile(sides, (0.1, 0.5, 0.9))
        objects |= {
            "side_10_percent": round(float(low), 2),
            "side_median": round(float(middle), 2),
            "side_90_percent": round(float(high), 2),
            f"below_{SMALLEST_OBJECT}_px": round(float((sides < SMALLEST_OBJECT).mean()), 4),
        }
    return {
        "pairs": len(pairs),
        "photos": len({pair.photo for pair in pairs}),
        "sizes": dict(Counter("{}x{}".format(*pair.size) for pair in pairs).most_common()),
        "smallest_photo": {"name": smallest.name, "side": min(smallest.size)},
        "mask_coverage": {
            "min": round(float(coverage.min()), 4),
            "median": round(float(np.median(coverage)), 4),
            "max": round(float(coverage.max()), 4),
        },
        "empty_masks": int((coverage == 0).sum()),
        "objects": objects,
    }


def find_suspicious(
    pairs: Sequence[Measured], duplicates: Sequence[tuple[int, int]], crop_size: int, resolution: int
) -> dict[str, list[str]]:
    """Collects what is likely a mistake: reason -> names of the pairs."""
    found: dict[str, list[str]] = {}

    def note(reason: str, *names: str) -> None:
        found.setdefault(reason, []).extend(names)

    for one, other in duplicates:
        where = "in one split" if pairs[one].split == pairs[other].split else "in two splits"
        note(f"near-duplicates {where}", f"{pairs[one].name} = {pairs[other].name}")
    groups: dict[str, set[str]] = {}
    for pair in pairs:
        for reason in pair.suspicious:
            note(reason, pair.name)
        if pair.group is not None:
            groups.setdefault(pair.group, set()).add(pair.split)
    for value, splits in groups.items():
        if len(splits) > 1:
            note("groups in two splits", value)
    for split in dict.fromkeys(pair.split for pair in pairs):
        own = [pair for pair in pairs if pair.split == split]
        if not any(pair.coverage for pair in own):
            note("splits without any object", split)
        side = np.median([min(pair.size) for pair in own])
        for pair in own:
            if min(pair.size) < side / 2:
                note("photos less than half as large as the others", pair.name)
    conventions: dict[str, list[str]] = {}
    for pair in pairs:
        if pair.convention:
            conventions.setdefault(pair.convention, []).append(pair.name)
    if len(conventions) > 1:
        usual, *unusual = sorted(conventions, key=lambda name: -len(conventions[name]))
        for name in unusual:
            note(f"masks stored as {name}, where most are stored as {usual}", *conventions[name])
    sides = [sides_when_trained([pair], crop_size, resolution) for pair in pairs]
    tiny = np.concatenate(sides) < SMALLEST_OBJECT
    if len(tiny) and tiny.mean() > MANY:
        note(
            f"{tiny.mean():.0%} of the objects are below {SMALLEST_OBJECT} px in crops of {crop_size} px at resolution "
            f"{resolution} and vanish",
            *(pair.name for pair, own in zip(pairs, sides, strict=True) if (own < SMALLEST_OBJECT).any()),
        )
    return found


def list_repaired(pairs: Iterable[Measured]) -> dict[str, list[str]]:
    """Collects what was changed while reading: reason -> names of the pairs."""
    found: dict[str, list[str]] = {}
    for pair in pairs:
        for reason in pair.repaired:
            found.setdefault(reason, []).append(pair.name)
    return found
