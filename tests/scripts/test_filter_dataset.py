"""`filter_dataset.py` as users run it, in this process."""

import json

import numpy as np
import pytest
import torch
from datasets import load_dataset
from PIL import Image
from testing_utils import runs

from synthset.arguments import FilterArguments
from synthset.data import load_pairs, pair_features, write_pairs
from synthset.data.scale import recorded_crop_size
from synthset.errors import InputError
from synthset.evaluation.metrics import dice
from synthset.segmentation import Segmenter, TrainingPairs, build_segmenter, confidence, load_source
from synthset.segmentation.data import IGNORED

SCRIPT = runs.load_script("filter_dataset.py")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Twenty pairs, the first six without an object, as `generate --refine_masks` makes them."""
    folder, rng = tmp_path_factory.mktemp("pairs"), np.random.default_rng(0)
    agreement = rng.permutation(20) / 20
    rows = [
        {
            "image": Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)),
            "mask": Image.fromarray(((rng.random((32, 32)) < 0.5) * (number > 5)).astype(np.uint8)),
            "first_mask": Image.fromarray(rng.integers(0, 2, (32, 32), dtype=np.uint8) * 255),
            "agreement": agreement[number],
        }
        for number in range(20)
    ]
    write_pairs(folder, "train", rows, pair_features(first_mask="image", agreement="float32"))
    (folder / "generation.json").write_text(json.dumps({"crop_size": 99}))
    return folder, rows


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    torch.manual_seed(0)
    segmenter = build_segmenter("unet", "mobilenet_v2", None, resolution=32, crop_size=32)
    folder = tmp_path_factory.mktemp("judge") / "seed-0"
    folder.mkdir()
    segmenter.save_pretrained(folder)
    return folder


def run(dataset, output_dir, **changes):
    SCRIPT.main(FilterArguments(dataset=str(dataset), output_dir=str(output_dir), **changes))
    return load_dataset(str(output_dir), split="train")


def test_keeps_the_share_that_agrees_best_with_and_without_an_object(pairs, tmp_path, capsys):
    folder, rows = pairs
    kept = run(folder, tmp_path / "kept", keep=0.5)
    best = sorted(range(6), key=lambda n: -rows[n]["agreement"])[:3]
    best += sorted(range(6, 20), key=lambda n: -rows[n]["agreement"])[:7]
    assert kept["number"][:] == sorted(best)
    for row in kept:
        source = rows[row["number"]]
        assert np.array_equal(row["image"], source["image"])
        assert np.array_equal(np.asarray(row["mask"]) > 0, np.asarray(source["mask"]) > 0)
        assert np.array_equal(row["first_mask"], source["first_mask"])
        assert row["agreement"] == pytest.approx(source["agreement"])
    assert len(load_pairs(str(tmp_path / "kept"))) == 10 and recorded_crop_size(str(tmp_path / "kept")) == 99
    assert "Kept 10 of 20 pairs" in capsys.readouterr().out
    assert "10 of the 20 pairs" in (tmp_path / "kept" / "README.md").read_text()
    for name in ("best", "worst"):  # of the fourteen with an object
        assert Image.open(tmp_path / "kept" / f"{name}.png").width == 8 * 130 + 2
    assert run(folder, tmp_path / "kept", keep=0.5)["number"][:] == kept["number"][:]  # once more changes nothing
    with pytest.raises(InputError, match="keep 0.5 -> 0.6"):
        run(folder, tmp_path / "kept", keep=0.6)


def test_a_segmenter_judges(pairs, judge, tmp_path):
    folder, rows = pairs
    judged = run(folder, tmp_path / "judged", judge=str(judge), keep=1.0)
    assert judged["number"][:] == list(range(20))
    segmenter = Segmenter.from_pretrained(judge)
    for row, source in zip(judged, rows, strict=True):
        probability = segmenter.predict(source["image"])
        found = probability > 0.5
        assert row["agreement"] == pytest.approx(dice(found, np.asarray(source["mask"])))
        assert row["confidence"] == pytest.approx(confidence(probability, found))


def test_hard_pairs_are_drawn_more_often(pairs, judge, tmp_path):
    folder, _ = pairs
    flags = {"judge": str(judge), "keep": 1.0, "difficulty": 20.0}
    drawn = run(folder, tmp_path / "drawn", **flags)
    all_of_them = run(folder, tmp_path / "all", judge=str(judge), keep=1.0)
    assert len(drawn) == 20 and len(set(drawn["number"][:])) < 20
    assert np.mean(drawn["confidence"][:]) < np.mean(all_of_them["confidence"][:])
    assert run(folder, tmp_path / "again", **flags)["number"][:] == drawn["number"][:]


def test_segmenters_do_not_learn_where_first_masks_and_votes_differ(pairs, tmp_path):
    folder, rows = pairs
    kept = run(folder, tmp_path / "kept", keep=1.0, ignore_differing=True)
    source = load_source("--dataset", str(tmp_path / "kept"), ["train"], None, None)
    for number, row in enumerate(rows):
        mask, first = (np.asarray(row[name]) > 0 for name in ("mask", "first_mask"))
        assert np.array_equal(np.asarray(kept[number]["ignore"]) > 0, mask != first)
        learned = source.training_mask(number)[0].numpy()
        assert np.array_equal(learned == IGNORED, mask != first) and np.array_equal(learned == 1, mask & first)
    items = TrainingPairs([source], 32, 32, (0,))
    assert {0, IGNORED} <= set(items[0][1].unique().tolist()) <= {0, 1, IGNORED}
    assert not (source.tensors[0][1] == IGNORED).any()  # what segmenters are tested on has no such pixels


def test_refuses(pairs, tmp_path):
    folder, rows = pairs
    write_pairs(tmp_path / "plain", "train", rows[:2], pair_features())
    for flags, message in (
        ({"dataset": tmp_path / "plain"}, "has no column agreement; give a --judge"),
        ({"keep": 0.0}, "--keep is 0.0; give a number above 0"),
        ({"keep": 0.01}, "--keep is 0.01, which leaves none of 20 pairs"),
        ({"dataset": tmp_path / "plain", "ignore_differing": True}, "has no column first_mask; generate it with"),
        ({"difficulty": 1.0}, "--difficulty is 1.0, which means nothing without --judge"),
        ({"judge": str(tmp_path / "none")}, "--judge is .*none, which can't be loaded"),
    ):
        with pytest.raises(InputError, match=message):
            run(**{"dataset": folder, "output_dir": tmp_path / "none", **flags})
        assert not (tmp_path / "none").exists()
