"""Image and mask are changed together, by names that the flag has too."""

from typing import get_args, get_type_hints

import pytest
import torch
from torchvision import tv_tensors

from synthset.arguments import SegmentationArguments
from synthset.data import train_transform
from synthset.segmentation.augmentation import AUGMENTATIONS

SIDE, RESOLUTION = 48, 24


def pair(shape):
    """A white object on black, tv_tensors of SIDE x SIDE; `shape` maps coordinates from -1 to 1 to truth."""
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, SIDE)] * 2, indexing="ij")
    mask = shape(y, x)[None].to(torch.uint8)
    return tv_tensors.Image(mask.expand(3, -1, -1) * 255), tv_tensors.Mask(mask)


def draws(name, shape, number):
    torch.manual_seed(0)
    transform = AUGMENTATIONS[name](RESOLUTION, SIDE)
    return [transform(*pair(shape)) for _ in range(number)]


def corner(y, x):
    return (y < -0.2) & (x < 0.4) & ~((y < -0.6) & (x < -0.6))  # no symmetry


def test_names_are_those_of_the_flag():
    assert tuple(AUGMENTATIONS) == get_args(get_type_hints(SegmentationArguments)["augment"])


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_mask_and_image_stay_together(name):
    """Where the mask has the object, the image is bright, but for the pixels that resizing and blur mix."""
    for image, mask in draws(name, corner, 40):
        assert image.shape == (3, RESOLUTION, RESOLUTION) and mask.shape == (1, RESOLUTION, RESOLUTION)
        assert image.dtype == mask.dtype == torch.uint8 and set(mask.unique().tolist()) <= {0, 1}
        gray = image.float().mean(0)
        bright = gray > (gray.max() + gray.min()) / 2
        assert (bright != mask[0].bool()).float().mean() < 0.06


@pytest.mark.parametrize("name, number", [("flips", 4), ("overhead", 8)])
def test_orientations(name, number):
    seen = {mask.numpy().tobytes() for _, mask in draws(name, corner, 80)}
    assert len(seen) == number


@pytest.mark.parametrize("name, number", [("flips", 1), ("overhead", 40), ("strong", 40)])
def test_colors(name, number):
    """The white of the object; `flips` keeps it."""
    seen = {tuple(image.amax((1, 2)).tolist()) for image, _ in draws(name, lambda y, x: x * x + y * y < 2, 40)}
    assert len(seen) <= number and (number == 1) == (seen == {(255, 255, 255)})


def test_flips_are_what_they_were():
    torch.manual_seed(3)
    expected = train_transform(RESOLUTION, 30)(*pair(corner))
    torch.manual_seed(3)
    found = AUGMENTATIONS["flips"](RESOLUTION, 30)(*pair(corner))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_strong_scales_and_turns():
    """Areas of a disc, whose scale is 0.7 to 1.4, and directions of a line through the center."""
    areas = [mask.float().mean().item() for _, mask in draws("strong", lambda y, x: x * x + y * y < 0.25, 60)]
    area = torch.pi * 0.25 / 4
    assert 0.9 * 0.49 * area < min(areas) < 0.65 * area and 1.5 * area < max(areas) < 1.1 * 1.96 * area
    squares = torch.linspace(-1, 1, RESOLUTION) ** 2
    turns = []
    for _, mask in draws("strong", lambda y, x: (y.abs() < 0.1) & (x.abs() < 0.6), 60):
        width, height = ((mask[0].sum(axis) * squares).sum() for axis in (0, 1))
        turns.append((height / (width + height)).item())
    assert min(turns) < 0.1 and max(turns) > 0.9 and any(0.4 < turn < 0.6 for turn in turns)


def test_strong_leaves_no_corners_unfilled():
    for image, mask in draws("strong", lambda y, x: x * x + y * y < 9, 40):
        assert mask.all() and (image == image[:, :1, :1]).all()
