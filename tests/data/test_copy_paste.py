from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from testing_utils.pairs import same_pairs

from synthset.data import ResizePair, to_tv_tensors
from synthset.data.copy_paste import CopyPaste, cut_out_objects, fill_objects, fit_crop_size
from synthset.errors import InputError

RED = np.array([200, 20, 20], np.uint8)
SHAPE = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1]], np.uint8).repeat(4, 0).repeat(4, 1)
AREA = 8 * 16


def photo(objects, background=100, size=64):
    """A gray photo with red objects; `objects` are {(top, left): shape}. Returns image and mask."""
    image, mask = np.full((size, size, 3), background, np.uint8), np.zeros((size, size), np.uint8)
    for (top, left), shape in objects.items():
        mask[top : top + len(shape), left : left + shape.shape[1]] |= shape
    image[mask > 0] = RED
    return image, mask


@pytest.fixture
def paste(tmp_path):
    """Makes a `CopyPaste` of one `SHAPE`, cut out of a gray photo (100) and left as it is, on gray backgrounds."""

    def make(*levels, size=64, **changes):
        paths = [tmp_path / f"{size}-{level}.png" for level in levels or (100,)]
        for path, level in zip(paths, levels or (100,), strict=True):
            Image.new("RGB", (size, size), (level,) * 3).save(path)
        settings = {
            "cutouts": cut_out_objects(*photo({(20, 20): SHAPE}), 1),
            "backgrounds": paths,
            "crop_size": size,
            "resolution": size,
            "mean_objects": 2.0,
            "num_objects": (1, 1),
            "num_distractors": (0, 0),
            "scale": (1, 1),
            "max_rotation": 0,
            "augment": False,
        }
        return CopyPaste(**settings | changes)

    return make


def arrays(row):
    return np.asarray(row["image"]).astype(int), np.asarray(row["mask"])


def test_objects_are_the_connected_parts_that_are_large_enough():
    image, mask = photo({(8, 8): SHAPE, (30, 40): np.ones((6, 6), np.uint8), (50, 5): np.eye(5, dtype=np.uint8)})
    mask[0, 60:] = 1
    assert [len(cut_out_objects(image, mask, area)) for area in (1, 5, 6, 37)] == [4, 3, 2, 1]
    cut_off, shape, square, diagonal = cut_out_objects(image, mask, 1)
    assert [cutout.whole for cutout in (cut_off, shape, square, diagonal)] == [False, True, True, True]
    for cutout, area in ((shape, AREA), (square, 36), (diagonal, 5)):
        assert (np.asarray(cutout.image)[..., 3] >= 128).sum() == area
        assert np.allclose(cutout.surroundings, 100)
    opaque = np.asarray(shape.image)[..., 3] >= 128
    assert np.array_equal(opaque[3:-3, 3:-3], SHAPE) and (np.asarray(shape.image)[opaque][:, :3] == RED).all()


def test_filling_replaces_objects_by_background_and_nothing_else():
    rng = np.random.default_rng(0)
    texture = rng.integers(90, 130, (96, 96, 3), dtype=np.uint8)
    mask = np.zeros((96, 96), np.uint8)
    mask[20:50, 30:70] = mask[80:, 80:] = 1
    image = np.where(mask[..., None], RED, texture)
    filled = fill_objects(image, mask, np.random.default_rng(1))
    far = ndimage.distance_transform_edt(mask == 0) > 16
    assert np.array_equal(filled[far], texture[far])
    assert filled.min() >= 70 and filled.max() <= 150  # no red is left, not even at the outline
    assert abs(filled[mask > 0].mean() - 110) < 3 and filled[mask > 0].std() > 8  # texture, not a smooth patch
    assert np.array_equal(filled, fill_objects(image, mask, np.random.default_rng(1)))


def test_filling_works_where_no_tile_is_free():
    image, mask = photo({(0, 0): np.ones((64, 60), np.uint8)})
    assert (fill_objects(image, mask, np.random.default_rng(0)) == 100).all()


def test_the_mask_is_where_the_object_makes_half_of_the_color(paste):
    make = paste()
    shapes = set()
    for number in range(60):
        image, mask = arrays(make(number))
        half = (image[..., 0] >= 150) & (image[..., 1] <= 60)  # half way from 100 to 200 and to 20
        assert np.array_equal(mask, half)
        assert set(np.unique(mask)) <= {0, 1}
        far = ndimage.distance_transform_edt(mask == 0) > 4
        assert (image[far] == 100).all()
        if mask.sum() == AREA:  # not cut off
            rows, columns = np.where(mask)
            shapes.add(mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].tobytes())
    assert shapes == {np.ascontiguousarray(SHAPE[::a, ::b]).tobytes() for a in (1, -1) for b in (1, -1)}


def test_scale_and_rotation(paste):
    make = paste(scale=(1.5, 1.5), max_rotation=180, size=200)
    masks = [np.pad(arrays(make(number))[1], 1) for number in range(16)]
    whole = [mask for mask in masks if not mask[[1, -2]].any() and not mask[:, [1, -2]].any()]
    assert len(whole) >= 6 and np.allclose([mask.sum() for mask in whole], AREA * 1.5**2, rtol=0.05)
    assert len({tuple(np.ptp(np.where(mask), axis=1)) for mask in whole}) >= 5  # bounding boxes of many angles


def test_a_pair_is_a_function_of_seed_and_number(paste):
    make = paste(30, 100, 170, scale=(0.5, 2), max_rotation=180, augment=True, num_objects=None, num_distractors=None)
    forth, back = [make(n) for n in range(5)], [make(n) for n in reversed(range(5))][::-1]
    assert same_pairs(forth, back) and [r["num_objects"] for r in forth] == [r["num_objects"] for r in back]
    assert not same_pairs(forth[:1], forth[1:2])
    assert not same_pairs(forth, [replace(make, seed=1)(n) for n in range(5)])


def test_columns_count_what_the_mask_shows(paste):
    dot = cut_out_objects(*photo({(20, 20): np.ones((3, 3), np.uint8)}), 1)
    rows = [paste(cutouts=dot, num_objects=(0, 4), max_overlap=0)(number) for number in range(30)]
    for row in rows:
        _, mask = arrays(row)
        assert row["coverage"] == pytest.approx(mask.sum() / 64**2)
        assert mask.sum() <= 9 * row["num_objects"] and (mask.sum() > 0) == (row["num_objects"] > 0)
    assert {row["num_objects"] for row in rows} == {0, 1, 2, 3, 4}


def test_as_many_objects_as_the_photos_have_when_not_told(paste):
    dot = cut_out_objects(*photo({(20, 20): np.ones((3, 3), np.uint8)}), 1)
    make = paste(cutouts=dot, num_objects=None, mean_objects=5.0, max_overlap=1)
    counts = [make(number)["num_objects"] for number in range(200)]
    assert abs(np.mean(counts) - 5) < 0.6 and abs(np.var(counts) - 5) < 1.5 and min(counts) >= 1


def test_overlap_limit(paste):
    wide = cut_out_objects(*photo({(2, 2): np.ones((140, 140), np.uint8)}, size=150), 1)  # wider than any crop
    assert [paste(cutouts=wide, num_objects=(5, 5), max_overlap=limit)(0)["num_objects"] for limit in (0, 1)] == [1, 5]


@pytest.mark.parametrize(
    "strength, background, expected",
    [
        (0, 50, 200),
        (1, 50, 200 * 51 / 101),
        (0.5, 50, 200 * (51 / 101) ** 0.5),
        (1, 20, 200 / 2),  # a fifth of the light counts as half of it
        (1, 250, 255),
    ],
)
def test_objects_take_the_light_of_where_they_go(paste, strength, background, expected):
    square = cut_out_objects(*photo({(10, 10): np.ones((40, 40), np.uint8)}), 1)
    image, mask = arrays(paste(background, cutouts=square, color_balance=strength)(0))
    deepest = np.unravel_index(ndimage.distance_transform_edt(mask).argmax(), mask.shape)
    assert image[deepest][0] == pytest.approx(expected, abs=1)


def test_distractors_are_background_and_unlabeled(paste):
    both = [paste(50, 200, num_objects=(0, 0), num_distractors=count, color_balance=0) for count in ((0, 0), (3, 3))]
    levels = [[len(np.unique(arrays(make(number))[0])) for number in range(8)] for make in both]
    assert max(levels[0]) == 1 and max(levels[1]) > 1  # a piece of the other background is in some
    for number in range(8):
        image, mask = arrays(both[1](number))
        assert not mask.any() and 50 <= image.min() and image.max() <= 200


def test_the_pair_is_made_small_like_a_real_one(paste):
    large, small = paste(num_objects=(3, 3)), paste(num_objects=(3, 3), resolution=32)
    image, mask = ResizePair(32)(*to_tv_tensors(large(0)))
    assert np.array_equal(arrays(small(0))[0], image.permute(1, 2, 0)) and np.array_equal(arrays(small(0))[1], mask[0])


def test_crop_size_fits_the_backgrounds(tmp_path, caplog):
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    Image.new("RGB", (70, 60)).save(paths[0])
    Image.new("RGB", (900, 600)).save(paths[1])
    assert fit_crop_size(paths[1:], None) == 512
    assert fit_crop_size(paths, None) == 60 and "crop_size is 60" in caplog.text
    assert fit_crop_size(paths, 50) == 50
    with pytest.raises(InputError, match=r"a\.png is 60 pixels wide or high, less than --crop_size 61; remove it"):
        fit_crop_size(paths, 61)
    paths[0].write_bytes(b"no image")
    with pytest.raises(InputError, match=r"a\.png can't be read as an image"):
        fit_crop_size(paths, 50)
