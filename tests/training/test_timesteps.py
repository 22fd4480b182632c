"""The curriculum against numbers computed by hand, and densities against their distribution functions."""

import math

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler

from synthset.arguments.training import DiffusionArguments
from synthset.errors import InputError
from synthset.random import keyed_generator
from synthset.training.timesteps import CurriculumTimesteps, Directions, UniformTimesteps, build_density


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


COSINE = DDPMScheduler(beta_schedule="squaredcos_cap_v2").alphas_cumprod
LOG_SIGMAS = ((1 - COSINE.double()) / COSINE.double()).log().numpy() / 2


def normal(mean, std):
    return lambda x: [(1 + math.erf((value - mean) / std / 2**0.5)) / 2 for value in x]


def logit_normal(x, mean, std):
    """Distribution of t / T at x of timesteps 0..999, between which the steps are of 1 / 1000."""
    upper = (np.searchsorted(LOG_SIGMAS, x, side="right") / 1000).clip(1e-9, 1 - 1e-9)
    return normal(mean, std)(np.log(upper / (1 - upper)))


def mode(x, scale):
    """t = f(u) falls in u, so that P(t < x) = 1 - u(x)."""
    u = np.linspace(0, 1, 100_001)
    t = 1 - u - scale * (np.cos(np.pi * u / 2) ** 2 - 1 + u)
    return 1 - np.interp(np.searchsorted(LOG_SIGMAS, x, side="right") / 1000, t[::-1], u[::-1])


@pytest.mark.parametrize(
    "flags, expected",
    [
        ({"timestep_density": "lognormal"}, normal(-1.2, 1.2)),
        ({"timestep_density": "lognormal", "density_mean": 0.5, "density_std": 0.3}, normal(0.5, 0.3)),
        ({"timestep_density": "lognormal", "timestep_shift": 2.0}, normal(-1.2 + math.log(2), 1.2)),
        ({"timestep_density": "logit_normal"}, lambda x: logit_normal(x, 0, 1)),
        (
            {"timestep_density": "logit_normal", "density_mean": 1.0, "density_std": 0.5},
            lambda x: logit_normal(x, 1, 0.5),
        ),
        ({"timestep_density": "mode", "mode_scale": 0.5}, lambda x: mode(x, 0.5)),
        ({"timestep_shift": 2.0}, lambda x: np.searchsorted(LOG_SIGMAS, x - math.log(2), side="right") / 1000),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_density_is_that_of_the_paper(flags, expected):
    """The distribution function of ln sigma of 3000 draws, one by one as in training, is off by at most 1.95 / 3000 **
    0.5 in 99.9 % of tries (Kolmogorov), and here by the grid of timesteps."""
    timesteps = build_density(DiffusionArguments(**flags), COSINE)
    generator = torch.Generator().manual_seed(1)
    drawn = torch.stack([timesteps.draw(position, generator) for position in range(3000)])
    assert drawn.dtype == torch.int64 and drawn.min() >= 0 and drawn.max() <= 999
    points = np.linspace(-4, 3, 57)
    found = [(LOG_SIGMAS[drawn.numpy()] <= point).mean() for point in points]
    np.testing.assert_allclose(found, expected(points), atol=1.95 / 3000**0.5 + 0.005)


def test_a_draw_is_a_function_of_its_generator_and_the_default_draws_as_ever():
    timesteps = build_density(DiffusionArguments(timestep_density="lognormal"), COSINE)
    draws = [timesteps.draw(position, torch.Generator().manual_seed(7)).item() for position in (3, 9)]
    assert draws[0] == draws[1] and build_density(DiffusionArguments(), COSINE) == UniformTimesteps(1000)


@pytest.mark.parametrize(
    "flags", [{"timestep_density": "lognormal", "density_mean": 30.0}, {"timestep_shift": 1e-4}], ids=str
)
def test_a_density_beyond_the_schedule_is_refused(flags):
    with pytest.raises(
        InputError, match=r"draws \d+% of its noise levels outside .*squaredcos_cap_v2, ln sigma -5.0 to 9.9"
    ):
        build_density(DiffusionArguments(**flags), COSINE)


def test_directions_have_their_shares():
    directions, drawn = Directions(joint=0.5, independent=0.2), []
    for key in range(4000):
        generator = keyed_generator(key)
        timestep = UniformTimesteps(1000).draw(0, generator) + 1  # 0 marks what is given
        item = directions.draw(timestep, lambda g=generator: UniformTimesteps(1000).draw(0, g) + 1, generator)
        drawn.append((item["timestep"].item(), item["mask_timestep"].item()))
        assert timestep.item() in drawn[-1] or drawn[-1][0] == 0
    counts = {
        "joint": sum(image == mask for image, mask in drawn),
        "image given": sum(image == 0 for image, mask in drawn),
        "mask given": sum(mask == 0 for image, mask in drawn),
    }
    expected = {"joint": 2000, "image given": 600, "mask given": 600}
    assert all(abs(counts[name] - expected[name]) < 120 for name in expected)
    # the latest of four is below a share s of T with the probability s ** 4
    masks = np.array([mask for image, mask in drawn if image == 0])
    assert abs((masks <= 841).mean() - 0.5) < 0.06 and abs((masks <= 562).mean() - 0.1) < 0.04
    images = np.array([image for image, mask in drawn if mask == 0])
    assert abs((images <= 500).mean() - 0.5) < 0.06
    apart = np.array([pair for pair in drawn if 0 not in pair and pair[0] != pair[1]])
    assert abs(np.corrcoef(apart.T)[0, 1]) < 0.15
