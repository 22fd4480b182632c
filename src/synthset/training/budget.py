"""A time budget: a short pilot measures the pace, and the number of steps that fits is fixed before the run.

The pilot runs the same training code in a hidden folder, which is removed. The run then starts from the seed, so that
it is bit-identical to one with that `--max_train_steps`.
"""

import copy
import json
import logging
import math
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from tqdm.auto import tqdm

from ..arguments.base import resolved
from ..arguments.training import TrainingArguments
from ..console import progress
from ..errors import InputError
from ..output_dir import require_empty
from .folder import PILOT_DIR, check_run_dir
from .history import RUN_FILE, choose_checkpoint, step_of
from .plan import JOBS, check_steps
from .processes import on_main_process, snapshot
from .timetable import Timetable

logger = logging.getLogger("synthset")

Flags = TypeVar("Flags", bound=TrainingArguments)

WARM_UP, TIMED = 2, 3  # optimizer steps
JOBS_SHARE = 0.1  # of the time at most for either, where the flags do not say how often
ENDLESS = 10**9  # steps; a pilot stops before


def plan_steps(
    args: Flags,
    accelerator: Accelerator,
    started: float,
    run: Callable[[Flags, Timetable], object],
) -> Timetable:
    """Fixes the number of steps, `--max_train_steps` or what fits into `--max_train_minutes`, and the flags that depend
    on it. Every process calls it.

    A run that was started with the same budget keeps the number of steps that was measured then.

    Args:
        args: the flags.
        accelerator: has prepared nothing yet.
        started: `time.monotonic()` when the command started.
        run: trains with the flags and the timetable that it is given.

    Raises:
        InputError: no step fits, or the folder holds a run with another budget.
    """
    minutes, budget = args.max_train_minutes, None
    if args.max_train_steps is None:
        done, budget = on_main_process(accelerator, lambda: find_budget(args))
        known = budget is not None
        if budget is None:
            budget = _measure(args, accelerator, started, done, run)
        args.max_train_minutes, args.max_train_steps = None, budget["max_train_steps"]
        if args.lr_warmup_steps is not None and budget["lr_warmup_steps"] is not None:
            args.lr_warmup_steps = min(args.lr_warmup_steps, budget["lr_warmup_steps"])
        for name in ("validation_steps", "checkpointing_steps"):
            if getattr(args, name) is None:
                setattr(args, name, budget[name])
        check_steps(args)
        origin = "as measured when the run began" if known else f"{RUN_FILE} keeps the number for a resumed run"
        logger.info(f"{args.max_train_steps} steps fit into --max_train_minutes {minutes:g}; {origin}")
    for name in ("validation_steps", "checkpointing_steps"):
        if getattr(args, name) is None:
            setattr(args, name, math.ceil(args.max_train_steps / JOBS))
    return Timetable(args.max_train_steps, budget)


def find_budget(args: TrainingArguments) -> tuple[int, dict | None]:
    """The optimizer steps done, and the budget's entry in `run.json`; None if it has to be measured.

    Raises:
        InputError: the folder holds something else, or a run with another budget.
    """
    output_dir = Path(args.output_dir)
    checkpoint = choose_checkpoint(output_dir, args.resume_from_checkpoint)
    done = 0 if checkpoint is None else step_of(checkpoint)
    if not (output_dir / RUN_FILE).is_file():
        if checkpoint is None or checkpoint.resolve().parent != output_dir.resolve():
            require_empty(output_dir, RUN_FILE)
        return done, None
    budget = json.loads((output_dir / RUN_FILE).read_text()).get("budget")
    if budget and budget["max_train_minutes"] == args.max_train_minutes:
        return done, budget
    if args.new_leg and checkpoint is not None:
        return done, None
    was = f"--max_train_minutes {budget['max_train_minutes']:g}" if budget else "a given number of steps"
    raise InputError(
        f"--max_train_minutes is {args.max_train_minutes:g}, but {output_dir} was begun with {was}; give that, or "
        "--new_leg to go on for these minutes from the last checkpoint, or another --output_dir"
    )


def _measure(
    args: Flags,
    accelerator: Accelerator,
    started: float,
    done: int,
    run: Callable[[Flags, Timetable], object],
) -> dict:
    """Runs the pilot. Returns the budget's entry in `run.json`, the same in every process."""
    budget = resolved(args.max_train_minutes) * 60
    begun = time.monotonic()
    pilot = Pilot(accelerator, min(0.05 * budget, 30.0))
    on_main_process(accelerator, lambda: check_run_dir(args))
    logger.info(f"measuring how many steps fit into --max_train_minutes {args.max_train_minutes:g}")
    flags = copy.copy(args)
    vars(flags).update(
        output_dir=str(Path(args.output_dir) / PILOT_DIR),
        max_train_minutes=None,
        max_train_steps=ENDLESS,
        lr_warmup_steps=0,
        validation_steps=0,
        checkpointing_steps=ENDLESS,
        resume_from_checkpoint="latest",
        new_leg=False,
        report_to=[],
        push_to_hub=False,
        on_divergence="ignore",
    )

    def fit() -> dict:
        now = time.monotonic()
        jobs = pilot.seconds["validation"] + pilot.seconds["checkpoint"]
        around = max(0.0, now - begun - pilot.last * pilot.pace - jobs)  # before the first step and after the last
        left = budget - (now - started) - around
        return fit_steps(args, left, pilot.pace, pilot.seconds["validation"], pilot.seconds["checkpoint"], done)

    try:
        with _traceless(accelerator, Path(flags.output_dir)):
            run(flags, pilot)
        return on_main_process(accelerator, fit)
    except InputError:
        with suppress(OSError):  # not empty
            Path(args.output_dir).rmdir()
        raise


def fit_steps(
    args: TrainingArguments, seconds: float, step: float, validation: float, checkpoint: float, done: int = 0
) -> dict:
    """Computes how many steps fit into `seconds`, and how often to validate and save where the flags do not say.

    Args:
        args: the flags.
        seconds: the time for steps, validations and checkpoints.
        step, validation, checkpoint: duration of one, in seconds.
        done: optimizer steps done.

    Returns:
        The entry `budget` of `run.json`.

    Raises:
        InputError: none fits.
    """

    def jobs(steps: int, every: int | None, each: float) -> int:
        if every is None:
            return min(steps, JOBS, max(1, int(JOBS_SHARE * seconds / each)))
        return math.ceil(steps / every) if every else 1

    def cost(steps: int) -> float:
        validations = jobs(steps, args.validation_steps, validation)
        checkpoints = jobs(steps, args.checkpointing_steps, checkpoint)
        return steps * step + validations * validation + checkpoints * checkpoint

    low, high = 0, int(max(0.0, seconds) / step)
    while low < high:  # cost grows with the steps
        middle = (low + high + 1) // 2
        low, high = (middle, high) if cost(middle) <= seconds else (low, middle - 1)
    if not low:
        needed = math.ceil(10 * (resolved(args.max_train_minutes) + (cost(100) - seconds) / 60)) / 10
        raise InputError(
            f"--max_train_minutes is {args.max_train_minutes:g}, in which no step fits here: one takes {step:.2g} s, a "
            f"validation {validation:.2g} s, a checkpoint {checkpoint:.2g} s; 100 steps need {needed:g} minutes"
        )
    every = {
        "validation_steps": math.ceil(low / jobs(low, None, validation)),
        "checkpointing_steps": math.ceil(low / jobs(low, None, checkpoint)),
    }
    return {
        "max_train_minutes": args.max_train_minutes,
        "max_train_steps": done + low,
        "lr_warmup_steps": low // 10 if (args.lr_warmup_steps or 0) >= low else args.lr_warmup_steps,
        **{name: every[name] if getattr(args, name) is None else getattr(args, name) for name in every},
        "seconds_per_step": cost(low) / low,
    }


class Pilot(Timetable):
    """A timetable that ends once the pace is known, after about `duration` seconds.

    Attributes:
        pace: seconds per optimizer step, once it has ended.
    """

    def __init__(self, accelerator: Accelerator, duration: float):
        super().__init__(ENDLESS)
        self.accelerator, self.duration = accelerator, duration
        self.times: dict[int, float] = {}
        self.pace = math.nan

    def begin(self, step: int) -> tqdm:
        self._start_clock(step)
        return progress(description="measuring the pace", leave=False, unit="step")

    def ends(self, step: int) -> bool:
        if step in (WARM_UP, WARM_UP + TIMED, self.last) and step not in self.times:
            if self.accelerator.device.type != "cpu":
                torch.accelerator.synchronize()
            self.times[step] = time.perf_counter()
            if step >= WARM_UP + TIMED:
                self.pace = (self.times[step] - self.times[WARM_UP]) / (step - WARM_UP)
            if step == WARM_UP + TIMED:
                more = max(0, int(self.duration / self.pace) - TIMED)
                self.last = broadcast_object_list([step + more])[0]
        return step >= self.last


@contextmanager
def _traceless(accelerator: Accelerator, folder: Path) -> Iterator[None]:
    """Removes what the block makes: the folder, and what the accelerator holds. Logs nothing but errors meanwhile."""
    level, restore = logger.level, snapshot(accelerator)
    logger.setLevel(logging.ERROR)
    try:
        if accelerator.is_main_process:
            shutil.rmtree(folder, ignore_errors=True)  # of one that was killed
        accelerator.wait_for_everyone()
        yield
    finally:
        logger.setLevel(level)
        if accelerator.is_main_process:
            shutil.rmtree(folder, ignore_errors=True)
    restore()
