"""Optimizers and learning rates of segmenters by name, and the weights that validation chooses."""

from collections.abc import Callable, Iterable
from functools import partial

import torch
from diffusers.optimization import get_scheduler
from torch.nn import Parameter
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": partial(torch.optim.SGD, momentum=0.9),
    "adamw": partial(torch.optim.AdamW, fused=True),
}


def build_optimizer(name: str, parameters: Iterable[Parameter], learning_rate: float) -> torch.optim.Optimizer:
    """Builds the optimizer `name` of `OPTIMIZERS`."""
    return OPTIMIZERS[name](parameters, lr=learning_rate)


def build_lr_scheduler(name: str, optimizer: torch.optim.Optimizer, steps: int) -> LRScheduler:
    """Builds the course of the learning rate over `steps` steps: `one_cycle`, which also changes momentum, or a name of
    diffusers' `get_scheduler`."""
    if name == "one_cycle":
        return OneCycleLR(optimizer, [group["lr"] for group in optimizer.param_groups], total_steps=steps)
    return get_scheduler(name, optimizer, num_warmup_steps=0, num_training_steps=steps)


class BestWeights:
    """Copy of a network's weights where a score was highest, the first of equal ones.

    Args:
        network: network that is trained.

    Attributes:
        step: step of the copy; 0 before the first score.
        score: its score.
    """

    def __init__(self, network: torch.nn.Module):
        self.network, self.step, self.score = network, 0, float("-inf")
        self.weights: dict[str, torch.Tensor] = {}

    def offer(self, step: int, score: float) -> None:
        """Copies the weights of `step` if `score` is above all scores before."""
        if score > self.score:
            self.step, self.score = step, score
            self.weights = {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()}

    def restore(self) -> None:
        """Loads the copy into the network."""
        self.network.load_state_dict(self.weights)
