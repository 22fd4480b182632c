"""The output folder of a training run."""

import json
import logging
import shutil
from dataclasses import asdict
from pathlib import Path

import yaml
from accelerate import Accelerator

from ..errors import InputError
from ..output_dir import atomic_path, lock_output_dir
from ..publishing.cards import license_of_pairs
from ..publishing.hub import check_push
from .arguments import TrainingArguments
from .history import RUN_FILE, Start, differences
from .processes import on_main_process

logger = logging.getLogger("synthset")

PILOT_DIR = ".pilot"  # of a measurement of the pace; there only while it goes on


def check_run_dir(args: TrainingArguments) -> None:
    """Makes sure that a run can have `--output_dir`, and locks it. The main process calls it.

    Raises:
        InputError: another process writes into it, it has somebody else's README.md, or the Hub says no.
    """
    output_dir = Path(args.output_dir)
    if args.push_to_hub:
        data_license = args.data_license or license_of_pairs([args.dataset])
        check_push(args.hub_model_id, "model", args.hub_private_repo, data_license, output_dir)
    lock_output_dir(output_dir)
    card = output_dir / "README.md"
    if card.exists() and "synthset" not in card.read_text(encoding="utf-8", errors="replace"):
        raise InputError(f"{card} is not a card of SynthSet, which goes there at the end; move it away")


def claim_run_dir(args: TrainingArguments, accelerator: Accelerator, start: Start, budget: dict | None) -> None:
    """Makes `--output_dir` the run's: locks it, and writes `run.json` and `arguments.yaml`. Every process calls it.

    Args:
        args: the resolved flags.
        accelerator: the run's.
        start: where the run continues.
        budget: what `--max_train_minutes` came to, if it was given.

    Raises:
        InputError: see `check_run_dir`.
    """

    def claim() -> None:
        check_run_dir(args)
        output_dir = Path(args.output_dir)
        shutil.rmtree(output_dir / PILOT_DIR, ignore_errors=True)  # one that was killed
        run = {"legs": start.legs} if budget is None else {"legs": start.legs, "budget": budget}
        for name, text in {
            RUN_FILE: json.dumps(run, indent=2) + "\n",
            "arguments.yaml": yaml.safe_dump(asdict(args), sort_keys=False),
        }.items():
            with atomic_path(output_dir / name) as temporary:
                temporary.write_text(text)

    on_main_process(accelerator, claim)
    if start.begins_leg:
        before, leg = (leg["identity"] for leg in start.legs[-2:])
        logger.info(f"a new leg begins at step {start.step}: {', '.join(differences(before, leg))}")
        if before.get("validation pairs") != leg.get("validation pairs"):
            logger.warning(
                "pairs that are held out for validation now may have been trained on before; then their loss is too low"
            )
