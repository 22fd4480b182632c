"""Joint augmentations of training pairs, by name.

Each makes a transform of a crop size and a resolution, called as `transform(image, mask)` on tv_tensors whose sides are
at least the crop size. It crops at random, resizes to the resolution, flips, and draws from PyTorch's global generator.
Colors change in images only; masks keep their values, by nearest-neighbor sampling.
"""

from collections.abc import Callable
from math import ceil, sqrt

import torch
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2

from ..data import ResizePair, train_transform


class RandomTranspose(torch.nn.Module):
    """Exchanges rows and columns of a pair with probability 1/2: with both flips, all turns by 90 degrees."""

    def forward(self, image: tv_tensors.Image, mask: tv_tensors.Mask) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
        if torch.rand(()) < 0.5:
            return image, mask
        return tv_tensors.Image(image.mT.contiguous()), tv_tensors.Mask(mask.mT.contiguous())


def overhead(resolution: int, crop_size: int) -> v2.Compose:
    """Flips, 90 degree turns and mild changes of color, for photos from above, which have no upper side."""
    color = v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.02)
    return v2.Compose([train_transform(resolution, crop_size), RandomTranspose(), color])


def strong(resolution: int, crop_size: int) -> v2.Compose:
    """Flips, any rotation, scale 0.7 to 1.4, color and blur; pixels outside of a crop are its reflection.

    Pairs are turned and scaled at twice the resolution, since sampling blurs images and frays masks.
    """
    side, scale = 2 * resolution, (0.7, 1.4)
    reach = ceil(side / 2 * (sqrt(2) / scale[0] - 1))  # of a turned square of the smallest scale beyond the crop
    turn = v2.RandomAffine(180, scale=scale, interpolation=InterpolationMode.BILINEAR)
    color = v2.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.05)
    blur = v2.RandomApply([v2.GaussianBlur(3, sigma=(0.1, 1.5))], p=0.5)
    turned = [v2.Pad(reach, padding_mode="reflect"), turn, v2.CenterCrop(side), ResizePair(resolution)]
    return v2.Compose([train_transform(side, crop_size), *turned, color, blur])


AUGMENTATIONS: dict[str, Callable[[int, int], v2.Compose]] = {
    "flips": train_transform,
    "overhead": overhead,
    "strong": strong,
}
