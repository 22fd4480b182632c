"""`select_checkpoint.py` on runs of its own."""

import json
import runpy
import shutil
import subprocess
import sys
from functools import partial

import pytest
from PIL import Image
from testing_utils import runs
from testing_utils.pairs import random_pairs, same_pairs, write_raw_folder
from testing_utils.runs import ROOT, refused

from synthset.arguments import TrainingArguments
from synthset.data import load_pairs, load_train_validation
from synthset.errors import InputError

pytestmark = pytest.mark.slow  # most of it is real runs


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

    # beside another run's: what was measured stays, the same weights are one, the closest colors come first
    result = select(run_dir, tmp_path / "selection", "--checkpoints", f"[checkpoint-2,{other},{other}/checkpoint-2]")
    assert result.returncode == 0, result.stderr
    *old, new = json.loads((tmp_path / "selection" / "selection.json").read_text())
    assert old == [first, second | {"weights": "checkpoint-2"}] and new["weights"] == f"{other} = {other}/checkpoint-2"
    for measure in ("validation_loss", "divergence"):
        assert new[measure] == pytest.approx(logged(other)[2][measure], rel=1e-5)
    ranked = sorted((second | {"weights": "checkpoint-2"}, new), key=lambda row: row["divergence"])
    lines = (tmp_path / "selection" / "selection.md").read_text().splitlines()[2:4]
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines] == [row["weights"] for row in ranked]


PROBE = [
    *("--checkpoints", "[final]", "--probe_num_samples", "8"),
    "--probe_generation=--scheduler dpmsolver++ --num_inference_steps 2",
    "--probe_segmentation=--encoder_name resnet18 --max_train_steps 2 --resolution 32 --batch_size 4",
]


def probed(selection):
    """The row of the only weights, and what the segmenter was told and found."""
    (row,) = json.loads((selection / "selection.json").read_text())
    (folder,) = selection.glob("probe-*/segmentation")
    settings, results = (json.loads((folder / f"{name}.json").read_text()) for name in ("settings", "results"))
    assert row["weights"] == "final" and row["dice"] == results["dice"]
    return settings, results


def test_probe_tests_on_what_the_run_held_out(run_dir, data, tmp_path):
    selection = tmp_path / "selection"
    result = select(run_dir, selection, "--probe", "validation", *PROBE)
    assert result.returncode == 0, result.stderr
    settings, _ = probed(selection)
    _, held_out = load_train_validation(str(data), None, None, TrainingArguments.validation_fraction, seed=0)
    assert same_pairs(load_pairs(settings["test_dataset"], "validation"), held_out)
    assert settings["crop_size"] == runs.TINY["crop_size"]  # the generated pairs' scale
    assert "Warning" not in (selection / "selection.md").read_text()


def test_probe_on_test_pairs_says_so(run_dir, tmp_path):
    own, selection = tmp_path / "own", tmp_path / "selection"
    for split, count in (("validation", 2), ("test", 3)):
        write_raw_folder(own / split, random_pairs(count, size=(24, 24), seed=count))  # a tile each
    result = select(run_dir, selection, "--probe", own, "--probe_split", "test", *PROBE)
    assert result.returncode == 0, result.stderr
    settings, results = probed(selection)
    assert settings["test_split"] == "test" and results["n_images"] == 3
    (warning,) = (line for line in (selection / "selection.md").read_text().splitlines() if "Warning" in line)
    assert f"the split test of {own}" in warning and warning in result.stdout


def test_probe_takes_no_test_pairs_unasked(run_dir, data, tmp_path):
    script = runpy.run_path(str(ROOT / "scripts" / "select_checkpoint.py"))
    args = partial(script["SelectionArguments"], run_dir=str(run_dir), output_dir=str(tmp_path / "out"))
    for split in ("train", "test"):
        write_raw_folder(tmp_path / "own" / split, random_pairs(3))
    for source, splits in ((tmp_path / "own", "test, train"), (data, "train")):
        with pytest.raises(InputError, match=f"--probe {source} has no split 'validation'; .*{splits}.*--probe_split"):
            script["main"](args(probe=str(source)))
    with pytest.raises(InputError, match="--probe_split is test with --probe validation"):
        args(probe="validation", probe_split="test")
    assert not (tmp_path / "out").exists()


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
