"""Joint transforms of an image and its mask."""

import torch
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F


def to_tv_tensors(row: dict) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
    """Converts a row of `load_pairs` to a uint8 image (3, H, W) in 0..255 and a uint8 mask (1, H, W) in {0, 1}."""
    return tv_tensors.Image(F.pil_to_tensor(row["image"])), tv_tensors.Mask(F.pil_to_tensor(row["mask"]))


def resize_image(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resizes an image (..., H, W) to `size`, (height, width) in pixels, by an antialiased bilinear filter."""
    return F.resize_image(image, list(size), antialias=True)


def resize_mask(mask: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resizes a mask (..., H, W) to `size`, (height, width) in pixels, each pixel to its nearest neighbor.

    Masks use `NEAREST_EXACT`, which samples at the center of the output pixel. The default of torchvision, `NEAREST`,
    samples at the upper left corner: from 256 to 64 pixels, that shifts the mask by 3/8 of an output pixel against its
    image. With `NEAREST_EXACT`, the shift is at most half an input pixel.
    """
    return F.resize_image(mask, list(size), InterpolationMode.NEAREST_EXACT)


def resize_pair(
    image: tv_tensors.Image, mask: tv_tensors.Mask, size: tuple[int, int]
) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
    """Resizes a pair with [`resize_image`] and [`resize_mask`] to `size`, (height, width) in pixels."""
    planes = image.as_subclass(torch.Tensor), mask.as_subclass(torch.Tensor)
    return tv_tensors.Image(resize_image(planes[0], size)), tv_tensors.Mask(resize_mask(planes[1], size))


class ResizePair(torch.nn.Module):
    """Resizes a pair to `resolution` x `resolution` pixels with [`resize_pair`]."""

    def __init__(self, resolution: int):
        super().__init__()
        self.size = resolution, resolution

    def forward(self, image: tv_tensors.Image, mask: tv_tensors.Mask) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
        return resize_pair(image, mask, self.size)


class RandomCropFlipPair(torch.nn.Module):
    """Random square crop of side `crop_size`, resized to `resolution` with [`resize_pair`], with random horizontal and
    vertical flips: the transforms of torchvision in sequence, which draw the same numbers but take twice as long."""

    def __init__(self, resolution: int, crop_size: int):
        super().__init__()
        self.size, self.crop_size = (resolution, resolution), crop_size

    def forward(self, image: tv_tensors.Image, mask: tv_tensors.Mask) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
        spare = [length - self.crop_size for length in image.shape[-2:]]
        top, left = (int(torch.randint(0, pixels + 1, ())) if pixels else 0 for pixels in spare)
        flipped = [dim for dim in (-1, -2) if torch.rand(1) < 0.5]
        planes = [
            resize(
                plane.as_subclass(torch.Tensor)[:, top : top + self.crop_size, left : left + self.crop_size], self.size
            )
            for plane, resize in ((image, resize_image), (mask, resize_mask))
        ]
        return tv_tensors.Image(planes[0].flip(flipped)), tv_tensors.Mask(planes[1].flip(flipped))


class ObjectCropPair(torch.nn.Module):
    """With probability `share`, the square crop of side `crop_size` around a pixel of the object: the pixel is drawn
    first, then its place in the crop. Other pairs, and those without an object, stay whole."""

    def __init__(self, crop_size: int, share: float):
        super().__init__()
        self.crop_size, self.share = crop_size, share

    def forward(self, image: tv_tensors.Image, mask: tv_tensors.Mask) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
        pixel = draw_object_pixel(mask) if torch.rand(()) < self.share else None
        if pixel is None:
            return image, mask
        starts = []
        for place, length in zip(pixel, mask.shape[-2:], strict=True):
            first, last = max(0, place - self.crop_size + 1), min(place, length - self.crop_size)
            starts.append(int(torch.randint(first, last + 1, ())))
        rows, columns = (slice(start, start + self.crop_size) for start in starts)
        image, mask = image.as_subclass(torch.Tensor), mask.as_subclass(torch.Tensor)
        return tv_tensors.Image(image[:, rows, columns]), tv_tensors.Mask(mask[:, rows, columns])


def draw_object_pixel(mask: torch.Tensor) -> tuple[int, int] | None:
    """Draws the row and the column of a pixel of the object in a mask (1, H, W); None if there is none."""
    pixels = (mask.as_subclass(torch.Tensor)[0] == 1).nonzero()
    if not len(pixels):
        return None
    row, column = pixels[int(torch.randint(len(pixels), ()))].tolist()
    return row, column


def train_transform(resolution: int, crop_size: int, object_share: float = 0.0) -> torch.nn.Module:
    """Random `crop_size` square crop, resized to `resolution`, with random horizontal and vertical flips (SynthSet,
    section 3: 512 -> 128).

    Called as `transform(image, mask)` on tv_tensors with sides of at least `crop_size` pixels; draws from PyTorch's
    global generator.

    Args:
        resolution: side of the result in pixels.
        crop_size: side of the crops in pixels.
        object_share: share of crops that [`ObjectCropPair`] places, 0 to 1.
    """
    anywhere = RandomCropFlipPair(resolution, crop_size)
    return v2.Compose([ObjectCropPair(crop_size, object_share), anywhere]) if object_share else anywhere


def eval_transform(resolution: int, crop_size: int) -> v2.Compose:
    """Center crop of side `crop_size`, resized to `resolution`; called as the result of [`train_transform`]."""
    return v2.Compose([v2.CenterCrop(crop_size), ResizePair(resolution)])
