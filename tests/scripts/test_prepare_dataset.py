import json
import runpy
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
import yaml
from PIL import Image
from testing_utils.pairs import random_pairs, same_pairs, write_raw_folder

from synthset.data import load_pairs

SCRIPT = Path(__file__).parents[2] / "scripts" / "prepare_dataset.py"


@pytest.fixture
def prepare(monkeypatch, capsys):
    """Runs the script; returns its exit code, what it printed and its error line."""

    def run(*flags):
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, flags)])
        code = 0
        try:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        except SystemExit as stop:
            code = stop.code
        return code, *capsys.readouterr()

    return run


def masks_of(*levels, size=(40, 32)):
    """Pairs whose masks are covered from the top by these fractions of 32 rows."""
    rows = random_pairs(len(levels), size=size)
    for row, level in zip(rows, levels, strict=True):
        row["mask"] = Image.fromarray((np.arange(32)[:, None] < level * 32).astype(np.uint8).repeat(40, axis=1))
    return rows


def test_raw_folder_becomes_a_dataset(tmp_path, prepare):
    source = write_raw_folder(tmp_path / "raw", random_pairs(10))
    code, printed, _ = prepare("--dataset", source, "--output_dir", tmp_path / "out")
    assert code == 0
    assert "train: 8 pairs (8 of 40x32 px)" in printed and "validation: 2 pairs" in printed
    out = tmp_path / "out"
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()) == [
        "README.md",
        "data/train-00000-of-00001.parquet",
        "data/validation-00000-of-00001.parquet",
        "overlay.png",
        "summary.json",
    ]
    loaded = datasets.load_dataset(str(out))
    assert {split: len(part) for split, part in loaded.items()} == {"train": 8, "validation": 2}
    stored = [*load_pairs(str(out), "train"), *load_pairs(str(out), "validation")]
    key = lambda row: np.asarray(row["image"]).tobytes()  # noqa: E731
    assert same_pairs(sorted(stored, key=key), sorted(load_pairs(str(source)), key=key))
    assert Image.open(out / "overlay.png").size == (8 * 258 + 2, 3 * 258 + 4)
    card = yaml.safe_load((out / "README.md").read_text().split("---\n")[1])
    assert card["task_categories"] == ["image-segmentation"]
    assert [feature["name"] for feature in card["dataset_info"]["features"]] == ["image", "mask"]


def test_same_seed_same_bytes(tmp_path, prepare):
    source = write_raw_folder(tmp_path / "raw", random_pairs(10))
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert prepare("--dataset", source, "--output_dir", tmp_path / name, "--seed", seed)[0] == 0
    shards = [(tmp_path / name / "data/validation-00000-of-00001.parquet").read_bytes() for name in "abc"]
    assert shards[0] == shards[1] != shards[2]


def test_summary_counts_sizes_and_coverage(tmp_path, prepare):
    write_raw_folder(tmp_path / "raw" / "train", masks_of(0, 0.25, 0.5, 1))
    write_raw_folder(tmp_path / "raw" / "val", masks_of(0.125))
    write_raw_folder(tmp_path / "raw" / "test", masks_of(0, 0))
    assert prepare("--dataset", tmp_path / "raw", "--output_dir", tmp_path / "out")[0] == 0
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == {
        "train": {
            "pairs": 4,
            "sizes": {"40x32": 4},
            "mask_coverage": {"min": 0.0, "median": 0.375, "max": 1.0},
            "empty_masks": 1,
        },
        "validation": {
            "pairs": 1,
            "sizes": {"40x32": 1},
            "mask_coverage": {"min": 0.125, "median": 0.125, "max": 0.125},
            "empty_masks": 0,
        },
        "test": {
            "pairs": 2,
            "sizes": {"40x32": 2},
            "mask_coverage": {"min": 0.0, "median": 0.0, "max": 0.0},
            "empty_masks": 2,
        },
    }
    assert len(load_pairs(str(tmp_path / "out"), "test")) == 2


def test_other_columns_and_column_flags(tmp_path, prepare):
    rows = random_pairs(4)
    datasets.Dataset.from_dict(
        {"photo": [row["image"] for row in rows], "crop": [row["mask"] for row in rows], "day": [1, 2, 3, 4]},
        features=datasets.Features(photo=datasets.Image(), crop=datasets.Image(), day=datasets.Value("int32")),
    ).save_to_disk(str(tmp_path / "saved"))
    flags = ["--image_column", "photo", "--mask_column", "crop", "--validation_fraction", "0.5"]
    assert prepare("--dataset", tmp_path / "saved", "--output_dir", tmp_path / "out", *flags)[0] == 0
    for split in ("train", "validation"):
        pairs = load_pairs(str(tmp_path / "out"), split)
        assert pairs.column_names == ["image", "mask", "day"]
        assert same_pairs(pairs, [rows[day - 1] for day in pairs["day"][:]])


def test_output_dir_with_something_in_it_is_left_alone(tmp_path, prepare):
    source = write_raw_folder(tmp_path / "raw", random_pairs(4))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    code, _, errors = prepare("--dataset", source, "--output_dir", tmp_path / "out")
    assert code != 0
    assert f"error: --output_dir {tmp_path}/out exists and is not empty" in errors
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]


def test_an_empty_output_dir_is_used(tmp_path, prepare):
    source = write_raw_folder(tmp_path / "raw", random_pairs(4))
    (tmp_path / "out").mkdir()
    assert prepare("--dataset", source, "--output_dir", tmp_path / "out")[0] == 0
    assert len(load_pairs(str(tmp_path / "out"))) == 3


def test_bad_row_leaves_nothing_behind(tmp_path, prepare):
    rows = random_pairs(4)
    rows[2]["mask"] = Image.new("L", (40, 32), 9)
    datasets.Dataset.from_list(
        rows, features=datasets.Features(image=datasets.Image(), mask=datasets.Image())
    ).save_to_disk(str(tmp_path / "saved"))
    code, _, errors = prepare("--dataset", tmp_path / "saved", "--output_dir", tmp_path / "out")
    assert code != 0
    assert errors.splitlines()[-1].startswith(f"error: the mask of row 2 of {tmp_path}/saved is a mask with values 9")
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


@pytest.mark.parametrize("value", ["0", "1", "-0.5", "many"])
def test_bad_validation_fraction(tmp_path, prepare, value):
    flags = ["--dataset", "demo", "--output_dir", tmp_path / "out", "--validation_fraction", value]
    code, _, errors = prepare(*flags)
    assert code != 0 and "validation_fraction" in errors and value in errors
    assert not (tmp_path / "out").exists()
