"""The optimizer and its learning rate, as the flags ask for them."""

from collections.abc import Iterable

import torch
from diffusers.optimization import get_scheduler
from torch.nn import Parameter
from torch.optim.lr_scheduler import LambdaLR

from ..arguments.base import resolved
from ..arguments.training import TrainingArguments


def build_optimizer(
    args: TrainingArguments, parameters: Iterable[Parameter], learning_rate: float | None = None
) -> torch.optim.AdamW:
    """AdamW, which without weight decay is the paper's Adam; at `args.learning_rate` if no other is given."""
    return torch.optim.AdamW(
        parameters,
        lr=learning_rate or args.learning_rate,
        betas=(args.adam_beta1, args.adam_beta2),
        weight_decay=args.adam_weight_decay,
        eps=args.adam_epsilon,
    )


def build_lr_scheduler(args: TrainingArguments, optimizer: torch.optim.Optimizer, leg_start: int = 0) -> LambdaLR:
    """The learning rate as a function of the optimizer steps since `leg_start`, by diffusers' `get_scheduler`."""
    if args.lr_scheduler == "multistep":
        rules = [f"{0.1**i}:{step}" for i, step in enumerate(args.lr_milestones)]
        step_rules = ",".join([*rules, str(0.1 ** len(args.lr_milestones))])
        return get_scheduler("piecewise_constant", optimizer, step_rules=step_rules)
    name = {"constant": "constant_with_warmup"}.get(args.lr_scheduler, args.lr_scheduler)
    steps = resolved(args.max_train_steps) - leg_start
    return get_scheduler(name, optimizer, num_warmup_steps=args.lr_warmup_steps, num_training_steps=steps)
