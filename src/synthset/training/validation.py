"""Validation during a run: validation loss, previews, and the best weights."""

import logging
import math
from collections.abc import Callable
from functools import partial
from itertools import chain
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from diffusers import DDPMScheduler, DiffusionPipeline, ModelMixin
from diffusers.training_utils import EMAModel
from PIL import Image
from torch.utils.data import DataLoader, Subset

from ..arguments.training import TrainingArguments
from ..console import progress, shows_progress
from ..evaluation.divergence import color_divergence
from ..output_dir import atomic_path
from ..pipelines import SynthSetPipeline, SynthSetSRPipeline, make_scheduler
from ..pipelines.completion import Part
from ..random import keyed_generator
from ..signals import Stopped, deferred, undeferred
from ..visualization.previews import pair_grid
from .ema import ema_weights
from .export import save_pipeline, whole_model
from .log import MetricsLog
from .objectives import diffusion_loss, predict, timesteps_given
from .processes import stop_requested
from .stream import TrainingStream, ValidationItems
from .timetable import Timetable
from .trackers import track_picture

logger = logging.getLogger("synthset")


@torch.no_grad()
def validation_loss(
    model: ModelMixin,
    scheduler: DDPMScheduler,
    items: ValidationItems,
    batch_size: int,
    accelerator: Accelerator,
    stop_requested: Callable[[], bool] = lambda: False,
    loss_space: str | None = None,
    given: Part | None = None,
) -> float:
    """Mean unweighted loss over `items`, split between the processes; every process gets the same value.

    All processes make the same number of forward passes on the same number of items, since sharded weights are gathered
    in each. Where `items` can't be split evenly, some are computed twice and counted once.

    Args:
        model: the unwrapped network with the weights to judge.
        stop_requested: called by all processes before every forward pass; once it is true, the result is NaN.
        loss_space: the prediction type in which the loss is measured; None for the network's own.
        given: the part that has timestep 0, and does not count; None for the loss of pairs.
    """
    share = math.ceil(len(items) / accelerator.num_processes)
    first = accelerator.process_index * share
    mine = Subset(items, [i % len(items) for i in range(first, first + share)])
    losses = []
    loader = DataLoader(mine, batch_size, generator=torch.Generator())  # else it would use up the global one
    for batch in progress(loader, "validation loss", leave=False):
        if stop_requested():
            return math.nan
        batch = {name: value.to(accelerator.device) for name, value in batch.items()}
        if given is not None:
            batch |= timesteps_given(given, batch["timestep"], scheduler.config.num_train_timesteps)
        with accelerator.autocast():
            prediction = predict(model, scheduler, batch)
        losses.append(diffusion_loss(prediction, scheduler, batch, loss_space=loss_space))
    return accelerator.gather(torch.cat(losses))[: len(items)].mean().item()


def inspect_pairs(
    pipeline: SynthSetPipeline, args: TrainingArguments, stream: TrainingStream
) -> tuple[Image.Image, dict[str, float]]:
    """Generates pairs with DPM-Solver++, always from the same noise.

    Returns:
        A grid of `num_validation_images` pairs; and, unless `num_divergence_images` is 0, `divergence`, between the
        color distributions of that many generated and of 256 training images (SynthSet, section 4, "Weight
        Selection").
    """
    numbers = range(max(args.num_validation_images, args.num_divergence_images))
    quick = _quick(pipeline, args)
    images: list[Image.Image] = []
    masks: list[Image.Image] = []
    for start in progress(numbers[:: args.batch_size], "previews", leave=False):
        generators = [keyed_generator(args.seed, i) for i in numbers[start : start + args.batch_size]]
        drawn = quick(len(generators), generators)
        images, masks = images + drawn[0], masks + drawn[1]
    grid = pair_grid(images[: args.num_validation_images], masks[: args.num_validation_images])
    if not args.num_divergence_images:
        return grid, {}
    generated = np.stack([np.asarray(image) for image in images[: args.num_divergence_images]])
    return grid, {"divergence": color_divergence(generated, stream.images)}


def inspect_enlarged(
    pipeline: SynthSetSRPipeline, args: TrainingArguments, items: ValidationItems
) -> tuple[Image.Image, dict[str, float]]:
    """Enlarges validation pairs with DPM-Solver++, always from the same noise.

    Returns:
        A grid with three columns of pairs: enlarged by interpolation (bilinear, and nearest for the mask), by the
        network, and the original. No metric.
    """
    count = min(args.num_validation_images, len(items.pairs))
    targets = [items.transform(*items.pairs[i]) for i in range(count)]
    processor, condition = pipeline.image_processor, items.condition
    assert condition is not None  # the items are those of super-resolution
    real, small = (
        processor.postprocess(torch.stack([processor.encode(*pair) for pair in pairs]))
        for pairs in (targets, [condition.resize(*pair) for pair in targets])
    )
    generators = [keyed_generator(args.seed, i) for i in range(count)]
    drawn = _quick(pipeline, args)(*small, generators)
    size = drawn[0][0].size
    images = zip([i.resize(size, Image.Resampling.BILINEAR) for i in small[0]], drawn[0], real[0], strict=True)
    masks = zip([m.resize(size, Image.Resampling.NEAREST) for m in small[1]], drawn[1], real[1], strict=True)
    return pair_grid(list(chain(*images)), list(chain(*masks)), columns=6), {}


def _quick(
    pipeline: SynthSetPipeline | SynthSetSRPipeline, args: TrainingArguments
) -> Callable[..., tuple[list[Image.Image], list[Image.Image]]]:
    """`pipeline` with the sampler of previews and its steps; returns images and masks."""
    steps = args.validation_num_inference_steps
    pipeline.scheduler = make_scheduler("dpmsolver++", pipeline.scheduler.config, steps)
    pipeline.set_progress_bar_config(desc="denoising", leave=False, disable=not shows_progress())
    return partial(pipeline, num_inference_steps=steps, return_dict=False)


class Validator:
    """Evaluates the averaged weights, and saves the pipeline that is best by each metric in a folder of its own.

    Args:
        args: the resolved flags.
        accelerator: the run's.
        model: the network, as prepared.
        ema: its moving average, or None.
        scheduler: the noising process.
        items: for the validation loss; the pipeline with the smallest goes into `best-loss`.
        build_pipeline: makes a pipeline of the network.
        inspect: generates a preview and returns it with its metrics, lower is better; the pipeline with the best NAME
            goes into `best-NAME`.
        log: gets the metrics.
        timetable: gives the last step and the expected end.
    """

    def __init__(
        self,
        args: TrainingArguments,
        accelerator: Accelerator,
        model: ModelMixin,
        ema: EMAModel | None,
        scheduler: DDPMScheduler,
        items: ValidationItems,
        build_pipeline: Callable[[ModelMixin], DiffusionPipeline],
        inspect: Callable[[DiffusionPipeline], tuple[Image.Image, dict[str, float]]],
        log: MetricsLog,
        timetable: Timetable,
    ):
        self.args, self.accelerator, self.model, self.ema = args, accelerator, model, ema
        self.scheduler, self.items, self.build_pipeline, self.inspect = scheduler, items, build_pipeline, inspect
        self.log, self.timetable, self.output_dir = log, timetable, Path(args.output_dir)
        self.network = accelerator.unwrap_model(model, keep_torch_compile=False)

    def validate(self, step: int) -> dict[str, float] | None:
        """Evaluates, saves what is best and logs, after `step` optimizer steps. Every process calls it.

        Returns:
            `validation_loss` and the metrics of `inspect`; None if the run was asked to stop meanwhile.
        """
        accelerator, stop = self.accelerator, partial(stop_requested, self.accelerator)
        with deferred(), ema_weights(self.ema, self.network):
            self.network.eval()
            batch_size, space = self.args.batch_size, self.args.loss_space
            measure = partial(
                validation_loss, self.network, self.scheduler, self.items, batch_size, accelerator, stop, space
            )
            loss = measure()
            directions = {}
            if self.network.config.get("mask_timestep"):
                directions = {f"validation_loss_{given}_given": measure(given) for given in get_args(Part)}
            whole, drawn = whole_model(accelerator, self.model), None
            if accelerator.is_main_process:
                try:
                    with undeferred():  # takes long, and involves no other process
                        drawn = self.inspect(self.build_pipeline(whole))
                except Stopped:
                    pass
            self.network.train()
            if stop():
                return None
            values = {"validation_loss": loss, **broadcast_object_list([drawn and drawn[1]])[0]}
            said = [
                f"{name.replace('_', ' ').removeprefix('validation ')} {directions[name]:.4g}" for name in directions
            ]
            for name, value in values.items():
                best = self.log.best(name)
                said.append(f"{name.replace('_', ' ')} {value:.4g}")
                if value < best[name]:
                    folder = self.output_dir / f"best-{name.removeprefix('validation_')}"
                    save_pipeline(self.build_pipeline(whole), folder, accelerator)
                    said[-1] += f" (best so far, saved {folder.name})"
                else:
                    said[-1] += f" (best {best[name]:.4g} at step {best['step']})"
            if drawn is not None:
                with atomic_path(self.output_dir / "previews" / f"step-{step:06d}.png") as temporary:
                    drawn[0].save(temporary, "PNG")
                track_picture(accelerator, "preview", drawn[0], step)
            self.log.write(values | directions, step)
        last = self.timetable.last
        end = "" if step >= last else self.timetable.expected_end(step)
        logger.info(f"step {step} of {last}: {', '.join(said)}{end}")
        return values
