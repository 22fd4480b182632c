"""A run is one run in every tracker, however often it stops and resumes, under its own name and with its pictures."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from synthset.errors import InputError
from synthset.training.arguments import TrainingArguments
from synthset.training.components import start_accelerator
from synthset.training.trackers import start_trackers, track_picture

PICTURE = Image.fromarray(np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3))


def log_steps(args, start, stop, finish=True):
    """What a run from `start` to `stop` sends, a value and a picture a step; `finish` is False for a killed one."""
    accelerator = start_accelerator(args)
    start_trackers(accelerator, args, start)
    for step in range(start + 1, stop + 1):
        accelerator.log({"loss": 1 / step}, step=step)
        track_picture(accelerator, "preview", PICTURE, step)
    if finish:
        accelerator.end_training()


def test_tensorboard_has_one_run_without_points_of_steps_that_were_lost(tmp_path):
    """Killed after step 5, resumed from a checkpoint of step 3, to step 6."""
    args = TrainingArguments(output_dir=str(tmp_path / "field"), report_to=["tensorboard"])
    log_steps(args, 0, 5, finish=False)
    args.run_name = "another"
    log_steps(args, 3, 6)
    logs = tmp_path / "field" / "logs"
    assert {path.name for path in logs.iterdir()} == {"field", "trackers.json"}
    events = EventAccumulator(str(logs / "field"), size_guidance={"images": 0}).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [
        (step, pytest.approx(1 / step)) for step in range(1, 7)
    ]
    pictures = events.Images("preview")
    assert [event.step for event in pictures] == list(range(1, 7))
    assert (pictures[0].width, pictures[0].height) == PICTURE.size
    # the flags, which are a run of their own to TensorBoard, once
    assert len(list(logs.rglob("hparams.yml"))) == 1


def test_a_run_has_the_name_it_is_given(tmp_path):
    args = TrainingArguments(
        output_dir=str(tmp_path / "field"), report_to="all", run_name="wheat", project_name="crops"
    )
    if find_spec("wandb") or find_spec("trackio"):
        args.report_to = ["tensorboard"]
    log_steps(args, 0, 1)
    assert list((tmp_path / "field" / "logs" / "wheat").glob("events.out.tfevents.*"))
    assert json.loads((tmp_path / "field" / "logs" / "trackers.json").read_text()) == {
        "name": "wheat",
        "runs": {"tensorboard": "wheat"},
    }


def test_a_tracker_that_cannot_start_is_named(tmp_path):
    (tmp_path / "field").write_text("a file where the folder should be")
    args = TrainingArguments(output_dir=str(tmp_path / "field"), report_to="tensorboard")
    with pytest.raises(InputError, match=r"--report_to \['tensorboard'\] can't start: .*field"):
        log_steps(args, 0, 1)


SESSION = """
import sys
sys.path.insert(0, {folder!r})
from test_trackers import TrainingArguments, log_steps
args = TrainingArguments(output_dir="field", report_to={trackers!r}, project_name="crops", run_name="wheat")
log_steps(args, int(sys.argv[1]), int(sys.argv[2]))
"""


def sessions(tmp_path, monkeypatch, tracker):
    """Two processes that log with `tracker` and TensorBoard, the second from where a checkpoint was."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    program = SESSION.format(folder=str(Path(__file__).parent), trackers=["tensorboard", tracker])
    known = []
    for start, stop in ((0, 3), (2, 4)):
        command = [sys.executable, "-c", program, str(start), str(stop)]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        known.append(json.loads((tmp_path / "field" / "logs" / "trackers.json").read_text())["runs"])
    assert known[0] == known[1] and known[0].keys() == {"tensorboard", tracker}
    return known[0][tracker]


@pytest.mark.skipif(find_spec("wandb") is None, reason="needs wandb")
def test_wandb_resumes_one_run(tmp_path, monkeypatch):
    run_id = sessions(tmp_path, monkeypatch, "wandb")
    folders = list((tmp_path / "field" / "logs" / "wandb").glob("offline-run-*"))
    assert len(folders) == 2 and all(folder.name.endswith(f"-{run_id}") for folder in folders)
    assert all(list(folder.rglob("media/images/preview_*.png")) for folder in folders)


@pytest.mark.skipif(find_spec("trackio") is None, reason="needs trackio")
def test_trackio_resumes_one_run(tmp_path, monkeypatch):
    assert sessions(tmp_path, monkeypatch, "trackio") == "wheat"
    import trackio

    (run,) = trackio.Api().runs("crops")
    assert run.name == "wheat"
