"""Distances between sets of points, against values worked out by hand and in closed form."""

import numpy as np
import pytest

from synthset.evaluation.fidelity import (
    choose,
    copy_ratios,
    kernel_distance,
    kernel_distance_error,
    precision_recall_density_coverage,
    split_photos,
)


def points(*numbers):
    return np.array(numbers, dtype=float)[:, None]


def gaussian(rng, count, mean=0.0, dimensions=1):
    return rng.normal(mean, 1, (count, dimensions))


def test_kernel_distance_by_hand():
    # within: (0 * 2 + 1)^3 = 1 and (1 * 3 + 1)^3 = 64; between: 1, 1, 27 and 343, mean 93
    assert kernel_distance(points(0, 2), points(1, 3)) == pytest.approx(1 + 64 - 2 * 93)
    # in two dimensions the scalar product is halved: (4 / 2 + 1)^3 = 27 in both, and between
    assert kernel_distance(np.full((2, 2), 2**0.5), np.full((3, 2), 2**0.5)) == pytest.approx(0)


@pytest.mark.parametrize(("mean", "expected"), [(0, 0), (1, 22)])
def test_kernel_distance_is_unbiased(mean, expected):
    """For x, x' of N(m, 1): E (x x' + 1)^3 = 1 + 3 m^2 + 3 (m^2 + 1)^2 + (m^3 + 3 m)^2, which is 4 for m = 0, 32 for 1.
    Between the two it is 1 + 3 (m^2 + 1), 7 for m = 1; 4 + 32 - 2 * 7 = 22. Counting points with themselves, as a
    biased estimate does, would add 2 (E (x^2 + 1)^3 - 4) / n = 2.4 for m = 0."""
    rng = np.random.default_rng(0)
    values = [kernel_distance(gaussian(rng, 20), gaussian(rng, 20, mean)) for _ in range(4000)]
    assert np.mean(values) == pytest.approx(expected, abs=4 * np.std(values) / len(values) ** 0.5)
    assert np.std(values) / len(values) ** 0.5 < 0.4


def test_kernel_distance_error_is_rather_too_large():
    rng = np.random.default_rng(0)
    photos = np.arange(100)
    values, errors = [], []
    for _ in range(50):
        real, generated = gaussian(rng, 100, dimensions=8), gaussian(rng, 100, dimensions=8)
        values.append(kernel_distance(real, generated))
        errors.append(kernel_distance_error(real, generated, photos, photos, blocks=5))
    assert np.std(values) < np.mean(errors) < 4 * np.std(values)


def test_crops_of_one_photo_are_one_observation():
    rng = np.random.default_rng(0)
    real, generated = gaussian(rng, 8, dimensions=3), gaussian(rng, 9, dimensions=3)
    twice, photos = np.repeat(real, 2, axis=0), np.repeat(np.arange(8), 2)
    assert kernel_distance(twice, generated, photos) == pytest.approx(kernel_distance(real, generated))
    assert kernel_distance(twice, generated) > kernel_distance(real, generated) + 0.01
    # two photos with two crops each; a ball ends at the other photo, not at the other crop
    crops, between = points(0, 0.1, 5, 5.1), points(2.5, 2.6)
    balls = precision_recall_density_coverage(crops, between, np.array([0, 0, 1, 1]), nearest_k=1)
    assert (balls["precision"], balls["coverage"]) == (1, 1)
    balls = precision_recall_density_coverage(crops, between, nearest_k=1)
    assert (balls["precision"], balls["coverage"]) == (0, 0)


def test_precision_recall_density_coverage_by_hand():
    real = points(-5, 0, 1, 10)  # balls reach 5, 1, 1 and 9 far
    generated = points(0.5, 2.5, 20, 21, 22)  # 2, 2, 1, 1 and 1 far
    measures = precision_recall_density_coverage(real, generated, nearest_k=1)
    assert measures == pytest.approx(
        {
            "precision": 2 / 5,  # 0.5 in the balls of 0 and 1, 2.5 in that of 10
            "recall": 2 / 4,  # 0 and 1 in that of 0.5
            "density": 3 / 5,
            "coverage": 3 / 4,  # all but -5
        }
    )
    # two neighbors: balls of 6, 5, 6 and 10; 2.5 is in those of 0, 1 and 10, 0.5 in all, and 20 in that of 10
    measures = precision_recall_density_coverage(real, generated, nearest_k=2)
    assert measures["density"] == pytest.approx((4 + 3 + 1) / 2 / 5)


def test_equal_distributions_give_what_the_paper_derives():
    """Coverage 1 - 2^-k and density 1, for as many generated points as real ones."""
    rng = np.random.default_rng(0)
    runs = [
        precision_recall_density_coverage(
            gaussian(rng, 200, dimensions=4), gaussian(rng, 200, dimensions=4), nearest_k=3
        )
        for _ in range(10)
    ]
    assert np.mean([run["coverage"] for run in runs]) == pytest.approx(1 - 2**-3, abs=0.02)
    assert np.mean([run["density"] for run in runs]) == pytest.approx(1, abs=0.05)


def test_too_few_neighbors():
    with pytest.raises(ValueError, match="nearest_k is 3, but a point has 2 others"):
        precision_recall_density_coverage(points(0, 1, 2), points(0, 1, 2, 3), nearest_k=3)


def test_copy_ratios():
    real = points(0, 1, 3)  # 1, 1 and 2 from each other
    ratio, nearest, real_ratio = copy_ratios(points(0, 1.5, 7), real)
    assert (ratio.tolist(), nearest.tolist(), real_ratio.tolist()) == ([0, 0.5, 4], [0, 1, 2], [1, 1, 2])
    ratio, _, real_ratio = copy_ratios(points(0, 1.5, 7), real, np.array([0, 0, 1]))  # 3, 2 and 2 from the other photo
    assert (ratio.tolist(), real_ratio.tolist()) == ([0, 0.25, 2], [1.5, 1, 1])


def test_photos_are_split_whole():
    photos = np.array([3, 3, 5, 7, 7, 7, 8, 9])
    parts = split_photos(photos, 2, seed=1)
    assert sorted(np.concatenate(parts)) == list(range(8))
    assert sorted(len(set(photos[part])) for part in parts) == [2, 3]
    assert not set(photos[parts[0]]) & set(photos[parts[1]])


def test_choice_takes_as_many_of_each_photo_as_possible():
    photos = np.repeat([4, 2, 9], [6, 1, 3])
    for seed in range(5):
        counts = np.unique(photos[choose(photos, 6, seed)], return_counts=True)
        assert [x.tolist() for x in counts] == [[2, 4, 9], [1, 3, 2]] or counts[1].tolist() == [1, 2, 3]
        assert len(set(photos[choose(photos, 3, seed)])) == 3
    assert choose(photos, 99).tolist() == list(range(10))
    assert len({tuple(choose(photos, 3, seed)) for seed in range(9)}) > 1
