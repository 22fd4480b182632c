"""Conversion of image-mask pairs to model tensors and back."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.image_processor import PipelineImageInput
from PIL import Image

# entries of a network's configuration that say how its samples are encoded
PROCESSOR_KEYS = ("image_channels", "mask_channels", "sample_mean", "sample_std")


class PairImageProcessor(ConfigMixin):
    """Encodes image-mask pairs as tensors, and decodes them.

    The tensor, called `sample` everywhere, holds the image channels and then the mask channels: (B, C + M, H, W),
    float. Colors are scaled to [-1, 1] in place of the paper's [0, 1] (section 3, "Training the Proposed
    Architectures"); a binary mask is one channel, -1 for background and 1 for the object, which decoding thresholds
    at 0. Then each channel is standardized: its `sample_mean` is subtracted and the result divided by its `sample_std`.

    Args:
        image_channels: image channels C.
        mask_channels: mask channels M; 1 is a binary mask.
        sample_mean: of each channel in [-1, 1], C + M numbers; zeros if not given, and 0 for a mask.
        sample_std: divisor of each channel, C + M numbers; ones if not given.
    """

    config_name = "image_processor_config.json"

    @register_to_config
    def __init__(
        self,
        image_channels: int = 3,
        mask_channels: int = 1,
        sample_mean: Sequence[float] | None = None,
        sample_std: Sequence[float] | None = None,
    ):
        if mask_channels != 1:
            raise ValueError(f"mask_channels is {mask_channels}; only binary masks (1 channel) are supported so far.")
        channels = image_channels + mask_channels
        self.mean = torch.tensor(sample_mean or [0.0] * channels).view(-1, 1, 1)
        self.std = torch.tensor(sample_std or [1.0] * channels).view(-1, 1, 1)
        if len(self.mean) != channels or len(self.std) != channels:
            raise ValueError(
                f"sample_mean is {sample_mean} and sample_std {sample_std}; give {channels} numbers each, one for each "
                "channel."
            )

    @classmethod
    def of_network(cls, config: Mapping[str, Any]) -> "PairImageProcessor":
        """The processor of a network's samples, by its configuration."""
        return cls(**{key: config[key] for key in PROCESSOR_KEYS if key in config})

    @property
    def channels(self) -> int:
        """C + M."""
        return len(self.mean)

    @property
    def bounds(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Lowest and highest value of each channel, (C + M, 1, 1)."""
        return (-1 - self.mean) / self.std, (1 - self.mean) / self.std

    def encode(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Encodes pairs.

        Args:
            image: uint8 (..., C, H, W) in 0..255.
            mask: uint8 (..., 1, H, W) in {0, 1}.

        Returns:
            float32 (..., C + 1, H, W), in [-1, 1] before it is standardized.
        """
        return (torch.cat([image.float() / 127.5 - 1, mask.float() * 2 - 1], dim=-3) - self.mean) / self.std

    def decode(self, sample: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Decodes samples, clipped to what encoding returns.

        Args:
            sample: float (B, C + 1, H, W).

        Returns:
            float32 image (B, C, H, W) in [0, 1] and float32 mask (B, 1, H, W) in {0, 1}.
        """
        mean, std = self.mean.to(sample.device), self.std.to(sample.device)
        image, mask = (sample.float() * std + mean).split(
            [self.config.image_channels, self.config.mask_channels], dim=1
        )
        return (image / 2 + 0.5).clamp(0, 1), (mask > 0).float()

    def preprocess(self, images: PipelineImageInput, masks: PipelineImageInput) -> torch.Tensor:
        """Encodes pairs of any type that `postprocess` returns. Values are rounded to 8 bits, as in image files.

        Args:
            images: PIL RGB images (a list, or one), or an array (B, H, W, C) or tensor (B, C, H, W), float in [0, 1] or
                uint8.
            masks: "L", "1" or palette images (indices are used, not colors), or an array (B, H, W, 1) or tensor
                (B, 1, H, W); any value above 0 is the object.

        Returns:
            float32 (B, C + 1, H, W), as `encode` returns.

        Raises:
            ValueError: number, sizes or channels of images and masks differ from each other or from the model's, or
                values are out of range.
        """
        image = to_uint8(images, self.config.image_channels, "images")
        mask = to_uint8(masks, self.config.mask_channels, "masks")
        if image.shape[-2:] != mask.shape[-2:] or len(image) != len(mask):
            (b, _, h, w), (n, _, y, x) = image.shape, mask.shape
            raise ValueError(f"images are {b} of {w} x {h} pixels, but masks are {n} of {x} x {y}; make them alike.")
        return self.encode(image, mask > 0)

    def postprocess(
        self, sample: torch.Tensor, output_type: str = "pil"
    ) -> tuple[list[Image.Image] | np.ndarray | torch.Tensor, list[Image.Image] | np.ndarray | torch.Tensor]:
        """Decodes samples as images and masks.

        Args:
            sample: float (B, C + 1, H, W).
            output_type: `"pil"` gives lists of RGB images and of "L" masks that hold 0 and 255; `"np"` gives float32
                arrays (B, H, W, C) and (B, H, W, 1) in [0, 1]; `"pt"` gives float32 tensors (B, C, H, W) and
                (B, 1, H, W) in [0, 1]. Masks hold 0 and 1 only in the last two.

        Returns:
            The tuple (images, masks).
        """
        if output_type not in ("pil", "np", "pt"):
            raise ValueError(f"output_type is {output_type!r}; use 'pil', 'np' or 'pt'.")
        image, mask = self.decode(sample)
        if output_type == "pt":
            return image, mask
        images, masks = (x.movedim(1, -1).cpu().numpy() for x in (image, mask))
        if output_type == "np":
            return images, masks
        return (
            [Image.fromarray(i) for i in (images * 255).round().astype(np.uint8)],
            [Image.fromarray(m[..., 0]) for m in (masks * 255).astype(np.uint8)],
        )


def to_uint8(pictures: PipelineImageInput, channels: int, name: str) -> torch.Tensor:
    """uint8 tensor (B, C, H, W) from PIL images, an array (B, H, W, C) or a tensor (B, C, H, W)."""
    if isinstance(pictures, Image.Image):
        pictures = [pictures]
    if isinstance(pictures, (list, tuple)) and all(isinstance(picture, Image.Image) for picture in pictures):
        arrays = [np.atleast_3d(picture) for picture in pictures]
        shapes = sorted({array.shape for array in arrays})
        if len(shapes) != 1:
            raise ValueError(f"{name} are of {shapes} (height, width, channels); give at least one, all alike.")
        pictures = np.stack(arrays)
    if isinstance(pictures, np.ndarray) and pictures.ndim == 4:
        # a copy, because torch can't share a flipped view and warns about read-only memory
        pictures = torch.from_numpy(pictures.copy()).movedim(-1, 1)
    if not isinstance(pictures, torch.Tensor) or pictures.ndim != 4:
        raise ValueError(f"{name} is {_describe(pictures)}; give PIL images, an array (B, H, W, C) or a tensor.")
    if pictures.shape[1] != channels:
        raise ValueError(f"{name} have {pictures.shape[1]} channels; the model was trained on {channels}.")
    if pictures.dtype == torch.uint8:
        return pictures
    values = pictures.float()
    low, high = values.min().item(), values.max().item()
    if not (0 <= low and high <= 1):
        raise ValueError(f"{name} hold values from {low:g} to {high:g}; give [0, 1].")
    return (values * 255).round().to(torch.uint8)


def _describe(value: object) -> str:
    return f"{type(value).__name__} {tuple(value.shape)}" if hasattr(value, "shape") else type(value).__name__
