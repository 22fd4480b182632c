"""`render_dataset.py` as users run it."""

import json

import numpy as np
import pytest
from datasets import load_dataset
from testing_utils import runs

from synthset.arguments import RenderArguments
from synthset.data import load_pairs
from synthset.data.demo import SPLIT_SEEDS
from synthset.errors import InputError
from synthset.registry import SCENES

SCRIPT = runs.load_script("render_dataset.py")


def render(folder, **changes):
    flags = {"num_samples": 5, "resolution": 32, "samples_per_shard": 2, "num_workers": 0, **changes}
    SCRIPT.main(RenderArguments(output_dir=str(folder), **flags))
    return load_dataset(str(folder), split="train")


def files(folder):
    return {path.name: path.read_bytes() for path in sorted((folder / "data").iterdir())}


def test_rows_are_the_scenes_in_turn_and_can_be_rendered_again(tmp_path):
    rows = render(tmp_path / "rendered")
    assert rows["scene"][:] == ["cereals", "seedlings"] * 2 + ["cereals"]
    for row in rows:
        image, mask = SCENES[row["scene"]](row["scene_seed"], 32)
        assert np.array_equal(row["image"], image) and np.array_equal(np.asarray(row["mask"]) > 0, np.asarray(mask) > 0)
        assert row["coverage"] == pytest.approx(np.asarray(mask).mean())
        assert not any(row["scene_seed"] in seeds for seeds in SPLIT_SEEDS.values())
    assert len(load_pairs(str(tmp_path / "rendered"))) == 5
    assert "apache-2.0" in (tmp_path / "rendered" / "README.md").read_text()


def test_processes_write_the_same_files_and_more_pairs_add_to_them(tmp_path):
    render(tmp_path / "alone", num_samples=6)
    render(tmp_path / "together", num_samples=4)
    render(tmp_path / "together", num_samples=6, num_workers=2)
    assert list(files(tmp_path / "alone").values()) == list(files(tmp_path / "together").values())
    assert json.loads((tmp_path / "alone" / "rendering.json").read_text())["scenes"] == ["cereals", "seedlings"]


def test_refuses(tmp_path):
    render(tmp_path / "rendered", scenes=["wheat"])
    with pytest.raises(InputError, match="seed 0 -> 1"):
        render(tmp_path / "rendered", scenes=["wheat"], seed=1)
    for changes, message in (
        ({"scenes": []}, "--scenes is empty"),
        ({"resolution": 8}, "--resolution is 8; give 32 or more"),
        ({"num_samples": 0}, "--num_samples is 0; give 1 or more"),
    ):
        with pytest.raises(InputError, match=message):
            render(tmp_path / "none", **changes)
