"""Protection of a run from losses that jump or are not finite."""

import json
import logging
import shutil
import statistics
from collections.abc import Callable, Sequence
from copy import copy
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from accelerate import Accelerator

from ..arguments.training import TrainingArguments
from ..errors import InputError
from ..output_dir import atomic_path
from ..pipelines.loading import list_checkpoints
from .history import RUN_FILE, find_damage, step_of
from .log import MetricsLog
from .processes import on_main_process, snapshot
from .stream import TrainingStream
from .timetable import Timetable

logger = logging.getLogger("synthset")

Flags = TypeVar("Flags", bound=TrainingArguments)
Result = TypeVar("Result")

WINDOW, FEWEST = 100, 20  # log entries that a loss is compared with
MAX_REWINDS = 3  # of a leg


class Diverged(Exception):
    """The loss is not what it was, and the run is to go back.

    Args:
        found: what happened, as the beginning of a sentence.
        step: the optimizer step at which it was found.
        good: a step after which all was well.
    """

    def __init__(self, found: str, step: int, good: int):
        super().__init__(found)
        self.found, self.step, self.good = found, step, good


def is_jump(losses: Sequence[float]) -> bool:
    """True if the last loss jumps: it is above five times the median m of the up to 100 before it, of which there are
    20, and above m by ten times their median distance from m, for a loss that always varies much."""
    if len(losses) <= FEWEST:
        return False
    *before, last = losses[-WINDOW - 1 :]
    median = statistics.median(before)
    spread = statistics.median(abs(loss - median) for loss in before)
    return last > max(5 * median, median + 10 * spread)


class LossGuard:
    """Stops a run before the optimizer takes in a gradient that is not finite, and watches the logged losses for jumps.

    Args:
        args: the flags.
        accelerator: the run's.
        stream: names the pairs of a position.
        log: the run's.
        leg_start: the step from which losses can be compared.
    """

    def __init__(
        self,
        args: TrainingArguments,
        accelerator: Accelerator,
        stream: TrainingStream,
        log: MetricsLog,
        leg_start: int = 0,
    ):
        self.args, self.accelerator, self.stream = args, accelerator, stream
        self.log, self.leg_start = log, leg_start
        self.losses: list[torch.Tensor] = []
        self.positions: list[torch.Tensor] = []

    def watch(self, loss: torch.Tensor, positions: torch.Tensor) -> None:
        """Notes a forward pass: its loss, a scalar, and the positions of its pairs, (B,)."""
        self.losses.append(loss.detach())
        self.positions.append(positions)

    def check(self, norm: torch.Tensor, step: int) -> None:
        """Ends the forward passes of optimizer step `step` (1 for the first). Every process calls it.

        With fp16 a gradient that is not finite is no fault: accelerate leaves such a step out; then only the losses
        count.

        Args:
            norm: the gradient's norm, of all processes together.

        Raises:
            InputError: it is not finite; names the step and the pairs.
            Diverged: the same with `--on_divergence rewind`.
        """
        losses, positions = self.losses, self.positions
        self.losses, self.positions = [], []
        if norm.isfinite():
            return
        bad = [i for i, loss in enumerate(losses) if not loss.isfinite()]
        if self.accelerator.scaler is not None:
            count = torch.tensor(float(len(bad)), device=self.accelerator.device)
            if not self.accelerator.reduce(count, "sum"):
                return
        found = f"the loss is {losses[bad[0]].item()}" if bad else f"the gradient's norm is {norm.item()}"
        pairs = [self.stream.pair_index(p) for i in bad or range(len(losses)) for p in positions[i].tolist()]
        self._end(f"{found} at step {step} on the pairs {pairs}; nothing was learned from it", step)

    def inspect(self, step: int) -> None:
        """Judges the loss of the newest log entry, that of `step`. Every process calls it, and all find the same.

        Raises:
            InputError: it jumps, with `--on_divergence stop`.
            Diverged: it jumps, with `--on_divergence rewind`.
        """
        losses = [loss for _, loss in self._logged()]
        if not is_jump(losses):
            return
        found = f"the loss jumps to {losses[-1]:.4g} at step {step}, from a median of "
        found += f"{statistics.median(losses[-WINDOW - 1 : -1]):.4g}"
        if self.args.on_divergence != "ignore":
            self._end(found, step)
        if not is_jump(losses[:-1]):
            logger.warning(f"{found}; --on_divergence rewind would go back with half the learning rate")

    def _logged(self) -> list[tuple[int, float]]:
        """Steps and losses of the leg's log entries."""
        entries = [entry for entry in self.log.entries if "loss" in entry and entry["step"] > self.leg_start]
        return [(int(entry["step"]), entry["loss"]) for entry in entries]

    def _end(self, found: str, step: int) -> None:
        """Raises Diverged or InputError for what was found."""
        if self.args.on_divergence == "rewind":
            logged = [entry for entry in self._logged() if entry[0] < step]
            while is_jump([loss for _, loss in logged]):
                logged.pop()
            raise Diverged(found, step, logged[-1][0] if logged else self.leg_start)
        there = list_checkpoints(Path(self.args.output_dir))
        back = f"go back with --resume_from_checkpoint {there[-1].name} --new_leg" if there else "start anew"
        raise InputError(
            f"{found}: {back} and a lower --learning_rate (now {self.args.learning_rate:g}) or --max_grad_norm 1"
        )


def run_with_rewinds(
    args: Flags, accelerator: Accelerator, timetable: Timetable, run: Callable[[Flags, Timetable], Result]
) -> Result:
    """Runs `run`, and runs it again from an earlier checkpoint, with half the learning rate, when it raises `Diverged`.
    Every process calls it.

    The run's folder is left as if the run had been stopped right after that checkpoint, but for the rewind that
    `run.json` records. So a run that is stopped later repeats none and continues alike.

    Args:
        args: the resolved flags.
        accelerator: has prepared nothing yet.
        timetable: the run's.
        run: trains with the flags and the timetable.

    Raises:
        InputError: the loss left its course too often.
    """
    flags, restore = args, snapshot(accelerator)
    while True:
        try:
            return run(flags, timetable)
        except Diverged as diverged:
            event = diverged.with_traceback(None)  # which would keep the networks in memory
        for tracker in accelerator.trackers:
            tracker.finish()
        restore()
        flags = copy(args)
        vars(flags).update(on_main_process(accelerator, partial(go_back, args, event)))


def go_back(args: TrainingArguments, event: Diverged) -> dict:
    """Takes a run's folder back to the newest whole checkpoint from before the loss left its course; to the oldest one,
    or the beginning of the run, if there is none. The main process calls it.

    Returns:
        The flags that continue from there, where they differ from `args`.

    Raises:
        InputError: the run has gone back too often.
    """
    output_dir = Path(args.output_dir)
    run = json.loads((output_dir / RUN_FILE).read_text())
    leg = run["legs"][-1]
    rewinds = leg.get("rewinds", [])
    if len(rewinds) == MAX_REWINDS:
        raise InputError(
            f"{event.found}: it has gone back {MAX_REWINDS} times, to {args.learning_rate * 0.5**MAX_REWINDS:g} at "
            "last; start anew with a lower --learning_rate or --max_grad_norm 1"
        )
    there = list_checkpoints(output_dir)
    whole = [checkpoint for checkpoint in there if find_damage(checkpoint) is None]
    kept = [checkpoint for checkpoint in whole if step_of(checkpoint) <= event.good][-1:] or whole[:1]
    for checkpoint in there:
        if not kept or step_of(checkpoint) > step_of(kept[0]):
            shutil.rmtree(checkpoint)
    to = step_of(kept[0]) if kept else 0
    leg["rewinds"] = [*rewinds, {"from": event.step, "to": to}]
    with atomic_path(output_dir / RUN_FILE) as temporary:
        temporary.write_text(json.dumps(run, indent=2) + "\n")
    place = kept[0].name if kept else "the start"
    logger.warning(f"{event.found}: back to {place} with {0.5 ** len(leg['rewinds']):g} of the learning rate")
    changed: dict[str, object] = {}
    if kept and args.resume_from_checkpoint != "latest":
        changed["resume_from_checkpoint"] = "latest"
    if 0 < to <= leg["start"]:
        changed["new_leg"] = True  # the checkpoint is of the leg before
    return changed
