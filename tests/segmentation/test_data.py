"""What a segmenter is trained and tested on."""

import json
import logging
from collections import Counter

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from testing_utils.pairs import random_pairs, write_raw_folder

from synthset.data import PairTensors, ResizePair, load_pairs, pair_features, write_pairs_shard
from synthset.data.dataset import DecodePairs
from synthset.errors import InputError
from synthset.segmentation import (
    PairSource,
    TestPhotos,
    TrainingPairs,
    check_stage,
    check_test,
    load_source,
)


def red_masks(count, size=(40, 32), seed=0):
    """Pairs whose mask can be read off the image: it is where red is 255."""
    rows = random_pairs(count, size, seed)
    for row in rows:
        pixels = np.array(row["image"])
        pixels[..., 0] = np.asarray(row["mask"]) * 255
        row["image"] = Image.fromarray(pixels)
    return rows


def source_of(rows, name="--dataset field", crop_size=None):
    pairs = datasets.Dataset.from_list(rows, features=pair_features())
    for column in ("image", "mask"):
        pairs = pairs.cast_column(column, datasets.Image(decode=False))
    return PairSource(name, pairs.with_transform(DecodePairs(name, pairs)), crop_size)


def without_object(rows):
    return [{**row, "mask": row["mask"].point(lambda value: 0)} for row in rows]


def test_test_photos_are_whole_and_at_the_scale_of_the_training_data():
    rows = [*red_masks(1, (40, 32)), *red_masks(1, (25, 24), seed=1)]
    photos = TestPhotos(source_of(rows), resolution=24, crop_size=24)
    assert len(photos) == 2
    for row, (image, mask) in zip(rows, (photos[0], photos[1]), strict=True):
        assert (image.permute(1, 2, 0).numpy() == np.asarray(row["image"])).all()
        assert (mask[0].numpy() == np.asarray(row["mask"])).all()
    halves = TestPhotos(source_of(rows), resolution=12, crop_size=24)
    assert [tuple(halves[i][0].shape) for i in (0, 1)] == [(3, 16, 20), (3, 12, 12)]
    assert (halves[0][1].shape, halves[0][1].dtype) == ((1, 16, 20), torch.uint8)
    # half of its size is what a tile of 24 px becomes too
    tile = ResizePair(12)(*(x[:, :24, :24] for x in source_of(rows).tensors[0]))
    assert torch.equal(halves[0][1][:, :12, :12], tile[1].as_subclass(torch.Tensor))


def test_test_photos_are_decoded_once_while_they_fit_into_memory(monkeypatch):
    rows = red_masks(4, (16, 16))
    for limit, decoded in ((2**20, [0, 1, 2, 3]), (2 * 8 * 8 * 4, [0, 1, 2, 3, 2, 3])):  # all, two of them
        source, seen = source_of(rows), []
        monkeypatch.setattr("synthset.segmentation.data.cache_limit", lambda limit=limit: limit)
        get = PairTensors.__getitem__
        monkeypatch.setattr(PairTensors, "__getitem__", lambda self, i, s=seen, g=get: s.append(i) or g(self, i))
        photos = TestPhotos(source, resolution=8, crop_size=16)
        passes = [[photos[index] for index in range(4)] for _ in range(2)]
        monkeypatch.undo()
        assert seen == decoded
        for one, other in zip(*passes, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_an_object_must_be_left_in_a_test_photo():
    rows = without_object(random_pairs(1, (40, 32)))
    rows[0]["mask"].putpixel((0, 0), 255)
    assert TestPhotos(source_of(rows), resolution=32, crop_size=32)[0][1].any()
    with pytest.raises(InputError, match="--dataset field: no object is left when 32 px become 4 px; raise"):
        TestPhotos(source_of(rows), resolution=4, crop_size=32)


def test_a_pass_holds_every_pair_once_and_depends_on_key_and_position_alone():
    sources = [source_of(red_masks(5)), source_of(red_masks(3, (16, 20), seed=1))]
    pairs = TrainingPairs(sources, resolution=16, crop_size=24, key=(3, 0))
    passes = [[pairs.place(position) for position in range(8 * n, 8 * n + 8)] for n in range(3)]
    everything = [(0, index) for index in range(5)] + [(1, index) for index in range(3)]
    assert all(sorted(places) == everything for places in passes) and passes[0] != passes[1] != passes[2]
    again = TrainingPairs(sources, 16, 24, (3, 0))
    torch.manual_seed(1)
    for position in (9, 2, 40):
        expected = pairs[position]
        torch.rand(3)
        assert all(torch.equal(a, b) for a, b in zip(again[position], expected, strict=True))
    for key in ((3, 1), (4, 0)):
        other = TrainingPairs(sources, 16, 24, key)
        assert [other.place(position) for position in range(8)] != passes[0]
        assert not torch.equal(other[0][0], pairs[0][0])


def test_mask_and_image_are_cropped_and_flipped_together():
    """A crop of 24 px of larger images, all of smaller ones; neither is resized here."""
    pairs = TrainingPairs([source_of(red_masks(4))], resolution=24, crop_size=24, key=(0,))
    small = TrainingPairs([source_of(red_masks(4, (16, 16)))], resolution=16, crop_size=24, key=(0,))
    for pair in [*map(pairs.__getitem__, range(8)), *map(small.__getitem__, range(8))]:
        assert torch.equal(pair[0][:1] == 255, pair[1] == 1)
    wholes = {pair[0].sum().item() for pair in map(small.__getitem__, range(8))}
    assert wholes == {np.asarray(row["image"]).sum(dtype=int) for row in red_masks(4, (16, 16))}


def test_a_small_image_does_not_change_the_crops_of_others():
    """Stripes of 12 px: at one scale, they have one width."""
    rows = red_masks(3, (48, 48))
    for row in rows:
        row["mask"] = Image.fromarray((np.indices((48, 48))[1] // 12 % 2).astype(np.uint8))  # stripes of 12 px
    small = {name: picture.crop((0, 0, 16, 16)) for name, picture in rows[0].items()}
    pairs = TrainingPairs([source_of([*rows, small])], resolution=24, crop_size=48, key=(0,))
    for position in range(8):
        index, mask = pairs.place(position)[1], pairs[position][1]
        # two stripes of 12 px in 48 are half of 24 px; of the 16 px picture, a quarter: 6
        assert mask.sum() == (12 if index < 3 else 6) * 24


def test_pairs_that_are_crops_themselves_are_taken_whole():
    """Super-resolution may draw a crop of 16 px with 32."""
    rows = red_masks(4, (32, 32))
    photos, crops = (TrainingPairs([source_of(rows, crop_size=c)], 32, 16, (0,)) for c in (None, 16))
    sums = {np.asarray(row["image"]).sum(dtype=int) for row in rows}
    assert {crops[position][0].sum().item() for position in range(4)} == sums
    assert not {photos[position][0].sum().item() for position in range(4)} & sums


def test_pairs_of_another_scale_are_refused(tmp_path):
    folder = write_raw_folder(tmp_path / "generated", random_pairs(2))
    arguments = "--dataset", str(folder), ["train"], None, None
    assert load_source(*arguments, 512).crop_size is None  # photos, as far as anybody knows
    for name in ("generation.json", "copy_paste.json"):
        (folder / name).write_text(json.dumps({"crop_size": 256, "seed": 1}))
        assert load_source(*arguments, 256).crop_size == load_source(*arguments).crop_size == 256
        words = (
            "--dataset .*generated was made with --crop_size 256, but --crop_size is 512, .* 2 times .*; "
            "give --crop_size 256"
        )
        with pytest.raises(InputError, match=words):
            load_source(*arguments, 512)
        (folder / name).unlink()


def test_mix_is_the_share_of_the_first_source():
    sources = [source_of(red_masks(2)), source_of(red_masks(7, seed=1)), source_of(red_masks(1, seed=2))]
    pairs = TrainingPairs(sources, 16, 24, (0,), mix=0.5)
    drawn = Counter(pairs.place(position) for position in range(4000))
    assert drawn[0, 0] + drawn[0, 1] == pytest.approx(2000, abs=160)  # five standard deviations
    assert drawn[0, 0] == pytest.approx(1000, abs=140)
    assert drawn[1, 3] == pytest.approx(250, abs=80) and drawn[2, 0] == pytest.approx(250, abs=80)


def test_digests_know_pixels_and_masks_but_not_files(tmp_path):
    rows = random_pairs(2)
    plain = source_of(rows)
    folder = write_raw_folder(tmp_path / "field", rows)
    assert load_source("--test_dataset", str(folder), ["train"], None, None).sha256 == plain.sha256
    changed = source_of(without_object(rows))
    assert changed.digests == plain.digests and changed.sha256 != plain.sha256
    assert (plain.has_objects, changed.has_objects, plain.sizes) == (True, False, [(32, 40)] * 2)


def test_the_first_pairs_of_a_dataset(tmp_path):
    folder = str(write_raw_folder(tmp_path / "field", random_pairs(4)))
    arguments = "--dataset", folder, ["train"], None, None
    whole = load_source(*arguments)
    assert load_source(*arguments, max_samples=3).digests == whole.digests[:3]
    assert (
        load_source(*arguments, max_samples=0).sha256 == load_source(*arguments, max_samples=4).sha256 == whole.sha256
    )
    with pytest.raises(InputError, match="field holds 4 pairs, but --max_train_samples is 5 for it; lower that"):
        load_source(*arguments, max_samples=5)


@pytest.mark.parametrize("augment", ["overhead", "strong"])
def test_augmentation_depends_on_key_and_position_alone(augment):
    source = source_of(red_masks(3))
    pairs, again = (TrainingPairs([source], 16, 24, (3, 0), augment=augment) for _ in range(2))
    expected = [pairs[position] for position in (7, 2)]
    torch.rand(3)
    found = [again[position] for position in (2, 7)][::-1]
    assert all(torch.equal(a, b) for x, y in zip(found, expected, strict=True) for a, b in zip(x, y, strict=True))
    plain = TrainingPairs([source], 16, 24, (3, 0))[7]
    assert not torch.equal(plain[0], expected[0][0])


def test_a_test_image_must_not_be_trained_on():
    train, test = random_pairs(4), random_pairs(3, seed=1)
    others = source_of(random_pairs(2, seed=2))
    check_test(source_of(test, "--test_dataset t"), [source_of(train), others])
    # the same image is the same with another mask
    mixed = source_of([test[0], *without_object(train[2:3])], "--test_dataset t")
    check_stage([mixed])
    words = r"--test_dataset t: 1 of 2 test images are also in --dataset field \(number 1 is number 2 there"
    with pytest.raises(InputError, match=words):
        check_test(mixed, [others, source_of(train)])


def test_stages_and_tests_need_objects():
    rows = random_pairs(2)
    empty = source_of(without_object(rows), "--finetune soil")
    check_stage([empty, source_of(rows)])
    with pytest.raises(InputError, match="--finetune soil: none of the 2 masks has an object"):
        check_stage([empty])
    with pytest.raises(InputError, match="--finetune soil: none of the 2 masks has an object"):
        check_test(empty, [])


@pytest.fixture
def generated(tmp_path):
    """Parquet files with the columns image and mask."""
    write_pairs_shard(tmp_path / "generated" / "data" / "train-00000.parquet", random_pairs(3), pair_features())
    return str(tmp_path / "generated")


@pytest.fixture
def field(tmp_path):
    """A raw folder with masks/ and leaves/."""
    write_raw_folder(tmp_path / "field", random_pairs(4))
    write_raw_folder(tmp_path / "field", random_pairs(4, seed=7), masks="leaves")
    return str(tmp_path / "field")


def test_named_columns_are_those_of_the_users_own_data(generated, field, caplog):
    with caplog.at_level(logging.INFO, "synthset"):
        assert len(load_source("--dataset", generated, ["train"], None, "leaves")) == 3
    assert f"{generated} has no column 'leaves'" in caplog.text and "using image and mask" in caplog.text
    leaves = load_source("--test_dataset", field, ["test", "train"], "images", "leaves")
    assert leaves.sha256 != load_source("--test_dataset", field, ["test", "train"], None, None).sha256
    for names in ((None, "leafs"), ("photos", None), ("photos", "leaves")):
        with pytest.raises(InputError, match="leafs|photos|holds no pairs"):
            load_source("--test_dataset", field, ["test", "train"], *names)


def test_bad_sources_are_one_line(generated, field, tmp_path):
    with pytest.raises(InputError, match="no split 'test'; use one of: train"):
        load_source("--dataset", field, ["test"], None, None)
    rows = random_pairs(2)
    rows[1]["mask"] = rows[1]["mask"].point(lambda value: value * 2 + 1)  # classes 1 and 3
    folder = write_raw_folder(tmp_path / "classes", [rows[0]])
    rows[1]["image"].save(folder / "images" / "001.png")
    rows[1]["mask"].save(folder / "masks" / "001.png")
    with pytest.raises(InputError, match=r"001\.png.* is a mask with values 1, 3; save it"):
        load_source("--dataset", str(folder), ["train"], None, None)
    with pytest.raises(InputError, match="--test_dataset field holds no pairs"):
        PairSource("--test_dataset field", load_pairs(field).select([]))
    write_pairs_shard(tmp_path / "empty" / "data" / "test-00000.parquet", [], pair_features())
    with pytest.raises(InputError, match=r"empty: its parquet files can't be loaded \(.* no data"):
        load_source("--test_dataset", str(tmp_path / "empty"), ["test"], None, None)
