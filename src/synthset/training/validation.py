"""Validation during a run: validation loss, previews, and a log that a resumed run continues."""

import json
import math
from collections.abc import Callable
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from diffusers import DDPMScheduler, ModelMixin
from PIL import Image
from torch.utils.data import DataLoader, Subset

from ..arguments.training import TrainingArguments
from ..evaluation.divergence import color_divergence
from ..pipelines import SynthSetPipeline, SynthSetPipelineOutput, SynthSetSRPipeline, make_scheduler
from ..pipelines.pair_pipeline import PairPipeline
from ..previews import pair_grid
from ..random import keyed_generator
from .objectives import diffusion_loss, predict
from .sampler import TrainingStream, ValidationItems


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
    for batch in DataLoader(mine, batch_size, generator=torch.Generator()):  # else it would use up the global one
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
    for start in numbers[:: args.batch_size]:
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


class MetricsLog:
    """`metrics.jsonl`, one JSON object a line with `step` and what was measured then, beside accelerate's trackers.

    A run that resumes at `start` drops the lines of later steps, which it will write again. `entries` holds the same in
    every process.
    """

    def __init__(self, path: Path, start: int, accelerator: Accelerator):
        self.path, self.accelerator = path, accelerator
        entries = []
        if accelerator.is_main_process:
            lines = path.read_text().splitlines() if path.exists() else []
            # a line that a kill cut short is left out
            entries = [
                entry for entry in map(json.loads, (x for x in lines if x.endswith("}"))) if entry["step"] <= start
            ]
            path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
        self.entries = broadcast_object_list([entries])[0]

    def write(self, values: dict[str, float], step: int) -> None:
        """Adds an entry and hands it to the trackers."""
        self.accelerator.log(values, step=step)
        self.entries.append({"step": step, **values})
        if self.accelerator.is_main_process:
            with self.path.open("a") as file:
                file.write(json.dumps(self.entries[-1]) + "\n")

    def best(self, name: str) -> float:
        """The smallest value of `name` so far; infinity where there is none."""
        return min((entry[name] for entry in self.entries if name in entry), default=float("inf"))
