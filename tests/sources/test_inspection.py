"""Findings about pairs, against values worked out by hand."""

import io

import datasets
import numpy as np
import pytest
from PIL import Image

from synthset.data.demo import demo_pairs
from synthset.sources.inspection import (
    count_photos,
    find_suspicious,
    group_pairs,
    hold_out,
    measure,
    near_duplicates,
    sides_when_trained,
    summarize,
)
from synthset.sources.reading import Decoded


def texture(seed, size=(90, 60)):
    """A photo-like picture: noise at several scales."""
    rng = np.random.default_rng(seed)
    parts = [
        np.asarray(
            Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
        )
        for side in (4, 9, 30)
    ]
    return Image.fromarray(np.mean(parts, axis=0).astype(np.uint8))


def square(left, top, side, size=(90, 60)):
    mask = Image.new("L", size)
    mask.paste(1, (left, top, left + side, top + side))
    return mask


def pair(name, image=None, mask=None, split="train", photo=None, group=None, **more):
    image = image or texture(sum(map(ord, str(name))))
    decoded = Decoded(image, mask or square(10, 10, 20, image.size), **more)
    return measure(decoded, str(name), split, photo or str(name), group)


def test_objects_are_components_with_diagonal_neighbors():
    mask = np.zeros((60, 90), np.uint8)
    mask[2:6, 2:6] = mask[6:8, 6:8] = 1  # touch at a corner: one object of 20
    mask[30:40, 50:60] = 1
    found = pair("a", mask=Image.fromarray(mask))
    assert sorted(found.object_areas) == [20, 100]
    assert found.coverage == 120 / 5400
    # crops of 40 px at resolution 20: sides are halved
    assert sorted(sides_when_trained([found], 40, 20)) == [np.sqrt(20) / 2, 5]


def test_labels_are_counted_by_code():
    labels = np.zeros((60, 90), np.int32)
    labels[:10] = 0xB00003
    assert pair("a", labels=labels, label_kind="colors").label_pixels == {0: 4500, 0xB00003: 900}


def test_summary():
    pairs = [pair(0), pair(1, mask=square(0, 0, 0)), pair(2, image=texture(2, (40, 50)), photo="1")]
    assert summarize(pairs, 40, 20) == {
        "pairs": 3,
        "photos": 2,
        "sizes": {"90x60": 2, "40x50": 1},
        "smallest_photo": {"name": "2", "side": 40},
        "mask_coverage": {"min": 0, "median": round(400 / 5400, 4), "max": 0.2},
        "empty_masks": 1,
        "objects": {
            "count": 2,
            "side_10_percent": 10,
            "side_median": 10,
            "side_90_percent": 10,
            "below_3_px": 0,
        },
    }


def saved_as_jpeg(image):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=30)
    return Image.open(buffer).convert("RGB")


@pytest.mark.parametrize(
    "change",
    [
        saved_as_jpeg,
        lambda image: image.resize((image.width // 2, image.height // 2)),
        lambda image: image.point(lambda value: min(255, value + 20)),
    ],
    ids=["JPEG", "half size", "brighter"],
)
def test_near_duplicates_are_found(change):
    photos = [row["image"] for row in demo_pairs("validation").select(range(6))]
    pairs = [pair(number, image) for number, image in enumerate([*photos, change(photos[4])])]
    assert near_duplicates(pairs) == [(4, 6)]


@pytest.mark.parametrize("change", [saved_as_jpeg, lambda image: image.resize((45, 30))], ids=["JPEG", "half size"])
def test_near_duplicates_of_smooth_photos_are_found(change):
    rng = np.random.default_rng(0)
    photos = [
        Image.fromarray(rng.integers(0, 256, (5, 6, 3), np.uint8)).resize((90, 60), Image.Resampling.BICUBIC)
        for _ in range(6)
    ]
    pairs = [pair(number, image) for number, image in enumerate([*photos, change(photos[4])])]
    assert near_duplicates(pairs) == [(4, 6)]


def test_photos_of_one_field_are_no_duplicates():
    photos = [row["image"] for row in demo_pairs("train").select(range(20))]
    assert near_duplicates([pair(number, image) for number, image in enumerate(photos)]) == []


def test_tiles_of_one_photo_and_flat_photos_are_no_duplicates():
    flat = Image.new("RGB", (90, 60), (90, 80, 70))
    pairs = [pair("a", texture(1), photo="x"), pair("b", texture(1), photo="x"), pair("c", flat), pair("d", flat)]
    assert near_duplicates(pairs) == []
    assert pairs[2].suspicious == ("photos of one color",)


def test_groups_join_tiles_duplicates_and_group_values():
    pairs = [pair(0), pair(1, photo="0"), pair(2, group="A"), pair(3), pair(4, group="A"), pair(5)]
    assert group_pairs(pairs, [(3, 5)]) == [0, 0, 1, 2, 1, 2]
    assert group_pairs(pairs, [(1, 4), (3, 5)]) == [0, 0, 0, 1, 0, 1]
    assert count_photos(pairs, [(3, 5)]) == 4


@pytest.mark.parametrize("seed", range(5))
def test_whole_groups_are_held_out(seed):
    groups = [0, 0, 0, 1, 2, 2, 3, 4, 4, 4]
    kept, out = hold_out(groups, 3, seed)
    assert sorted(kept + out) == list(range(10)) and 2 <= len(out) <= 3
    assert not {groups[number] for number in kept} & {groups[number] for number in out}
    assert len(hold_out([0] * 9 + [1] * 4 + [2] * 9, 2, seed)[1]) == 4


@pytest.mark.parametrize("seed", range(5))
def test_single_pairs_are_held_out_as_datasets_does(seed):
    parts = datasets.Dataset.from_dict({"number": range(11)}).train_test_split(test_size=3, seed=seed)
    assert hold_out(range(11), 3, seed) == (parts["train"]["number"][:], parts["test"]["number"][:])


def test_one_group_is_never_held_out():
    assert hold_out([0, 0, 0], 1, 0) == ([0, 1, 2], [])


def test_suspicious_findings():
    pairs = [
        pair(0, convention="0 and 255"),
        pair(1, convention="0 and 255"),
        pair(2, convention="0 and 1", suspicious=("something",)),
        pair(3, mask=square(0, 0, 90)),
        pair(4, image=texture(4, (29, 29)), mask=square(0, 0, 1, (29, 29))),
        pair(5, split="test", mask=square(0, 0, 0), group="A"),
        pair(6, group="A"),
    ]
    assert find_suspicious(pairs, [(0, 1), (1, 5)], 40, 20) == {
        "near-duplicates in one split": ["0 = 1"],
        "near-duplicates in two splits": ["1 = 5"],
        "something": ["2"],
        "masks cover more than 95% of the photo": ["3"],
        "groups in two splits": ["A"],
        "photos less than half as large as the others": ["4"],
        "splits without any object": ["test"],
        "masks stored as 0 and 1, where most are stored as 0 and 255": ["2"],
        "17% of the objects are below 3 px in crops of 40 px at resolution 20 and vanish": ["4"],
    }
