import numpy as np
import pytest

from synthset.evaluation.calibration import calibration


def test_frequencies_that_are_the_probabilities_have_no_error():
    probability = np.array([[0.2] * 5 + [0.75] * 4])
    mask = np.array([[1, 0, 0, 0, 0, 1, 1, 1, 0]])
    found = calibration([(probability[:, :5], mask[:, :5]), (probability[:, 5:], mask[:, 5:])])
    assert found["expected_calibration_error"] == pytest.approx(0)
    assert [(row["pixels"], row["probability"], row["frequency"]) for row in found["bins"]] == [
        (5, pytest.approx(0.2), pytest.approx(0.2)),
        (4, pytest.approx(0.75), pytest.approx(0.75)),
    ]


def test_error_is_the_mean_distance_over_pixels():
    """0.9 for three pixels of which none is the object, 0.0 for one that is not: (3 * 0.9 + 0) / 4."""
    found = calibration([(np.array([[0.9, 0.9, 0.9, 0.0]]), np.zeros((1, 4)))])
    assert found["expected_calibration_error"] == pytest.approx(2.7 / 4)


def test_a_probability_of_one_is_in_the_last_bin():
    found = calibration([(np.ones((2, 2)), np.ones((2, 2)))], bins=4)
    assert found["bins"] == [{"pixels": 4, "probability": 1.0, "frequency": 1.0}]
