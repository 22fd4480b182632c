"""Divergence and diversity against numbers computed by hand."""

import time

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from synthset.evaluation.divergence import color_divergence, pairwise_distance


def filled(*colors):
    """An image of 2 x 2 pixels for each color."""
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


def test_pairwise_distance_is_that_of_all_pairs_one_by_one():
    """Also of pictures that differ in a single value of 12 288, and not at all: where a difference of large sums would
    leave nothing but rounding errors."""
    images = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)
    images[3] = images[4] = 255
    images[4, 0, 0, 0] = 254
    images[5] = images[0]
    flat = images.reshape(6, -1).astype(float)
    assert pairwise_distance(images) == pytest.approx(pdist(flat).mean() / flat.shape[1] ** 0.5, rel=1e-12)
    assert pairwise_distance(images[3:5]) == pytest.approx(1 / flat.shape[1] ** 0.5, rel=1e-12)
    assert pairwise_distance(images[[0, 5]]) == 0


def test_pairwise_distance_of_many_pictures_is_a_product_of_matrices():
    """Measured against the same distances one by one, in one run: 10 times faster, of which a test may ask 4."""
    images = np.random.default_rng(0).integers(0, 256, (100, 128, 128, 3), dtype=np.uint8)

    def seconds(measure):
        since = time.process_time()
        measure()
        return time.process_time() - since

    one_by_one = min(seconds(lambda: pdist(images.reshape(100, -1).astype(np.float32)).mean()) for _ in range(2))
    assert min(seconds(lambda: pairwise_distance(images)) for _ in range(3)) < one_by_one / 4
