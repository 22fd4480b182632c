"""Weights sharded over processes: FSDP trains as one process does."""

import json

import pytest
from testing_utils import runs
from testing_utils.pairs import random_pairs, write_raw_folder
from testing_utils.runs import LAUNCH, ROOT, same, weights

WORKER = str(ROOT / "tests" / "testing_utils" / "fsdp_on_cpu.py")


@pytest.mark.slow
def test_shards_train_validate_save_and_resume_as_one_process(tmp_path, monkeypatch):
    """Of 9 validation items one process has 5, in two forward passes, and the other 4. Without as many passes in both,
    one would wait for ever."""
    data = write_raw_folder(tmp_path / "field", random_pairs(7))
    # Adam divides a gradient by its own size: this epsilon keeps rounding in a gradient that should be zero small
    flags = {
        "use_ema": "false",
        "checkpointing_steps": 2,
        "validation_steps": 2,
        "adam_epsilon": 1e-3,
        "num_divergence_images": 0,
    }
    one = runs.train("train_paired.py", data, tmp_path / "one", WORKER, max_train_steps=4, **flags)
    assert one.returncode == 0, one.stderr
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    launch = f"{LAUNCH}fsdp.yaml --num_processes 2 --mixed_precision no {WORKER}"
    for steps in (2, 4):
        sharded = {**flags, "batch_size": 2, "max_train_steps": steps}
        two = runs.train("train_paired.py", data, tmp_path / "two", launch, timeout=120, **sharded)
        assert two.returncode == 0 and "2 x cpu" in two.stderr, two.stderr
    assert "steps 2 to 4" in two.stderr
    assert same(weights(tmp_path / "one"), weights(tmp_path / "two"), rtol=0, atol=1e-6)
    logs = [
        {entry["step"]: entry for entry in map(json.loads, (tmp_path / run / "metrics.jsonl").open())}
        for run in ("one", "two")
    ]
    for step in (2, 4):
        assert logs[1][step]["validation_loss"] == pytest.approx(logs[0][step]["validation_loss"], rel=1e-5)
