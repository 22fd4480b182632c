"""The curriculum against numbers computed by hand."""

import pytest
import torch

from synthset.training.timesteps import CurriculumTimesteps, UniformTimesteps


def frequencies(timesteps, epoch, count=20_000):
    """The share of each timestep below `t_max` among `count` draws."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([timesteps.draw(epoch, generator) for _ in range(count)])
    assert drawn.dtype == torch.int64 and drawn.shape == (count,)
    return torch.bincount(drawn, minlength=timesteps.t_max(epoch)) / count


@pytest.mark.parametrize(
    "epoch, t_max",
    [(0, 10), (4, 10), (5, 20), (9, 20), (10, 30), (123, 250), (494, 990), (495, 1000), (500, 1000), (1499, 1000)],
)
def test_t_max_with_the_papers_numbers(epoch, t_max):
    """min(1000, 10 * floor(s / 5) + 10)."""
    assert CurriculumTimesteps(1000).t_max(epoch) == t_max


def test_t_max_with_other_numbers():
    timesteps = CurriculumTimesteps(20, sigma=7, alpha=2, initial=3)
    assert [timesteps.t_max(epoch) for epoch in range(8)] == [3, 3, 10, 10, 17, 17, 20, 20]
    assert CurriculumTimesteps(20, initial=50).t_max(0) == 20
    assert [UniformTimesteps(20).t_max(epoch) for epoch in (0, 99)] == [20, 20]


@pytest.mark.parametrize("epoch, expected", [(0, [1, 2, 3, 4]), (2, [1, 2, 3, 4]), (3, range(1, 7)), (8, range(1, 9))])
def test_noisier_timesteps_come_more_often(epoch, expected):
    """The n-th of t_max timesteps with probability n / (1 + 2 + ... + t_max)."""
    expected = torch.tensor([*expected]) / sum(expected)
    found = frequencies(CurriculumTimesteps(8, sigma=2, alpha=3, initial=4, priority_epochs=9), epoch)
    torch.testing.assert_close(found, expected, rtol=0, atol=0.01)


@pytest.mark.parametrize("epoch, t_max", [(1, 4), (3, 6)])
def test_after_priority_sampling_all_come_alike(epoch, t_max):
    found = frequencies(CurriculumTimesteps(8, sigma=2, alpha=3, initial=4, priority_epochs=1), epoch)
    torch.testing.assert_close(found, torch.full((t_max,), 1 / t_max), rtol=0, atol=0.01)


def test_uniform_timesteps():
    torch.testing.assert_close(frequencies(UniformTimesteps(5), 3), torch.full((5,), 0.2), rtol=0, atol=0.01)
