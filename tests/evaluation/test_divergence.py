"""Divergence and diversity against numbers computed by hand."""

import numpy as np
import pytest

from synthset.evaluation.divergence import color_divergence, pairwise_distance


def filled(*colors):
    """An image of 2 x 2 pixels for each colour."""
    return np.array([np.full((2, 2, 3), color) for color in colors], dtype=np.uint8)


def test_divergence_of_equal_and_of_disjoint_colors():
    assert color_divergence(filled((1, 2, 3), (4, 5, 6)), filled((4, 5, 6), (1, 2, 3))) == 0
    assert color_divergence(filled((1, 2, 3)), filled((4, 5, 6))) == pytest.approx(1)
    assert color_divergence(filled((1, 2, 3)), filled((1, 2, 6))) == pytest.approx(1 / 3)


def test_divergence_of_half_overlapping_colors():
    """p = (1, 0), q = (1/2, 1/2), m = (3/4, 1/4): (log2(4/3) + (log2(2/3) + log2(2)) / 2) / 2 in every channel."""
    expected = (np.log2(4 / 3) + (np.log2(2 / 3) + 1) / 2) / 2
    assert color_divergence(filled((7, 7, 7)), filled((7, 7, 7), (9, 9, 9))) == pytest.approx(expected)


def test_pairwise_distance():
    """Differences of 3 and 4 in one channel of three: sqrt(9 / 3), sqrt(16 / 3), and both: sqrt(25 / 3)."""
    images = filled((10, 10, 10), (13, 10, 10), (10, 14, 10))
    assert pairwise_distance(images) == pytest.approx((3 + 4 + 5) / 3 / 3**0.5)
