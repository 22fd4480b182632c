"""Color divergence between two sets of images, and pairwise distance within a set.

Images are arrays (N, H, W, 3), uint8 in 0..255.
"""

import numpy as np
from scipy.spatial.distance import jensenshannon


def color_divergence(images: np.ndarray, reference: np.ndarray) -> float:
    """Mean over R, G and B of the Jensen-Shannon divergence between the histograms of the two sets, with 256 bins, in
    bits: 0 (equal) to 1 (no value in common). SynthSet, section 4, "Weight Selection"."""
    histograms = (
        [np.bincount(values[..., channel].ravel(), minlength=256) for channel in range(3)]
        for values in (images, reference)
    )
    # SciPy returns the square root of the divergence
    return float(np.mean([jensenshannon(p, q, base=2) ** 2 for p, q in zip(*histograms, strict=True)]))


def pairwise_distance(images: np.ndarray) -> float:
    """Diversity: mean over all pairs of images of their root mean square difference, in gray levels, 0 to 255."""
    values, gram = images.reshape(len(images), -1), np.zeros((len(images), len(images)))
    for start in range(0, values.shape[1], 1024):
        # |a - b|^2 = a.a - 2 a.b + b.b suffers from cancellation, so products must be exact: float32 represents all
        # integers up to 2^24 = 1024 * 128^2
        part = values[:, start : start + 1024].astype(np.float32) - 128
        gram += part @ part.T
    squares = np.diag(gram)
    distances = np.sqrt((squares[:, None] - 2 * gram + squares) / values.shape[1])
    return float(distances.sum() / (len(images) * (len(images) - 1)))
