"""Distributions of training timesteps over a run (SynthSet, section 3: the curriculum of the discriminator)."""

from dataclasses import dataclass

import torch


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
