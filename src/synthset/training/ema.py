"""The exponential moving average of the weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from accelerate import Accelerator, DistributedType
from diffusers import ModelMixin
from diffusers.training_utils import EMAModel

from ..arguments.training import TrainingArguments
from ..errors import InputError


def build_ema(args: TrainingArguments, accelerator: Accelerator, model: ModelMixin) -> EMAModel | None:
    """The float32 moving average of the unwrapped `model`'s weights, or None with `--use_ema false`. Its decay grows
    with the steps t up to `ema_max_decay`, so that a run of any length forgets its start: as 1 - (1 + t) ** -ema_power,
    or with `ema_std` as 1 - (gamma + 1) / (gamma + 1 + t), which weighs the weights after t steps by t ** gamma.

    Raises:
        InputError: the weights are sharded.
    """
    if not args.use_ema:
        return None
    if accelerator.distributed_type == DistributedType.FSDP:
        raise InputError("--use_ema is true, but there is no moving average of sharded weights; give false")
    warmup = {"power": args.ema_power}
    if args.ema_std is not None:
        warmup = {"power": 1.0, "inv_gamma": power_function_gamma(args.ema_std) + 1}
    ema = EMAModel(model.parameters(), args.ema_max_decay, use_ema_warmup=True, foreach=True, **warmup)
    ema.to(accelerator.device)
    return ema


def power_function_gamma(std: float) -> float:
    """The power gamma of an average in proportion to t ** gamma over t in 0 to 1 whose standard deviation is `std`,
    above 0 and below 12 ** -0.5 (Karras et al. 2024, arXiv 2312.02696, algorithm 2)."""
    return float(np.roots([1, 7, 16 - std**-2, 12 - std**-2]).real.max())


@contextmanager
def ema_weights(ema: EMAModel | None, model: ModelMixin) -> Iterator[None]:
    """Within the block, `model` computes with the moving average's weights (its own where `ema` is None)."""
    if ema is None:
        yield
        return
    ema.store(model.parameters())
    ema.copy_to(model.parameters())
    try:
        yield
    finally:
        ema.restore(model.parameters())
