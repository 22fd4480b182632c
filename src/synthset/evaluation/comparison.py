"""Statistics that compare a generated set of pairs with a real one."""

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

MIN_PHOTOS = 10  # twice `nearest_k` of `precision_recall_density_coverage`
BLOCK_PHOTOS, MAX_BLOCKS = 5, 10  # photos per block and number of blocks for `kernel_distance_error`


@dataclass
class PairSet:
    """Pairs of one size and their embeddings.

    Attributes:
        images: (N, H, W, 3) uint8.
        masks: (N, H, W) uint8 in {0, 1}.
        photos: (N,) integers that identify the photo of a pair.
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
    """Computes statistics of a set: numbers of `images` and `photos`; `difference`, the mean pairwise distance of its
    images in gray levels; `coverage`, the mean share of object pixels; `empty`, the share of masks without an object;
    `objects` per mask; `object_size`, the median area of an object as a share of its mask, None without objects."""
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
        real: the reference.
        other: the set to compare with it.
        number: images drawn from each set for all measures except the kernel distance, because they depend on the
            number of images; measures are comparable only for the same number. The size of the smaller set when not
            given.

    Returns:
        `balanced`, that number; `color_divergence`; and if both sets have at least `MIN_PHOTOS` photos, else None:
        `kernel_distance` with its standard error `kernel_distance_error`, from all images; `precision`, `recall`,
        `density` and `coverage`.
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
            photos against the other), by `compare_sets` with the same number of images; `copies`, summary of the ratios
            below; `variance`, the explained variance ratios of the two principal components. JSON-serializable.
        real_places: (N, 2), projections of the real images by `principal_components`.
        generated_places: (M, 2), projections of the generated images.
        ratios: (M,), by `copy_ratios`.
        nearest: (M,), by `copy_ratios`.
        real_ratios: (N,), by `copy_ratios`.
        fresh_ratios: (K,), ratios of new crops of the real photos.
    """

    numbers: dict
    real_places: np.ndarray
    generated_places: np.ndarray
    ratios: np.ndarray
    nearest: np.ndarray
    real_ratios: np.ndarray
    fresh_ratios: np.ndarray


def compare(real: PairSet, generated: PairSet, fresh: np.ndarray, seed: int = 0) -> Comparison:
    """Computes all results of the report.

    Args:
        real: the real set, with two or more photos.
        generated: the generated set, with two or more images, of the same size as the real ones.
        fresh: (K, D), embeddings of new crops of the real photos, as an estimate of where copies would be.
        seed: seed of the split of the real photos into halves.
    """
    # A common factor does not change ratios and neighbors, and gives the KID kernel the same scale for every encoder.
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
