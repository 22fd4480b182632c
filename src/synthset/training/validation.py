"""Validation during a run: validation loss, previews, and the best weights."""

import logging
import math
from collections.abc import Callable
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from diffusers import DDPMScheduler, DiffusionPipeline, ModelMixin
from diffusers.training_utils import EMAModel
from PIL import Image
from torch.utils.data import DataLoader, Subset

from ..console import progress
from ..data.previews import pair_grid
from ..evaluation.divergence import color_divergence
from ..output_dir import atomic_path
from ..pipelines import SynthSetPipeline, SynthSetPipelineOutput, SynthSetSRPipeline, make_scheduler
from ..pipelines.pair_pipeline import PairPipeline
from ..random import keyed_generator
from ..signals import Stopped, deferred, undeferred
from .arguments import TrainingArguments
from .ema import ema_weights
from .export import save_pipeline, whole_model
from .log import MetricsLog
from .objectives import diffusion_loss, predict
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
) -> float:
    """Mean unweighted loss over `items`, shared out over the processes; the same for every process.

    Every process makes as many forward passes as the others, on as many items: sharded weights are gathered in each.
    Where `items` can't be shared out evenly, some are computed once more, and count once.

    Args:
        model: the unwrapped network with the weights to judge.
        stop_requested: asked before every forward pass, by all processes; once it is true, the result is NaN.
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
        with accelerator.autocast():
            prediction = predict(model, scheduler, batch)
        losses.append(diffusion_loss(prediction, scheduler, batch))
    return accelerator.gather(torch.cat(losses))[: len(items)].mean().item()


def inspect_pairs(
    pipeline: SynthSetPipeline, args: TrainingArguments, stream: TrainingStream
) -> tuple[Image.Image, dict[str, float]]:
    """Draws pairs, always from the same noise, by DPM-Solver++.

    Returns:
        A grid of `num_validation_images` pairs; and, unless `num_divergence_images` is 0, `divergence`, that of the
        colors of as many images from those of 256 training samples (SynthSet, section 4, "Weight Selection").
    """
    numbers = range(max(args.num_validation_images, args.num_divergence_images))
    quick, images, masks = _quick(pipeline, args), [], []
    for start in progress(numbers[:: args.batch_size], "previews", leave=False):
        generators = [keyed_generator(args.seed, i) for i in numbers[start : start + args.batch_size]]
        pairs = quick(len(generators), generators)
        images, masks = images + pairs.images, masks + pairs.masks
    grid = pair_grid(images[: args.num_validation_images], masks[: args.num_validation_images])
    if not args.num_divergence_images:
        return grid, {}
    return grid, {"divergence": color_divergence(np.stack(images[: args.num_divergence_images]), stream.images)}


def inspect_enlarged(
    pipeline: SynthSetSRPipeline, args: TrainingArguments, items: ValidationItems
) -> tuple[Image.Image, dict[str, float]]:
    """Enlarges validation pairs, always from the same noise, by DPM-Solver++.

    Returns:
        A grid of them in threes: enlarged by interpolation (bilinear, and nearest for the mask), by the network, and
        the original; and no measure.
    """
    count = min(args.num_validation_images, len(items.pairs))
    targets = [items.transform(*items.pairs[i]) for i in range(count)]
    processor = pipeline.image_processor
    real, small = (
        processor.postprocess(torch.stack([processor.encode(*pair) for pair in pairs]))
        for pairs in (targets, [items.condition.resize(*pair) for pair in targets])
    )
    generators = [keyed_generator(args.seed, i) for i in range(count)]
    drawn = _quick(pipeline, args)(*small, generators)
    size = drawn.images[0].size
    images = zip([i.resize(size, Image.Resampling.BILINEAR) for i in small[0]], drawn.images, real[0], strict=True)
    masks = zip([m.resize(size, Image.Resampling.NEAREST) for m in small[1]], drawn.masks, real[1], strict=True)
    return pair_grid(list(chain(*images)), list(chain(*masks)), columns=6), {}


def _quick(pipeline: PairPipeline, args: TrainingArguments) -> Callable[..., SynthSetPipelineOutput]:
    """`pipeline` with the sampler of previews and its steps."""
    steps = args.validation_num_inference_steps
    pipeline.scheduler = make_scheduler("dpmsolver++", pipeline.scheduler.config, steps)
    pipeline.set_progress_bar_config(disable=True)
    return partial(pipeline, num_inference_steps=steps)


class Validator:
    """Judges the averaged weights, and keeps the pipelines that are best by any measure in folders of their own.

    Args:
        args: the resolved flags.
        accelerator: the run's.
        model: the network, as prepared.
        ema: its moving average, or None.
        scheduler: the noising process.
        items: for the validation loss; the folder of the smallest is `best-loss`.
        build_pipeline: makes a pipeline of the network.
        inspect: draws the preview and measures what it drew, the less the better; the folder of the best NAME is
            `best-NAME`.
        log: gets the measures.
        timetable: says how long the run goes on.
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
        """Measures, keeps what is best and logs, after `step` optimizer steps. Every process calls it.

        Returns:
            `validation_loss` and what `inspect` measured; None if the run is asked to stop meanwhile.
        """
        accelerator, stop = self.accelerator, partial(stop_requested, self.accelerator)
        with deferred(), ema_weights(self.ema, self.network):
            self.network.eval()
            loss = validation_loss(self.network, self.scheduler, self.items, self.args.batch_size, accelerator, stop)
            whole, drawn = whole_model(accelerator, self.model), None
            if accelerator.is_main_process:
                try:
                    with undeferred():  # it takes long, and no other process takes part
                        drawn = self.inspect(self.build_pipeline(whole))
                except Stopped:
                    pass
            self.network.train()
            if stop():
                return None
            values = {"validation_loss": loss, **broadcast_object_list([drawn and drawn[1]])[0]}
            said = []
            for name, value in values.items():
                best = self.log.best(name)
                said.append(f"{name.replace('_', ' ')} {value:.4g}")
                if value < best[name]:
                    folder = self.output_dir / f"best-{name.removeprefix('validation_')}"
                    save_pipeline(self.build_pipeline(whole), folder, accelerator)
                    said[-1] += f" (best so far, saved {folder.name})"
                else:
                    said[-1] += f" (best {best[name]:.4g} at step {best['step']})"
            if accelerator.is_main_process:
                with atomic_path(self.output_dir / "previews" / f"step-{step:06d}.png") as temporary:
                    drawn[0].save(temporary, "PNG")
                track_picture(accelerator, "preview", drawn[0], step)
            self.log.write(values, step)
        last = self.timetable.last
        end = "" if step >= last else self.timetable.expected_end(step)
        logger.info(f"step {step} of {last}: {', '.join(said)}{end}")
        return values
