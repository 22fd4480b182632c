"""Fidelity of generated images to real ones, computed on embeddings (N, D), one point per image.

Crops of one photo are not independent: they share light, soil and often pixels. Functions therefore take `photos`,
(N,) integers that identify the photo of each point; points of the same photo are never compared within a set. When not
given, every point is its own photo, and the measures are those of the papers.
"""

import numpy as np
from scipy.spatial.distance import cdist

Photos = np.ndarray | None


def photos_apart(points: np.ndarray, photos: Photos = None) -> np.ndarray:
    """Mask of the pairs of points that are from different photos, (N, N) bool; false on the diagonal."""
    photos = np.arange(len(points)) if photos is None else photos
    return photos[:, None] != photos


def split_photos(photos: np.ndarray, parts: int, seed: int = 0) -> list[np.ndarray]:
    """Splits the photos at random into `parts` arrays of indices into `photos`, (N,). Photos are kept whole, and the
    numbers of photos per part differ by at most one."""
    split = np.array_split(np.random.default_rng(seed).permutation(np.unique(photos)), parts)
    return [np.flatnonzero(np.isin(photos, part)) for part in split]


def choose(photos: np.ndarray, number: int, seed: int = 0) -> np.ndarray:
    """Draws at most `number` random indices into `photos`, (N,), distributed as evenly as possible over photos."""
    order = np.random.default_rng(seed).permutation(len(photos))
    by_photo = order[np.argsort(photos[order], kind="stable")]
    _, first, counts = np.unique(photos[by_photo], return_index=True, return_counts=True)
    earlier = np.empty(len(photos), dtype=int)  # points of the same photo that come before a point
    earlier[by_photo] = np.arange(len(photos)) - np.repeat(first, counts)
    return np.sort(order[np.argsort(earlier[order], kind="stable")][:number])


def kernel_distance(
    real: np.ndarray, generated: np.ndarray, real_photos: Photos = None, generated_photos: Photos = None
) -> float:
    """Unbiased squared maximum mean discrepancy with the kernel (x . y / D + 1)^3: 0 on average for two sets of the
    same distribution (so it may be negative), and larger for different ones.

    On Inception embeddings, this is the Kernel Inception Distance of Binkowski et al. 2018, "Demystifying MMD GANs".
    """

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x @ y.T / x.shape[1] + 1) ** 3

    within_real = kernel(real, real)[photos_apart(real, real_photos)].mean()
    within_generated = kernel(generated, generated)[photos_apart(generated, generated_photos)].mean()
    return float(within_real + within_generated - 2 * kernel(real, generated).mean())


def kernel_distance_error(
    real: np.ndarray, generated: np.ndarray, real_photos: np.ndarray, generated_photos: np.ndarray, blocks: int
) -> float:
    """Standard error of [`kernel_distance`], estimated from its spread over `blocks` (2 or more) disjoint parts of both
    sets. The estimate is conservative."""
    parts = zip(split_photos(real_photos, blocks), split_photos(generated_photos, blocks), strict=True)
    values = [kernel_distance(real[r], generated[g], real_photos[r], generated_photos[g]) for r, g in parts]
    return float(np.std(values, ddof=1) / blocks**0.5)


def precision_recall_density_coverage(
    real: np.ndarray,
    generated: np.ndarray,
    real_photos: Photos = None,
    generated_photos: Photos = None,
    nearest_k: int = 5,
) -> dict[str, float]:
    """Precision, recall, density and coverage of Naeem et al. 2020, "Reliable Fidelity and Diversity Metrics for
    Generative Models", with their k of 5. The ball around a point reaches to its k-th nearest neighbor.

    Returns:
        `precision`: share of generated points inside any real point's ball, 0 to 1;
        `recall`: share of real points inside any generated point's ball, 0 to 1;
        `density`: mean number of real balls that contain a generated point, divided by k; about 1 for equal
            distributions;
        `coverage`: share of real points with a generated point inside their ball, 0 to 1; about 1 - 2^-k (their lemma
            2) for equal distributions and equal numbers of points.

    Raises:
        ValueError: a point has fewer than `nearest_k` neighbors.
    """

    def radii(points: np.ndarray, photos: Photos) -> np.ndarray:
        apart = photos_apart(points, photos)
        if apart.sum(1).min() < nearest_k:
            raise ValueError(f"nearest_k is {nearest_k}, but a point has {apart.sum(1).min()} others.")
        return np.sort(np.where(apart, cdist(points, points), np.inf))[:, nearest_k - 1]

    distances = cdist(real, generated)
    in_real_ball = distances <= radii(real, real_photos)[:, None]
    in_generated_ball = distances <= radii(generated, generated_photos)
    return {
        "precision": float(in_real_ball.any(0).mean()),
        "recall": float(in_generated_ball.any(1).mean()),
        "density": float(in_real_ball.sum(0).mean() / nearest_k),
        "coverage": float(in_real_ball.any(1).mean()),
    }


def copy_ratios(
    points: np.ndarray, real: np.ndarray, real_photos: Photos = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Computes distances of `points` (M, D) to the nearest real points (N, D), relative to those between real photos.

    Returns:
        ratio: (M,) float, distance to the nearest real point, divided by the median distance from a real point to the
            nearest one of another photo. 0 is a copy; 1 is the typical distance between real photos.
        nearest: (M,) int, index of the nearest real point.
        real_ratio: (N,) float, ratios of the real points to other photos, with a median of 1.
    """
    distances = cdist(points, real)
    within = np.where(photos_apart(real, real_photos), cdist(real, real), np.inf).min(1)
    unit = np.median(within)
    return distances.min(1) / unit, distances.argmin(1), within / unit
