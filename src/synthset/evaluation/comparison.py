"""A generated set of pairs beside a real one, in numbers."""

from dataclasses import dataclass, replace

import numpy as np

from .divergence import color_divergence, pairwise_distance
from .embeddings import principal_components
from .fidelity import (
    choose,
    copy_ratios,
    kernel_distance,
    kernel_distance_error,
    precision_recall_density_coverage,
    split_photos,
)
from .objects import measure_objects

MIN_PHOTOS = 10  # twice the nearest neighbors of the balls in `precision_recall_density_coverage`
BLOCK_PHOTOS, MAX_BLOCKS = 5, 10  # of `kernel_distance_error`


@dataclass
class PairSet:
    """Pairs of one size and their embeddings.

    Attributes:
        images: (N, H, W, 3) uint8.
        masks: (N, H, W) uint8 in {0, 1}.
        photos: (N,) integers, which photo a pair is cut from.
        vectors: (N, D) float64, embeddings of the images.
    """

    images: np.ndarray
    masks: np.ndarray
    photos: np.ndarray
    vectors: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    @property
    def num_photos(self) -> int:
        return len(np.unique(self.photos))

    def take(self, rows: np.ndarray) -> "PairSet":
        return PairSet(self.images[rows], self.masks[rows], self.photos[rows], self.vectors[rows])


def describe_set(pairs: PairSet) -> dict[str, float | int | None]:
    """Statistics of a set: numbers of `images` and `photos`; `difference`, how unlike its images are (gray levels);
    `coverage`, the mean share of a mask that is object; `empty`, the share of masks without one; `objects` per mask;
    `object_size`, the median share of a mask that an object takes, None without objects."""
    objects = measure_objects(pairs.masks)
    return {
        "images": len(pairs),
        "photos": pairs.num_photos,
        "difference": pairwise_distance(pairs.images),
        "coverage": float(objects.coverage.mean()),
        "empty": float((objects.count == 0).mean()),
        "objects": float(objects.count.mean()),
        "object_size": float(np.median(objects.size)) if len(objects.size) else None,
    }


def compare_sets(real: PairSet, other: PairSet, number: int | None = None) -> dict[str, float | int | None]:
    """Measures the distance of `other` from `real`.

    Args:
        number: images taken of each set for the measures that depend on it, which are all but the kernel distance:
            with more of them, balls around points are smaller and histograms smoother. Comparisons that stand side by
            side must be of one number. As many as both sets have when not given.

    Returns:
        `balanced`, that number; `color_divergence`; and where there are `MIN_PHOTOS` photos of both sets, None where
        there are fewer: `kernel_distance` with its standard error `kernel_distance_error`, of all images;
        `precision`, `recall`, `density` and `coverage`.
    """
    number = number or min(len(real), len(other))
    a, b = (pairs.take(choose(pairs.photos, number)) for pairs in (real, other))
    names = ("kernel_distance", "kernel_distance_error", "precision", "recall", "density", "coverage")
    result = {"balanced": number, "color_divergence": color_divergence(b.images, a.images), **dict.fromkeys(names)}
    photos = min(real.num_photos, other.num_photos)
    if photos >= MIN_PHOTOS:
        everything = real.vectors, other.vectors, real.photos, other.photos
        result["kernel_distance"] = kernel_distance(*everything)
        blocks = min(MAX_BLOCKS, photos // BLOCK_PHOTOS)
        result["kernel_distance_error"] = kernel_distance_error(*everything, blocks)
    if min(a.num_photos, b.num_photos) >= MIN_PHOTOS:
        result |= precision_recall_density_coverage(a.vectors, b.vectors, a.photos, b.photos)
    return result


@dataclass
class Comparison:
    """Results of `compare`.

    Attributes:
        numbers: `real` and `generated`, by `describe_set`; `generated_to_real` and `half_to_half` (one half of the real
            photos against the other), by `compare_sets` of one number of images; `copies`, about the ratios below;
            `variance`, the shares of it that the two axes of the map show. All are plain Python, ready for JSON.
        real_places, generated_places: (N, 2) and (M, 2), the map of `principal_components`.
        ratios, nearest, real_ratios: (M,), (M,) and (N,), by `copy_ratios`.
        fresh_ratios: the ratios of fresh crops of the real photos.
    """

    numbers: dict
    real_places: np.ndarray
    generated_places: np.ndarray
    ratios: np.ndarray
    nearest: np.ndarray
    real_ratios: np.ndarray
    fresh_ratios: np.ndarray


def compare(real: PairSet, generated: PairSet, fresh: np.ndarray, seed: int = 0) -> Comparison:
    """Measures all that the report shows.

    Args:
        real, generated: sets of two photos or more, with images of one size.
        fresh: (K, D), embeddings of other crops of the real photos: where copies would be.
        seed: deals the real photos into halves.
    """
    # One factor for all leaves ratios and neighbors as they are, and gives KID's kernel the same scale whatever the
    # encoder.
    scale = (real.vectors**2).mean() ** 0.5
    real, generated = (replace(pairs, vectors=pairs.vectors / scale) for pairs in (real, generated))
    ratios, nearest, real_ratios = copy_ratios(generated.vectors, real.vectors, real.photos)
    fresh_ratios, _, _ = copy_ratios(fresh / scale, real.vectors, real.photos)
    real_places, generated_places, variance = principal_components(real.vectors, generated.vectors)
    fresh_ratio = float(np.median(fresh_ratios))
    halves = [real.take(rows) for rows in split_photos(real.photos, 2, seed)]
    number = min(map(len, (*halves, generated)))
    numbers = {
        "real": describe_set(real),
        "generated": describe_set(generated),
        "generated_to_real": compare_sets(real, generated, number),
        "half_to_half": compare_sets(halves[0], halves[1], number),
        "copies": {
            "ratio": float(np.median(ratios)),
            "closest_ratio": float(ratios.min()),
            "fresh_ratio": fresh_ratio,
            "closer_than_fresh": float((ratios < fresh_ratio).mean()),
            "finds_fresh": bool(fresh_ratio < np.quantile(real_ratios, 0.25)),
        },
        "variance": variance.tolist(),
    }
    return Comparison(numbers, real_places, generated_places, ratios, nearest, real_ratios, fresh_ratios)
