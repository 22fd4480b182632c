"""Protection of the weights from losses and gradients that are not finite."""

from pathlib import Path

import torch
from accelerate import Accelerator

from ..errors import InputError
from ..pipelines.loading import list_checkpoints
from .arguments import TrainingArguments
from .stream import TrainingStream


class NonFiniteGuard:
    """Stops a run before the optimizer takes in a gradient that is not finite.

    Args:
        args: the flags.
        accelerator: the run's.
        stream: names the pairs of a position.
    """

    def __init__(self, args: TrainingArguments, accelerator: Accelerator, stream: TrainingStream):
        self.args, self.accelerator, self.stream = args, accelerator, stream
        self.losses: list[torch.Tensor] = []
        self.positions: list[torch.Tensor] = []

    def watch(self, loss: torch.Tensor, positions: torch.Tensor) -> None:
        """Notes a forward pass: its loss, a scalar, and the positions of its pairs, (B,)."""
        self.losses.append(loss.detach())
        self.positions.append(positions)

    def check(self, norm: torch.Tensor, step: int) -> None:
        """Ends the forward passes of optimizer step `step` (1 for the first).

        With fp16 a gradient that is not finite is no fault: accelerate leaves such a step out; then only the losses
        count.

        Args:
            norm: the gradient's norm, of all processes together.

        Raises:
            InputError: it is not finite; names the step and the pairs.
        """
        losses, positions, half = self.losses, self.positions, self.accelerator.scaler is not None
        self.losses, self.positions = [], []
        if not half and norm.isfinite():
            return
        bad = [i for i, loss in enumerate(losses) if not loss.isfinite()]
        if half and not bad:
            return
        found = f"the loss is {losses[bad[0]].item()}" if bad else f"the gradient's norm is {norm.item()}"
        pairs = [self.stream.pair_index(p) for i in bad or range(len(losses)) for p in positions[i].tolist()]
        there = list_checkpoints(Path(self.args.output_dir))
        back = f"go back with --resume_from_checkpoint {there[-1].name} --new_leg" if there else "start anew"
        raise InputError(
            f"{found} at step {step} on the pairs {pairs}; nothing was learned from it: {back} and a lower "
            f"--learning_rate (now {self.args.learning_rate:g}) or --max_grad_norm 1"
        )
