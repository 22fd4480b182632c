"""Augmentation of training pairs that the network is told of, and turns by 90 degrees, of which it is not.

An augmentation that is told does not leak into generated pairs: without one, the network draws pairs as they are
(Karras et al. 2022, arXiv 2206.00364, appendix F.2, "Non-leaky augmentation").
"""

import math
from collections.abc import Collection

import torch
from torch.nn.functional import grid_sample
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from .transforms import draw_object_pixel, train_transform

# standard deviations; those of scale and anisotropy are the paper's
SCALE, ANISOTROPY = 0.2, 0.2  # octaves
BRIGHTNESS = 0.1  # of the range from black to white
CONTRAST, SATURATION = 0.25, 0.5  # octaves
HUE = math.pi / 18

DIMENSIONS = 9  # entries of `augmentation`

Point = torch.Tensor  # (x, y) in pixels from the upper left corner of a photo


class Augmentation:
    """Random crop of a pair, augmented and resized.

    With `probability` 0 and without turns, crops are those of [`train_transform`]. Each augmentation that is drawn
    applies to a pair with `probability`, independently of the others:

    - `scale` by 2^(0.2 n), n standard normal;
    - `rotation` by an angle a, uniform;
    - `anisotropy`: stretching by 2^(0.2 n) along a line at a uniform angle b, and by the inverse across it;
    - `color`, four, each with an n of its own: brightness 0.1 n added (1 is the range from black to white), contrast
      times 2^(0.25 n), saturation times 2^(0.5 n), hue turned by 10 n degrees.

    Scaled, rotated and stretched crops show the photo all over, where it is large enough for them; a smaller one is
    continued by its mirror image. Flips and turns come first, so that what the network is told holds for what it sees.

    Args:
        resolution: side of the result in pixels.
        crop_size: side of the crops in pixels.
        probability: 0 to 1.
        kinds: the augmentations to draw, of those above.
        turns: turn by a multiple of 90 degrees, all four equally often. The network is not told.
        object_share: share of crops, 0 to 1, that are placed to show a pixel of the object, drawn at random.

    Called as `augmentation(image, mask)` with uint8 tv_tensors, (3, H, W) and (1, H, W), of sides of at least
    `crop_size`; draws from PyTorch's global generator. Returns such an image and mask of `resolution`, and a dict with
    `augmentation`, float32 (9,), unless `probability` is 0: n of the scale, cos a - 1, sin a, n cos 2b, n sin 2b, and n
    of brightness, contrast, saturation and hue; zero for what does not apply.
    """

    def __init__(
        self,
        resolution: int,
        crop_size: int,
        probability: float,
        kinds: Collection[str],
        turns: bool = False,
        object_share: float = 0.0,
    ):
        self.resolution, self.crop_size, self.probability, self.turns = resolution, crop_size, probability, turns
        self.object_share = object_share
        self.drawn = torch.tensor([kind in kinds for kind in ("scale", "rotation", "anisotropy", *["color"] * 4)])
        self.plain = train_transform(resolution, crop_size, object_share)

    def __call__(
        self, image: tv_tensors.Image, mask: tv_tensors.Mask
    ) -> tuple[tv_tensors.Image, tv_tensors.Mask, dict[str, torch.Tensor]]:
        applies = self.drawn & (torch.rand(7) < self.probability)
        turn = int(torch.randint(4, ())) if self.turns else 0
        scale, stretch, *color = (torch.randn(6) * applies[[0, 2, 3, 4, 5, 6]]).tolist()
        angle, axis = (torch.rand(2) * applies[1:3] * 2 * math.pi).tolist()
        if applies[:3].any():
            flips = torch.diag(torch.randint(2, (2,)) * 2.0 - 1)
            told = sampling_matrix(2 ** (SCALE * scale), angle, 2 ** (ANISOTROPY * stretch), axis)
            matrix = flips @ rotation(-turn * math.pi / 2) @ told
            pixel = None
            if self.object_share and torch.rand(()) < self.object_share:
                pixel = draw_object_pixel(mask)
            center = random_center(image, matrix, self.crop_size, pixel)
            image, mask = warp_pair(image, mask, matrix, center, self.crop_size, self.resolution)
        else:
            image, mask = self.plain(image, mask)
            if turn:
                image = tv_tensors.Image(image.rot90(turn, (1, 2)))
                mask = tv_tensors.Mask(mask.rot90(turn, (1, 2)))
        if applies[3:].any():
            brightness, contrast, saturation, hue = color
            image = recolor(
                image, BRIGHTNESS * brightness, 2 ** (CONTRAST * contrast), 2 ** (SATURATION * saturation), HUE * hue
            )
        if not self.probability:
            return image, mask, {}
        geometry = [scale, math.cos(angle) - 1, math.sin(angle)]
        geometry += [stretch * math.cos(2 * axis), stretch * math.sin(2 * axis)]
        return image, mask, {"augmentation": torch.tensor([*geometry, *color])}


def rotation(angle: float) -> torch.Tensor:
    """Matrix, (2, 2), that turns points (x, y), y down, counterclockwise as seen, by `angle` in radians."""
    cos, sin = math.cos(angle), math.sin(angle)
    return torch.tensor([[cos, sin], [-sin, cos]])


def sampling_matrix(scale: float, angle: float, stretch: float, axis: float) -> torch.Tensor:
    """Matrix, (2, 2), from a point of the augmented crop to that of the photo which it shows, both (x, y) from the
    center.

    What the crop shows is enlarged by `scale`, then turned counterclockwise by `angle`, then stretched by `stretch`
    along the line at the angle `axis`, counterclockwise from the x-axis, and by its inverse across. Angles are in
    radians.
    """
    shrink = rotation(axis) @ torch.diag(torch.tensor([1 / stretch, stretch])) @ rotation(-axis)
    return rotation(-angle) @ shrink / scale


def reach(matrix: torch.Tensor, crop_size: int) -> torch.Tensor:
    """Half the width and height, (2,), of the part of a photo that a crop shows, in pixels."""
    return crop_size / 2 * matrix.abs().sum(dim=1)


def random_center(
    image: tv_tensors.Image, matrix: torch.Tensor, crop_size: int, pixel: tuple[int, int] | None = None
) -> Point:
    """Draws the center of a crop that shows `pixel`, (row, column), or anything if that is None, so that as little as
    possible of it lies outside the photo."""
    half = torch.tensor([image.shape[2] / 2, image.shape[1] / 2])
    room = (half - reach(matrix, crop_size)).clamp(min=0)
    place = 2 * torch.rand(2) - 1
    if pixel is None:
        return half + room * place
    center = torch.tensor([pixel[1] + 0.5, pixel[0] + 0.5]) + matrix @ (crop_size / 2 * place)
    return center.clamp(half - room, half + room)


def warp_pair(
    image: tv_tensors.Image,
    mask: tv_tensors.Mask,
    matrix: torch.Tensor,
    center: Point,
    crop_size: int,
    resolution: int,
) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
    """Resamples a crop: the image bilinearly, with antialiasing, the mask to the nearest pixel.

    Args:
        image: uint8 (3, H, W).
        mask: uint8 (1, H, W).
        matrix: (2, 2), from a point of the crop to that of the photo, both (x, y) from the center.
        center: (x, y) of the crop's center in the photo.
        crop_size: side of the crop in pixels, which the identity matrix takes for pixels of the photo.
        resolution: side of the result in pixels.
    """
    fine = 2 * resolution  # side at which the image is interpolated
    size = torch.tensor([image.shape[2], image.shape[1]])
    extent = reach(matrix, crop_size) + 1 + crop_size / fine  # with a margin for the interpolation
    left, top = (center - extent).floor().clamp(min=0).int().tolist()
    right, bottom = (center + extent).ceil().minimum(size).int().tolist()
    window, corner = torch.tensor([right - left, bottom - top]), torch.tensor([left, top])

    def sample(picture: torch.Tensor, side: int, mode: str) -> torch.Tensor:
        offsets = ((torch.arange(side) + 0.5) / side - 0.5) * crop_size
        points = torch.stack(torch.meshgrid(offsets, offsets, indexing="xy"), dim=-1) @ matrix.T + center
        grid = (points - corner) / window * 2 - 1
        return grid_sample(picture[None].float(), grid[None], mode, "reflection", align_corners=False)[0]

    picture = image[:, top:bottom, left:right]
    if crop_size > fine:
        width, height = (window * fine / crop_size).ceil().int().tolist()
        picture = F.resize_image(picture, [height, width], antialias=True)
    labels = sample(mask[:, top:bottom, left:right], resolution, "nearest")
    smooth = F.resize_image(sample(picture, fine, "bilinear"), [resolution, resolution], antialias=True)
    return tv_tensors.Image(smooth.round().to(torch.uint8)), tv_tensors.Mask(labels.to(torch.uint8))


def recolor(
    image: tv_tensors.Image, brightness: float, contrast: float, saturation: float, hue: float
) -> tv_tensors.Image:
    """Changes colors.

    With colors from -1/2 to 1/2, the part across the axis of grays is turned about it by `hue` and multiplied by
    `saturation`; the color is then multiplied by `contrast`, and `brightness` is added.

    Args:
        image: uint8 (3, H, W).
        brightness: 1 is the range from black to white.
        contrast, saturation: above 0; 1 changes nothing.
        hue: angle in radians; 2 pi / 3 makes red green.
    """
    gray, cross = torch.full((3, 3), 1 / 3), torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / 3**0.5
    turned = math.cos(hue) * (torch.eye(3) - gray) + math.sin(hue) * cross
    colors = (image.as_subclass(torch.Tensor) / 255 - 0.5).flatten(1)
    colors = contrast * (gray + saturation * turned) @ colors + 0.5 + brightness
    return tv_tensors.Image((colors * 255).round().clamp(0, 255).to(torch.uint8).view(image.shape))
