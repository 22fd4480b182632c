import resource

import datasets
import numpy as np
import pytest
from PIL import Image
from testing_utils.pairs import random_pairs, same_pairs

from synthset.data import export_imagefolder, load_pairs, pair_features, write_pairs_shard
from synthset.errors import InputError

FEATURES = pair_features(seed="int64", coverage="float32")


def rows_with_columns(count, **kwargs):
    return [
        {**row, "seed": i, "coverage": float(np.asarray(row["mask"]).mean())}
        for i, row in enumerate(random_pairs(count, **kwargs))
    ]


def test_shards_open_with_load_dataset(tmp_path):
    rows = rows_with_columns(5)
    assert write_pairs_shard(tmp_path / "train-00000-of-00002.parquet", rows[:3], FEATURES) == 3
    assert write_pairs_shard(tmp_path / "train-00001-of-00002.parquet", rows[3:], FEATURES) == 2
    loaded = datasets.load_dataset(str(tmp_path), split="train")
    assert loaded.features == FEATURES
    assert loaded["seed"][:] == [0, 1, 2, 3, 4]
    assert np.allclose(loaded["coverage"][:], [row["coverage"] for row in rows])
    for row, expected in zip(loaded, rows, strict=True):
        assert (row["image"].mode, row["mask"].mode) == ("RGB", "L")
        assert (row["image"].format, row["mask"].format) == ("PNG", "PNG")
        assert np.array_equal(row["image"], expected["image"])
        assert np.array_equal(row["mask"], np.asarray(expected["mask"]) * 255)
    assert same_pairs(load_pairs(str(tmp_path)), rows)


def test_masks_of_0_and_255_are_stored_as_they_are(tmp_path):
    rows = random_pairs(2)
    white = [{**row, "mask": row["mask"].point(lambda value: value * 255)} for row in rows]
    write_pairs_shard(tmp_path / "a.parquet", rows, pair_features())
    write_pairs_shard(tmp_path / "b.parquet", white, pair_features())
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_more_rows_than_a_row_group_keep_their_order(tmp_path):
    rows = rows_with_columns(205, size=(4, 3))
    assert write_pairs_shard(tmp_path / "train.parquet", iter(rows), FEATURES) == 205
    assert same_pairs(load_pairs(str(tmp_path)), rows)


def test_images_read_from_jpeg_are_stored_losslessly(tmp_path):
    row = random_pairs(1)[0]
    row["image"].save(tmp_path / "photo.jpg")
    with Image.open(tmp_path / "photo.jpg") as photo:
        write_pairs_shard(tmp_path / "train.parquet", [{**row, "image": photo}], pair_features())
        stored = datasets.load_dataset(str(tmp_path), data_files="train.parquet", split="train")[0]["image"]
        assert stored.format == "PNG"
        assert np.array_equal(stored, photo)


def failing(rows):
    yield from rows
    raise KeyboardInterrupt


def test_nothing_appears_and_nothing_is_lost_when_writing_stops(tmp_path):
    path, rows = tmp_path / "train.parquet", rows_with_columns(3)
    for attempt in range(2):  # with nothing there, and over a complete shard
        before = path.read_bytes() if attempt else None
        with pytest.raises(KeyboardInterrupt):
            write_pairs_shard(path, failing(rows[:2]), FEATURES)
        bad = {**rows[1], "mask": Image.new("L", rows[1]["image"].size, 7)}
        with pytest.raises(InputError, match="values 7"):
            write_pairs_shard(path, [rows[0], bad], FEATURES)
        assert [file.name for file in tmp_path.iterdir()] == (["train.parquet"] if attempt else [])
        if attempt:
            assert path.read_bytes() == before
        write_pairs_shard(path, rows, FEATURES)


def test_full_disk_leaves_the_old_shard(tmp_path):
    path = tmp_path / "train.parquet"
    write_pairs_shard(path, rows_with_columns(1), FEATURES)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before), limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_pairs_shard(path, rows_with_columns(9), FEATURES)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["train.parquet"]


def test_leftovers_of_a_killed_process_are_not_data(tmp_path):
    rows = random_pairs(1)
    write_pairs_shard(tmp_path / "data" / "train-00000-of-00001.parquet", rows, pair_features())
    (tmp_path / "data" / ".train-00001-of-00002.parquet.tmp").write_bytes(b"half a shard")
    assert same_pairs(load_pairs(str(tmp_path)), rows)


def test_imagefolder_opens_with_load_pairs_and_load_dataset(tmp_path):
    rows = rows_with_columns(5)
    shards = [tmp_path / "shards" / f"train-0000{i}-of-00002.parquet" for i in range(2)]
    write_pairs_shard(shards[0], rows[:3], FEATURES)
    write_pairs_shard(shards[1], rows[3:], FEATURES)
    assert export_imagefolder(shards, tmp_path / "folder") == 5
    names = sorted(path.name for path in (tmp_path / "folder" / "masks").iterdir())
    assert names == ["000000.png", "000001.png", "000002.png", "000003.png", "000004.png"]
    rows[0]["image"].save(tmp_path / "folder" / "preview.png")
    pairs = load_pairs(str(tmp_path / "folder"))
    loaded = datasets.load_dataset(str(tmp_path / "folder"), split="train")
    assert same_pairs(pairs, rows)
    assert set(loaded.column_names) == {"image", "mask", "seed", "coverage"}
    assert loaded["seed"][:] == pairs["seed"][:] == [0, 1, 2, 3, 4]
    assert np.array_equal(loaded[4]["mask"], np.asarray(rows[4]["mask"]) * 255)


def test_a_further_column_of_pictures(tmp_path):
    features = pair_features(low_res_image="image", low_res_mask="image", consistent="bool")
    rows = random_pairs(3)
    for row, small in zip(rows, random_pairs(3, size=(5, 4), seed=1), strict=True):
        white = small["mask"].point(lambda value: value * 255)
        row |= {"low_res_image": small["image"], "low_res_mask": white, "consistent": True}
    shard = tmp_path / "shards" / "train-00000-of-00001.parquet"
    write_pairs_shard(shard, rows, features)
    assert export_imagefolder([shard], tmp_path / "folder") == 3
    stored = datasets.load_dataset(str(shard.parent), split="train")
    unpacked = datasets.load_dataset(str(tmp_path / "folder"), split="train")
    assert stored.features == features
    for column in ("low_res_image", "low_res_mask"):
        for i, row in enumerate(rows):
            for found in (stored[i][column], unpacked[i][column]):
                assert found.format == "PNG" and np.array_equal(found, row[column])
            assert (tmp_path / "folder" / f"{column}s" / f"{i:06d}.png").is_file()
    assert same_pairs(load_pairs(str(tmp_path / "folder")), rows)
