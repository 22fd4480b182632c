import pytest

from synthset.data.demo import SPLIT_SEEDS, demo_pairs
from synthset.errors import InputError
from synthset.rendering.cereals import render_wheat


def test_splits_share_no_pair():
    seeds = [seed for split in SPLIT_SEEDS.values() for seed in split]
    assert len(set(seeds)) == len(seeds)


def test_a_split_is_a_dataset_of_lossless_pairs():
    pairs = demo_pairs("test")
    assert pairs.column_names == ["image", "mask"]
    assert len(pairs) == len(SPLIT_SEEDS["test"])
    for picture, rendered in zip(pairs[3].values(), render_wheat(SPLIT_SEEDS["test"][3]), strict=True):
        assert picture.mode == rendered.mode
        assert picture.tobytes() == rendered.tobytes()


def test_an_unknown_split_is_an_input_error():
    with pytest.raises(InputError, match="'val'; use one of train, validation, test"):
        demo_pairs("val")
