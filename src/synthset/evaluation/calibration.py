"""Comparison of predicted probabilities with frequencies."""

from collections.abc import Iterable

import numpy as np


def calibration(pairs: Iterable[tuple[np.ndarray, np.ndarray]], bins: int = 10) -> dict[str, float | list[dict]]:
    """Compares predicted probabilities with how often pixels are the object (Guo et al. 2017, arXiv 1706.04599).

    Args:
        pairs: probabilities (H, W) in [0, 1], and masks (H, W), any value above 0 is the object.
        bins: number of equal intervals of probability.

    Returns:
        `expected_calibration_error`, the mean distance of both over all pixels (equation 3 of the paper, of the
        object's probability), and `bins`: for each with pixels, their number, mean `probability` and the `frequency` of
        the object among them.
    """
    totals = np.zeros((3, bins))
    for probability, mask in pairs:
        index = np.minimum((probability * bins).astype(int), bins - 1).ravel()
        values = (np.ones(index.size), probability.ravel().astype(float), (mask > 0).ravel().astype(float))
        totals += [np.bincount(index, value, minlength=bins) for value in values]
    count, probability_sum, object_sum = totals[:, totals[0] > 0]
    rows = [
        {"pixels": int(n), "probability": p / n, "frequency": o / n}
        for n, p, o in zip(count, probability_sum, object_sum, strict=True)
    ]
    error = np.abs(probability_sum - object_sum).sum() / count.sum()
    return {"expected_calibration_error": float(error), "bins": rows}
