"""The vote of several masks of one image."""

import numpy as np
import pytest
import torch

from synthset.evaluation.metrics import dice
from synthset.pipelines.pipeline_output import MaskVotes


def vote(draws: np.ndarray) -> MaskVotes:
    """Of draws, (B, N, H, W)."""
    return MaskVotes.count(torch.tensor(draws).flatten(0, 1)[:, None], draws.shape[1])


@pytest.mark.parametrize("num_draws, frequency", [(1, 0.3), (2, 0.3), (3, 0.02), (10, 0.1), (10, 0.5)])
def test_no_threshold_makes_a_mask_nearer_to_the_draws(num_draws, frequency):
    rng = np.random.default_rng(0)
    draws = (rng.random((30, num_draws, 4, 5)) < 2 * frequency * rng.random((30, 1, 4, 5))).astype(np.float32)
    votes = vote(draws)
    np.testing.assert_allclose(votes.probability, draws.mean(1), rtol=1e-6)
    for probability, mask, threshold, confidence, own in zip(
        votes.probability, votes.mask, votes.threshold, votes.confidence, draws, strict=True
    ):
        np.testing.assert_array_equal(mask, probability > threshold)
        found = [np.mean([dice(probability > t, draw) for draw in own]) for t in np.linspace(0, 1, 41)]
        assert confidence == pytest.approx(max(found)) == pytest.approx(np.mean([dice(mask, draw) for draw in own]))


def test_half_decides_where_draws_agree_and_fewer_where_they_differ():
    draws = np.zeros((3, 10, 8, 8), np.float32)
    draws[0, :, :4] = 1
    draws[1, :, :4], draws[1, :4, 4], draws[1, :6, 5] = 1, 1, 1
    for k in range(10):  # of the third image each draw has another part
        draws[2, k, :4, k % 3 : k % 3 + 3] = 1
    votes = vote(draws)
    assert votes.threshold[0] == pytest.approx(0.5, abs=0.051) and votes.confidence[0] == 1
    np.testing.assert_array_equal(votes.mask[1], votes.probability[1] > 0.5)
    assert votes.threshold[2] < 0.45
    np.testing.assert_array_equal(votes.mask[2], votes.probability[2] > votes.threshold[2])


def test_images_without_an_object_in_most_draws_have_none():
    draws = np.zeros((2, 5, 4, 4), np.float32)
    draws[0, :2, 0] = 1
    draws[1, :4, 0] = 1
    votes = vote(draws)
    assert not votes.mask[0].any() and votes.confidence[0] == pytest.approx(0.6)
    assert votes.mask[1, 0].all() and votes.confidence[1] == pytest.approx(0.8)
