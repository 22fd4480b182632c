"""Plans that can't work, said before the first step."""

import logging
from collections.abc import Sized

from datasets import Dataset

from ..arguments.training import TrainingArguments
from ..errors import InputError

logger = logging.getLogger("synthset")

MANY_CHECKPOINTS = 20


def check_plan(args: TrainingArguments, train: Dataset | Sized) -> None:
    """Checks what only shows when the data is known.

    Args:
        args: the flags, with `max_train_steps` filled in.
        train: the pairs to train on, as `load_pairs` returns them; the masks of streamed ones can't be looked through.

    Raises:
        InputError: the learning rate's plan is longer than the run, or there is nothing to learn in the masks.
    """
    args.require_steps()
    if isinstance(train, Dataset):
        values = set()
        for row in train.select_columns(["mask"]):
            values.update(row["mask"].getextrema())
            if len(values) > 1:  # mostly the first mask
                break
        else:
            what = "are empty" if values == {0} else "mark every pixel"
            raise InputError(
                f"all {len(train)} masks of {args.dataset} to train on {what}; name the right ones with --mask_column, "
                "or add pairs with objects and background"
            )
    checkpoints = -(-args.max_train_steps // args.checkpointing_steps)
    if args.checkpoints_total_limit is None and checkpoints > MANY_CHECKPOINTS:
        logger.warning(
            f"without --checkpoints_total_limit this run keeps {checkpoints} checkpoints; --dry_run says what they take"
        )
