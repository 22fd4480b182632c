import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors

from synthset.data import ResizePair, eval_transform, to_tv_tensors, train_transform


def pair_of(mask):
    """An image that shows its mask in white, and the mask (H, W)."""
    mask = torch.as_tensor(mask, dtype=torch.uint8)[None]
    return tv_tensors.Image(mask.repeat(3, 1, 1) * 255), tv_tensors.Mask(mask)


def random_mask(height, width):
    return torch.rand(height, width, generator=torch.Generator().manual_seed(0)) > 0.5


def test_rows_become_uint8_tensors():
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    mask = np.array([[0, 1, 1, 0], [0, 0, 0, 1]], dtype=np.uint8)
    row = {"image": Image.fromarray(image), "mask": Image.fromarray(mask)}
    image_tensor, mask_tensor = to_tv_tensors(row)
    assert isinstance(image_tensor, tv_tensors.Image) and isinstance(mask_tensor, tv_tensors.Mask)
    assert image_tensor.dtype == mask_tensor.dtype == torch.uint8
    assert torch.equal(image_tensor, torch.from_numpy(image).permute(2, 0, 1))
    assert torch.equal(mask_tensor, torch.from_numpy(mask)[None])


@pytest.mark.parametrize("make", [train_transform, eval_transform])
@pytest.mark.parametrize("resolution", [16, 32, 48])
def test_transforms_give_the_resolution_and_a_legal_mask(make, resolution):
    image, mask = make(resolution, crop_size=32)(*pair_of(random_mask(40, 56)))
    assert image.shape == (3, resolution, resolution) and mask.shape == (1, resolution, resolution)
    assert image.dtype == mask.dtype == torch.uint8
    assert set(mask.unique().tolist()) == {0, 1}


def test_image_and_mask_get_the_same_crop_and_flips():
    transform = train_transform(24, crop_size=24)  # no resizing, so that both can be compared exactly
    image, mask = pair_of(random_mask(32, 40))
    torch.manual_seed(0)
    for _ in range(20):
        cropped_image, cropped_mask = transform(image, mask)
        assert torch.equal(cropped_image, cropped_mask.repeat(3, 1, 1) * 255)


def test_all_four_flips_are_drawn_about_equally_often():
    corner = torch.zeros(8, 8)
    corner[0, 0] = 1
    torch.manual_seed(0)
    where = [tuple(train_transform(8, crop_size=8)(*pair_of(corner))[1][0].nonzero()[0].tolist()) for _ in range(400)]
    counts = {place: where.count(place) for place in [(0, 0), (0, 7), (7, 0), (7, 7)]}
    assert sum(counts.values()) == 400
    assert all(70 < count < 130 for count in counts.values())  # 100 expected, standard deviation 8.7


def test_every_crop_position_is_drawn():
    image, mask = pair_of(torch.zeros(5, 6))
    image[0] = torch.arange(30).reshape(5, 6)
    torch.manual_seed(0)
    smallest = {int(train_transform(4, crop_size=4)(image, mask)[0][0].min()) for _ in range(200)}
    assert smallest == {0, 1, 2, 6, 7, 8}


def test_evaluation_takes_the_center():
    mask = torch.zeros(6, 10)
    mask[1:5, 3:7] = torch.tensor([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [1, 1, 1, 1]])
    image, cropped = eval_transform(4, crop_size=4)(*pair_of(mask))
    assert torch.equal(cropped[0], mask[1:5, 3:7].to(torch.uint8))
    assert torch.equal(image[0], cropped[0] * 255)


def centroid(picture):
    weights = picture.double() / picture.double().sum()
    y, x = torch.meshgrid(*(torch.arange(side) + 0.5 for side in picture.shape), indexing="ij")
    return torch.stack([(weights * y).sum(), (weights * x).sum()])


@pytest.mark.parametrize("factor, allowed", [(3, 0.01), (4, 0.13), (8, 0.07)])
def test_resized_masks_stay_on_their_images(factor, allowed):
    # A square at every position relative to the output grid; torchvision's NEAREST would be off by (factor - 1) /
    # (2 * factor) output pixels on average, the pixel at the center by 1 / (2 * factor) at most.
    side = 16 * factor
    offsets = []
    for shift in range(factor):
        mask = torch.zeros(side, side)
        mask[shift + 2 * factor : shift + 7 * factor, shift + 3 * factor : shift + 9 * factor] = 1
        image, resized = ResizePair(16)(*pair_of(mask))
        offsets.append(centroid(resized[0]) - centroid(image[0]))
    assert torch.stack(offsets).mean(dim=0).abs().max() < allowed
