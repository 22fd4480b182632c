"""How close the colours of a set of images are to a real set's, and how unlike each other its images are.

Images are arrays (N, H, W, 3), uint8 in 0..255.
"""

import numpy as np
from scipy.spatial.distance import jensenshannon, pdist


def color_divergence(images: np.ndarray, reference: np.ndarray) -> float:
    """Mean over R, G and B of the Jensen-Shannon divergence between the two sets' histograms of 256 values, in bits: 0
    (the same) to 1 (no value in common). SynthSet, section 4, "Weight Selection"."""
    histograms = (
        [np.bincount(pictures[..., channel].ravel(), minlength=256) for channel in range(3)]
        for pictures in (images, reference)
    )
    # SciPy's distance is the divergence's square root
    return float(np.mean([jensenshannon(p, q, base=2) ** 2 for p, q in zip(*histograms, strict=True)]))


def pairwise_distance(images: np.ndarray) -> float:
    """Diversity: the mean over all pairs of images of their root mean square difference, in grey levels, 0 to 255."""
    flat = images.reshape(len(images), -1).astype(np.float32)
    return float(pdist(flat).mean() / flat.shape[1] ** 0.5)
