"""Metrics that compare an image or a mask with its reference, as functions of numpy arrays.

Images are (H, W, 3), uint8 in 0..255 or float in [0, 1]; the two of a pair may differ in that. Masks are (H, W); any
value above 0 is the object. All results are Python floats.
"""

import numpy as np
from scipy import ndimage
from skimage.color import rgb2gray
from skimage.metrics import mean_squared_error, structural_similarity
from skimage.util import img_as_float


def psnr(image: np.ndarray, reference: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB over all channels, -10 log10(mean squared error) for a peak of 1; infinity for
    equal images.

    Raises:
        ValueError: the shapes differ.
    """
    error = mean_squared_error(img_as_float(image), img_as_float(reference))
    return float(-10 * np.log10(error)) if error else float("inf")


def ssim(image: np.ndarray, reference: np.ndarray) -> float:
    """Structural similarity, -1 to 1, mean over pixels and channels; by scikit-image with the settings of Wang et al.
    2004, "Image quality assessment", section III.C: an 11 x 11 Gaussian window of sigma 1.5, K1 = 0.01, K2 = 0.03.

    Raises:
        ValueError: the shapes differ, or a side is below 11 pixels.
    """
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    return float(structural_similarity(img_as_float(image), img_as_float(reference), channel_axis=-1, **settings))


def sharpness(image: np.ndarray) -> float:
    """Variance of the Laplacian of the luminance (Pech-Pacheco et al. 2000; LAP4 in Pertuz et al. 2013, "Analysis of
    focus measure operators"), 0 or more.

    Interpreted as a ratio to the sharpness of the real image: below 1 is blurred, above 1 is noisy or oversharpened.
    Unlike the Sobel gradients of Tenengrad, which vanish at the highest frequency, the Laplacian gives most weight to
    the octave that twofold super-resolution adds.
    """
    return float(ndimage.laplace(rgb2gray(img_as_float(image))).var())


def dice(mask: np.ndarray, reference: np.ndarray) -> float:
    """2 |A and B| / (|A| + |B|), 0 to 1; 1 when both masks are empty, and so 0 when only one is."""
    mask, reference = mask > 0, reference > 0
    total = mask.sum() + reference.sum()
    return float(2 * (mask & reference).sum() / total) if total else 1.0


def near(places: np.ndarray, distance: float) -> np.ndarray:
    """Dilates `places`, (H, W) bool, by a disk with a radius of `distance` pixels."""
    reach, (height, width) = int(distance), places.shape
    padded, found = np.pad(places, reach), np.zeros_like(places)
    for top, left in np.ndindex(2 * reach + 1, 2 * reach + 1):
        if (top - reach) ** 2 + (left - reach) ** 2 <= distance**2:
            found |= padded[top : top + height, left : left + width]
    return found


def boundary(mask: np.ndarray) -> np.ndarray:
    """Finds the pixels of the object with background above, below, left or right of them, (H, W) bool. Where the edge
    of the image cuts an object, there is no boundary."""
    return (mask > 0) & near(mask <= 0, 1)


def boundary_f1(mask: np.ndarray, reference: np.ndarray, tolerance: float = 1.0) -> float:
    """Boundary F1 score, 0 to 1 (Csurka et al. 2013, "What is a good evaluation measure for semantic segmentation?",
    section 3): the harmonic mean of precision, the share of boundary pixels of `mask` within `tolerance` of a boundary
    pixel of `reference`, and recall, the reverse. Boundary pixels are those of [`boundary`].

    In addition to the paper, a matching pixel must be object in both masks or adjacent to a pixel that is background in
    both. Otherwise a mask would match its inverse, whose boundary is adjacent to its own; here the score of the inverse
    is 0.

    Args:
        mask: (H, W); any value above 0 is the object.
        reference: (H, W), likewise.
        tolerance: Euclidean distance in pixels up to which boundaries match. The default of 1 pixel tolerates an edge
            on the other side of a pixel border. The paper's 0.75 % of the diagonal (1.4 pixels at 128, 2.7 at 256) is
            meant for hand-drawn masks and tolerates all of the jagged edges of a mask enlarged twofold; 1 pixel
            tolerates most of them, 0 none.

    Returns:
        The score. If neither mask has a boundary (each is all object or all background), 1 if they are equal, else 0.
        If only one has a boundary, 0.
    """
    mask, reference = mask > 0, reference > 0
    drawn, real = boundary(mask), boundary(reference)
    if not drawn.any() or not real.any():
        return float(np.array_equal(mask, reference))
    agreed = (mask & reference) | near(~(mask | reference), 1)
    # distances are taken in the smallest box around both boundaries
    rows, columns = ((drawn | real).any(axis) for axis in (1, 0))
    box = tuple(slice(line.argmax(), len(line) - line[::-1].argmax()) for line in (rows, columns))
    drawn, real, agreed = drawn[box], real[box], agreed[box]
    precision, recall = (
        (these & near(others, tolerance) & agreed).sum() / these.sum()
        for these, others in ((drawn, real), (real, drawn))
    )
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0
