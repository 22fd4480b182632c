"""Distributions of training timesteps over a run: densities, and the curriculum of the discriminator (SynthSet,
section 3)."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from diffusers.training_utils import compute_density_for_timestep_sampling

from ..arguments.training import DiffusionArguments
from ..errors import InputError
from ..registry import TIMESTEP_DENSITIES


@dataclass(frozen=True)
class UniformTimesteps:
    """Uniform distribution over the timesteps 0 to `num_train_timesteps` - 1 at any position."""

    num_train_timesteps: int

    def draw(self, position: int, generator: torch.Generator) -> torch.Tensor:
        """One timestep, int64 without dimensions, for the pair at `position` of the training stream."""
        return torch.randint(self.t_max(position), (), generator=generator)

    def t_max(self, position: int) -> int:
        """Number of timesteps in use at `position`: they are 0 .. t_max - 1."""
        return self.num_train_timesteps


@dataclass(frozen=True)
class Directions:
    """Distribution of the timesteps of an image and of its mask, as one joint network learns them (UniDiffuser, arXiv
    2303.06555).

    Args:
        joint: share of pairs with equal timesteps.
        independent: share with timesteps that are drawn independently of each other. The rest have one part given, at
            timestep 0: the image and the mask alike often. A mask for a given image has the latest of four timesteps:
            through less noise it is seen without the image.
    """

    joint: float
    independent: float

    def draw(
        self, timestep: torch.Tensor, other: Callable[[], torch.Tensor], generator: torch.Generator
    ) -> dict[str, torch.Tensor]:
        """The `timestep` of an image and the `mask_timestep` of its mask.

        Args:
            timestep: of the pair, int64 without dimensions.
            other: draws another.
        """
        choice, given = torch.rand(2, generator=generator).tolist()
        if choice < self.joint:
            return {"timestep": timestep, "mask_timestep": timestep}
        if choice < self.joint + self.independent:
            return {"timestep": timestep, "mask_timestep": other()}
        clean = torch.zeros_like(timestep)
        if given < 0.5:
            return {"timestep": clean, "mask_timestep": max(timestep, other(), other(), other())}
        return {"timestep": timestep, "mask_timestep": clean}


@dataclass(frozen=True)
class DensityTimesteps(UniformTimesteps):
    """The same density at any position: ln sigma is drawn and shifted, and the timestep nearest in ln sigma taken.

    Args:
        log_sigmas: ln sigma of the timesteps, (T,) float64 increasing; x_t / alpha is x_0 with noise of the standard
            deviation sigma = sqrt((1 - a) / a), with a of `alphas_cumprod`.
        density: a key of `TIMESTEP_DENSITIES`.
        settings: arguments of the density in place of its own.
        shift: factor of sigma.
    """

    log_sigmas: torch.Tensor
    density: str
    settings: Mapping[str, float]
    shift: float = 1.0

    def draw_log_sigmas(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """(count,) float64, shifted, not yet those of timesteps."""
        drawn = TIMESTEP_DENSITIES[self.density](self.log_sigmas, count, generator, **self.settings)
        return drawn.double() + math.log(self.shift)

    def draw(self, position: int, generator: torch.Generator) -> torch.Tensor:
        between = (self.log_sigmas[1:] + self.log_sigmas[:-1]) / 2
        return torch.bucketize(self.draw_log_sigmas(1, generator)[0], between)


def uniform(log_sigmas: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    """ln sigma of timesteps drawn alike, (count,). The arguments, as of all densities, are `DensityTimesteps`'s."""
    return log_sigmas[torch.randint(len(log_sigmas), (count,), generator=generator)]


def lognormal(
    log_sigmas: torch.Tensor,
    count: int,
    generator: torch.Generator,
    density_mean: float = -1.2,
    density_std: float = 1.2,
) -> torch.Tensor:
    """Normal ln sigma, (count,), with the paper's mean and standard deviation, which are for images in [-1, 1], as ours
    are, of standard deviation 0.5 (Karras et al. 2022, arXiv 2206.00364, table 1)."""
    return density_mean + density_std * torch.randn(count, generator=generator)


def logit_normal(
    log_sigmas: torch.Tensor,
    count: int,
    generator: torch.Generator,
    density_mean: float = 0.0,
    density_std: float = 1.0,
) -> torch.Tensor:
    """ln sigma of timesteps t with a normal logit of t / T, (count,) (Esser et al. 2024, arXiv 2403.03206, equation
    19)."""
    share = compute_density_for_timestep_sampling(
        "logit_normal", count, logit_mean=density_mean, logit_std=density_std, generator=generator
    )
    return _at_shares(log_sigmas, share)


def mode(log_sigmas: torch.Tensor, count: int, generator: torch.Generator, mode_scale: float = 1.29) -> torch.Tensor:
    """ln sigma of timesteps t with t / T = 1 - u - mode_scale (cos^2(pi u / 2) - 1 + u), u uniform, (count,) (Esser et
    al. 2024, arXiv 2403.03206, equation 20)."""
    share = compute_density_for_timestep_sampling("mode", count, mode_scale=mode_scale, generator=generator)
    return _at_shares(log_sigmas, share)


def _at_shares(log_sigmas: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """ln sigma of the timesteps floor(T * share), of shares 0 to 1."""
    size = len(log_sigmas)
    return log_sigmas[(size * share).long().clamp(0, size - 1)]


def build_density(args: DiffusionArguments, alphas_cumprod: torch.Tensor) -> UniformTimesteps:
    """The density of timesteps that the flags ask for.

    Args:
        args: the flags.
        alphas_cumprod: (T,), the training scheduler's.

    Raises:
        InputError: more than a tenth of what it draws is less or more noise than the schedule has.
    """
    if args.timestep_density == "uniform" and args.timestep_shift == 1:
        return UniformTimesteps(args.num_train_timesteps)
    a = alphas_cumprod.double()
    given = {"density_mean": args.density_mean, "density_std": args.density_std, "mode_scale": args.mode_scale}
    timesteps = DensityTimesteps(
        args.num_train_timesteps,
        ((1 - a) / a).log() / 2,
        args.timestep_density,
        {name: value for name, value in given.items() if value is not None},
        args.timestep_shift,
    )
    low, high = timesteps.log_sigmas[0].item(), timesteps.log_sigmas[-1].item()
    drawn = timesteps.draw_log_sigmas(10_000, torch.Generator().manual_seed(0))
    outside = ((drawn < low) | (drawn > high)).double().mean().item()
    if outside > 0.1:
        raise InputError(
            f"--timestep_density {args.timestep_density} with --timestep_shift {args.timestep_shift:g} draws "
            f"{outside:.0%} of its noise levels outside those of --beta_schedule {args.beta_schedule}, ln sigma "
            f"{low:.1f} to {high:.1f}; give another --density_mean, --density_std or --timestep_shift"
        )
    return timesteps


@dataclass(frozen=True)
class CurriculumTimesteps(UniformTimesteps):
    """Little noise first: t_max = min(T, sigma * floor(position / alpha) + initial).

    Before the position `priority` the n-th timestep in use is drawn with a probability proportional to n, so that newly
    admitted, noisier ones come most often (priority sampling); after that, all alike.

    Args:
        sigma: timesteps added at once.
        alpha: positions between additions; the paper counts in passes over the training pairs.
        initial: timesteps in use at the start (the paper's i).
        priority: positions with priority sampling.
    """

    sigma: int
    alpha: float
    initial: int
    priority: float

    @classmethod
    def of_run(
        cls, num_train_timesteps: int, positions: int, share: float, priority_share: float
    ) -> "CurriculumTimesteps":
        """The paper's curriculum stretched to a run: T is reached in steps of a hundredth, at the end of a share.

        With a third for both shares and 1500 passes over the pairs it is the paper's, sigma = i = 10 and alpha = 5.

        Args:
            num_train_timesteps: T.
            positions: pairs that the run sees.
            share: of the run, after which all T are in use.
            priority_share: of the run, with priority sampling.
        """
        sigma = -(-num_train_timesteps // 100)
        alpha = positions * share * sigma / num_train_timesteps
        return cls(num_train_timesteps, sigma, alpha, sigma, positions * priority_share)

    def t_max(self, position: int) -> int:
        return min(self.num_train_timesteps, self.sigma * int(position // self.alpha) + self.initial)

    def draw(self, position: int, generator: torch.Generator) -> torch.Tensor:
        if position >= self.priority:
            return super().draw(position, generator)
        weights = torch.arange(1.0, self.t_max(position) + 1)
        return torch.multinomial(weights, 1, generator=generator)[0]
