"""What a folder is made from is known by its content: moved data continues, changed data under an old name does not."""

import shutil

import numpy as np
import pytest
from PIL import Image
from testing_utils import runs
from testing_utils.pairs import random_pairs, write_raw_folder

from synthset.cli import parse_arguments
from synthset.errors import InputError


@pytest.fixture
def data(tmp_path):
    return write_raw_folder(tmp_path / "field", random_pairs(3))


def change(folder):
    """Another photo in place of the first, under its name."""
    pixels = np.asarray(Image.open(folder / "images" / "000.png"))
    Image.fromarray(255 - pixels).save(folder / "images" / "000.png")


def test_copy_paste(data, tmp_path):
    script = runs.load_script("make_copy_paste.py")
    flags = "--num_samples 2 --resolution 16 --crop_size 24 --min_area 1 --num_workers 0".split()

    def make(dataset, backgrounds):
        folders = ["--dataset", str(dataset), "--backgrounds", str(backgrounds), "--output_dir", str(tmp_path / "out")]
        script.main(parse_arguments(script.CopyPasteArguments, [*flags, *folders]))

    soil = shutil.copytree(data / "images", tmp_path / "soil")
    make(data, soil)
    moved, soil = shutil.move(data, tmp_path / "moved"), shutil.move(soil, tmp_path / "moved-soil")
    make(moved, soil)
    other = shutil.copytree(soil, tmp_path / "other")
    Image.fromarray(np.full((32, 40, 3), 7, np.uint8)).save(other / "000.png")
    with pytest.raises(InputError, match="other settings: backgrounds_sha256 "):
        make(moved, other)
    change(moved)
    with pytest.raises(InputError, match="other settings: dataset_sha256 "):
        make(moved, soil)


def test_segmentation(data, tmp_path):
    script = runs.load_script("train_segmentation.py")
    flags = "--resolution 32 --crop_size 32 --encoder_name resnet18 --max_train_steps 1 --batch_size 2".split()
    test = write_raw_folder(tmp_path / "test", random_pairs(2, seed=1))

    def train(pairs):
        folders = ["--dataset", str(pairs), "--test_dataset", str(test), "--output_dir", str(tmp_path / "out")]
        script.main(parse_arguments(script.SegmentationArguments, [*flags, *folders]))

    train(data)
    moved = shutil.move(data, tmp_path / "moved")
    train(moved)
    change(moved)
    with pytest.raises(InputError, match="other settings: dataset_sha256 "):
        train(moved)
