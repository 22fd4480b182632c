"""`reproduce_table1.py` at the smallest size there is."""

import json
import runpy
import subprocess
import sys

import pytest
from testing_utils.pairs import random_pairs, write_raw_folder
from testing_utils.runs import ROOT, refused


def reproduce(tmp_path, *flags):
    command = [sys.executable, ROOT / "scripts" / "reproduce_table1.py", "--output_dir", tmp_path / "table", *flags]
    return subprocess.run([str(part) for part in command], capture_output=True, text=True)


@pytest.mark.slow
def test_cells_are_the_segmenters_scores(tmp_path):
    for name, count, seed in (("train", 6, 0), ("test", 3, 1), ("more", 4, 2)):
        write_raw_folder(tmp_path / name, random_pairs(count, seed=seed))
    flags = ["--train", tmp_path / "train", "--test", tmp_path / "test", "--rows", "[copy_paste,real]"]
    flags += ["--finetune", tmp_path / "more", "--launch_config", ROOT / "accelerate_configs" / "multi_cpu.yaml"]
    flags += ["--resolution", 16, "--crop_size", 24, "--num_samples", 8, "--copy_paste=--min_area 1"]
    flags += ["--segmentation=--encoder_name resnet18 --max_train_steps 2 --batch_size 4", "--seeds", "[0]"]
    result = reproduce(tmp_path, *flags)
    assert result.returncode == 0, result.stderr
    header, _, pasted, real = (tmp_path / "table" / "table1.md").read_text().splitlines()
    assert header.count("Dice") == header.count("IoU") == 4
    cells = [cell.strip() for cell in pasted.strip("|").split("|")]
    results = {
        way: json.loads((tmp_path / "table" / "copy_paste" / way / "results.json").read_text())
        for way in ("finetuned", "mixed")
    }
    stages = results["finetuned"]["seeds"][0]["stages"]
    assert [stage["stage"].split()[0] for stage in stages] == ["--train", "--finetune", "--finetune"]
    columns = [*stages, results["mixed"]]
    assert cells[1:] == [f"{scores[name]:.3f}" for scores in columns for name in ("dice", "iou")]
    folder = tmp_path / "table" / "real" / "real"
    assert json.loads((folder / "settings.json").read_text())["processes"] == 2
    results = json.loads((folder / "results.json").read_text())
    first, last = ([f"{stage[name]:.3f}" for name in ("dice", "iou")] for stage in results["seeds"][0]["stages"])
    expected = ["real pairs only", *first, "", "", *last, "", ""]
    assert [cell.strip() for cell in real.strip().strip("|").split("|")] == expected


def test_layout_without_further_fine_tuning(tmp_path):
    """A column stays empty where a row has no such scores; "all fine-tuning" is left out if none has."""
    write_table = runpy.run_path(str(ROOT / "scripts" / "reproduce_table1.py"))["write_table"]
    scores = {"synthetic dice": "0.1", "synthetic iou": "0.2", "finetuned dice": "0.3", "finetuned iou": "0.4"}
    write_table(tmp_path, {"concat": scores, "real": {"real dice": "0.5", "real iou": "0.6"}})
    header, _, *rows = (tmp_path / "table1.md").read_text().splitlines()
    assert "all fine-tuning" not in header and header.count("|") == 8
    assert rows == ["| concat | 0.1 | 0.2 | 0.3 | 0.4 |  |  |", "| real pairs only | 0.5 | 0.6 |  |  |  |  |"]


def test_unknown_row(tmp_path):
    flags = ["--train", "demo", "--test", "demo"]
    assert refused(reproduce(tmp_path, *flags, "--rows", "[gan]"), "--rows has gan", "two_encoder_gan")
    assert not (tmp_path / "table").exists()


def test_missing_launch_config(tmp_path):
    flags = ["--train", "demo", "--test", "demo", "--launch_config", tmp_path / "cpu.yaml"]
    assert refused(reproduce(tmp_path, *flags), "--launch_config", "cpu.yaml", "try accelerate_configs")
    assert not (tmp_path / "table").exists()
