"""Metrics that compare one image or mask with the real one: functions of numpy arrays.

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

    To be read as a ratio to the real image's: below 1 is blurred, above 1 is noisy or oversharpened. Unlike the Sobel
    gradients of Tenengrad, which vanish at the highest frequency, the Laplacian weighs most the octave that a twofold
    enlargement has to invent.
    """
    return float(ndimage.laplace(rgb2gray(img_as_float(image))).var())


def dice(mask: np.ndarray, reference: np.ndarray) -> float:
    """2 |A and B| / (|A| + |B|), 0 to 1; 1 when both masks are empty, and so 0 when only one is."""
    mask, reference = mask > 0, reference > 0
    total = mask.sum() + reference.sum()
    return float(2 * (mask & reference).sum() / total) if total else 1.0


def near(places: np.ndarray, distance: float) -> np.ndarray:
    """Where any of `places`, (H, W) bool, is at most `distance` pixels away."""
    reach, (height, width) = int(distance), places.shape
    padded, found = np.pad(places, reach), np.zeros_like(places)
    for top, left in np.ndindex(2 * reach + 1, 2 * reach + 1):
        if (top - reach) ** 2 + (left - reach) ** 2 <= distance**2:
            found |= padded[top : top + height, left : left + width]
    return found


def boundary(mask: np.ndarray) -> np.ndarray:
    """(H, W) bool: the object's pixels with background above, below, to the left or to the right of them. The edge of
    the image is not background: where it cuts an object, there is no boundary."""
    return (mask > 0) & near(mask <= 0, 1)


def boundary_f1(mask: np.ndarray, reference: np.ndarray, tolerance: float = 1.0) -> float:
    """Boundary F1 score, 0 to 1 (Csurka et al. 2013, "What is a good evaluation measure for semantic segmentation?",
    section 3): the harmonic mean of precision, the share of `mask`'s boundary pixels with one of `reference`'s within
    `tolerance`, and recall, the same the other way round. Boundary pixels are those of [`boundary`].

    Beyond the paper, such a pixel must be object in both masks or touch what is background in both. Else a mask would
    agree with its opposite, whose boundary runs beside its own: where every pixel is wrong, this score is 0.

    Args:
        tolerance: Euclidean distance in pixels up to which boundaries agree. The default, 1 pixel, forgives an edge
            that falls on the other side of a pixel's border. The paper's 0.75 % of the diagonal (1.4 pixels at 128,
            2.7 at 256) is for hand-drawn masks and forgives the whole staircase of a mask enlarged twofold; 1 pixel
            still forgives most of it, 0 nothing.

    Returns:
        Without a boundary in either mask, which are then all object or all background, 1 when they are the same and 0
        when they are not; 0 when only one has a boundary.
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
