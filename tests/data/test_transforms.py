import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2

from synthset.data import ObjectCropPair, ResizePair, eval_transform, to_tv_tensors, train_transform


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


@pytest.mark.parametrize("size", [(40, 56), (40, 32), (32, 32)])
def test_crops_and_flips_are_those_of_torchvision(size):
    """The same numbers are drawn, so that a seed gives the crops that it gave before."""
    flips = v2.RandomHorizontalFlip(), v2.RandomVerticalFlip()
    ours, theirs = train_transform(16, 32), v2.Compose([v2.RandomCrop(32), ResizePair(16), *flips])
    pair = pair_of(random_mask(*size))
    for seed in range(20):
        torch.manual_seed(seed)
        found, state = ours(*pair), torch.get_rng_state()
        torch.manual_seed(seed)
        expected = theirs(*pair)
        assert torch.equal(state, torch.get_rng_state())
        assert all(type(a) is type(b) and torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_object_crops_show_the_object():
    """The object, one pixel, is in every crop, at any place in it that the photo's edges allow."""
    mask = torch.zeros(60, 80)
    mask[20, 70] = 1
    places = []
    for seed in range(300):
        torch.manual_seed(seed)
        image, crop = ObjectCropPair(32, share=1.0)(*pair_of(mask))
        assert image.shape == (3, 32, 32) and torch.equal(image[:1], crop * 255)
        places.append(crop[0].nonzero()[0])
    rows, columns = torch.stack(places).T
    assert rows.unique().tolist() == list(range(21)) and columns.unique().tolist() == list(range(22, 32))


@pytest.mark.parametrize("share, low, high", [(0.0, 0.02, 0.25), (0.5, 0.5, 0.65), (1.0, 1.0, 1.0)])
def test_a_share_of_training_crops_shows_the_object(share, low, high):
    mask = torch.zeros(60, 80)
    mask[20, 70] = 1
    transform = train_transform(32, 32, share)
    found = []
    for seed in range(400):
        torch.manual_seed(seed)
        found.append(bool(transform(*pair_of(mask))[1].any()))
    assert low <= sum(found) / len(found) <= high


def test_object_crops_of_a_pair_without_an_object_are_anywhere():
    pair = pair_of(torch.zeros(60, 80))
    assert all(a is b for a, b in zip(ObjectCropPair(32, share=1.0)(*pair), pair, strict=True))


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
