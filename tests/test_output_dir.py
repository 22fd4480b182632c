"""Output folders that are taken, and names of folders that can't be read back."""

import multiprocessing
import os
import shutil
from pathlib import Path

import datasets
import pytest
from testing_utils.pairs import random_pairs, same_pairs

from synthset.data import load_pairs, pair_features, write_pairs_shard
from synthset.errors import InputError
from synthset.output_dir import claim_output_dir, lock_output_dir, require_readable_name


def hold(folder, connection):
    """In another process: takes `folder` until told to leave."""
    lock_output_dir(folder)
    connection.send("taken")
    connection.recv()


def test_one_process_at_a_time_writes_into_a_folder(tmp_path):
    ours, theirs = multiprocessing.Pipe()
    other = multiprocessing.get_context("fork").Process(target=hold, args=(tmp_path / "run", theirs))
    other.start()
    assert ours.recv() == "taken"
    with pytest.raises(InputError, match="run is being written by another process"):
        claim_output_dir(tmp_path / "run", "settings.json", {}, ())
    other.kill()  # the lock goes with the process
    other.join()
    claim_output_dir(tmp_path / "run", "settings.json", {"number": 1}, ())
    claim_output_dir(tmp_path / "run", "settings.json", {"number": 1}, ())
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["settings.json"]
    with pytest.raises(InputError, match="number 1 -> 2"):
        claim_output_dir(tmp_path / "run", "settings.json", {"number": 2}, ())


@pytest.mark.parametrize(
    "name",
    [
        "a [2024]",
        "a*",
        "a?",
        "a::b",
        "::",
        "a$HOME",
        "a${HOME}",
        "~x",
        "a:b",
        "a\nb",
        "a\u2028b",
        os.fsdecode(b"\xff"),
    ],
)
@pytest.mark.parametrize("inside", [True, False])
def test_names_that_datasets_cannot_open_are_refused(tmp_path, monkeypatch, name, inside):
    monkeypatch.chdir(tmp_path)
    folder = Path(name, "field") if inside else Path(name)
    with pytest.raises(InputError, match="choose a name without") as caught:
        require_readable_name(folder)
    assert str(caught.value).isprintable()
    folder.mkdir(parents=True)
    if name not in ("~x", "a:b"):  # only a relative name is misread
        monkeypatch.chdir(folder)
        with pytest.raises(InputError, match="choose a name without"):
            require_readable_name(Path())


READABLE = ["a[", "{a,b}", "a#b", "a%20b", "a$", "ähre", ".a", "a'\"b c"]


def write_dataset(folder):
    rows = random_pairs(1, size=(4, 4))
    write_pairs_shard(folder / "data" / "train-00000-of-00001.parquet", rows, pair_features())
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/train-*\n---\n"
    )
    return rows


def test_all_other_names_are_read_back(tmp_path, monkeypatch):
    for name in READABLE:
        monkeypatch.chdir(tmp_path)
        require_readable_name(Path(name))
        rows = write_dataset(Path(name))
        assert same_pairs(load_pairs(name), rows), name
        assert len(datasets.load_dataset(name, split="train")) == 1, name
        monkeypatch.chdir(name)
        assert same_pairs(load_pairs("."), rows), name


@pytest.mark.parametrize("name", ["a [2024]", "a*", "a::b"])
def test_a_dataset_that_has_such_a_name_is_refused(tmp_path, name):
    write_dataset(tmp_path / name)
    with pytest.raises(InputError, match=r"the dataset is .*, which datasets can't open because of"):
        load_pairs(str(tmp_path / name))


def test_a_saved_dataset_is_not_taken_for_another(tmp_path, monkeypatch):
    rows = random_pairs(1)
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "a [2024]")
    shutil.copytree(tmp_path / "a", tmp_path / "a::b")
    assert same_pairs(load_pairs(str(tmp_path / "a [2024]")), rows)
    with pytest.raises(InputError, match="'::' in its path"):
        load_pairs(str(tmp_path / "a::b"))
