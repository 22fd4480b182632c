"""Masks like real ones: warped and recombined, to paint images for."""

import math

import torch
from PIL import Image
from torch.utils.data import Dataset
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F

from ..random import keyed_randomness
from .augmentation import Augmentation

WARPS = ("scale", "rotation", "anisotropy")
DISPLACEMENT = 0.02  # standard deviation of an elastic warp, as a share of the side
SMOOTHNESS = 0.08  # distance over which it changes, as a share of the side


class WarpedMasks:
    """Maps a number to a mask made of real ones.

    A crop of a mask, half of the time around an object, is turned, flipped, scaled, rotated and stretched as in
    [`Augmentation`], and bent by a smooth random displacement (Simard et al. 2003). Every fourth mask is the union of
    two of them, so that objects stand together that never did.

    Args:
        pairs: uint8 tv_tensors (3, H, W) and (1, H, W), such as `PairTensors`.
        resolution: side of the result in pixels.
        crop_size: side of the crops in the pixels of `pairs`.
        seed: decides, with the number, the mask.
        object_share: share of crops, 0 to 1, that show an object for certain; as in training, so that the masks cover
            about as much.
    """

    def __init__(self, pairs: Dataset, resolution: int, crop_size: int, seed: int, object_share: float = 0.5):
        self.pairs, self.seed = pairs, seed
        self.crop = Augmentation(resolution, crop_size, 1.0, WARPS, turns=True, object_share=object_share)
        smooth = max(1.0, SMOOTHNESS * resolution)
        # the blurred noise, uniform in [-1, 1], has a standard deviation of 3 ** -0.5 / (2 sqrt(pi) smooth)
        strength = DISPLACEMENT * resolution * 3**0.5 * 2 * math.pi**0.5 * smooth
        self.bend = v2.ElasticTransform(strength, smooth, InterpolationMode.NEAREST)

    def __call__(self, number: int) -> tuple[Image.Image, str]:
        """The mask, "L" with 0 and 255, and the numbers of the pairs that it is made of, such as `12` or `3+12`."""
        with keyed_randomness(self.seed, number, 3):
            count = 1 + int(torch.rand(()) < 0.25)
            chosen = torch.randint(len(self.pairs), (count,)).tolist()  # type: ignore[arg-type]  # it has a length
            masks = [self.bend(self.crop(*self.pairs[index])[1]) for index in chosen]
        union = torch.stack([mask.as_subclass(torch.Tensor) for mask in masks]).amax(dim=0)
        return F.to_pil_image(union * 255), "+".join(map(str, sorted(chosen)))
