import os

import datasets
import numpy as np
import pytest
from PIL import Image

from synthset import InputError
from synthset.data import GrowingDataset, load_pairs, pair_features, write_pairs_shard

FEATURES = pair_features(number="int64")
FORMATS = {"parquet": (), "imagefolder": ("image", "mask")}


class KilledError(BaseException):
    """Raised where a process is killed."""


def pair(number):
    rng = np.random.default_rng(number)
    image, mask = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8), rng.integers(0, 2, (4, 4), dtype=np.uint8)
    return {"image": Image.fromarray(image), "mask": Image.fromarray(mask), "number": number}


def make(folder, num_samples, pictures):
    """What the scripts do, in parts of three pairs."""
    folder.mkdir(exist_ok=True)
    pairs = GrowingDataset(folder, num_samples, 3, pictures)
    pairs.prepare()
    drawn = []
    for shard, numbers in pairs.missing():
        drawn += numbers
        write_pairs_shard(shard, map(pair, numbers), FEATURES)
    pairs.publish()
    if not (folder / "README.md").exists():
        (folder / "README.md").write_text(f"{len(pairs.rows(['number'], num_samples))} pairs\n")
    return drawn


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def pairs_found(folder, cache):
    """How many pairs `load_pairs` and `datasets.load_dataset` find and can read; 0 where they raise."""
    try:
        rows = load_pairs(str(folder))
    except InputError as error:
        assert "is not finished" in str(error) or "no such file" in str(error)
        rows = []
    for number, row in enumerate(rows):
        assert row["number"] == number
        np.testing.assert_array_equal(row["mask"], pair(number)["mask"])
    try:
        loaded = list(datasets.load_dataset(str(folder), split="train", cache_dir=str(cache)))
    except Exception:  # of several kinds
        loaded = []
    return len(rows), len([row for row in loaded if {"image", "mask"} <= row.keys()])


@pytest.mark.parametrize("pictures", FORMATS.values(), ids=FORMATS)
def test_more_pairs_later(tmp_path, pictures):
    """The same bytes as at once; whole parts are not made again, and rows read back are those of the pairs."""
    assert make(tmp_path / "once", 8, pictures) == list(range(8))
    assert make(tmp_path / "grown", 4, pictures) == [0, 1, 2, 3]
    assert make(tmp_path / "grown", 8, pictures) == [3, 4, 5, 6, 7]
    assert contents(tmp_path / "grown") == contents(tmp_path / "once")
    assert make(tmp_path / "grown", 8, pictures) == []
    assert pairs_found(tmp_path / "grown", tmp_path / "cache") == (8, 8)
    rows = GrowingDataset(tmp_path / "grown", 8, 3, pictures).rows(["number", "image"], 5)
    assert [row["number"] for row in rows] == [0, 1, 2, 3, 4]
    assert rows[4]["image"]["bytes"].startswith(b"\x89PNG")


@pytest.mark.parametrize("pictures", FORMATS.values(), ids=FORMATS)
def test_fewer_pairs_than_there_are(tmp_path, pictures):
    make(tmp_path / "pairs", 8, pictures)
    before = contents(tmp_path / "pairs")
    for num_samples in (7, 3):
        with pytest.raises(
            InputError, match=f"--num_samples is {num_samples}, but .* has pairs up to 8 already; give 8"
        ):
            make(tmp_path / "pairs", num_samples, pictures)
    assert contents(tmp_path / "pairs") == before


@pytest.mark.parametrize("pictures", FORMATS.values(), ids=FORMATS)
def test_killed_at_any_file(tmp_path, monkeypatch, pictures):
    """Killed before every change of a file's name in turn, from nothing to 4 pairs and on to 8: at no time does a
    loader find some of the pairs, or a card say that all are there, and the same call ends in the same bytes."""
    make(tmp_path / "once", 8, pictures)
    replace, left, listings = os.replace, 0, set()

    def dying(*paths):
        nonlocal left
        left -= 1
        if left < 0:
            raise KilledError
        replace(*paths)

    for num_samples, whole in ((4, {0, 4}), (8, {4, 0, 8})):
        for kill in range(100):
            left = kill
            folder = tmp_path / f"{num_samples}-{kill}"
            if num_samples == 8:
                make(folder, 4, pictures)
                left = kill
            monkeypatch.setattr(os, "replace", dying)
            try:
                make(folder, num_samples, pictures)
            except KilledError:
                killed = True
            else:
                killed = False
            monkeypatch.setattr(os, "replace", replace)
            names = num_samples, *sorted(path.name for path in folder.iterdir())
            if names not in listings:
                listings.add(names)
                found = pairs_found(folder, tmp_path / f"cache-{num_samples}-{kill}")
                assert whole.issuperset(found)
                assert found == (num_samples, num_samples) or not (folder / "README.md").exists()
            make(folder, num_samples, pictures)
            make(folder, 8, pictures)
            assert contents(folder) == contents(tmp_path / "once")
            if not killed:
                break
        assert not killed and kill >= 3
