"""How a run is judged while it goes: validation loss, previews, and a log that a resumed run continues."""

import json
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from diffusers import DDPMScheduler, ModelMixin
from PIL import Image
from torch.utils.data import DataLoader, Subset

from ..pipelines import SynthSetPipeline, make_scheduler
from ..previews import pair_grid
from ..random import keyed_generator
from .objectives import diffusion_loss
from .sampler import ValidationItems


@torch.no_grad()
def validation_loss(
    model: ModelMixin, scheduler: DDPMScheduler, items: ValidationItems, batch_size: int, accelerator: Accelerator
) -> float:
    """Mean unweighted loss over `items`, shared out over the processes; the same for every process.

    Args:
        model: the unwrapped network with the weights to judge.
    """
    mine = Subset(items, range(accelerator.process_index, len(items), accelerator.num_processes))
    total = torch.zeros((), device=accelerator.device)
    for batch in DataLoader(mine, batch_size):
        sample, noise, timesteps = (batch[k].to(accelerator.device) for k in ("sample", "noise", "timestep"))
        with accelerator.autocast():
            prediction = model(scheduler.add_noise(sample, noise, timesteps), timesteps).sample
        total += diffusion_loss(prediction, scheduler, sample, noise, timesteps).sum()
    return accelerator.reduce(total).item() / len(items)


def preview(
    model: ModelMixin, scheduler: DDPMScheduler, num_images: int, num_inference_steps: int, seed: int
) -> Image.Image:
    """A grid of `num_images` generated pairs, always from the same noise, by DPM-Solver++."""
    pipeline = SynthSetPipeline(model, make_scheduler("dpmsolver++", scheduler.config, num_inference_steps))
    pipeline.set_progress_bar_config(disable=True)
    generators = [keyed_generator(seed, i) for i in range(num_images)]
    pairs = pipeline(num_images, generators, num_inference_steps)
    return pair_grid(pairs.images, pairs.masks)


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
