"""How good a segmenter's masks are over a whole test set: `evaluate` metrics that need no download and no network.

    metric = Dice()
    metric.add_batch(predictions=masks, references=real_masks)  # as often as there are batches
    metric.compute()  # {"dice": ..., "dice_per_image": ..., "n_images": ..., "n_empty": ...}

An empty mask makes Dice and IoU 0 / 0, so what counts then is said here and not left to a NaN. Without `ignore_empty`,
an image scores 1 where both masks are empty, and 0 where only one is. With it, images whose reference is empty are left
out of the means over images, as monai's `ignore_empty` does. They always count in the scores over the whole set, where
their false positives weigh as much as any others. `n_empty` says how many there are.
"""

from collections.abc import Callable, Sequence

import datasets
import evaluate
import numpy as np
from PIL import Image

from .metrics import boundary_f1

Masks = tuple[np.ndarray, np.ndarray]  # predicted and real, bool, (H, W) each

_INPUTS = """
Args:
    predictions: masks, PIL "L" images or uint8 arrays (H, W), of any sizes; any value above 0 is the object.
    references: the real masks, the same way.
    ignore_empty: leave images whose reference is empty out of the means over images.
"""
_CITATION = """
@inproceedings{csurka2013,
  title = {What is a good evaluation measure for semantic segmentation?},
  author = {Csurka, Gabriela and Larlus, Diane and Perronnin, Florent},
  booktitle = {BMVC},
  year = {2013}
}
"""


class MaskMetric(evaluate.Metric):
    """What the metrics share. A subclass says what it measures in `_scores`.

    `compute` adds `n_images`, the number of masks, and `n_empty`, the number of empty references.

    Raises (from `compute`):
        ValueError: no masks, a prediction of another size than its reference, or `ignore_empty` leaves no image.
    """

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
        pairs = [tuple(np.asarray(mask) > 0 for mask in pair) for pair in zip(predictions, references, strict=True)]
        for number, (predicted, real) in enumerate(pairs):
            if predicted.shape != real.shape:
                raise ValueError(f"prediction {number} is {predicted.shape}, but its reference is {real.shape}.")
        judged = [pair for pair in pairs if pair[1].any() or not ignore_empty]
        if not judged:
            raise ValueError(f"none of {len(pairs)} references has an object, so there is nothing to average.")
        n_empty = sum(not real.any() for _, real in pairs)
        return {**self._scores(pairs, judged, **options), "n_images": len(pairs), "n_empty": n_empty}

    def _scores(self, pairs: Sequence[Masks], judged: Sequence[Masks]) -> dict[str, float]:
        """Scores over all `pairs` and means over the `judged` ones."""
        raise NotImplementedError


class Dice(MaskMetric):
    """2 |A and B| / (|A| + |B|): `dice`, with the pixels of all images together, and `dice_per_image`, the mean over
    images."""

    def _scores(self, pairs, judged):
        return overlap_scores("dice", lambda both, predicted, real: 2 * both / (predicted + real), pairs, judged)


class IoU(MaskMetric):
    """|A and B| / |A or B|: `iou`, with the pixels of all images together, and `iou_per_image`, the mean over
    images."""

    def _scores(self, pairs, judged):
        return overlap_scores("iou", lambda both, predicted, real: both / (predicted + real - both), pairs, judged)


class BoundaryF1(MaskMetric):
    """`boundary_f1`: the mean over images of how well outlines agree, up to `tolerance` pixels (default 1), by
    [`~metrics.boundary_f1`]."""

    def _scores(self, pairs, judged, tolerance: float = 1.0):
        return {"boundary_f1": float(np.mean([boundary_f1(*pair, tolerance) for pair in judged]))}


def overlap_scores(
    name: str, score: Callable[[int, int, int], float], pairs: Sequence[Masks], judged: Sequence[Masks]
) -> dict[str, float]:
    """`score`, a function of the numbers of pixels in both masks, in the predicted and in the real one, as `name` over
    all `pairs` together and as `name_per_image` on average over `judged`."""

    def total(masks: Sequence[Masks]) -> float:
        areas = [sum(map(np.count_nonzero, kind)) for kind in zip(*((a & b, a, b) for a, b in masks), strict=True)]
        return float(score(*areas)) if any(areas) else 1.0

    return {name: total(pairs), f"{name}_per_image": float(np.mean([total([pair]) for pair in judged]))}


def mean_and_std(runs: Sequence[dict[str, float | int]]) -> dict[str, float | int | None]:
    """The mean of every score over several runs, and as `NAME_std` its sample standard deviation (divisor n - 1), which
    is None for a single run, as one run tells nothing about it. Counts (int) are those of the first run."""
    summary = {}
    for name, first in runs[0].items():
        summary[name] = first
        if isinstance(first, float):
            values = [run[name] for run in runs]
            summary[name] = float(np.mean(values))
            summary[f"{name}_std"] = float(np.std(values, ddof=1)) if len(runs) > 1 else None
    return summary
