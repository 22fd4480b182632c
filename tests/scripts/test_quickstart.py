"""`synthset quickstart` as users run it, with few steps."""

import re
import subprocess
import sys

import pytest
from datasets import load_dataset
from huggingface_hub import ModelCard
from testing_utils.pairs import random_pairs, write_raw_folder

from synthset.arguments import QuickstartArguments
from synthset.data import load_pairs
from synthset.errors import InputError

SHORT = "--max_train_steps 2 --num_samples 32 --segmenter_steps 2 --seeds 0 1".split()


def quickstart(folder, *flags):
    """Runs the command in `folder`; returns what it prints."""
    command = [sys.executable, "-m", "synthset", "quickstart", *map(str, flags), *SHORT]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def contents(folder):
    """What runs have learned, drawn and measured."""
    files = [path for name in ("*.safetensors", "*.parquet", "metrics.jsonl") for path in folder.rglob(name)]
    return {path: path.read_bytes() for path in files}


@pytest.mark.slow
def test_a_rendered_field_becomes_a_page(tmp_path):
    """All steps in processes of their own; run again, it does nothing twice."""
    first = quickstart(tmp_path)
    folder = tmp_path / "quickstart"
    assert len(load_dataset(str(folder / "pairs"), split="train")) == 32
    assert "`starter`" in (folder / "model" / "README.md").read_text()
    assert ModelCard.load(folder / "model" / "README.md").data.license == "apache-2.0"
    page = (folder / "index.html").read_text()
    assert page.count("<img ") == 5 and page.count("<tr>") == 4 and "40 test photos" in page
    for command in re.findall(r"^  (synthset .*)$", first, re.MULTILINE):
        assert command.replace("'", "&#39;") in page
    scores = first[first.index("segmenter trained on") :]
    assert all(words in scores for words in ("32 photos", "32 generated pairs", "photos and generated pairs", " ± "))
    written = contents(folder)
    assert quickstart(tmp_path).endswith(scores)
    assert written == contents(folder)


@pytest.mark.slow
def test_the_users_own_photos(data, tmp_path):
    test = write_raw_folder(tmp_path / "test", random_pairs(3, seed=1))
    quickstart(tmp_path, "--dataset", data, "--test_dataset", test, "--output_dir", "mine")
    assert len(load_pairs(str(tmp_path / "mine" / "data"))) and (tmp_path / "mine" / "index.html").exists()
    assert not (tmp_path / "mine" / "photos").exists()


def test_refuses_test_photos_that_it_learns_from(tmp_path):
    photos = write_raw_folder(tmp_path / "photos", random_pairs(8))
    command = [sys.executable, "-m", "synthset", "quickstart", "--dataset", photos, "--test_dataset", photos]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 1 and "of 8 test images are also in --dataset quickstart/data" in result.stderr
    assert not (tmp_path / "quickstart" / "before").exists()


def test_refuses_half_of_the_photos():
    with pytest.raises(InputError, match="--dataset is field and --test_dataset is not given; give both"):
        QuickstartArguments(dataset="field")
    with pytest.raises(InputError, match="--num_samples is 5; give 32 or more"):
        QuickstartArguments(num_samples=5)
