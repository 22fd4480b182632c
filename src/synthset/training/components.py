"""Builders of a training run's components: accelerator, data, noise schedule, network."""

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, DistributedType
from accelerate.utils import InitProcessGroupKwargs, ProjectConfiguration, set_seed
from datasets import Dataset
from diffusers import DDPMScheduler
from torch.utils.data import DataLoader

from ..arguments.base import resolved
from ..arguments.training import TrainingArguments
from ..data import (
    Augmentation,
    PairTensors,
    StreamedPairs,
    choose_crop_size,
    eval_transform,
    load_train_validation,
    resolve_crop_size,
    stream_train_validation,
    train_transform,
)
from ..devices import resolve_mixed_precision
from ..image_processor import PROCESSOR_KEYS, PairImageProcessor
from ..models import PairedUNet2DModel
from ..models.memory_format import use_channels_last
from ..pipelines.loading import find_network, noise_schedule
from .plan import check_masks, check_steps
from .stream import PositionSampler, StreamedTraining, TrainingStream, ValidationItems
from .timesteps import UniformTimesteps


def start_accelerator(args: TrainingArguments) -> Accelerator:
    """The accelerator that the flags ask for; only its main process logs below errors. Fills in `mixed_precision`."""
    if args.mixed_precision is not None:
        args.mixed_precision = resolve_mixed_precision(args.mixed_precision)
    torch.backends.cuda.matmul.allow_tf32 = args.allow_tf32
    if args.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it, matrix products on a GPU vary
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False
    accelerator = Accelerator(
        cpu=not torch.accelerator.is_available(),  # without it, accelerate leaves processes on a CPU unconnected
        gradient_accumulation_steps=args.gradient_accumulation_steps,
        mixed_precision=args.mixed_precision,
        log_with=args.report_to or None,
        project_config=ProjectConfiguration(project_dir=args.output_dir, logging_dir=Path(args.output_dir) / "logs"),
        step_scheduler_with_optimizer=False,
        # While the main process draws a preview, which may take long on a processor, the others wait.
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(hours=3))],
    )
    return accelerator


def load_training_pairs(
    args: TrainingArguments, num_processes: int
) -> tuple[Dataset, Dataset] | tuple[StreamedPairs, list]:
    """The pairs to train and to validate on. Fills in the flags that depend on them, `crop_size` and, unless there is a
    budget in time, `max_train_steps`; and checks that a run can work with them."""
    source = args.dataset, args.image_column, args.mask_column, args.validation_fraction, args.seed
    if args.streaming:
        train, validation = stream_train_validation(*source, args.crop_size)
        sides = [min(image.shape[1:]) for image, _ in validation]
        args.crop_size = choose_crop_size(args.crop_size, sides, lambda i: f"validation pair {i} of {args.dataset}")
        train.smallest_side = args.crop_size
    else:
        train, validation = load_train_validation(*source)
        if args.overfit:
            train = validation = train.select(range(min(args.overfit, len(train))))
        args.crop_size = resolve_crop_size(args.crop_size, train, validation)
    if args.max_train_steps is None and args.max_train_minutes is None:
        args.max_train_steps = max(
            1, resolved(args.num_train_epochs) * len(train) // args.pairs_per_step(num_processes)
        )
    if args.max_train_steps is not None:
        check_steps(args)
    check_masks(args, train)
    return train, validation


def build_noise_schedule(args: TrainingArguments) -> DDPMScheduler:
    """The noising process of training (SynthSet, section 3); saved with the model, it samples from t = T - 1 down."""
    return noise_schedule(vars(args))


def build_model(
    args: TrainingArguments, processor: PairImageProcessor | None = None, **config: Any
) -> PairedUNet2DModel:
    """The network of samples that `processor` encodes, with weights drawn from `--seed`; `config` adds to its
    configuration."""
    encoding = {key: (processor or PairImageProcessor()).config[key] for key in PROCESSOR_KEYS}
    set_seed(args.seed % 2**32)  # which numpy's, and torch's on a CPU, don't reach beyond
    model = PairedUNet2DModel(
        sample_size=args.resolution,
        variant=args.variant,
        skip_fusion=args.skip_fusion,
        block_out_channels=tuple(args.block_out_channels),
        layers_per_block=args.layers_per_block,
        patch_size=args.patch_size,
        input_skip=args.input_skip,
        attention_head_dim=args.attention_head_dim,
        attention_levels=args.attention_levels,
        dropout=args.dropout,
        norm_num_groups=args.norm_num_groups,
        **encoding,
        **config,
    )
    if args.gradient_checkpointing:
        model.enable_gradient_checkpointing()
    if args.enable_xformers_memory_efficient_attention:
        model.enable_xformers_memory_efficient_attention()
    return model


def order_weights(network: PairedUNet2DModel, accelerator: Accelerator) -> PairedUNet2DModel:
    """Stores weights channels last ([`use_channels_last`]) on a processor, unless they will be sharded, for which they
    must not be. On a GPU it has not been shown to serve (docs/results/speed.md)."""
    serves = accelerator.device.type == "cpu" and accelerator.distributed_type != DistributedType.FSDP
    return use_channels_last(network) if serves else network


def build_streams(
    args: TrainingArguments,
    train: Dataset | StreamedPairs,
    validation: Dataset | list,
    timesteps: UniformTimesteps | None = None,
    checkpoint: Path | None = None,
    augmentation: Callable[[int], Augmentation | None] = lambda crop_size: None,
    **options: Any,
) -> tuple[TrainingStream, ValidationItems]:
    """The training stream and the validation items; with `--overfit` the same, unaugmented.

    Args:
        timesteps: uniform if not given.
        checkpoint: samples are encoded as those of its network, if there is one.
        augmentation: makes `TrainingStream`'s of the side of crops in the pixels of the decoded pairs.
        options: others of `TrainingStream`.
    """
    crop_size, stream = resolved(args.crop_size), StreamedTraining if args.streaming else TrainingStream
    if not isinstance(validation, list):
        used = range(min(len(validation), max(ValidationItems.size, args.num_validation_images)))
        train = PairTensors(train, crop_size, args.resolution)
        validation = PairTensors(validation.select(used), crop_size, args.resolution)
        crop_size = resolved(train.crop_size)
    still = eval_transform(args.resolution, crop_size)
    moving = still if args.overfit else train_transform(args.resolution, crop_size, args.object_crops)
    rest = timesteps or UniformTimesteps(args.num_train_timesteps), args.seed
    options["augmentation"] = augmentation(crop_size)
    training = stream(train, moving, *rest, **options)
    training.processor = build_processor(args, training, checkpoint)
    return training, ValidationItems(validation, still, *rest, processor=training.processor, **options)


def build_processor(args: TrainingArguments, stream: TrainingStream, checkpoint: Path | None) -> PairImageProcessor:
    """The encoding of pairs: that of the checkpoint's network, else with `--image_std` of the mean and the standard
    deviation of each channel of `stream.images`."""
    network = None if checkpoint is None else find_network(checkpoint)
    if network is not None:
        return PairImageProcessor.of_network(PairedUNet2DModel.load_config(network))
    if args.image_std is None and args.mask_scale == 1:
        return PairImageProcessor()
    mean, std = np.zeros(3), np.ones(3)
    if args.image_std is not None:
        colors = stream.images / 127.5 - 1
        mean, std = colors.mean((0, 1, 2)), np.maximum(colors.std((0, 1, 2)), 1 / 127.5) / args.image_std
    return PairImageProcessor(
        sample_mean=[*mean.round(4).tolist(), 0.0], sample_std=[*std.round(4).tolist(), 1 / args.mask_scale]
    )


def build_loader(args: TrainingArguments, accelerator: Accelerator, stream: TrainingStream, step: int) -> DataLoader:
    """This process's batches from optimizer step `step` to the last."""
    positions = PositionSampler(
        args.batch_size,
        accelerator.process_index,
        accelerator.num_processes,
        start=step * args.gradient_accumulation_steps,
        stop=resolved(args.max_train_steps) * args.gradient_accumulation_steps,
    )
    return DataLoader(
        stream,
        batch_sampler=positions,
        num_workers=args.num_workers,
        pin_memory=accelerator.device.type == "cuda",
        generator=torch.Generator(),  # else it would draw from the global one whenever a run continues
    )
