"""`--max_train_minutes`: a run that ends in time, and is the run of so many steps to the bit."""

import json
import os
import re
import signal
import subprocess
import time
from datetime import datetime
from functools import partial

import pytest
from testing_utils import runs
from testing_utils.runs import LAUNCH, refused, same, weights

pytestmark = pytest.mark.slow  # real runs of a budget

FLAGS = {
    **{"variant": "concat", "lr_scheduler": "cosine", "max_train_steps": None, "checkpointing_steps": 5},
    **{"num_divergence_images": 0, "logging_steps": 5, "checkpoints_total_limit": 2},
}
BUDGET = {**FLAGS, "max_train_minutes": 0.5}
train = partial(runs.train, "train_paired.py")


def kill_when(ready, data, output_dir):
    """Starts a run and kills it as soon as `ready()`."""
    process = subprocess.Popen(
        runs.command("train_paired.py", data, output_dir, **BUDGET),
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
    )
    while not ready():
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()


def entries(output_dir):
    """What is in the log, but for the pace."""
    lines = map(json.loads, (output_dir / "metrics.jsonl").read_text().splitlines())
    return [{name: value for name, value in line.items() if name != "images_per_second"} for line in lines]


def test_killed_and_resumed_it_is_the_run_of_that_many_steps(data, tmp_path):
    run, pilot = tmp_path / "run", tmp_path / "run" / ".pilot"
    kill_when(lambda: (pilot / "metrics.jsonl").exists(), data, run)
    assert [path.name for path in run.iterdir()] == [".pilot"]
    kill_when(lambda: list(run.glob("checkpoint-*")), data, run)
    budget = json.loads((run / "run.json").read_text())["budget"]
    steps = budget["max_train_steps"]
    assert budget["max_train_minutes"] == 0.5 and steps > 10 and not pilot.exists()
    result = train(data, run, **BUDGET)
    assert result.returncode == 0, result.stderr
    (begun,) = re.findall(rf"steps (\d+) to {steps} of 4 pairs", result.stderr)
    assert int(begun) > 0 and "as measured when the run began" in result.stderr
    assert json.loads((run / "run.json").read_text())["budget"] == budget

    straight = train(data, tmp_path / "straight", **{**FLAGS, "max_train_steps": steps})
    assert straight.returncode == 0, straight.stderr
    for part in ("unet", f"checkpoint-{steps}/unet", f"checkpoint-{steps}/unet_ema", "best-loss/unet"):
        assert same(weights(run, part), weights(tmp_path / "straight", part))
    assert entries(run) == entries(tmp_path / "straight")
    assert entries(run)[-1]["step"] == steps
    rates = [entry["learning_rate"] for entry in entries(run) if "learning_rate" in entry]
    assert rates[0] > 0.5 * runs.TINY["learning_rate"] and rates[-1] < 1e-8

    assert refused(train(data, run, **{**BUDGET, "max_train_minutes": 1}), "--max_train_minutes is 1,", "--new_leg")
    assert refused(train(data, run, **{**FLAGS, "max_train_steps": 2 * steps}), f"max_train_steps {steps} (now ")


@pytest.mark.parametrize("launch, flags", [("", {}), (LAUNCH + "multi_cpu.yaml", {"batch_size": 2})])
def test_it_ends_in_time(data, tmp_path, launch, flags):
    begun = time.monotonic()
    result = train(data, tmp_path / "run", launch, **BUDGET, **flags)
    taken = time.monotonic() - begun  # with imports, which count as well
    assert result.returncode == 0, result.stderr
    assert 15 < taken < 90, result.stderr  # half a minute, and what a busy machine adds
    times = [datetime.strptime(line, "%H:%M:%S") for line in re.findall(r"^\d\d:\d\d:\d\d", result.stderr, re.M)]
    (end,) = re.findall(r"steps 0 to \d+ of 4 pairs, ends about (\d\d:\d\d); ", result.stderr)
    assert (datetime.strptime(end, "%H:%M") - times[-1]).total_seconds() < 60
    assert "next: synthset generate --model " in result.stderr.splitlines()[-1]
