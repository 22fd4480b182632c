"""Timetable of a run: its last step, what is due after a step, and how long things take."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from tqdm.auto import tqdm

from ..arguments.base import resolved
from ..console import progress


class Timetable:
    """The steps of a run and its clock.

    Args:
        last: the optimizer step that ends the run.
        budget: entry of `run.json` for `--max_train_minutes`; None for a run with a given number of steps.

    Attributes:
        seconds: duration of the last job, by name.
    """

    def __init__(self, last: int, budget: dict | None = None):
        self.last, self.budget = last, budget
        self.seconds: dict[str, float] = {}
        self._start_clock(0)

    def begin(self, step: int) -> tqdm:
        """Starts the clock after `step` steps. Returns the run's progress bar."""
        self._start_clock(step)
        return progress(description="training", total=self.last, initial=step, unit="step")

    def _start_clock(self, step: int) -> None:
        self.paused, self.begun, self.first = 0.0, time.perf_counter(), step

    def ends(self, step: int) -> bool:
        """True after the last step."""
        return step >= self.last

    def due(self, step: int, every: int | None) -> bool:
        """True if something done every `every` steps, and at the end (0 = only then), is to be done after `step`.
        `every` is a flag that has been filled in."""
        every = resolved(every)
        return self.ends(step) or (every > 0 and step % every == 0)

    @contextmanager
    def job(self, name: str) -> Iterator[None]:
        """Times work other than training steps: a validation or a checkpoint."""
        begun = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - begun
        self.paused += self.seconds[name]

    @property
    def training_seconds(self) -> float:
        """Seconds since the clock was started, without jobs."""
        return time.perf_counter() - self.begun - self.paused

    def expected_end(self, step: int) -> str:
        """The time of day at which the run will end at its pace so far, as text; empty while there is no pace."""
        if step > self.first:
            pace = (time.perf_counter() - self.begun) / (step - self.first)
        elif self.budget is not None:
            pace = self.budget["seconds_per_step"]
        else:
            return ""
        now = datetime.now().astimezone()
        end = now + timedelta(seconds=pace * (self.last - step))
        return f", ends about {end:%H:%M}" if end.date() == now.date() else f", ends about {end:%H:%M on %B %d}"
