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
        "report.html",
        "report.json",
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


def report_of(folder):
    return json.loads((folder / "report.json").read_text())


def test_report_counts_sizes_and_coverage(tmp_path, prepare):
    write_raw_folder(tmp_path / "raw" / "train", masks_of(0, 0.25, 0.5, 1))
    write_raw_folder(tmp_path / "raw" / "val", masks_of(0.125))
    write_raw_folder(tmp_path / "raw" / "test", masks_of(0, 0))
    flags = ["--resolution", "16", "--crop_size", "32"]
    assert prepare("--dataset", tmp_path / "raw", "--output_dir", tmp_path / "out", *flags)[0] == 0
    report = report_of(tmp_path / "out")
    train = report["splits"]["train"]
    assert train["pairs"] == train["photos"] == 4 and train["sizes"] == {"40x32": 4} and train["empty_masks"] == 1
    assert train["mask_coverage"] == {"min": 0.0, "median": 0.375, "max": 1.0}
    # objects of 8, 16 and 32 rows of 40 pixels, halved
    assert train["objects"]["count"] == 3 and train["objects"]["side_median"] == round((16 * 40) ** 0.5 / 2, 2)
    assert report["splits"]["validation"]["mask_coverage"]["median"] == 0.125
    assert report["splits"]["test"]["objects"] == {"count": 0}
    full = "train/images/003.png"
    assert report["suspicious"]["masks cover more than 95% of the photo"] == [full]
    # random_pairs draws the same photos for every split
    assert len(report["suspicious"]["near-duplicates in two splits"]) == 4
    assert report["distinct_photos"] == 4
    assert len(load_pairs(str(tmp_path / "out"), "test")) == 2
    page = (tmp_path / "out" / "report.html").read_text()
    assert full in page and "near-duplicates in two splits" in page and page.count("data:image/png;base64") >= 4


def test_strict_refuses_what_is_suspicious(tmp_path, prepare):
    write_raw_folder(tmp_path / "raw", masks_of(0.2, 0.3, 0.25, 1))
    code, _, errors = prepare("--dataset", tmp_path / "raw", "--output_dir", tmp_path / "out", "--strict")
    assert code != 0 and errors.splitlines()[-1].startswith(
        "error: --strict refuses 1 kinds of findings; the first is masks cover more than 95% of the photo: "
        "images/003.png (1 in all); mend them"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


@pytest.mark.parametrize("seed", range(3))
def test_near_duplicates_stay_in_one_split(tmp_path, prepare, seed):
    rows = random_pairs(4)
    copies = [{**row, "image": row["image"].resize((80, 64))} for row in rows]
    write_raw_folder(tmp_path / "raw", rows)
    for i, row in enumerate(copies):
        row["image"].save(tmp_path / "raw" / "images" / f"{i:03d}b.png")
        row["mask"].resize((80, 64), 0).point(lambda value: value * 255).save(tmp_path / "raw/masks" / f"{i:03d}b.png")
    flags = ["--validation_fraction", "0.25", "--seed", seed]
    assert prepare("--dataset", tmp_path / "raw", "--output_dir", tmp_path / "out", *flags)[0] == 0
    report = report_of(tmp_path / "out")
    assert report["splits"]["validation"]["pairs"] == 2 and report["distinct_photos"] == 4
    assert len(report["suspicious"]["near-duplicates in one split"]) == 4
    assert {row["image"].size for row in load_pairs(str(tmp_path / "out"), "validation")} == {(40, 32), (80, 64)}


def test_one_photo_in_two_splits_is_a_duplicate(tmp_path, prepare):
    rows = random_pairs(5)
    features = datasets.Features(image=datasets.Image(), mask=datasets.Image())
    for split, part in (("train", rows[:4]), ("test", [rows[0], rows[4]])):
        stored = datasets.Dataset.from_list(part, features=features)
        stored.to_parquet(str(tmp_path / "stored" / "data" / f"{split}-00000-of-00001.parquet"))
    code, printed, _ = prepare("--dataset", tmp_path / "stored", "--output_dir", tmp_path / "out")
    assert code == 0 and "Wrote 6 pairs of 5 distinct photos, read as a dataset" in printed
    place = f"of {tmp_path}/stored"
    assert report_of(tmp_path / "out")["suspicious"]["near-duplicates in two splits"] == [
        f"the image of row 0 of split train {place} = the image of row 0 of split test {place}"
    ]


def test_a_group_stays_in_one_split(tmp_path, prepare):
    write_raw_folder(tmp_path / "raw", random_pairs(9))
    rows = [
        {"file_name": f"images/{i:03d}.png", "mask_file_name": f"masks/{i:03d}.png", "field": f"field {i // 3}"}
        for i in range(9)
    ]
    (tmp_path / "raw" / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = ["--group_column", "field"]
    assert prepare("--dataset", tmp_path / "raw", "--output_dir", tmp_path / "out", *flags)[0] == 0
    fields = {split: load_pairs(str(tmp_path / "out"), split)["field"][:] for split in ("train", "validation")}
    assert len(fields["validation"]) == 3 and not {*fields["validation"]} & {*fields["train"]}
    code, _, errors = prepare("--dataset", tmp_path / "raw", "--output_dir", tmp_path / "no", "--group_column", "date")
    assert code != 0 and "--group_column date is no column" in errors and "(columns: field)" in errors


def test_label_maps_are_kept_beside_masks(tmp_path, prepare):
    rows = random_pairs(5)
    colors = np.array([[0, 0, 0], [0, 176, 0], [255, 0, 0]], np.uint8)
    labels = [np.random.default_rng(i).integers(0, 3, (32, 40)) for i in range(5)]
    write_raw_folder(tmp_path / "raw", rows)
    for i, label in enumerate(labels):
        Image.fromarray(colors[label]).save(tmp_path / "raw" / "masks" / f"{i:03d}.png")
    (tmp_path / "classes.csv").write_text("name,r,g,b\nleaf,0,176,0\nsymptom,255,0,0\n")
    flags = ["--classes", tmp_path / "classes.csv", "--object_class", "symptom"]
    assert prepare("--dataset", tmp_path / "raw", "--output_dir", tmp_path / "out", *flags)[0] == 0
    stored = datasets.load_dataset(str(tmp_path / "out"))
    found = [np.asarray(row["labels"]) for part in stored.values() for row in part]
    assert sorted(x.tobytes() for x in found) == sorted(label.astype(np.uint8).tobytes() for label in labels)
    for part in stored.values():
        for row in part:
            assert np.array_equal(np.asarray(row["mask"]) == 255, np.asarray(row["labels"]) == 2)
    classes = report_of(tmp_path / "out")["classes"]
    assert [(c["value"], c["name"], c["object"]) for c in classes] == [
        (0, "#000000", False),
        (1, "leaf", False),
        (2, "symptom", True),
    ]
    assert abs(classes[2]["share"] - np.mean([label == 2 for label in labels])) < 1e-5
    assert "0 #000000, 1 leaf, 2 symptom" in (tmp_path / "out" / "README.md").read_text()
    code, _, errors = prepare(
        "--dataset", tmp_path / "raw", "--output_dir", tmp_path / "no", "--object_color", "#0000ff"
    )
    assert code != 0 and "--object_color #0000ff occurs in no mask (found: #" in errors


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
    assert errors.splitlines()[-1].startswith(
        f"error: the mask of row 2 of split train of {tmp_path}/saved is a mask with values 9"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


@pytest.mark.parametrize("value", ["0", "1", "-0.5", "many"])
def test_bad_validation_fraction(tmp_path, prepare, value):
    flags = ["--dataset", "demo", "--output_dir", tmp_path / "out", "--validation_fraction", value]
    code, _, errors = prepare(*flags)
    assert code != 0 and "validation_fraction" in errors and value in errors
    assert not (tmp_path / "out").exists()
