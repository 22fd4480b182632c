"""Segmentation metrics over a whole test set.

[`count`] reduces each mask to a few numbers and [`scores_of`] computes scores from them, so that processes that share
a test set exchange only numbers. The same metrics as `evaluate` modules, which need no download:

    metric = Dice()
    metric.add_batch(predictions=masks, references=real_masks)  # for every batch
    metric.compute()  # {"dice": ..., "dice_per_image": ..., "n_images": ..., "n_empty": ...}

Dice and IoU of two empty masks are 0 / 0. Without `ignore_empty`, an image scores 1 if both masks are empty, and 0 if
only one is. With it, images with an empty reference are excluded from the means over images, as by `ignore_empty` in
MONAI. They are always included in the scores over the whole set. `n_empty` is their number.
"""

from collections.abc import Sequence
from typing import NamedTuple

import datasets
import evaluate
import numpy as np
from PIL import Image

from .metrics import boundary_f1

RESAMPLES = 1000  # bootstrap samples of the test set for a standard error

_INPUTS = """
Args:
    predictions: masks, PIL "L" images or uint8 arrays (H, W), of any sizes; any value above 0 is the object.
    references: real masks, in the same format.
    ignore_empty: exclude images with an empty reference from the means over images.
"""
_CITATION = """
@inproceedings{csurka2013,
  title = {What is a good evaluation measure for semantic segmentation?},
  author = {Csurka, Gabriela and Larlus, Diane and Perronnin, Florent},
  booktitle = {BMVC},
  year = {2013}
}
"""


class Counts(NamedTuple):
    """Counts of one image, or of many as arrays.

    Attributes:
        both: number of pixels that are object in both masks.
        predicted: number of object pixels in the predicted mask.
        real: number of object pixels in the real mask.
        boundary_f1: boundary F1 score, by [`~metrics.boundary_f1`].
    """

    both: int | np.ndarray
    predicted: int | np.ndarray
    real: int | np.ndarray
    boundary_f1: float | np.ndarray

    @property
    def dice(self) -> np.ndarray:
        """Dice, 2 |A and B| / (|A| + |B|); 1 if both masks are empty."""
        return _ratio(2 * self.both, self.predicted + self.real)

    @property
    def iou(self) -> np.ndarray:
        """IoU, |A and B| / |A or B|; 1 if both masks are empty."""
        return _ratio(self.both, self.predicted + self.real - self.both)


def _ratio(part: int | np.ndarray, whole: int | np.ndarray) -> np.ndarray:
    return np.where(whole > 0, part / np.maximum(whole, 1), 1.0)


def count(predicted: np.ndarray, real: np.ndarray, tolerance: float = 1.0) -> Counts:
    """Counts pixels of one image; masks (H, W), any value above 0 is the object, `tolerance` in pixels."""
    predicted, real = predicted > 0, real > 0
    both = int(np.count_nonzero(predicted & real))
    areas = int(np.count_nonzero(predicted)), int(np.count_nonzero(real))
    return Counts(both, *areas, boundary_f1(predicted, real, tolerance))


def scores_of(images: Sequence[Counts], ignore_empty: bool = False) -> dict[str, float | int]:
    """Computes the scores of a test set.

    Args:
        images: counts of every image.
        ignore_empty: exclude images with an empty reference from the means over images.

    Returns:
        `dice` and `iou` over the pixels of all images together; `dice_per_image`, `iou_per_image` and `boundary_f1`,
        means over images; `n_images`, the number of images, and `n_empty`, that of empty references.

    Raises:
        ValueError: there are no images, or `ignore_empty` leaves none.
    """
    n_empty = sum(image.real == 0 for image in images)
    if len(images) == (n_empty if ignore_empty else 0):
        raise ValueError(f"none of {len(images)} references has an object, so there is nothing to average.")
    scores = _weighted_scores(images, np.ones((1, len(images))), ignore_empty)
    return {name: float(value[0]) for name, value in scores.items()} | {"n_images": len(images), "n_empty": n_empty}


def standard_errors(images: Sequence[Counts], ignore_empty: bool = False) -> dict[str, float | None]:
    """Computes the standard error of each score of [`scores_of`], as `NAME_se`, by the bootstrap: the standard
    deviation over `RESAMPLES` test sets drawn from `images` with replacement (Efron 1979, "Bootstrap methods: another
    look at the jackknife"). The random draws are fixed. None if fewer than two images are averaged."""
    rng, number = np.random.default_rng(0), len(images)
    scores = _weighted_scores(images, rng.multinomial(number, np.full(number, 1 / number), RESAMPLES), ignore_empty)
    few = sum(image.real > 0 or not ignore_empty for image in images) < 2
    # a draw without any object has no means when `ignore_empty` is set
    return {f"{name}_se": None if few else float(np.nanstd(values)) for name, values in scores.items()}


def _weighted_scores(images: Sequence[Counts], weights: np.ndarray, ignore_empty: bool) -> dict[str, np.ndarray]:
    """Computes the scores (S,) of S test sets, in which images are repeated as often as `weights`, (S, N), give."""
    counts = Counts(*np.array(images, float).T)
    whole = Counts(*(weights @ values for values in counts))
    judged = weights * (counts.real > 0) if ignore_empty else weights
    with np.errstate(invalid="ignore"):
        means = {
            name: judged @ values / judged.sum(1)
            for name, values in (("dice", counts.dice), ("iou", counts.iou), ("boundary_f1", counts.boundary_f1))
        }
    return {
        "dice": whole.dice,
        "iou": whole.iou,
        "dice_per_image": means["dice"],
        "iou_per_image": means["iou"],
        "boundary_f1": means["boundary_f1"],
    }


class MaskMetric(evaluate.Metric):
    """Base class of the metrics. A subclass lists its scores of [`scores_of`] in `names`; all add `n_images`, the
    number of masks, and `n_empty`, the number of empty references.

    Raises (from `compute`):
        ValueError: no masks, a prediction of another size than its reference, or `ignore_empty` leaves no image.
    """

    names: tuple[str, ...]

    def __init__(self, keep_in_memory: bool = True, **kwargs):
        super().__init__(keep_in_memory=keep_in_memory and kwargs.get("num_process", 1) == 1, **kwargs)

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=type(self).__doc__,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": datasets.Image(), "references": datasets.Image()}),
        )

    def _compute(
        self, predictions: list[Image.Image], references: list[Image.Image], ignore_empty: bool = False, **options
    ) -> dict[str, float | int]:
        images = []
        for number, pair in enumerate(zip(predictions, references, strict=True)):
            predicted, real = map(np.asarray, pair)
            if predicted.shape != real.shape:
                raise ValueError(f"prediction {number} is {predicted.shape}, but its reference is {real.shape}.")
            images.append(count(predicted, real, **options))
        scores = scores_of(images, ignore_empty)
        return {name: scores[name] for name in (*self.names, "n_images", "n_empty")}


class Dice(MaskMetric):
    """Dice, 2 |A and B| / (|A| + |B|): `dice` over the pixels of all images together, and `dice_per_image`, the mean
    over images."""

    names = ("dice", "dice_per_image")


class IoU(MaskMetric):
    """Intersection over union, |A and B| / |A or B|: `iou` over the pixels of all images together, and `iou_per_image`,
    the mean over images."""

    names = ("iou", "iou_per_image")


class BoundaryF1(MaskMetric):
    """Boundary F1: `boundary_f1`, the mean over images of [`~metrics.boundary_f1`] with a `tolerance` in pixels
    (default 1)."""

    names = ("boundary_f1",)


def mean_and_std(runs: Sequence[dict[str, float | int | None]]) -> dict[str, float | int | None]:
    """Computes the mean of every score over several runs, and as `NAME_std` its sample standard deviation (divisor
    n - 1), None for a single run. Counts (int) are taken from the first run. Standard errors (`NAME_se`) are averaged
    and get no standard deviation, because the runs share their images."""
    summary = {}
    for name, first in runs[0].items():
        summary[name] = first
        if isinstance(first, float):
            values = np.array([run[name] for run in runs], dtype=float)
            summary[name] = float(np.mean(values))
            if not name.endswith("_se"):
                summary[f"{name}_std"] = float(np.std(values, ddof=1)) if len(runs) > 1 else None
    return summary
