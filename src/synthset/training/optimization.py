"""The optimizer and its learning rate, as the flags ask for them."""

from typing import Any

import torch
from accelerate import Accelerator, DistributedType
from diffusers.optimization import get_scheduler
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from ..arguments.base import resolved
from ..arguments.training import TrainingArguments
from ..errors import InputError
from ..registry import OPTIMIZERS

# modules at the network's ends, whose matrices Muon leaves to AdamW
OUTER = ("conv_in", "conv_out", "time_embedding", "noise_level_embedding", "other_time_embedding", "input_gate")


def build_optimizer(
    args: TrainingArguments, accelerator: Accelerator, network: nn.Module, rate: float = 1.0
) -> torch.optim.Optimizer:
    """The optimizer of `network` that the flags ask for, its learning rates times `rate`.

    Raises:
        InputError: it needs whole matrices, and the weights are sharded.
    """
    if args.optimizer != "adamw" and accelerator.distributed_type == DistributedType.FSDP:
        raise InputError(f"--optimizer is {args.optimizer}, which does not work on sharded weights; give adamw")
    optimizer = OPTIMIZERS[args.optimizer](args, network)
    for group in optimizer.param_groups:
        group["lr"] *= rate
    return optimizer


def adamw(args: TrainingArguments, network: nn.Module, learning_rate: float | None = None) -> torch.optim.AdamW:
    """AdamW, which without weight decay is the paper's Adam; at `args.learning_rate` if no other is given. One kernel
    updates all weights."""
    return torch.optim.AdamW(network.parameters(), **_adam_settings(args, learning_rate), fused=True)


def muon(args: TrainingArguments, network: nn.Module) -> torch.optim.Optimizer:
    """Muon (Jordan et al. 2024) for the matrices of hidden layers, convolutions as (out, in * height * width), and
    AdamW for vectors and the outer layers.

    An update is scaled to the root mean square 0.2, about that of Adam's, whose learning rate so fits (Liu et al. 2025,
    arXiv 2502.16982, equation 4). It is computed by products of small matrices (`gram_newton_schulz`). AdamW's
    parameters are the first group, since its learning rate is logged.
    """
    from pytorch_optimizer import Muon
    from pytorch_optimizer.optimizer.utils import zero_power_via_gram_newton_schulz

    class MuonByDevice(Muon):
        """Muon that computes in float32 on a processor, which is faster there than in 16 bits."""

        @staticmethod
        def _orthogonalize(group: dict, updates: list[torch.Tensor]) -> list[torch.Tensor]:
            if updates[0].device.type != "cpu":
                return Muon._orthogonalize(group, updates)
            settings = {"num_steps": group["ns_steps"], "weights": group["ns_coeffs"]}
            settings |= {"dtype": torch.float32, "reset_steps": ()}  # resets are against errors of 16 bits
            return [zero_power_via_gram_newton_schulz(update.flatten(1), **settings) for update in updates]

    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        hidden = parameter.ndim >= 2 and name.split(".")[0] not in OUTER
        (matrices if hidden else rest).append(parameter)
    adam: dict[str, Any] = {"params": rest, "use_muon": False, **_adam_settings(args)}
    orthogonal: dict[str, Any] = {
        "params": matrices,
        "use_muon": True,
        "lr": args.muon_learning_rate or args.learning_rate,
        "weight_decay": args.adam_weight_decay,
    }
    return MuonByDevice([adam, orthogonal], use_adjusted_lr=True, ns_method="gram_newton_schulz")


def soap(args: TrainingArguments, network: nn.Module) -> torch.optim.Optimizer:
    """SOAP, Adam in the eigenbases of each dimension's second moments (Vyas et al. 2024, arXiv 2409.11321). Its first
    step only begins these."""
    from pytorch_optimizer import SOAP

    return SOAP(network.parameters(), **_adam_settings(args))


def _adam_settings(args: TrainingArguments, learning_rate: float | None = None) -> dict[str, Any]:
    return {
        "lr": learning_rate or args.learning_rate,
        "betas": (args.adam_beta1, args.adam_beta2),
        "weight_decay": args.adam_weight_decay,
        "eps": args.adam_epsilon,
    }


def build_lr_scheduler(args: TrainingArguments, optimizer: torch.optim.Optimizer, leg_start: int = 0) -> LambdaLR:
    """The learning rate as a function of the optimizer steps since `leg_start`, by diffusers' `get_scheduler`."""
    if args.lr_scheduler == "multistep":
        rules = [f"{0.1**i}:{step}" for i, step in enumerate(args.lr_milestones)]
        step_rules = ",".join([*rules, str(0.1 ** len(args.lr_milestones))])
        return get_scheduler("piecewise_constant", optimizer, step_rules=step_rules)
    name = {"constant": "constant_with_warmup"}.get(args.lr_scheduler, args.lr_scheduler)
    steps = resolved(args.max_train_steps) - leg_start
    return get_scheduler(name, optimizer, num_warmup_steps=args.lr_warmup_steps, num_training_steps=steps)
