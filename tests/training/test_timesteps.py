"""The curriculum against numbers computed by hand."""

import pytest
import torch

from synthset.training.timesteps import CurriculumTimesteps, UniformTimesteps


def frequencies(timesteps, position, count=20_000):
    """The share of each timestep below `t_max` among `count` draws."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([timesteps.draw(position, generator) for _ in range(count)])
    assert drawn.dtype == torch.int64 and drawn.shape == (count,)
    return torch.bincount(drawn, minlength=timesteps.t_max(position)) / count


@pytest.mark.parametrize(
    "epoch, t_max",
    [(0, 10), (4, 10), (5, 20), (9, 20), (10, 30), (123, 250), (494, 990), (495, 1000), (500, 1000), (1499, 1000)],
)
def test_t_max_with_the_papers_numbers(epoch, t_max):
    """min(1000, 10 * floor(s / 5) + 10), with 9888 pairs in pass s, given in passes and as a third of 1500 of them."""
    in_passes = CurriculumTimesteps(1000, sigma=10, alpha=5 * 9888, initial=10, priority=500 * 9888)
    for timesteps in (in_passes, CurriculumTimesteps.of_run(1000, 1500 * 9888, 1 / 3, 1 / 3)):
        assert [timesteps.t_max(epoch * 9888 + i) for i in (0, 1, 9887)] == [t_max] * 3
        assert timesteps.priority == 500 * 9888


@pytest.mark.parametrize("num_train_timesteps", [1, 7, 100, 250, 999, 1000])
@pytest.mark.parametrize("positions", [2, 64, 1000, 10**7])
@pytest.mark.parametrize("share", [1 / 3, 0.5, 0.01])
def test_a_share_of_any_run_reaches_every_timestep(num_train_timesteps, positions, share):
    timesteps = CurriculumTimesteps.of_run(num_train_timesteps, positions, share, share)
    end = int(positions * share) + 1
    values = [timesteps.t_max(end * i // 1000) for i in range(1001)]
    assert values == sorted(values) and values[0] == -(-num_train_timesteps // 100)
    assert values[-1] == timesteps.t_max(positions - 1) == num_train_timesteps
    # and not before: halfway, half of them
    if positions * share > 100:
        middle = timesteps.t_max(int(positions * share / 2))
        assert middle == pytest.approx(num_train_timesteps / 2, abs=2 + num_train_timesteps / 50)


def test_t_max_with_other_numbers():
    timesteps = CurriculumTimesteps(20, sigma=7, alpha=2, initial=3, priority=0)
    assert [timesteps.t_max(position) for position in range(8)] == [3, 3, 10, 10, 17, 17, 20, 20]
    assert CurriculumTimesteps(20, sigma=7, alpha=2, initial=50, priority=0).t_max(0) == 20
    assert [UniformTimesteps(20).t_max(position) for position in (0, 99)] == [20, 20]


@pytest.mark.parametrize(
    "position, expected", [(0, [1, 2, 3, 4]), (2, [1, 2, 3, 4]), (3, range(1, 7)), (8, range(1, 9))]
)
def test_noisier_timesteps_come_more_often(position, expected):
    """The n-th of t_max timesteps with probability n / (1 + 2 + ... + t_max)."""
    expected = torch.tensor([*expected]) / sum(expected)
    found = frequencies(CurriculumTimesteps(8, sigma=2, alpha=3, initial=4, priority=9), position)
    torch.testing.assert_close(found, expected, rtol=0, atol=0.01)


@pytest.mark.parametrize("position, t_max", [(1, 4), (3, 6)])
def test_after_priority_sampling_all_come_alike(position, t_max):
    found = frequencies(CurriculumTimesteps(8, sigma=2, alpha=3, initial=4, priority=1), position)
    torch.testing.assert_close(found, torch.full((t_max,), 1 / t_max), rtol=0, atol=0.01)


def test_uniform_timesteps():
    torch.testing.assert_close(frequencies(UniformTimesteps(5), 3), torch.full((5,), 0.2), rtol=0, atol=0.01)
