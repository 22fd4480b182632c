"""`select_checkpoint.py` on runs of its own."""

import json
import shutil
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
    return finished(data, tmp_path_factory.mktemp("runs") / "run", max_train_steps=4)


@pytest.fixture(scope="module")
def other(data, tmp_path_factory):
    """Another noising process and other weights on the same pairs."""
    return finished(data, tmp_path_factory.mktemp("runs") / "other", max_train_steps=2, prediction_type="v_prediction")


def finished(data, output_dir, **changes):
    flags = {"checkpointing_steps": 2, "validation_steps": 2, "num_divergence_images": 8, **changes}
    result = runs.train("train_paired.py", data, output_dir, **flags)
    assert result.returncode == 0, result.stderr
    return output_dir


def logged(run_dir):
    """What the run measured of itself, by step."""
    entries = map(json.loads, (run_dir / "metrics.jsonl").read_text().splitlines())
    return {entry["step"]: entry for entry in entries if "validation_loss" in entry}


def select(run_dir, output_dir, *flags):
    command = [sys.executable, ROOT / "scripts" / "select_checkpoint.py", "--run_dir", run_dir]
    command += ["--output_dir", output_dir, "--num_divergence_images", "8", *flags]
    return subprocess.run([str(part) for part in command], capture_output=True, text=True)


def test_measures_are_those_of_training(run_dir, other, tmp_path):
    result = select(run_dir, tmp_path / "selection")
    assert result.returncode == 0, result.stderr
    first, second = json.loads((tmp_path / "selection" / "selection.json").read_text())
    for row, step in ((first, 4), (second, 2)):
        assert f"checkpoint-{step}" in row["weights"] and ("final" in row["weights"]) == (step == 4)
        for measure in ("validation_loss", "divergence"):
            assert row[measure] == pytest.approx(logged(run_dir)[step][measure], rel=1e-5)
    best = min((first, second), key=lambda row: row["validation_loss"])["weights"]
    assert f"best validation_loss: {best}" in result.stdout
    assert Image.open(tmp_path / "selection" / "figure8.png").size[0] > 300

    # beside another run's: what was measured stays, the same weights are one, the closest colours come first
    result = select(run_dir, tmp_path / "selection", "--checkpoints", f"[checkpoint-2,{other},{other}/checkpoint-2]")
    assert result.returncode == 0, result.stderr
    *old, new = json.loads((tmp_path / "selection" / "selection.json").read_text())
    assert old == [first, second | {"weights": "checkpoint-2"}] and new["weights"] == f"{other} = {other}/checkpoint-2"
    for measure in ("validation_loss", "divergence"):
        assert new[measure] == pytest.approx(logged(other)[2][measure], rel=1e-5)
    ranked = sorted((second | {"weights": "checkpoint-2"}, new), key=lambda row: row["divergence"])
    lines = (tmp_path / "selection" / "selection.md").read_text().splitlines()[2:4]
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines] == [row["weights"] for row in ranked]


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
    larger = tmp_path / "larger"
    shutil.copytree(run_dir, larger)
    config = json.loads((larger / "unet" / "config.json").read_text())
    (larger / "unet" / "config.json").write_text(json.dumps(config | {"sample_size": 32}))
    assert refused(select(run_dir, tmp_path / "out", "--checkpoints", f"[{larger}]"), "32 pixels", "16")
    stray = tmp_path / "stray"
    shutil.copytree(run_dir / "checkpoint-2", stray)
    assert refused(select(run_dir, tmp_path / "out", "--checkpoints", f"[{stray}]"), "stray", "no run's folder")
    assert not (tmp_path / "out").exists()
