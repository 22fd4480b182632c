"""Fine-tuning: weights of another model to begin with, and parts of the network that keep them."""

import logging
from collections import Counter
from collections.abc import Collection

import torch
from diffusers import DiffusionPipeline

from ..arguments.training import FreezablePart, TrainingArguments
from ..errors import InputError
from ..models import PairedUNet2DModel
from ..pipelines.loading import TRAINERS, load_pipeline

logger = logging.getLogger("synthset")

PARTS: dict[FreezablePart, tuple[str, ...]] = {  # modules of each part
    "encoder": ("conv_in", "down_blocks", "down_attentions", "downsamplers"),
    "bottleneck": ("mid_in_blocks", "self_attentions", "cross_attentions", "mid_out_blocks"),
    "decoder": ("up_blocks", "up_attentions", "upsamplers", "fusion_out", "conv_out"),
}
SHAPING = ("variant", "skip_fusion", "block_out_channels", "layers_per_block", "patch_size", "attention_head_dim")
FEWEST = 0.5  # share of the base's parameters that must fit


def load_base_model(model: str, flag: str = "--init_from") -> tuple[DiffusionPipeline, str]:
    """Loads a pipeline that `train` or `train-sr` made, as [`load_pipeline`]: it and its SHA-256."""
    refusals = []
    for cls in TRAINERS:
        try:
            return load_pipeline(cls, model, flag)
        except InputError as error:
            refusals.append(error)
    raise refusals[0]


def begin_with(args: TrainingArguments, network: PairedUNet2DModel) -> None:
    """Gives `network` the weights of `--init_from`, as far as they fit, and logs a table of what differs.

    A weight of the same name and shape is taken. One that has more inputs here, for a condition, gets zeros for them,
    so that they change nothing at first. Everything else stays as it was initialized.

    Raises:
        InputError: the model can't be loaded, predicts something else, is of another variant, or less than half of it
            fits.
    """
    assert args.init_from is not None
    base, _ = load_base_model(args.init_from)
    predicts = base.scheduler.config.prediction_type
    if predicts != args.prediction_type:
        raise InputError(
            f"--init_from {args.init_from} was trained with --prediction_type {predicts}, and --prediction_type is "
            f"{args.prediction_type}; give that of the model"
        )
    taken, fresh = _copy(base.unet, network)
    total = sum(value.numel() for value in base.unet.parameters())
    if taken < FEWEST * total or base.unet.config.variant != network.config.variant:
        theirs = ((name, base.unet.config[name]) for name in SHAPING if base.unet.config[name] != network.config[name])
        flags = " ".join(f"--{name} {_words(value)}" for name, value in theirs)
        raise InputError(
            f"--init_from {args.init_from} has {total:,} parameters, of which {taken:,} fit the network that the flags "
            f"ask for; give its own: {flags}"
        )
    logger.info(f"{taken:,} of {total:,} parameters are those of {args.init_from}")
    for name, was, now in _differing(args, base, network):
        logger.info(f"  {name}: {was} there, {now} here")
    for module, count in fresh.items():
        logger.info(f"  {module}: {count:,} parameters begin anew")


def freeze(network: PairedUNet2DModel, parts: Collection[FreezablePart]) -> None:
    """Excludes parts of the network from training."""
    for name, parameter in network.named_parameters():
        if any(name.split(".")[0] in PARTS[part] for part in parts):
            parameter.requires_grad_(False)


@torch.no_grad()
def _copy(base: PairedUNet2DModel, network: PairedUNet2DModel) -> tuple[int, Counter[str]]:
    """Copies the weights that fit; returns their number, and that of the others by module."""
    theirs, taken, fresh = dict(base.named_parameters()), 0, Counter[str]()
    for name, mine in network.named_parameters():
        other = theirs.get(name)
        count = 0
        if other is not None and other.ndim == mine.ndim:
            inputs = min(1, mine.ndim - 1)  # the dimension that grows with a condition: of vectors, the only one
            alike = [a == b for a, b in zip(mine.shape, other.shape, strict=True)]
            if all(alike[:inputs] + alike[inputs + 1 :]) and mine.shape[inputs] >= other.shape[inputs]:
                part = mine.narrow(inputs, 0, other.shape[inputs])
                if mine.ndim > 1 and mine.shape != other.shape:
                    mine.zero_()
                part.copy_(other)
                count = other.numel()
        taken += count
        if count < mine.numel():
            fresh[name.split(".")[0]] += mine.numel() - count
    return taken, fresh


def _differing(
    args: TrainingArguments, base: DiffusionPipeline, network: PairedUNet2DModel
) -> list[tuple[str, object, object]]:
    """The settings in which the base and this run differ: name, value there and here."""
    names = [name for name in network.config if not name.startswith("_")]
    settings = [(name, base.unet.config.get(name), network.config[name]) for name in names]
    noise = ("beta_schedule", "num_train_timesteps")
    settings += [(name, base.scheduler.config[name], getattr(args, name)) for name in noise]
    settings.append(("crop_size", base.config.get("crop_size"), args.crop_size))
    return [(name, was, now) for name, was, now in settings if _words(was) != _words(now)]


def _words(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
