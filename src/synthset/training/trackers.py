"""Accelerate's trackers: a run that resumes stays one run in each, and previews are logged as pictures.

`OUTPUT/logs/trackers.json` holds the run of each tracker: the id for W&B, the name for the others.
"""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from accelerate.tracking import TensorBoardTracker
from PIL import Image

from ..arguments.training import TrainingArguments
from ..errors import InputError
from ..output_dir import atomic_path


def start_trackers(accelerator: Accelerator, args: TrainingArguments, start: int) -> None:
    """Opens the run in every tracker that the accelerator logs with; on the main process, which alone logs.

    Args:
        accelerator: was made with `args.report_to`.
        args: the flags; a tracker that meets the run for the first time gets them as its configuration.
        start: optimizer steps done. What was logged for later ones, TensorBoard shows no more, W&B keeps in place of
            what is logged for them again, and Trackio shows beside that.

    Raises:
        InputError: a tracker can't start.
    """
    if not accelerator.is_main_process:
        return
    folder = Path(accelerator.logging_dir)
    record = folder / "trackers.json"
    known = json.loads(record.read_text()) if record.is_file() else {"name": None, "runs": {}}
    name = known["name"] or args.run_name or Path(args.output_dir).resolve().name
    runs = known["runs"]
    tensorboard = TensorBoardTracker(name, folder, purge_step=start + 1)
    # accelerate would take the project for the name of TensorBoard's run
    accelerator.log_with = [
        tensorboard if isinstance(tracker, TensorBoardTracker) or str(tracker) == "tensorboard" else tracker
        for tracker in accelerator.log_with
    ]
    options = {
        "wandb": {"name": name, "id": runs.get("wandb"), "resume": "allow", "dir": str(folder)},
        "trackio": {"name": runs.get("trackio", name), "resume": "allow" if "trackio" in runs else "never"},
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        accelerator.init_trackers(args.project_name, init_kwargs=options)
    except Exception as error:  # not logged in, no network, a file in the way: every tracker raises kinds of its own
        reason = " ".join(str(error).split())
        raise InputError(f"--report_to {args.report_to} can't start: {reason}; mend that, or give none") from error
    scalars = {k: v if isinstance(v, int | float | str) else str(v) for k, v in asdict(args).items()}
    for tracker in accelerator.trackers:
        if tracker.name not in runs:
            tracker.store_init_configuration(scalars)
            handle = {"wandb": "id", "trackio": "name"}.get(tracker.name)
            runs[tracker.name] = getattr(tracker.tracker, handle) if handle else name
    with atomic_path(record) as temporary:
        temporary.write_text(json.dumps({"name": name, "runs": runs}, indent=2) + "\n")


def track_picture(accelerator: Accelerator, name: str, picture: Image.Image, step: int) -> None:
    """Sends an RGB picture to TensorBoard, W&B and Trackio, whichever are in use. The main process calls it."""
    for tracker in accelerator.trackers:
        if tracker.name == "tensorboard":
            tracker.log_images({name: np.asarray(picture)[None]}, step, dataformats="NHWC")
        elif tracker.name == "wandb":
            tracker.log_images({name: [picture]}, step)
        elif tracker.name == "trackio":
            import trackio

            tracker.log({name: trackio.Image(picture)}, step)
