"""A generated set beside a real one, in numbers."""

import json

import numpy as np
import pytest

from synthset.evaluation.comparison import PairSet, compare, compare_sets, describe_set
from synthset.evaluation.fidelity import kernel_distance


def pair_set(photos, seed=0, mean=0.0, dimensions=6):
    """Noisy images and empty masks; embeddings of N(mean, 1)."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (len(photos), 8, 8, 3), dtype=np.uint8)
    return PairSet(
        images, np.zeros(images.shape[:3], np.uint8), np.array(photos), rng.normal(mean, 1, (len(photos), dimensions))
    )


def test_what_a_set_holds():
    pairs = pair_set([0, 0, 1, 2])
    pairs.images[:2], pairs.images[2:] = 10, 40
    pairs.masks[0, :4] = 1  # half of the picture
    pairs.masks[1, 0, 0] = pairs.masks[1, 7, 7] = 1
    assert describe_set(pairs) == pytest.approx(
        {
            "images": 4,
            "photos": 3,
            "difference": 30 * 4 / 6,  # between two of the six pairs of pictures there is none
            "coverage": (1 / 2 + 2 / 64) / 4,
            "empty": 1 / 2,
            "objects": 3 / 4,
            "object_size": 1 / 64,
        }
    )
    assert describe_set(pair_set([0, 1]))["object_size"] is None


def test_few_photos_get_no_measures_on_embeddings():
    nine, twenty = pair_set([*range(8), 8, 8, 8, 8], seed=1), pair_set(range(20))
    for real, other in ((nine, twenty), (twenty, nine)):
        result = compare_sets(real, other)
        assert result.pop("color_divergence") > 0 and result.pop("balanced") == 12
        assert set(result.values()) == {None} and len(result) == 6
    # nine pictures of each are no more than nine photos
    assert compare_sets(twenty, twenty, 9)["precision"] is None and compare_sets(twenty, twenty, 10)["precision"] == 1


def test_measures_use_equal_numbers():
    real, other = pair_set(range(40)), pair_set(range(25), seed=1)
    result = compare_sets(real, other)
    assert result["balanced"] == 25 and None not in result.values()
    assert result["kernel_distance"] == kernel_distance(real.vectors, other.vectors)  # this one uses all
    shifted = compare_sets(real, pair_set(range(25), seed=1, mean=3))
    assert shifted["kernel_distance"] > 3 * shifted["kernel_distance_error"] > abs(result["kernel_distance"])
    assert shifted["precision"] < result["precision"] and shifted["coverage"] < result["coverage"]


def test_comparison():
    real, generated = pair_set(range(30)), pair_set(range(50), seed=1, mean=5)
    generated.vectors[7] = real.vectors[11]
    fresh = real.vectors + 1e-3
    comparison = compare(real, generated, fresh)
    numbers = json.loads(json.dumps(comparison.numbers))
    assert numbers["real"]["photos"] == 30 and numbers["generated"]["photos"] == 50
    assert numbers["half_to_half"]["balanced"] == numbers["generated_to_real"]["balanced"] == 15
    assert numbers["half_to_half"]["kernel_distance"] < numbers["generated_to_real"]["kernel_distance"]
    assert comparison.ratios[7] == numbers["copies"]["closest_ratio"] == 0 and comparison.nearest[7] == 11
    assert numbers["copies"]["ratio"] == np.median(comparison.ratios) > 1
    assert numbers["copies"]["closer_than_fresh"] == 1 / 50 and numbers["copies"]["finds_fresh"]
    assert not compare(real, generated, fresh + 1).numbers["copies"]["finds_fresh"]


def test_a_perfect_generator_is_as_close_as_real_halves_are():
    """Generated pairs of the real ones' very distribution. At N against N / 2 points, balls are smaller and histograms
    fuller than in the baseline: lower precision and recall, smaller divergence of colors."""
    differences = {"precision": [], "recall": [], "coverage": [], "color_divergence": []}
    for seed in range(40):
        real = pair_set(range(60), seed=2 * seed, dimensions=64)
        generated = pair_set(range(120), seed=2 * seed + 1, dimensions=64)
        numbers = compare(real, generated, real.vectors).numbers
        for name, values in differences.items():
            values.append(numbers["generated_to_real"][name] - numbers["half_to_half"][name])
    for name, values in differences.items():
        assert abs(np.mean(values)) < 3 * np.std(values) / len(values) ** 0.5, name


def test_a_scale_of_the_encoder_changes_nothing():
    real, generated = pair_set(range(30)), pair_set(range(30), seed=1, mean=1)
    expected = compare(real, generated, real.vectors).numbers
    for pairs in (real, generated):
        pairs.vectors *= 100
    numbers = compare(real, generated, real.vectors).numbers
    for part in ("generated_to_real", "half_to_half", "copies"):
        assert numbers[part] == pytest.approx(expected[part])
