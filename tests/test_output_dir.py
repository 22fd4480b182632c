"""Output folders that are taken."""

import multiprocessing

import pytest

from synthset.errors import InputError
from synthset.output_dir import claim_output_dir, lock_output_dir


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
