"""Which timesteps a network is trained on, and when (SynthSet, section 3: the curriculum of the discriminator)."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class UniformTimesteps:
    """Every timestep from 0 to `num_train_timesteps` - 1 as often as any other, at any time."""

    num_train_timesteps: int

    def draw(self, epoch: int, generator: torch.Generator) -> torch.Tensor:
        """One timestep, int64 without dimensions, for a pair of pass `epoch` over the training set."""
        return torch.randint(self.t_max(epoch), (), generator=generator)

    def t_max(self, epoch: int) -> int:
        """Number of timesteps in use in pass `epoch`: they are 0 .. t_max - 1."""
        return self.num_train_timesteps


@dataclass(frozen=True)
class CurriculumTimesteps(UniformTimesteps):
    """Little noise first: t_max = min(T, sigma * floor(epoch / alpha) + initial).

    In the first `priority_epochs` passes the n-th timestep in use is drawn with a probability proportional to n, so
    that newly admitted, noisier ones come most often (priority sampling); after that, all alike.

    Args:
        sigma: timesteps added at once.
        alpha: passes between additions.
        initial: timesteps in use at the start (the paper's i).
        priority_epochs: passes with priority sampling.
    """

    sigma: int = 10
    alpha: int = 5
    initial: int = 10
    priority_epochs: int = 500

    def t_max(self, epoch: int) -> int:
        return min(self.num_train_timesteps, self.sigma * (epoch // self.alpha) + self.initial)

    def draw(self, epoch: int, generator: torch.Generator) -> torch.Tensor:
        if epoch >= self.priority_epochs:
            return super().draw(epoch, generator)
        weights = torch.arange(1.0, self.t_max(epoch) + 1)
        return torch.multinomial(weights, 1, generator=generator)[0]
