"""Joint transforms of a pair: whatever happens to the image happens to its mask."""

import torch
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F


def to_tv_tensors(row: dict) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
    """A row of `load_pairs` -> uint8 image (3, H, W) in 0..255 and uint8 mask (1, H, W) in {0, 1}."""
    return tv_tensors.Image(F.pil_to_tensor(row["image"])), tv_tensors.Mask(F.pil_to_tensor(row["mask"]))


def resize_pair(
    image: tv_tensors.Image, mask: tv_tensors.Mask, size: tuple[int, int]
) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
    """Resizes image and mask to `size`, (height, width) in pixels: bilinear with antialiasing, and nearest.

    The nearest pixel is `NEAREST_EXACT`'s, the one at the center of the output pixel. torchvision resizes masks with
    `NEAREST`, which takes the upper left corner instead: from 256 to 64 pixels that moves the mask by 3/8 of an output
    pixel down and to the right of its image. `NEAREST_EXACT` is never more than half an input pixel off.
    """
    resized = F.resize_image(mask.as_subclass(torch.Tensor), list(size), InterpolationMode.NEAREST_EXACT)
    return F.resize(image, list(size), antialias=True), tv_tensors.Mask(resized)


class ResizePair(torch.nn.Module):
    """[`resize_pair`] to `resolution` x `resolution` pixels."""

    def __init__(self, resolution: int):
        super().__init__()
        self.size = resolution, resolution

    def forward(self, image: tv_tensors.Image, mask: tv_tensors.Mask) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
        return resize_pair(image, mask, self.size)


def train_transform(resolution: int, crop_size: int) -> v2.Compose:
    """A random `crop_size` square, resized to `resolution`, flipped horizontally and vertically half of the time each
    (SynthSet, section 3: 512 -> 128).

    Called as `transform(image, mask)` on tv_tensors of at least `crop_size` pixels a side; draws from PyTorch's
    global generator.
    """
    return v2.Compose(
        [v2.RandomCrop(crop_size), ResizePair(resolution), v2.RandomHorizontalFlip(), v2.RandomVerticalFlip()]
    )


def eval_transform(resolution: int, crop_size: int) -> v2.Compose:
    """The central `crop_size` square, resized to `resolution`; called as [`train_transform`]'s result is."""
    return v2.Compose([v2.CenterCrop(crop_size), ResizePair(resolution)])
