"""`select_checkpoint.py` on a run of its own."""

import json
import subprocess
import sys
from functools import partial

import pytest
from PIL import Image
from testing_utils import runs
from testing_utils.pairs import random_pairs, write_raw_folder
from testing_utils.runs import ROOT, refused


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_raw_folder(tmp_path_factory.mktemp("field"), random_pairs(7))


@pytest.fixture(scope="module")
def run_dir(data, tmp_path_factory):
    """Validated, and saved, at steps 2 and 4; too few steps for the second to be worse."""
    output_dir = tmp_path_factory.mktemp("runs") / "run"
    flags = {"max_train_steps": 4, "checkpointing_steps": 2, "validation_steps": 2, "num_divergence_images": 8}
    result = runs.train("train_paired.py", data, output_dir, **flags)
    assert result.returncode == 0, result.stderr
    return output_dir


def select(run_dir, output_dir, *flags):
    command = [sys.executable, ROOT / "scripts" / "select_checkpoint.py", "--run_dir", run_dir]
    command += ["--output_dir", output_dir, "--num_divergence_images", "8", *flags]
    return subprocess.run([str(part) for part in command], capture_output=True, text=True)


def test_measures_are_those_of_training(run_dir, tmp_path):
    result = select(run_dir, tmp_path / "selection")
    assert result.returncode == 0, result.stderr
    rows = json.loads((tmp_path / "selection" / "selection.json").read_text())
    logged = map(json.loads, (run_dir / "metrics.jsonl").read_text().splitlines())
    logged = {entry["step"]: entry for entry in logged if "validation_loss" in entry}
    assert len(rows) == 2 and "checkpoint-4" in rows[0]["weights"] and "final" in rows[0]["weights"]
    for row, step in zip(rows, (4, 2), strict=True):
        assert f"checkpoint-{step}" in row["weights"]
        for measure in ("validation_loss", "divergence"):
            assert row[measure] == pytest.approx(logged[step][measure], rel=1e-5)
    best = min(rows, key=lambda row: row["validation_loss"])["weights"]
    assert f"best validation_loss: {best}" in result.stdout
    assert Image.open(tmp_path / "selection" / "figure8.png").size[0] > 300


@pytest.mark.slow
def test_probe(run_dir, data, tmp_path):
    flags = partial(select, run_dir, tmp_path / "selection", "--checkpoints", "[final]", "--probe", data)
    result = flags(
        "--probe_num_samples",
        "8",
        "--probe_generation=--scheduler dpmsolver++ --num_inference_steps 2",
        "--probe_segmentation=--encoder_name resnet18 --max_train_steps 2 --resolution 32 --batch_size 4",
    )
    assert result.returncode == 0, result.stderr
    (row,) = json.loads((tmp_path / "selection" / "selection.json").read_text())
    assert row["weights"] == "final" and 0 <= row["dice"] <= 1


def test_bad_input(run_dir, tmp_path):
    assert refused(select(tmp_path, tmp_path / "out"), "--run_dir", "arguments.yaml")
    assert refused(select(run_dir, tmp_path / "out", "--checkpoints", "[checkpoint-3]"), "checkpoint-3", "checkpoint-2")
    assert not (tmp_path / "out").exists()
