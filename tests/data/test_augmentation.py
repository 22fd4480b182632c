import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torchvision import tv_tensors

from synthset.data.augmentation import DIMENSIONS, Augmentation, recolor, sampling_matrix, warp_pair

GEOMETRY = ("scale", "rotation", "anisotropy")


def smooth_photo(height, width):
    """Waves of at least 16 pixels in three channels, and where the first of them is bright as the mask."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(2 * np.pi * (x * u + y * v)) for u, v in ((1 / 20, 1 / 50), (1 / 40, -1 / 18), (1 / 16, 0))]
    image = torch.from_numpy(np.stack(waves) * 120 + 127.5).round().to(torch.uint8)
    return tv_tensors.Image(image), tv_tensors.Mask((image[:1] > 127).to(torch.uint8))


def ramps(side):
    """A photo whose red is the column and whose green the row; the mask is its left half."""
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    image = torch.stack([x, y, torch.zeros_like(x)]).to(torch.uint8)
    return tv_tensors.Image(image), tv_tensors.Mask((image[:1] < side / 2).to(torch.uint8))


@pytest.mark.parametrize("resolution", [96, 48, 24])
@pytest.mark.parametrize(
    ("flags", "point", "expected"),  # offsets from the center, (x, y) with y down, in pixels of the photo
    [
        ((1, 0, 1, 0), (20, 10), (20, 10)),
        ((2, 0, 1, 0), (10, 5), (20, 10)),
        ((1, math.pi / 2, 1, 0), (20, 0), (0, -20)),  # counterclockwise: from the right to the top
        ((1, math.pi / 6, 1, 0), (20, 0), (17.32, -10)),
        ((1, 0, 2, 0), (10, 10), (20, 5)),
        ((1, 0, 2, math.pi / 2), (10, 10), (5, 20)),
        ((1, 0, 2, math.pi / 4), (12, -12), (24, -24)),  # up and right
        ((1.5, math.pi / 2, 2, 0), (20, 0), (0, -15)),  # to 30, to the top, to half of it
    ],
)
def test_image_and_mask_move_together_and_as_said(resolution, flags, point, expected):
    y, x = np.mgrid[:160, :180] + 0.5
    disc = (x - 95 - point[0]) ** 2 + (y - 70 - point[1]) ** 2 <= 5**2
    mask = torch.from_numpy(disc.astype(np.uint8))[None]
    pair = tv_tensors.Image(mask.repeat(3, 1, 1) * 255), tv_tensors.Mask(mask)
    warped = warp_pair(*pair, sampling_matrix(*flags), torch.tensor([95.0, 70.0]), 96, resolution)
    for picture, bound in zip(warped, (0.3, 0.8), strict=True):
        found = np.array(ndimage.center_of_mass(picture[0].numpy().astype(float)))[::-1] + 0.5
        np.testing.assert_allclose((found / resolution - 0.5) * 96, expected, atol=bound * 96 / resolution)


@pytest.mark.parametrize("crop_size, size", [(64, (150, 170)), (100, (100, 140))], ids=["inside", "beyond the border"])
@pytest.mark.parametrize("flags", [(1, 0.7, 1, 0), (1.3, 2.5, 1.2, 0.5), (0.9, 4, 0.8, 2)])
def test_pictures_are_those_of_scipy(crop_size, size, flags):
    image, mask = smooth_photo(*size)
    matrix, center = sampling_matrix(*flags), torch.tensor([size[1] / 2 + 3, size[0] / 2])
    found_image, found_mask = warp_pair(image, mask, matrix, center, crop_size, crop_size)
    rows = matrix.double().numpy()[::-1, ::-1]  # scipy's points are (y, x), and a pixel's center is a whole number
    middle = np.array([crop_size, crop_size]) / 2 - 0.5
    offset = center.numpy()[::-1] - 0.5 - rows @ middle
    options = {"offset": offset, "output_shape": (crop_size, crop_size), "mode": "reflect"}
    for channel in range(3):
        expected = ndimage.affine_transform(image[channel].numpy().astype(float), rows, order=1, **options)
        assert np.abs(found_image[channel].numpy() - expected).mean() < 2.5
    expected = ndimage.affine_transform(mask[0].numpy(), rows, order=0, **options)
    assert (found_mask[0].numpy() != expected).mean() < 0.005
    assert set(found_mask.unique().tolist()) == {0, 1}


def test_without_an_augmentation_a_crop_is_the_photos_own():
    image, mask = ramps(40)
    torch.manual_seed(0)
    augmentation, plain = Augmentation(24, 24, 0.2, GEOMETRY), 0
    for _ in range(60):
        crop, cropped_mask, told = augmentation(image, mask)
        assert (crop.shape, cropped_mask.shape, crop.dtype) == ((3, 24, 24), (1, 24, 24), torch.uint8)
        if not told["augmentation"].any():
            plain += 1
            assert torch.equal(cropped_mask, (crop[:1] < 20).to(torch.uint8))
            assert crop[0].float().diff(dim=1).abs().eq(1).all() and crop[1].float().diff(dim=0).abs().eq(1).all()
    assert 20 < plain < 45  # 0.8^3 of 60 is 31, standard deviation 3.9


@pytest.mark.parametrize("kind", [*GEOMETRY, "all"])
@pytest.mark.parametrize("turns", [False, True])
def test_what_is_told_is_what_is_seen(kind, turns):
    """Of a photo whose colors are its coordinates, the gradients are the matrix, up to flips and turns before it."""
    image, mask = ramps(256)
    torch.manual_seed(1)
    augmentation = Augmentation(64, 64, 1.0, GEOMETRY if kind == "all" else [kind], turns)
    seen = set()
    for _ in range(12):
        crop, _, told = augmentation(image, mask)
        n, cos, sin, along, across, *color = told["augmentation"].double().tolist()
        # by hand: enlarge, turn counterclockwise (y down), then the symmetric matrix that stretches by 2^(0.2 |m|)
        # along the line at half of the angle of m = (along, across), y up
        turn = np.array([[cos + 1, sin], [-sin, cos + 1]])
        log = 0.2 * math.log(2) * np.array([[along, -across], [-across, -along]])
        values, vectors = np.linalg.eigh(log)
        content = vectors @ np.diag(np.exp(values)) @ vectors.T @ turn * 2 ** (0.2 * n)
        expected = np.linalg.inv(content)
        y, x = np.mgrid[:60, :60]  # without the border, where antialiasing has pixels on one side only
        design = np.stack([x.ravel(), y.ravel(), np.ones(60 * 60)], axis=1)
        colors = crop[:2, 2:62, 2:62].flatten(1).double().numpy()
        fit = np.linalg.lstsq(design, colors.T, rcond=None)[0][:2].T
        before = fit @ np.linalg.inv(expected)
        np.testing.assert_allclose(before, before.round(), atol=0.02)
        assert np.abs(before.round()).sum() == 2 and color == [0] * 4
        seen.add(tuple(before.round().astype(int).ravel().tolist()))
        assert (kind in ("scale", "all")) == (n != 0)
        assert (kind in ("rotation", "all")) == (sin != 0)
        assert (kind in ("anisotropy", "all")) == (along != 0)
    assert len(seen) > 4 if turns else len(seen) <= 4  # the eight symmetries of a square, or the four flips


def test_augmentations_are_drawn_with_the_probability_and_independently():
    image, mask = ramps(16)
    torch.manual_seed(2)
    augmentation = Augmentation(8, 8, 0.25, [*GEOMETRY, "color"])
    told = torch.stack([augmentation(image, mask)[2]["augmentation"] for _ in range(400)])
    assert told.shape == (400, DIMENSIONS)
    applied = (told != 0).double()
    assert (applied.mean(0) - 0.25).abs().max() < 0.09  # standard deviation 0.022
    correlation = torch.corrcoef(applied[:, [0, 2, 3, 5, 6, 7, 8]].T) - torch.eye(7)
    assert correlation.abs().max() < 0.2  # standard deviation 0.05
    torch.testing.assert_close((told[:, 1] + 1) ** 2 + told[:, 2] ** 2, torch.ones(400))
    assert Augmentation(8, 8, 0.0, [], turns=True)(image, mask)[2] == {}


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_augmented_crops_show_the_object(probability):
    """An object of 5 x 5 pixels near a corner, in crops that are also turned and scaled."""
    mask = torch.zeros(1, 120, 160, dtype=torch.uint8)
    mask[:, 8:13, 140:145] = 1
    pair = tv_tensors.Image(mask.repeat(3, 1, 1) * 255), tv_tensors.Mask(mask)
    shares = []
    for object_share in (0.0, 1.0):
        torch.manual_seed(0)
        augmentation = Augmentation(32, 32, probability, GEOMETRY, object_share=object_share)
        shares.append(sum(bool(augmentation(*pair)[1].any()) for _ in range(100)))
    assert shares[0] < 20 and shares[1] > 95


def test_turns_are_drawn_equally_often_and_keep_the_mask():
    image, mask = ramps(8)
    torch.manual_seed(3)
    counts = {}
    for _ in range(400):
        crop, cropped_mask, _ = Augmentation(8, 8, 0.0, [], turns=True)(image, mask)
        assert isinstance(crop, tv_tensors.Image) and isinstance(cropped_mask, tv_tensors.Mask)
        assert torch.equal(cropped_mask, (crop[:1] < 4).to(torch.uint8))
        corner = tuple(crop[:2, 0, 0].tolist()), tuple(crop[:2, 0, 7].tolist())
        counts[corner] = counts.get(corner, 0) + 1
    assert len(counts) == 8 and all(20 < count < 85 for count in counts.values())  # 50 expected, deviation 6.6


@pytest.mark.parametrize(
    ("before", "changes", "after"),
    [
        ((30, 60, 90), (0.2, 1, 1, 0), (81, 111, 141)),
        ((30, 60, 250), (0.2, 1, 1, 0), (81, 111, 255)),
        ((100, 60, 200), (0, 3, 1, 0), (45, 0, 255)),  # (100 - 127.5) * 3 + 127.5
        ((30, 60, 90), (0, 1, 0, 0), (60, 60, 60)),
        ((30, 60, 90), (0, 1, 2, 0), (0, 60, 120)),
        ((200, 10, 20), (0, 1, 1, 2 * math.pi / 3), (20, 200, 10)),  # red becomes green
        ((80, 80, 80), (0, 1, 3, 1), (80, 80, 80)),
    ],
)
def test_colors_by_hand(before, changes, after):
    image = tv_tensors.Image(torch.tensor(before, dtype=torch.uint8)[:, None, None].expand(3, 2, 2))
    assert recolor(image, *changes)[:, 1, 1].tolist() == list(after)
