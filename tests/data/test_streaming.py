"""Streamed pairs, from parquet files on disk; tests/scripts/test_hub.py streams over HTTP."""

from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from testing_utils.pairs import random_pairs

from synthset.data import (
    StreamedPairs,
    eval_transform,
    pair_features,
    stream_train_validation,
    to_tv_tensors,
    train_transform,
    write_pairs_shard,
)
from synthset.data.streaming import BUFFER_SIZE
from synthset.data.writer import png_bytes
from synthset.errors import InputError
from synthset.publishing.cards import write_dataset_card
from synthset.training.stream import StreamedTraining
from synthset.training.timesteps import UniformTimesteps

TEMPLATE = Path(__file__).parents[2] / "model_cards" / "dataset.md"


def write_dataset(folder, shards, card=True):
    """Parquet files with the given lists of rows by split, and a card that says how many there are."""
    for split, parts in shards.items():
        for i, rows in enumerate(parts):
            name = f"{split}-{i:05d}-of-{len(parts):05d}.parquet"
            write_pairs_shard(folder / "data" / name, rows, pair_features())
    counts = {split: sum(map(len, parts)) for split, parts in shards.items()}
    if card:
        write_dataset_card(folder, TEMPLATE, pair_features(), counts, title="pairs")
    return str(folder)


@pytest.fixture
def rows():
    return random_pairs(14)


@pytest.fixture
def source(tmp_path, rows):
    return write_dataset(tmp_path / "pairs", {"train": [rows[:5], rows[5:9], rows[9:12]], "validation": [rows[12:]]})


def number(pair, rows):
    """Which of the rows a streamed pair is."""
    (found,) = (i for i, row in enumerate(rows) if all(map(torch.equal, pair, to_tv_tensors(row))))
    return found


@pytest.mark.slow
def test_a_pass_visits_every_pair_once_in_an_order_of_its_own(source, rows):
    train, validation = stream_train_validation(source, None, None, 0.2, seed=0)
    assert len(train) == 12 and [number(pair, rows) for pair in validation] == [12, 13]
    order = [number(train[position], rows) for position in range(36)]
    passes = [order[i : i + 12] for i in (0, 12, 24)]
    assert all(sorted(one) == list(range(12)) for one in passes)
    assert passes[0] != passes[1] != passes[2]
    again = stream_train_validation(source, None, None, 0.2, seed=0).train
    for position in (30, 31, 3, 17):  # forward, to a later pass and back
        assert number(again[position], rows) == order[position]
    other = stream_train_validation(source, None, None, 0.2, seed=1).train
    assert [number(other[position], rows) for position in range(12)] != passes[0]


def test_pairs_are_held_out_where_there_is_no_validation_split(tmp_path, rows):
    source = write_dataset(tmp_path, {"train": [rows[:7], rows[7:]]})
    train, validation = stream_train_validation(source, None, None, 0.2, seed=0)
    assert [number(pair, rows) for pair in validation] == [0, 1, 2]  # a fifth of 14, rounded up
    assert sorted(number(train[position], rows) for position in range(len(train))) == list(range(3, 14))


def test_validation_keeps_the_squares_it_looks_at(tmp_path):
    """Of 40 x 30 pixels, the central 24 x 24; without --crop_size at most 512 x 512. Nothing else stays in memory."""
    rows = random_pairs(3, size=(40, 30)) + random_pairs(1, size=(600, 540))
    source = write_dataset(tmp_path, {"train": [rows[:2]], "validation": [rows[2:]]})
    for crop_size, shapes in [(24, [(24, 24), (24, 24)]), (None, [(30, 40), (512, 512)])]:
        validation = stream_train_validation(source, None, None, 0.2, 0, crop_size).validation
        assert [image.shape for image, _ in validation] == [(3, *shape) for shape in shapes]
        assert [mask.shape for _, mask in validation] == [(1, *shape) for shape in shapes]
        assert all(x.untyped_storage().nbytes() == x.numel() for pair in validation for x in pair)
        for row, kept in zip(rows[2:], validation, strict=True):
            whole, transform = to_tv_tensors(row), eval_transform(16, 24)
            assert all(map(torch.equal, transform(*whole), transform(*kept)))


@pytest.mark.parametrize("start", [0, 1500], ids=["fresh", "resumed"])
def test_colors_are_compared_without_reading_again(start):
    """A run reads up to where it is and the window it shuffles; looking at the colors of training pairs reads 256 more,
    no matter where the run is."""
    count, size = 2000, (8, 8)
    (pair,) = random_pairs(1, size)
    row, read = {name: {"bytes": png_bytes(pair[name]), "path": None} for name in ("image", "mask")}, [0]

    def stored():
        for _ in range(count):
            read[0] += 1
            yield row

    pairs = StreamedPairs("pairs", datasets.IterableDataset.from_generator(stored), count, seed=0)
    stream = StreamedTraining(pairs, train_transform(4, 8), UniformTimesteps(1000), seed=0)
    for position in range(start, start + 100):
        stream[position]
    before = read[0]
    assert before <= start + 100 + BUFFER_SIZE
    assert stream.images.shape == (256, 4, 4, 3)
    stream[start + 100]
    assert stream.images is stream.images and read[0] <= before + 256 + 1


def test_what_cannot_be_streamed(tmp_path, rows):
    with pytest.raises(InputError, match="--streaming is for datasets on the Hub"):
        stream_train_validation("demo", None, None, 0.2, 0)
    with pytest.raises(InputError, match="does not say in its card how many pairs"):
        stream_train_validation(write_dataset(tmp_path / "a", {"train": [rows]}, card=False), None, None, 0.2, 0)
    with pytest.raises(InputError, match="no column 'masks'.*--mask_column"):
        stream_train_validation(write_dataset(tmp_path / "b", {"train": [rows]}), None, "masks", 0.2, 0)


def test_bad_pairs_are_named(tmp_path, rows):
    rows[3]["mask"] = Image.fromarray(np.ones((2, 3), np.uint8))
    train = stream_train_validation(
        write_dataset(tmp_path / "a", {"train": [rows], "validation": [rows[:1]]}), None, None, 0.2, 0
    ).train
    with pytest.raises(InputError, match="the mask of pair .* of epoch 0 of .* is 3x2 pixels"):
        for position in range(14):
            train[position]
    train = stream_train_validation(write_dataset(tmp_path / "b", {"train": [rows[4:]]}), None, None, 0.2, 0).train
    train.smallest_side = 1000
    with pytest.raises(InputError, match="smaller than --crop_size 1000"):
        train[0]


def test_fewer_pairs_than_the_card_says(tmp_path, rows):
    source = write_dataset(tmp_path, {"train": [rows[:5], rows[5:]], "validation": [rows[:1]]})
    (tmp_path / "data" / "train-00001-of-00002.parquet").unlink()
    train = stream_train_validation(source, None, None, 0.2, 0).train
    with pytest.raises(InputError, match="ends after 5 pairs, but its card says 14"):
        [train[position] for position in range(14)]
