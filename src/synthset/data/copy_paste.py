"""Copy-paste augmentation: pairs made by pasting cut-out objects on backgrounds, as a baseline for generators.

After Najafian et al., "Semi-Self-Supervised Learning for Semantic Segmentation in Images with Dense Patterns", Plant
Phenomics 5, 0025 (2023), and its code, github.com/KeyhanNajafian/ImageSimulatorPipeline: first object-shaped background
patches are pasted as unlabeled distractors, so that pasted outlines alone do not mark objects; then the objects, with
limited overlap; then colors are augmented. There are two differences.

Colors: the original scales an object by the mean of the background over the object's own maximum, which removes its
contrast to the background. Here an object is scaled, per channel, by the mean color of its new surroundings over that
of its old ones (von Kries' model of a change of light), which keeps the contrast.

Edges: the original replaces pixels. Here the alpha of an object fades over about two pixels, and the mask is where
alpha is at least one half.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter
from scipy import ndimage

from ..console import progress
from ..errors import InputError
from ..sources.decoding import decode_pair
from .scale import choose_crop_size
from .transforms import ResizePair, to_tv_tensors
from .writer import pair_features, write_pairs_shard

COLUMNS = {  # column: (type for `pair_features`, description); in addition to `image` and `mask`
    "num_objects": ("int64", "number of objects pasted"),
    "coverage": ("float32", "share of object pixels in the mask, 0 to 1"),
}
FEATURES = pair_features(**{name: dtype for name, (dtype, _) in COLUMNS.items()})
PLACEMENTS = 50  # positions tried before an object is skipped, as in Najafian et al.
GAIN = 2.0  # maximum factor on colors: larger ratios come from different surroundings, not from the light


@dataclass(frozen=True)
class CutOut:
    """Object cut out of a photo.

    Args:
        image: RGBA; alpha is 255 inside, fades over the outline, and is at least 128 exactly where the mask was.
        surroundings: mean color (3,) of the background around it, 0 to 255.
        whole: true if the object is not cut off by the border of the photo.
    """

    image: Image.Image
    surroundings: np.ndarray
    whole: bool


def cut_out_objects(image: np.ndarray, mask: np.ndarray, min_area: int) -> list[CutOut]:
    """Cuts out the connected components (8 neighbors) of at least `min_area` pixels of a mask.

    Args:
        image: (H, W, 3), uint8.
        mask: (H, W); nonzero is object.
        min_area: minimum area in pixels.
    """
    labels, _ = ndimage.label(mask, np.ones((3, 3)))
    cutouts = []
    for number, place in enumerate(ndimage.find_objects(labels), start=1):
        if np.count_nonzero(labels[place] == number) < min_area:
            continue
        margin, near = (
            tuple(slice(max(s.start - border, 0), s.stop + border) for s in place) for border in (3, 16)
        )  # the fading outline, and the surroundings
        inside = (labels[margin] == number).astype(np.float32)
        alpha = (inside + ndimage.gaussian_filter(inside, 1.0)) / 2  # above half inside, below half outside
        around = image[near][mask[near] == 0]
        cutouts.append(
            CutOut(
                image=Image.fromarray(np.dstack([image[margin], np.rint(255 * alpha).astype(np.uint8)])),
                surroundings=(around if len(around) else image[near]).reshape(-1, 3).mean(0),
                whole=all(s.start > 0 and s.stop < side for s, side in zip(place, mask.shape, strict=True)),
            )
        )
    return cutouts


def fill_objects(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Replaces the objects of `image` by background from elsewhere in it.

    Tile by tile, missing pixels are copied from the best matching of several random positions, with blended edges;
    similar to image quilting (Efros and Freeman 2001) with random candidates.

    Args:
        image: (H, W, 3), uint8.
        mask: (H, W); nonzero is object. It may not cover the whole image.
        rng: draws the candidate positions.

    Returns:
        (H, W, 3), uint8.
    """
    filled = image.astype(np.float32)
    missing = ndimage.binary_dilation(mask, iterations=4)  # outlines are inexact, and objects tint their surroundings
    missing = mask != 0 if missing.all() else missing
    side, border, candidates = max(32, min(mask.shape) // 8), 8, 32
    thin = np.s_[:: side // 24, :: side // 24]  # sub-sampling for the comparison
    tiles = [
        (top, left)
        for _ in range(3)  # later rounds can copy from tiles filled before
        for top in range(0, mask.shape[0], side)
        for left in range(0, mask.shape[1], side)
    ]
    for top, left in tiles:
        box = tuple(slice(max(start - border, 0), start + side + border) for start in (top, left))
        here, gap = filled[box], missing[box]
        inner = tuple(slice(start - s.start, start - s.start + side) for start, s in zip((top, left), box, strict=True))
        hole = np.zeros_like(gap)
        hole[inner] = gap[inner]  # missing pixels around the tile belong to other tiles
        if not hole.any():
            continue
        share = np.maximum(hole, np.minimum(1, 2 * ndimage.gaussian_filter(hole.astype(np.float32), 2.0)))
        best = np.inf
        for _ in range(candidates):
            y, x = (rng.integers(whole - part + 1) for whole, part in zip(mask.shape, hole.shape, strict=True))
            there = np.s_[y : y + hole.shape[0], x : x + hole.shape[1]]
            lacking = missing[there][thin]
            both = ~(gap[thin] | lacking)
            change = here[thin][both] - filled[there][thin][both]
            shift = change.mean(0) if len(change) else np.zeros(3, np.float32)
            difference = np.abs(change - shift).mean() + np.abs(shift).mean() if len(change) else 0.0
            cost = 1e4 * (lacking & (share[thin] > 0)).mean() + difference
            if cost < best:
                best, source, usable = cost, np.clip(filled[there] + shift, 0, 255), ~missing[there]
        filled[box] += (share * usable)[..., None] * (source - here)
        missing[box] &= ~(hole & usable)
    nearest = ndimage.distance_transform_edt(missing, return_distances=False, return_indices=True)
    return np.rint(filled[tuple(nearest)]).astype(np.uint8)


def read_background(path: Path) -> np.ndarray:
    """Reads an image file as RGB, (H, W, 3) uint8; an `InputError` names the file if it can't be read."""
    return np.asarray(decode_pair({"image": {"path": str(path), "bytes": None}}, name=lambda _: str(path))["image"])


recent_background = lru_cache(maxsize=32)(read_background)


def fit_crop_size(backgrounds: Sequence[Path], crop_size: int | None) -> int:
    """Decodes every background once, so that invalid files are found first.

    Returns:
        The crop size, by [`choose_crop_size`].

    Raises:
        InputError: one can't be read, or is smaller than `crop_size`, or much smaller than the others.
    """
    with ThreadPoolExecutor() as pool:
        checked = pool.map(lambda path: min(read_background(path).shape[:2]), backgrounds)
        sides = list(progress(checked, "checking backgrounds", total=len(backgrounds), unit="image", delay=1))
    smallest = min(sides)
    if crop_size is not None and smallest < crop_size:
        raise InputError(
            f"{backgrounds[sides.index(smallest)]} is {smallest} pixels wide or high, less than --crop_size "
            f"{crop_size}; remove it, or lower --crop_size"
        )
    return choose_crop_size(crop_size, sides, lambda number: str(backgrounds[number]))


def random_crop(image: np.ndarray, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Random crop of `height` x `width` pixels, as a view of `image`."""
    top, left = rng.integers(image.shape[0] - height + 1), rng.integers(image.shape[1] - width + 1)
    return image[top : top + height, left : left + width]


def augment(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Changes brightness, contrast and saturation by up to 25 %; blurs half of the images with a radius of up to one
    pixel and adds noise of up to 6 gray levels to half of them."""
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = enhance(image).enhance(rng.uniform(0.75, 1.25))
    image = image.filter(ImageFilter.GaussianBlur(max(0.0, rng.uniform(-1, 1))))
    noise = rng.standard_normal((image.height, image.width, 1), dtype=np.float32) * max(0.0, rng.uniform(-6, 6))
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


@dataclass(frozen=True)
class CopyPaste:
    """Generator of copy-paste pairs; each pair is a function of `seed` and its number only.

    Args:
        cutouts: objects to paste.
        backgrounds: image files with sides of at least `crop_size` pixels, without objects.
        crop_size: side in pixels of the background crop that objects are pasted on.
        resolution: side in pixels of the pairs.
        mean_objects: mean number of objects in a crop of the annotated images.
        seed: seed of the dataset.
        num_objects: minimum and maximum number of objects; when not given, Poisson-distributed with the mean
            `mean_objects`, and at least one.
        num_distractors: minimum and maximum number of background patches pasted in the shape of objects.
        max_overlap: maximum share of an object's pixels, 0 to 1, that may cover objects pasted before.
        scale: minimum and maximum factor for the size of an object.
        max_rotation: maximum rotation in degrees, in both directions.
        color_balance: 0 keeps the colors of an object, 1 adapts them fully to its new surroundings.
        augment: change colors and sharpness of the finished image.
    """

    cutouts: Sequence[CutOut]
    backgrounds: Sequence[Path]
    crop_size: int
    resolution: int
    mean_objects: float
    seed: int = 0
    num_objects: Sequence[int] | None = None
    num_distractors: Sequence[int] | None = None
    max_overlap: float = 0.3
    scale: Sequence[float] = (0.8, 1.25)
    max_rotation: float = 180.0
    color_balance: float = 1.0
    augment: bool = True

    def __call__(self, number: int) -> dict:
        """Makes row `number`: `image` (RGB), `mask` ("L", 0 and 1) and `COLUMNS`."""
        rng = np.random.default_rng((self.seed, number))
        background, other = (
            recent_background(self.backgrounds[i]) for i in rng.integers(len(self.backgrounds), size=2)
        )
        background = random_crop(background, self.crop_size, self.crop_size, rng)
        background = background[:: rng.choice([-1, 1]), :: rng.choice([-1, 1])]
        scene, mask = background.copy(), np.zeros((self.crop_size, self.crop_size), bool)

        # 1. distractors
        for _ in range(self.draw_count(self.num_distractors, rng)):
            sprite, window = self.place(self.warp(self.draw_cutout(rng), rng), rng)
            height, width = sprite.shape[:2]
            piece = random_crop(other, height, width, rng)
            self.blend(scene[window], piece, sprite[..., 3], piece.mean((0, 1)), background[window].mean((0, 1)))

        # 2. objects
        pasted = 0
        for _ in range(self.draw_count(self.num_objects, rng)):
            cutout = self.draw_cutout(rng)
            warped = self.warp(cutout, rng)
            for _ in range(PLACEMENTS):
                sprite, window = self.place(warped, rng)
                inside = sprite[..., 3] >= 128
                if inside.any() and mask[window][inside].mean() <= self.max_overlap:
                    surroundings = background[window].mean((0, 1))
                    self.blend(scene[window], sprite[..., :3], sprite[..., 3], cutout.surroundings, surroundings)
                    mask[window] |= inside
                    pasted += 1
                    break

        # 3. resizing and augmentation
        pair = {"image": Image.fromarray(scene), "mask": Image.fromarray(mask.astype(np.uint8))}
        image, mask = (x.permute(1, 2, 0).numpy() for x in ResizePair(self.resolution)(*to_tv_tensors(pair)))
        image, mask = Image.fromarray(image), mask[..., 0]
        return {
            "image": augment(image, rng) if self.augment else image,
            "mask": Image.fromarray(mask),
            "num_objects": pasted,
            "coverage": float(mask.mean()),
        }

    def write_shard(self, path: Path, numbers: range) -> int:
        """Writes the pairs `numbers` as a parquet file with [`write_pairs_shard`]; returns their number."""
        return write_pairs_shard(path, map(self, numbers), FEATURES)

    def draw_cutout(self, rng: np.random.Generator) -> CutOut:
        """Draws one of the cut-outs."""
        return self.cutouts[int(rng.integers(len(self.cutouts)))]

    def draw_count(self, bounds: Sequence[int] | None, rng: np.random.Generator) -> int:
        """Draws a number of objects or distractors, as `num_objects` describes."""
        if bounds is None:
            return max(1, int(rng.poisson(self.mean_objects)))
        low, high = bounds
        return int(rng.integers(low, high, endpoint=True))

    def warp(self, cutout: CutOut, rng: np.random.Generator) -> np.ndarray:
        """Scales, rotates and mirrors a cut-out at random; returns (h, w, 4) uint8."""
        angle = np.deg2rad(rng.uniform(-self.max_rotation, self.max_rotation))
        cos, sin = np.array([np.cos(angle), np.sin(angle)]) * np.exp(rng.uniform(*np.log(self.scale)))
        matrix = np.array([[cos, -sin], [sin, cos]]) * rng.choice([-1, 1], size=2)
        size = np.array(cutout.image.size)
        new_size = np.ceil(np.abs(matrix) @ size - 1e-6).astype(int)
        inverse = np.linalg.inv(matrix)  # Pillow expects the mapping from output to input
        offset = size / 2 - inverse @ (new_size / 2)
        coefficients = np.column_stack([inverse, offset]).ravel()
        warped = cutout.image.transform(
            tuple(new_size), Image.Transform.AFFINE, tuple(coefficients), Image.Resampling.BILINEAR
        )
        return np.asarray(warped)

    def place(self, sprite: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, tuple[slice, slice]]:
        """Centers `sprite` at a random pixel of the crop; returns the part inside the crop and its slices."""
        window, part = [], []
        for length in sprite.shape[:2]:
            start = rng.integers(self.crop_size) - length // 2
            visible = slice(max(start, 0), min(start + length, self.crop_size))
            window.append(visible)
            part.append(slice(visible.start - start, visible.stop - start))
        return sprite[tuple(part)], (window[0], window[1])

    def blend(
        self, scene: np.ndarray, colors: np.ndarray, alpha: np.ndarray, was_in: np.ndarray, goes_into: np.ndarray
    ) -> None:
        """Blends `colors` (h, w, 3) into `scene` (h, w, 3) in place, by `alpha` (h, w; 0 to 255). The colors are scaled
        from surroundings of mean color `was_in` to those of mean color `goes_into`."""
        gain = np.clip((goes_into + 1) / (was_in + 1), 1 / GAIN, GAIN) ** self.color_balance
        share = alpha[..., None].astype(np.float32) / 255
        lit = np.minimum(colors * gain.astype(np.float32), 255)
        scene[:] = np.rint(scene + share * (lit - scene))
