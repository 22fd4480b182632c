"""`reproduce_table1.py` at the smallest size there is."""

import json
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
    for name, count, seed in (("train", 6, 0), ("test", 3, 1)):
        write_raw_folder(tmp_path / name, random_pairs(count, seed=seed))
    flags = ["--train", tmp_path / "train", "--test", tmp_path / "test", "--rows", "[copy_paste,real]"]
    flags += ["--resolution", 16, "--crop_size", 24, "--num_samples", 8, "--copy_paste=--min_area 1"]
    flags += ["--segmentation=--encoder_name resnet18 --max_train_steps 2 --batch_size 4", "--seeds", "[0]"]
    result = reproduce(tmp_path, *flags)
    assert result.returncode == 0, result.stderr
    header, _, pasted, real = (tmp_path / "table" / "table1.md").read_text().splitlines()
    assert header.count("Dice") == header.count("IoU") == 3
    cells = [cell.strip() for cell in pasted.strip("|").split("|")]
    results = {
        way: json.loads((tmp_path / "table" / "copy_paste" / way / "results.json").read_text())
        for way in ("finetuned", "mixed")
    }
    columns = [results["finetuned"]["seeds"][0]["stages"][0], results["finetuned"], results["mixed"]]
    assert cells[1:] == [f"{scores[name]:.3f}" for scores in columns for name in ("dice", "iou")]
    scores = json.loads((tmp_path / "table" / "real" / "real" / "results.json").read_text())
    assert real.startswith(f"| real pairs only | {scores['dice']:.3f} | {scores['iou']:.3f} |")


def test_unknown_row(tmp_path):
    flags = ["--train", "demo", "--test", "demo"]
    assert refused(reproduce(tmp_path, *flags, "--rows", "[gan]"), "--rows has gan", "two_encoder_gan")
    assert not (tmp_path / "table").exists()
