import json
import runpy
import sys
from pathlib import Path

import av
import datasets
import numpy as np
import pytest
from PIL import Image
from testing_utils.pairs import write_raw_folder

from synthset.data import load_pairs

SCRIPT = Path(__file__).parents[2] / "scripts" / "make_copy_paste.py"
SMALL = "--resolution 32 --crop_size 48 --num_samples 7 --samples_per_shard 3 --min_area 20".split()


@pytest.fixture
def make(monkeypatch, capsys):
    """Runs the script; returns its exit code, what it printed and its error line."""

    def run(*flags):
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, flags)])
        code = 0
        try:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        except SystemExit as stop:
            code = stop.code
        out, err = capsys.readouterr()
        return code, out, "".join(line for line in err.splitlines() if line.startswith("error: "))

    return run


@pytest.fixture
def annotated(tmp_path):
    """Three photos of brown texture with red squares."""
    rows, rng = [], np.random.default_rng(0)
    for place in (10, 25, 40):
        image = rng.integers(80, 120, (64, 80, 3), dtype=np.uint8)
        mask = np.zeros((64, 80), np.uint8)
        mask[place : place + 8, place : place + 12] = 1
        image[mask > 0] = (200, 20, 20)
        rows.append({"image": Image.fromarray(image), "mask": Image.fromarray(mask)})
    return write_raw_folder(tmp_path / "annotated", rows)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.slow
def test_a_few_photos_become_a_dataset_that_any_number_of_processes_continues(tmp_path, make, annotated):
    out = tmp_path / "out"
    command = ("--dataset", annotated, "--output_dir", out, *SMALL)
    code, printed, error = make(*command, "--num_workers", 2)
    assert code == 0 and "Wrote 7 pairs to" in printed, error
    made = contents(out)
    assert sorted(made) == [
        "README.md",
        "copy_paste.json",
        *(f"data/train-0000{k}-of-00003.parquet" for k in range(3)),
        "preview.png",
    ]
    loaded = datasets.load_dataset(str(out), split="train")
    assert loaded.column_names == ["image", "mask", "num_objects", "coverage"] and len(loaded) == 7
    for row in loaded:
        image, mask = np.asarray(row["image"]).astype(int), np.asarray(row["mask"])
        assert image.shape == (32, 32, 3) and set(np.unique(mask)) <= {0, 255}
        red = image[..., 0] - image[..., 1] > 45  # colors are augmented, but soil stays gray
        assert (red == (mask > 0)).mean() > 0.97  # the photos' own squares are gone, and the pasted ones are labeled
        assert row["coverage"] == pytest.approx((mask > 0).mean())
    assert sum(loaded["coverage"]) > 0 and loaded[:2]["image"][0] != loaded[:2]["image"][1]

    # more pairs later; whole files stay
    grown = tmp_path / "later" / "out"
    for count in (4, 7):
        flags = (*SMALL, "--num_samples", count, "--num_workers", 0)
        assert make("--dataset", annotated, "--output_dir", grown, *flags)[0] == 0
    assert contents(grown) == made
    code, _, error = make(*command, "--num_samples", 6, "--num_workers", 0)
    assert code == 1 and "--num_samples is 6, but" in error and "has pairs up to 7 already" in error
    assert contents(out) == made

    # killed after the second shard, with a third half written
    (out / "README.md").unlink()
    (out / "preview.png").unlink()
    last = out / "data" / "train-00002-of-00003.parquet"
    last.rename(last.with_name(f".{last.name}.tmp"))
    assert make(*command, "--num_workers", 0)[0] == 0
    assert contents(out) == made

    code, _, error = make(*command, "--seed", 1)
    assert code == 1 and "made with other settings: seed 0 -> 1" in error


@pytest.mark.parametrize("kind", ["folder", "video"])
def test_given_backgrounds_are_used(tmp_path, make, annotated, kind):
    blue = np.full((64, 64, 3), (30, 60, 200), np.uint8)
    if kind == "folder":
        backgrounds = tmp_path / "empty"
        backgrounds.mkdir()
        Image.fromarray(blue).save(backgrounds / "a.JPG")
        (backgrounds / "notes.txt").write_text("not a picture")
    else:
        backgrounds = tmp_path / "walk.mp4"
        with av.open(str(backgrounds), "w") as container:
            stream = container.add_stream("mpeg4", rate=10)
            stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
            for _ in range(4):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(blue, "rgb24")))
            container.mux(stream.encode())
    out = tmp_path / "out"
    flags = ("--num_samples", 2, "--num_workers", 0, "--augment", "false", "--video_every", 2, "--num_objects", "[1,2]")
    code, _, error = make("--dataset", annotated, "--backgrounds", backgrounds, "--output_dir", out, *SMALL, *flags)
    assert code == 0, error
    assert json.loads((out / "copy_paste.json").read_text())["found_backgrounds"] == (2 if kind == "video" else 1)
    for row in load_pairs(str(out)):
        image, mask = np.asarray(row["image"]), np.asarray(row["mask"])
        assert np.allclose(np.median(image[mask == 0], axis=0), (30, 60, 200), atol=6)


def test_bad_input_is_one_line(tmp_path, make, annotated):
    empty, small = tmp_path / "empty", tmp_path / "small"
    empty.mkdir()
    small.mkdir()
    Image.new("RGB", (40, 90)).save(small / "a.png")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "b.png").write_bytes(b"no picture")
    covered = np.ones((64, 64), np.uint8)
    full = write_raw_folder(
        tmp_path / "full", [{"image": Image.new("RGB", (64, 64)), "mask": Image.fromarray(covered)}]
    )
    for flags, words in {
        ("--min_area", 97): "no object of 97 pixels or more in 3 masks; lower --min_area",
        ("--crop_size", 65): "is 64 pixels wide or high, less than --crop_size 65",
        ("--backgrounds", small): f"{small / 'a.png'} is 40 pixels wide or high, less than --crop_size 48",
        ("--backgrounds", empty): f"--backgrounds {empty} holds no images",
        ("--backgrounds", broken): f"{broken / 'b.png'} can't be read as an image",
        ("--backgrounds", tmp_path / "no"): "does not exist; give a folder of images or a video",
        ("--backgrounds", broken / "b.png"): "can't be read as a video",
        ("--dataset", full): "objects cover most of every annotated image; give --backgrounds",
        ("--num_objects", "[5,2]"): "--num_objects is [5, 2]; give the smallest and the largest, from 0",
        ("--scale", "[1]"): "--scale is [1.0]; give",
        ("--max_overlap", 1.5): "--max_overlap is 1.5; give 0 to 1",
        ("--num_samples", 0): "--num_samples is 0; give 1 or more",
    }.items():
        code, _, error = make("--dataset", annotated, "--output_dir", tmp_path / "out", *SMALL, *flags)
        assert code in (1, 2) and words in error, (flags, error)
    assert not (tmp_path / "out").exists()
