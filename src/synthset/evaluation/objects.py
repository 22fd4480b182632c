"""Objects in masks: arrays (N, H, W), any value above 0 is the object."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage


@dataclass(frozen=True)
class Objects:
    """Coverage of masks, and counts and sizes of the objects in them.

    Attributes:
        coverage: (N,), share of object pixels in a mask, 0 to 1.
        count: (N,), number of objects in a mask.
        size: (sum of `count`,), area of an object as a share of its mask, 0 to 1.
    """

    coverage: np.ndarray
    count: np.ndarray
    size: np.ndarray


def measure_objects(masks: np.ndarray) -> Objects:
    """Measures the connected components (8 neighbors) of masks. Overlapping plants count as one object."""
    labeled = [ndimage.label(mask > 0, structure=np.ones((3, 3))) for mask in masks]
    sizes = [np.bincount(labels.ravel())[1:] / labels.size for labels, _ in labeled]
    return Objects((masks > 0).mean((1, 2)), np.array([count for _, count in labeled]), np.concatenate(sizes))
