"""Measurements of a run: means over steps, and the log that a resumed run continues."""

import json
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch.distributed.tensor import DTensor

from .timetable import Timetable


class Meter:
    """Means of what the forward passes measured since the last log entry, and their pace.

    Args:
        accelerator: the run's.
        timetable: the clock.
        step: optimizer steps done.
        pairs_per_step: pairs that an optimizer step sees, over all processes.
    """

    def __init__(self, accelerator: Accelerator, timetable: Timetable, step: int, pairs_per_step: int):
        self.accelerator, self.timetable, self.pairs_per_step = accelerator, timetable, pairs_per_step
        self.step, self.seconds = step, timetable.training_seconds
        self.recorded: dict[str, list[torch.Tensor]] = {}

    def record(self, **values: torch.Tensor) -> None:
        """Takes in scalars of a forward pass."""
        for name, value in values.items():
            if isinstance(value, DTensor):  # FSDP's gradient norm
                value = value.full_tensor()
            self.recorded.setdefault(name, []).append(value.detach())

    def read(self, step: int) -> dict[str, float]:
        """Means over all processes of what was recorded since the last reading, and `images_per_second`. Every process
        calls it."""
        means = {k: self.accelerator.reduce(torch.stack(v).mean(), "mean").item() for k, v in self.recorded.items()}
        seconds = self.timetable.training_seconds
        pace = (step - self.step) * self.pairs_per_step / (seconds - self.seconds)
        self.recorded, self.step, self.seconds = {}, step, seconds
        return {**means, "images_per_second": pace}


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

    def best(self, name: str) -> dict[str, float]:
        """The first entry with the smallest `name`; where there is none, one of infinity at step 0."""
        entries = [entry for entry in self.entries if name in entry]
        return min(entries, key=lambda entry: entry[name], default={"step": 0, name: float("inf")})

    def has(self, name: str, step: int) -> bool:
        """True if there is a `name` of `step`."""
        return any(entry["step"] == step for entry in self.entries if name in entry)
