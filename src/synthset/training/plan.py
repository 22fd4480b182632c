"""Checks of a run before its first step."""

import logging
from collections.abc import Sized

from accelerate import Accelerator
from datasets import Dataset
from diffusers import ModelMixin

from ..arguments.base import resolved
from ..arguments.training import TrainingArguments
from ..errors import InputError
from .stream import TrainingStream
from .timetable import Timetable

logger = logging.getLogger("synthset")

MANY_CHECKPOINTS = 20
JOBS = 10  # validations, and checkpoints, of a run whose flags do not say how often


def check_masks(args: TrainingArguments, train: Dataset | Sized) -> None:
    """Checks that there is something to learn in the masks.

    Args:
        args: the flags.
        train: the pairs to train on, as `load_pairs` returns them; the masks of streamed ones can't be looked through.

    Raises:
        InputError: all masks are empty, or all mark every pixel.
    """
    if not isinstance(train, Dataset):
        return
    values = set()
    for row in train.select_columns(["mask"]):
        values.update(row["mask"].getextrema())
        if len(values) > 1:  # mostly the first mask
            return
    what = "are empty" if values == {0} else "mark every pixel"
    raise InputError(
        f"all {len(train)} masks of {args.dataset} to train on {what}; name the right ones with --mask_column, or add "
        "pairs with objects and background"
    )


def check_steps(args: TrainingArguments) -> None:
    """Checks the flags against `max_train_steps`.

    Raises:
        InputError: the learning rate's plan is longer than the run.
    """
    args.require_steps()
    steps = resolved(args.max_train_steps)
    checkpoints = -(-steps // (args.checkpointing_steps or steps))
    if args.checkpoints_total_limit is None and checkpoints > MANY_CHECKPOINTS:
        logger.warning(
            f"without --checkpoints_total_limit this run keeps {checkpoints} checkpoints; --dry_run says what they take"
        )


def announce(
    args: TrainingArguments,
    accelerator: Accelerator,
    network: ModelMixin,
    stream: TrainingStream,
    validation_pairs: Sized,
    step: int,
    timetable: Timetable,
) -> None:
    """Logs what the run will do from `step` on."""
    parameters = sum(p.numel() for p in network.parameters())
    logger.info(
        f"training {args.variant}, {parameters:,} parameters, on {len(stream.pairs)} pairs at {args.resolution} x "
        f"{args.resolution} pixels, {len(validation_pairs)} for validation, into {args.output_dir}"
    )
    logger.info(
        f"steps {step} to {timetable.last} of {args.pairs_per_step(accelerator.num_processes)} pairs"
        f"{timetable.expected_end(step)}; {accelerator.num_processes} x {accelerator.device.type}, mixed precision "
        f"{accelerator.mixed_precision}"
    )
