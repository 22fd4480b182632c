"""Resuming a run: the checkpoint to continue from, and the legs of the run so far.

A run is identified by the flags and the data that decide what is learned. With the same identity it continues; with
another one it is refused, or with `--new_leg` begins a new leg: weights, optimizer moments and moving average are
kept, the learning rate schedule starts again.
"""

import hashlib
import json
import logging
from collections.abc import Collection, Sized
from pathlib import Path
from typing import NamedTuple

from accelerate import Accelerator
from datasets import Dataset

from ..arguments.training import ADDED, BASE, FIXED, TrainingArguments
from ..data import pairs_digest
from ..errors import InputError
from ..output_dir import require_empty
from ..pipelines.loading import RENAMED, list_checkpoints
from .base_model import load_base_model
from .processes import on_main_process

logger = logging.getLogger("synthset")

RUN_FILE = "run.json"
STATE_FILE = "training_state.json"


class Start(NamedTuple):
    """The point from which a run continues.

    Attributes:
        checkpoint: the folder to restore; None at the beginning.
        step: optimizer steps done.
        legs: the first step (`start`) and the `identity` of every leg; the last one continues. One in which the loss
            left its course also has `rewinds`: for each, the step at which that was found (`from`) and the step at
            which the run went on (`to`).
    """

    checkpoint: Path | None
    step: int
    legs: list[dict]

    @property
    def leg_start(self) -> int:
        """The step from which the learning rate's schedule counts."""
        return self.legs[-1]["start"]

    @property
    def rate(self) -> float:
        """Factor of the leg's learning rates: half for every rewind."""
        return 0.5 ** len(self.legs[-1].get("rewinds", []))

    @property
    def begins_leg(self) -> bool:
        """True if the checkpoint is of another leg than the one to go on."""
        return 0 < self.step == self.leg_start

    def describe(self, steps: int, max_train_steps: int) -> str:
        """Sentences for the model card about legs and a shortened run; empty for an ordinary run."""
        sentences = []
        for before, leg in zip(self.legs, self.legs[1:], strict=False):
            changes = differences(before["identity"], leg["identity"])
            sentences.append(f"Another leg began after {leg['start']:,} steps, with changed {', '.join(changes)}.")
        for leg in self.legs:
            for rewind in leg.get("rewinds", []):
                sentences.append(
                    f"The loss left its course after {rewind['from']:,} steps; training went back to step "
                    f"{rewind['to']:,} and on with half the learning rate."
                )
        if steps > max_train_steps:
            sentences.append(f"{max_train_steps:,} steps were asked for when {steps:,} were already done.")
        return " ".join(sentences)


def find_start(
    args: TrainingArguments, accelerator: Accelerator, train: Dataset | Sized, validation: Dataset | list
) -> Start:
    """Finds the point from which a run in `--output_dir` continues. Writes nothing. Every process calls it.

    Raises:
        InputError: the folder or the checkpoint belongs to another run, or the checkpoint is missing or damaged.
    """

    def find() -> Start:
        identity = args.identity(accelerator.num_processes)
        if not args.streaming:
            for name, pairs in (("training pairs", train), ("validation pairs", validation)):
                identity[name] = f"{len(pairs)}, sha256 {pairs_digest(pairs)[:16]}"
        if args.init_from is not None:
            identity[BASE] = load_base_model(args.init_from)[1]
        return continue_from(args, json.loads(json.dumps(identity)))

    return on_main_process(accelerator, find)


def continue_from(args: TrainingArguments, identity: dict) -> Start:
    """[`find_start`] for an identity as JSON has it."""
    output_dir = Path(args.output_dir)
    first = [{"start": 0, "identity": identity}]
    checkpoint = choose_checkpoint(output_dir, args.resume_from_checkpoint)
    if checkpoint is not None:
        if checkpoint.resolve().parent != output_dir.resolve() and not (output_dir / RUN_FILE).is_file():
            require_empty(output_dir, RUN_FILE)
        state, place = json.loads((checkpoint / STATE_FILE).read_text()), checkpoint
    elif (output_dir / RUN_FILE).is_file():
        state, place = {"global_step": 0, **json.loads((output_dir / RUN_FILE).read_text())}, output_dir
    else:
        require_empty(output_dir, RUN_FILE)
        return Start(None, 0, first)
    step = state["global_step"]
    legs = _read_legs(state, identity)
    if args.max_train_steps <= step:  # nothing is left to do: how long the run was meant to be does not matter
        identity = {**identity, "max_train_steps": legs[-1]["identity"].get("max_train_steps")}
    changed = differences(legs[-1]["identity"], identity)
    if not changed:
        return Start(checkpoint, step, _with_rewinds(legs, step, output_dir))
    fixed = [name for name in FIXED if legs[-1]["identity"].get(name) != identity.get(name)]
    if args.new_leg and not fixed and checkpoint is not None:
        legs = [*legs, {"start": step, "identity": identity}]
        return Start(checkpoint, step, _with_rewinds(legs, step, output_dir))
    remedy = "give the same values, or another --output_dir to train anew"
    if not fixed and checkpoint is not None:
        remedy = f"give the same values, or --new_leg to go on with these from step {step}, or another --output_dir"
    raise InputError(f"{place} was trained with {', '.join(changed)}; {remedy}")


def _read_legs(state: dict, flags: Collection[str]) -> list[dict]:
    """The legs in a checkpoint's state or in `run.json`, with the flags of today among `flags`, the run's."""
    legs = []
    for leg in state["legs"]:
        identity = {RENAMED.get(name, name): value for name, value in leg["identity"].items()}
        added = {name: value for name, value in ADDED.items() if name in flags and name not in identity}
        legs.append(leg | {"identity": identity | added})
    return legs


def _with_rewinds(legs: list[dict], step: int, output_dir: Path) -> list[dict]:
    """`legs` with the rewinds of the last one, which the checkpoint that the run went back to does not know of."""
    if not (output_dir / RUN_FILE).is_file():
        return legs
    known = _read_legs(json.loads((output_dir / RUN_FILE).read_text()), legs[-1]["identity"])[-1]
    rewinds = [rewind for rewind in known.get("rewinds", []) if rewind["to"] <= step]
    if not rewinds or known["identity"] != legs[-1]["identity"]:
        return legs
    return [*legs[:-1], {**legs[-1], "rewinds": rewinds}]


def differences(was: dict, now: dict) -> list[str]:
    """The entries in which two identities differ, in words."""
    names = [name for name in {**now, **was} if was.get(name) != now.get(name)]
    return [f"{name} {was.get(name)} (now {now.get(name)})" for name in names]


def step_of(checkpoint: Path) -> int:
    """The optimizer step after which a checkpoint was written."""
    return int(checkpoint.name.split("-")[1])


def choose_checkpoint(output_dir: Path, resume_from_checkpoint: str) -> Path | None:
    """The checkpoint that `--resume_from_checkpoint` asks for, whole; None where the run begins.

    Raises:
        InputError: it is not there, is damaged, or would be written over.
    """
    there = list_checkpoints(output_dir)
    if resume_from_checkpoint == "none":
        if there:
            raise InputError(
                f"--output_dir is {output_dir}, which holds {there[-1].name} of an earlier run; choose another folder "
                "or continue with --resume_from_checkpoint latest"
            )
        return None
    if resume_from_checkpoint == "latest":
        for checkpoint in reversed(there):
            damage = find_damage(checkpoint)
            if damage is None:
                return checkpoint
            logger.warning(f"{checkpoint} is passed over: {damage}")
        if there:
            raise InputError(f"no checkpoint in {output_dir} is whole ({damage}); choose another --output_dir")
        return None
    candidates = [Path(resume_from_checkpoint), output_dir / resume_from_checkpoint]
    chosen = next((folder for folder in candidates if folder.is_dir() and list_checkpoints(folder.parent)), None)
    whole = [checkpoint for checkpoint in there if find_damage(checkpoint) is None]
    names = ", ".join(checkpoint.name for checkpoint in whole) or "none"
    damage = "is no checkpoint" if chosen is None else find_damage(chosen)
    if damage:
        raise InputError(
            f"--resume_from_checkpoint is {resume_from_checkpoint}, which {damage}; whole ones in {output_dir}: {names}"
        )
    return chosen


def find_damage(checkpoint: Path) -> str | None:
    """Describes the damage to a checkpoint's files, as a predicate of it; None when they are as they were written."""
    try:
        state = json.loads((checkpoint / STATE_FILE).read_text())
    except (OSError, ValueError) as error:
        return f"has no readable {STATE_FILE} ({type(error).__name__})"
    if "files" not in state:
        return "was written by an older version of SynthSet, which did not note what it was trained on"
    for name, sha256 in state["files"].items():
        try:
            if file_sha256(checkpoint / name) != sha256:
                return f"is damaged: {name} is not as it was written"
        except OSError as error:
            return f"is damaged: {name} can't be read ({error.strerror})"
    return None


def list_digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file below `folder`, by its relative path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
