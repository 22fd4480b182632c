"""What a segmenter is worth: test photos scored whole, each pixel once."""

import time

import datasets
import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image

from synthset.data import pair_features
from synthset.data.dataset import DecodePairs
from synthset.evaluation.metrics import boundary_f1
from synthset.segmentation import PairSource, Segmenter, TestPhotos, prediction_grid, score


class Green(torch.nn.Module):
    """A network whose logit is the green it gets, above or below a half."""

    def forward(self, images):
        return images[:, 1:2]


def segmenter_of(resolution, crop_size):
    return Segmenter(Green(), resolution, crop_size, image_mean=(0.5,) * 3, image_std=(0.01,) * 3)


def photos_of(found, real, resolution, crop_size):
    """A test set of the masks `real`, in which the network finds `found`."""
    rows = []
    for drawn, mask in zip(found, real, strict=True):
        pixels = np.stack([mask * 0, drawn * 255, mask * 0], axis=-1).astype(np.uint8)
        rows.append({"image": Image.fromarray(pixels), "mask": Image.fromarray(mask.astype(np.uint8))})
    pairs = datasets.Dataset.from_list(rows, features=pair_features())
    for column in ("image", "mask"):
        pairs = pairs.cast_column(column, datasets.Image(decode=False))
    return TestPhotos(
        PairSource("--test_dataset t", pairs.with_transform(DecodePairs("t", pairs))), resolution, crop_size
    )


def blobs(rng, height, width):
    """A mask of squares of 4 px."""
    return np.kron(rng.random((height // 4, width // 4)) < 0.4, np.ones((4, 4))).astype(bool)


def dice_of(found, real):
    return 2 * (found & real).sum() / (found.sum() + real.sum())


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_every_pixel_is_scored_once(batch_size):
    """40 x 48 px in tiles of 32: of four that overlap, the middle is in all. Wrong is only that, in the first photo."""
    rng = np.random.default_rng(0)
    real = [blobs(rng, 40, 48), blobs(rng, 32, 32), np.zeros((32, 40), bool)]
    found = [mask.copy() for mask in real]
    found[0][16:24, 20:28] ^= True
    found[2][:4, :4] = True
    scores = score(segmenter_of(32, 32), photos_of(found, real, 32, 32), Accelerator(cpu=True), batch_size, False)
    flat = [np.concatenate([mask.ravel() for mask in masks]) for masks in (found, real)]
    assert scores["dice"] == pytest.approx(dice_of(*flat))
    assert scores["iou"] == pytest.approx((flat[0] & flat[1]).sum() / (flat[0] | flat[1]).sum())
    single = [dice_of(*pair) for pair in zip(found, real, strict=True)]
    assert scores["dice_per_image"] == pytest.approx(np.mean(single)) and single[1:] == [1, 0]
    outlines = [boundary_f1(*pair) for pair in zip(found, real, strict=True)]
    assert scores["boundary_f1"] == pytest.approx(np.mean(outlines)) and outlines[1] == 1
    assert (scores["n_images"], scores["n_empty"]) == (3, 1) and scores["dice_se"] > 0


def test_photos_are_scored_at_the_scale_of_the_training_data():
    """At half its size, a mask of squares of 4 px has squares of 2."""
    rng = np.random.default_rng(1)
    found, real = blobs(rng, 40, 48), blobs(rng, 40, 48)
    photos = photos_of([found, real], [real, real], 16, 32)
    scores = score(segmenter_of(16, 32), photos, Accelerator(cpu=True), 8, False)
    assert scores["dice_per_image"] == pytest.approx((dice_of(found[::2, ::2], real[::2, ::2]) + 1) / 2)
    outline = boundary_f1(found[::2, ::2], real[::2, ::2])
    assert scores["boundary_f1"] == pytest.approx((outline + 1) / 2)


def test_the_grid_shows_tiles_of_the_joined_masks():
    """Tiles of 96 px, 2 px apart, below a caption: real and found mask of the tiles with an object."""
    real, found = np.zeros((2, 96, 192), bool)
    real[:, :96], found[:48] = True, True
    grid = prediction_grid(segmenter_of(96, 96), photos_of([found], [real], 96, 96))
    assert grid.width == 2 * 98 + 2


def test_scoring_the_papers_test_set_takes_seconds():
    """A share of 365 photos of 1024 px in 1460 tiles: 20 s of one core, decoding included, beside the network."""
    rng, number = np.random.default_rng(0), 6
    masks = [np.kron(rng.random((64, 64)) < 0.3, np.ones((16, 16))).astype(bool) for _ in range(2 * number)]
    photos = photos_of(masks[:number], masks[number:], 256, 512)
    since = time.process_time()
    scores = score(segmenter_of(256, 512), photos, Accelerator(cpu=True), 32, False)
    assert scores["n_images"] == number and time.process_time() - since < 20 * number / 365
