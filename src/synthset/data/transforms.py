"""Joint transforms of an image and its mask."""

import torch
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F


def to_tv_tensors(row: dict) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
    """Converts a row of `load_pairs` to a uint8 image (3, H, W) in 0..255 and a uint8 mask (1, H, W) in {0, 1}."""
    return tv_tensors.Image(F.pil_to_tensor(row["image"])), tv_tensors.Mask(F.pil_to_tensor(row["mask"]))


def resize_pair(
    image: tv_tensors.Image, mask: tv_tensors.Mask, size: tuple[int, int]
) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
    """Resizes image (antialiased bilinear) and mask (nearest neighbor) to `size`, (height, width) in pixels.

    Masks use `NEAREST_EXACT`, which samples at the center of the output pixel. The default of torchvision, `NEAREST`,
    samples at the upper left corner: from 256 to 64 pixels, that shifts the mask by 3/8 of an output pixel against its
    image. With `NEAREST_EXACT`, the shift is at most half an input pixel.
    """
    resized = F.resize_image(mask.as_subclass(torch.Tensor), list(size), InterpolationMode.NEAREST_EXACT)
    return F.resize(image, list(size), antialias=True), tv_tensors.Mask(resized)


class ResizePair(torch.nn.Module):
    """Resizes a pair to `resolution` x `resolution` pixels with [`resize_pair`]."""

    def __init__(self, resolution: int):
        super().__init__()
        self.size = resolution, resolution

    def forward(self, image: tv_tensors.Image, mask: tv_tensors.Mask) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
        return resize_pair(image, mask, self.size)


def train_transform(resolution: int, crop_size: int) -> v2.Compose:
    """Random `crop_size` square crop, resized to `resolution`, with random horizontal and vertical flips (SynthSet,
    section 3: 512 -> 128).

    Called as `transform(image, mask)` on tv_tensors with sides of at least `crop_size` pixels; draws from PyTorch's
    global generator.
    """
    return v2.Compose(
        [v2.RandomCrop(crop_size), ResizePair(resolution), v2.RandomHorizontalFlip(), v2.RandomVerticalFlip()]
    )


def eval_transform(resolution: int, crop_size: int) -> v2.Compose:
    """Center crop of side `crop_size`, resized to `resolution`; called as the result of [`train_transform`]."""
    return v2.Compose([v2.CenterCrop(crop_size), ResizePair(resolution)])
