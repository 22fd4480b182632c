"""Objects in masks: arrays (N, H, W), any value above 0 is the object."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage


@dataclass(frozen=True)
class Objects:
    """Coverage of masks, and counts and sizes of the objects in them.

    Attributes:
        coverage: (N,), share of a mask's pixels that are object, 0 to 1.
        count: (N,), objects in a mask.
        size: (sum of `count`,), share of its mask's pixels that an object has, 0 to 1.
    """

    coverage: np.ndarray
    count: np.ndarray
    size: np.ndarray


def measure_objects(masks: np.ndarray) -> Objects:
    """An object is a group of pixels that touch, diagonally too. Plants whose leaves overlap count as one."""
    labeled = [ndimage.label(mask > 0, structure=np.ones((3, 3))) for mask in masks]
    sizes = [np.bincount(labels.ravel())[1:] / labels.size for labels, _ in labeled]
    return Objects((masks > 0).mean((1, 2)), np.array([count for _, count in labeled]), np.concatenate(sizes))
