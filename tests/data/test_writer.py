import resource
import weakref

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from PIL import Image
from testing_utils.pairs import random_pairs, same_pairs

from synthset.data import (
    export_imagefolder,
    load_pairs,
    pair_features,
    read_rows,
    verify_pairs,
    write_pairs,
    write_pairs_shard,
)
from synthset.data import writer as module
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


def groups_of(path):
    """Rows and bytes of the row groups of a parquet file."""
    metadata = pq.read_metadata(path)
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    return [(group.num_rows, group.total_byte_size) for group in groups]


def test_row_groups_are_bounded_by_bytes(tmp_path, monkeypatch):
    """100 photos of 22 MiB in one row group could not be opened any more; here, 5 of 0.75 MB after 150 of 4 kB."""
    assert module.GROUP_BYTES == 64 * 2**20
    monkeypatch.setattr(module, "GROUP_BYTES", 2**21)
    rows = random_pairs(150) + random_pairs(5, (500, 500), seed=1) + random_pairs(3, seed=2)
    path = tmp_path / "data" / "train-00000-of-00001.parquet"
    assert write_pairs_shard(path, rows, pair_features()) == 158
    assert [count for count, _ in groups_of(path)] == [100, 52, 2, 4]
    assert all(size < 2**21 + 10000 for _, size in groups_of(path))
    # load_dataset reads in batches of as many rows as the first row group has, which must not join those of others
    batches = ds.dataset(path, format="parquet").to_batches(batch_size=100)
    assert [len(batch) for batch in batches] == [100, 52, 2, 4]
    assert same_pairs(load_pairs(str(tmp_path)), rows)


@pytest.mark.parametrize("write", [write_pairs_shard, write_pairs])
def test_memory_does_not_grow_with_the_number_of_rows(tmp_path, monkeypatch, write):
    monkeypatch.setattr(module, "GROUP_BYTES", 2**16)
    photos, alive, allocated = [], [], []

    def rows():
        for row in random_pairs(60, (64, 64)):  # 12 kB each
            row = {name: picture.copy() for name, picture in row.items()}
            photos.append(weakref.ref(row["image"]))
            alive.append(sum(photo() is not None for photo in photos))
            allocated.append(pa.total_allocated_bytes())
            yield row

    arguments = (tmp_path / "train.parquet",) if write is write_pairs_shard else (tmp_path, "train")
    assert write(*arguments, rows(), pair_features()) == 60
    assert max(alive) <= 3 and max(allocated[30:]) < max(allocated[:30]) + 30_000
    (path,) = tmp_path.rglob("*.parquet")
    assert len(groups_of(path)) >= 12 and all(size <= 2**16 + 2000 for _, size in groups_of(path))
    assert len(list(read_rows([path], ["mask"]))) == 60


def test_a_split_is_written_as_shards_of_bounded_size(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "GROUP_BYTES", 60_000)
    monkeypatch.setattr(module, "SHARD_BYTES", 220_000)
    rows = rows_with_columns(60, size=(64, 64))  # 13 kB each: 4 in a group, 16 in a file
    for name in ("a", "b"):
        assert write_pairs(tmp_path / name, "train", iter(rows), FEATURES) == 60
        assert write_pairs(tmp_path / name, "test", rows[:2], FEATURES) == 2
        assert write_pairs(tmp_path / name, "validation", [], FEATURES) == 0
    shards = sorted((tmp_path / "a" / "data").iterdir())
    assert [path.name for path in shards] == [
        "test-00000-of-00001.parquet",
        *(f"train-0000{number}-of-00004.parquet" for number in range(4)),
    ]
    assert all(path.stat().st_size < 240_000 for path in shards)
    assert all(path.read_bytes() == (tmp_path / "b" / "data" / path.name).read_bytes() for path in shards)
    assert verify_pairs(tmp_path / "a") == {"test": 2, "train": 60}
    assert same_pairs(load_pairs(str(tmp_path / "a")), rows)
    assert [row["seed"] for row in read_rows(shards[1:], ["seed"])] == list(range(60))


def test_a_split_that_is_not_finished_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "GROUP_BYTES", 2**13)
    monkeypatch.setattr(module, "SHARD_BYTES", 2**14)
    bad = {"image": Image.new("RGB", (4, 4)), "mask": Image.new("L", (4, 4), 7)}
    with pytest.raises(InputError, match="values 7"):
        write_pairs(tmp_path, "train", [*random_pairs(20), bad], pair_features())
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.parametrize("damage", ["flipped bit of an image", "cut off", "other sizes", "a file less"])
def test_what_was_written_is_read_back(tmp_path, monkeypatch, damage):
    monkeypatch.setattr(module, "GROUP_BYTES", 2**13)
    monkeypatch.setattr(module, "SHARD_BYTES", 2**14)
    rows = random_pairs(12)
    if damage == "other sizes":
        rows[7]["mask"] = Image.new("L", (4, 4), 1)
    write_pairs(tmp_path, "train", rows, pair_features())
    shards = sorted((tmp_path / "data").iterdir())
    assert len(shards) >= 3
    contents = shards[1].read_bytes()
    if damage == "flipped bit of an image":
        place = contents.index(b"IDAT") + 500
        shards[1].write_bytes(contents[:place] + bytes([contents[place] ^ 1]) + contents[place + 1 :])
    elif damage == "cut off":
        shards[1].write_bytes(contents[:-20])
    elif damage == "a file less":
        shards[1].unlink()
    expected = {"a file less": "data has . of . files of train", "other sizes": "row . has an image and a mask of two"}
    with pytest.raises(InputError, match=expected.get(damage, f"{shards[1]} can't be read back")) as caught:
        verify_pairs(tmp_path)
    assert "\n" not in str(caught.value)


def test_label_maps_are_stored_as_png(tmp_path):
    """Classes above 255 too."""
    rows = random_pairs(3)
    for mode, dtype, top in (("L", np.uint8, 200), ("I;16", np.uint16, 40000)):
        values = [np.full((32, 40), top + i, dtype) for i in range(3)]
        labeled = [{**row, "labels": Image.fromarray(value)} for row, value in zip(rows, values, strict=True)]
        assert labeled[0]["labels"].mode == mode
        write_pairs(tmp_path / mode, "train", [*labeled, {**rows[0], "labels": None}], pair_features(labels="image"))
        assert verify_pairs(tmp_path / mode) == {"train": 4}
        stored = datasets.load_dataset(str(tmp_path / mode), split="train")["labels"]
        assert [picture.format for picture in stored[:3]] == ["PNG"] * 3 and stored[3] is None
        assert all(np.array_equal(picture, value) for picture, value in zip(stored[:3], values, strict=True))


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
