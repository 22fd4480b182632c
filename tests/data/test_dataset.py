import pickle
import shutil

import datasets
import numpy as np
import pytest
from PIL import Image
from testing_utils.pairs import random_pairs, same_pairs, write_raw_folder

from synthset.data import (
    SplitNotFoundError,
    load_pairs,
    load_train_validation,
    pairs_digest,
)
from synthset.errors import InputError


def as_dataset(rows, **columns):
    """A plain `datasets.Dataset` with masks of 0 and 255 and more columns."""
    features = {"image": datasets.Image(), "mask": datasets.Image()}
    dataset = datasets.Dataset.from_dict(
        {
            "image": [row["image"] for row in rows],
            "mask": [row["mask"].point(lambda value: value * 255) for row in rows],
        },
        features=datasets.Features(features),
    )
    for name, values in columns.items():
        dataset = dataset.add_column(name, values)
    return dataset


def save_parquet(dataset, folder):
    for split, part in dataset.items():
        path = folder / "data" / f"{split}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        part.to_parquet(str(path))


SAVE = {
    "dataset": lambda dataset, folder: dataset["train"].save_to_disk(str(folder)),
    "dataset dict": lambda dataset, folder: dataset.save_to_disk(str(folder)),
    "parquet": save_parquet,
}


@pytest.mark.parametrize("kind", SAVE)
def test_stored_datasets_give_the_same_rows(tmp_path, kind):
    rows = random_pairs(3)
    SAVE[kind](datasets.DatasetDict(train=as_dataset(rows, seed=[5, 6, 7])), tmp_path / "stored")
    pairs = load_pairs(str(tmp_path / "stored"))
    assert pairs.column_names == ["image", "mask", "seed"]
    assert same_pairs(pairs, rows)
    assert [row["seed"] for row in pairs] == [5, 6, 7]
    assert (pairs[0]["image"].mode, pairs[0]["mask"].mode) == ("RGB", "L")


@pytest.mark.parametrize("kind", ["dataset dict", "parquet"])
def test_stored_datasets_with_splits(tmp_path, kind):
    rows = random_pairs(5)
    dataset = datasets.DatasetDict(train=as_dataset(rows[:3]), validation=as_dataset(rows[3:]))
    SAVE[kind](dataset, tmp_path / "stored")
    assert same_pairs(load_pairs(str(tmp_path / "stored"), "validation"), rows[3:])
    with pytest.raises(SplitNotFoundError, match="no split 'test'; use one of: train, validation"):
        load_pairs(str(tmp_path / "stored"), "test")


def test_folders_of_one_name_are_not_confused(tmp_path):
    # datasets' cache does so when the card lists the data files; a folder that was written again is the same case.
    for count, place in [(2, "a"), (3, "b"), (4, "b")]:
        folder = tmp_path / place / "dataset"
        rows = random_pairs(count, seed=count)
        save_parquet({"train": as_dataset(rows)}, folder)
        (folder / "README.md").write_text(
            "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/train-*\n---\n"
        )
        assert same_pairs(load_pairs(str(folder)), rows)


def test_raw_folder_is_the_train_split(tmp_path):
    write_raw_folder(tmp_path, random_pairs(2))
    with pytest.raises(SplitNotFoundError, match="no split 'test'; use one of: train"):
        load_pairs(str(tmp_path), "test")


@pytest.mark.parametrize("name", ["validation", "val", "valid"])
def test_sub_folders_are_splits(tmp_path, name):
    rows = random_pairs(3)
    write_raw_folder(tmp_path / "train", rows[:1])
    write_raw_folder(tmp_path / name, rows[1:])
    assert same_pairs(load_pairs(str(tmp_path), "train"), rows[:1])
    assert same_pairs(load_pairs(str(tmp_path), "validation"), rows[1:])


def test_columns_name_sub_folders_of_a_raw_folder(tmp_path):
    rows = random_pairs(2)
    write_raw_folder(tmp_path, rows)
    others = [{"image": row["image"], "mask": row["mask"].rotate(180)} for row in rows]
    write_raw_folder(tmp_path, others, masks="masks_crop")
    (tmp_path / "images").rename(tmp_path / "photos")
    assert same_pairs(load_pairs(str(tmp_path), image_column="photos"), rows)
    pairs = load_pairs(str(tmp_path), image_column="photos", mask_column="masks_crop")
    assert pairs.column_names == ["image", "mask"]
    assert same_pairs(pairs, others)


def test_columns_of_a_dataset_are_renamed(tmp_path):
    rows = random_pairs(2)
    dataset = as_dataset(rows, field=["a", "b"]).rename_columns({"image": "photo", "mask": "label"})
    dataset = dataset.add_column("mask", ["replaced", "replaced"])
    dataset.save_to_disk(str(tmp_path / "stored"))
    pairs = load_pairs(str(tmp_path / "stored"), image_column="photo", mask_column="label")
    assert pairs.column_names == ["image", "mask", "field"]
    assert same_pairs(pairs, rows)


def test_missing_column_names_the_columns_there_are(tmp_path):
    as_dataset(random_pairs(1)).rename_column("mask", "label").save_to_disk(str(tmp_path / "stored"))
    with pytest.raises(InputError, match=r"no column 'mask' \(columns: image, label\); name one with --mask_column"):
        load_pairs(str(tmp_path / "stored"))


def test_one_column_is_not_a_pair(tmp_path):
    as_dataset(random_pairs(1)).save_to_disk(str(tmp_path / "stored"))
    with pytest.raises(InputError, match="--image_column and --mask_column are both 'mask'; name two"):
        load_pairs(str(tmp_path / "stored"), image_column="mask")


def test_column_that_holds_no_images(tmp_path):
    as_dataset(random_pairs(2), weed=[0, 1]).save_to_disk(str(tmp_path / "stored"))
    with pytest.raises(InputError, match=r"column 'weed' holds .*int64.*, not images; name one with --mask_column"):
        load_pairs(str(tmp_path / "stored"), mask_column="weed")


def make_bad_row(tmp_path, mask):
    """A parquet folder of four rows, the third with `mask`."""
    rows = random_pairs(4)
    stored = as_dataset(rows)
    broken = {"image": stored[2]["image"], "mask": mask}
    parts = [stored.select([0, 1]), datasets.Dataset.from_list([broken], features=stored.features), stored.select([3])]
    save_parquet({"train": datasets.concatenate_datasets(parts)}, tmp_path)
    return str(tmp_path)


BAD_MASKS = {
    "size": (Image.new("L", (8, 8)), "the mask of row 2 of .* is 8x8 pixels but the image of row 2 of .* is 40x32"),
    "values": (Image.new("L", (40, 32), 7), "the mask of row 2 of .* is a mask with values 7"),
    "no image": ({"bytes": b"hello", "path": None}, "the mask of row 2 of .* can't be read as an image: 5 bytes"),
    "missing": (None, "the mask of row 2 of .* is missing"),
}


@pytest.mark.parametrize("case", BAD_MASKS)
def test_a_bad_row_is_named_when_it_is_read(tmp_path, case):
    mask, expected = BAD_MASKS[case]
    source = make_bad_row(tmp_path, mask)
    pairs = load_pairs(source)
    assert pairs[1]["mask"].size == (40, 32)
    with pytest.raises(InputError, match=expected) as caught:
        pairs[2]
    assert source in str(caught.value)
    with pytest.raises(InputError, match="row 2"):  # the row of the source, not of the selection
        pairs.select([3, 2])[1]


def test_rows_are_the_same_however_they_are_reached(tmp_path):
    rows = random_pairs(6)
    pairs = load_pairs(str(write_raw_folder(tmp_path, rows)))
    assert same_pairs(pairs.select([4, 1]), [rows[4], rows[1]])
    assert same_pairs(pickle.loads(pickle.dumps(pairs)), rows)
    assert np.array_equal(pairs["mask"][3], rows[3]["mask"])
    assert np.array_equal(pairs[2:4]["image"][1], rows[3]["image"])
    assert list(pairs.select_columns("mask")[0]) == ["mask"]
    parts = pairs.train_test_split(test_size=2, seed=0)
    assert (len(parts["train"]), len(parts["test"])) == (4, 2)
    assert set(np.unique(parts["test"][0]["mask"])) == {0, 1}


def test_sources_that_are_nowhere(tmp_path):
    (tmp_path / "pairs.zip").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("")
    for source, expected in [
        (f"{tmp_path}/missing", "does not exist; give"),
        ("./missing", "does not exist; give"),
        (f"{tmp_path}/pairs.zip", "is a file; give"),
        (f"{tmp_path}/empty", r"holds no pairs \(found: nothing\); give"),
        (f"{tmp_path}/other", r"holds no pairs \(found: notes.txt\); give"),
        ("nobody/nothing", r"^nobody/nothing: no such folder, and loading it from the Hub failed \(.*\); give"),
    ]:
        with pytest.raises(InputError, match=expected) as caught:
            load_pairs(source)
        assert "\n" not in str(caught.value)


def test_damaged_datasets(tmp_path):
    as_dataset(random_pairs(1)).save_to_disk(str(tmp_path / "saved"))
    (tmp_path / "saved" / "dataset_info.json").unlink()
    save_parquet({"train": as_dataset(random_pairs(1))}, tmp_path / "parquet")
    shard = next((tmp_path / "parquet").rglob("*.parquet"))
    shard.write_bytes(shard.read_bytes()[:-100])
    save_parquet({"train": as_dataset(random_pairs(1)).select([])}, tmp_path / "no rows")
    for folder, expected in [
        ("saved", "saved dataset can't be loaded"),
        ("parquet", "parquet files can't be loaded"),
        ("no rows", "parquet files can't be loaded"),
    ]:
        with pytest.raises(InputError, match=expected) as caught:
            load_pairs(str(tmp_path / folder))
        assert "\n" not in str(caught.value)


def pixels(pairs):
    return sorted(np.asarray(row["image"]).tobytes() for row in pairs)


def test_validation_pairs_are_held_out_by_seed(tmp_path):
    source = str(write_raw_folder(tmp_path, random_pairs(9)))
    train, validation = load_train_validation(source, None, None, validation_fraction=0.2, seed=3)
    assert (len(train), len(validation)) == (7, 2)
    assert sorted(pixels(train) + pixels(validation)) == pixels(load_pairs(source))
    again = load_train_validation(source, None, None, validation_fraction=0.2, seed=3)
    assert same_pairs(again[0], train) and same_pairs(again[1], validation)
    others = [load_train_validation(source, None, None, validation_fraction=0.2, seed=seed)[1] for seed in range(3)]
    assert any(pixels(other) != pixels(validation) for other in others)


def test_a_validation_split_is_used_as_it_is(tmp_path):
    rows = random_pairs(5)
    write_raw_folder(tmp_path / "train", rows[:3])
    write_raw_folder(tmp_path / "val", rows[3:])
    train, validation = load_train_validation(str(tmp_path), None, None, validation_fraction=0.5, seed=0)
    assert same_pairs(train, rows[:3]) and same_pairs(validation, rows[3:])


def test_a_damaged_validation_split_is_not_replaced(tmp_path):
    write_raw_folder(tmp_path / "train", random_pairs(3))
    write_raw_folder(tmp_path / "val", random_pairs(1))
    (tmp_path / "val" / "masks" / "000.png").write_bytes(b"")
    with pytest.raises(InputError, match="val/masks/000.png"):
        load_train_validation(str(tmp_path), None, None, validation_fraction=0.5, seed=0)


def test_one_pair_is_too_few_to_hold_some_out(tmp_path):
    source = str(write_raw_folder(tmp_path, random_pairs(1)))
    with pytest.raises(InputError, match="--validation_fraction 0.2 of the 1 pairs in .* leaves none for training"):
        load_train_validation(source, None, None, validation_fraction=0.2, seed=0)


def test_the_digest_is_of_the_content(tmp_path):
    rows = random_pairs(6)
    folder = write_raw_folder(tmp_path / "field", rows)
    digest = pairs_digest(load_pairs(str(folder)))
    assert len(digest) == 64 and set(digest) <= set("0123456789abcdef")

    # the same wherever it lies, and whether as files or embedded
    shutil.copytree(folder, tmp_path / "copy")
    assert pairs_digest(load_pairs(str(tmp_path / "copy"))) == digest
    undecoded = load_pairs(str(folder)).with_format(None)
    undecoded.map(lambda row: {name: embed(row[name]) for name in ("image", "mask")}).save_to_disk(tmp_path / "saved")
    saved = load_pairs(str(tmp_path / "saved"))
    assert saved.with_format(None)[0]["image"]["bytes"] and pairs_digest(saved) == digest

    # another one for other pairs, another order, another division
    splits = [load_train_validation(str(folder), None, None, 0.5, seed) for seed in range(2)]
    digests = [pairs_digest(pairs) for split in splits for pairs in split]
    pairs = load_pairs(str(folder))
    digests += [digest, pairs_digest(pairs.select(range(5))), pairs_digest(pairs.select([1, 0, 2, 3, 4, 5]))]
    for path, changed in [("images/003.png", random_pairs(1, seed=9)[0]["image"]), ("masks/003.png", None)]:
        old = (folder / path).read_bytes()
        (changed or Image.new("L", rows[3]["mask"].size)).save(folder / path)
        digests.append(pairs_digest(load_pairs(str(folder))))
        (folder / path).write_bytes(old)
    assert pairs_digest(load_pairs(str(folder))) == digest
    write_raw_folder(folder, random_pairs(7))
    digests.append(pairs_digest(load_pairs(str(folder))))
    assert len(set(digests)) == len(digests)


def embed(value):
    return {"bytes": open(value["path"], "rb").read(), "path": None}


def test_the_digest_names_a_file_that_has_gone(tmp_path):
    pairs = load_pairs(str(write_raw_folder(tmp_path, random_pairs(2))))
    (tmp_path / "masks" / "001.png").unlink()
    with pytest.raises(InputError, match="masks/001.png can't be read: No such file or directory; restore it"):
        pairs_digest(pairs)
