"""The exponential moving average of the weights."""

from collections.abc import Iterator
from contextlib import contextmanager

from accelerate import Accelerator, DistributedType
from diffusers import ModelMixin
from diffusers.training_utils import EMAModel

from ..errors import InputError
from .arguments import TrainingArguments


def build_ema(args: TrainingArguments, accelerator: Accelerator, model: ModelMixin) -> EMAModel | None:
    """The float32 moving average of the unwrapped `model`'s weights, or None with `--use_ema false`. Its decay grows as
    1 - (1 + step) ** -ema_power up to `ema_max_decay`, so that a short run forgets its start.

    Raises:
        InputError: the weights are sharded.
    """
    if not args.use_ema:
        return None
    if accelerator.distributed_type == DistributedType.FSDP:
        raise InputError("--use_ema is true, but there is no moving average of sharded weights; give false")
    ema = EMAModel(model.parameters(), args.ema_max_decay, use_ema_warmup=True, power=args.ema_power, foreach=True)
    ema.to(accelerator.device)
    return ema


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
