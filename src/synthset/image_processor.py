"""The one place where uint8 pairs become model tensors and model tensors become pairs again."""

import numpy as np
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from PIL import Image


class PairImageProcessor(ConfigMixin):
    """Encodes image-mask pairs as one tensor in [-1, 1] and decodes it.

    The tensor, called `sample` everywhere, holds the image channels and then the mask channels: (B, C + M, H, W),
    float. [-1, 1] is what every diffusers scheduler clips to; the paper's [0, 1] (section 3, "Training the Proposed
    Architectures") is not. A binary mask is one channel, -1 for background and 1 for the object; decoding thresholds
    it at 0, so a decoded mask is always legal.

    Args:
        image_channels: image channels C.
        mask_channels: mask channels M; 1 is a binary mask.
    """

    config_name = "image_processor_config.json"

    @register_to_config
    def __init__(self, image_channels: int = 3, mask_channels: int = 1):
        if mask_channels != 1:
            raise ValueError(f"mask_channels is {mask_channels}; only binary masks (1 channel) are supported so far.")

    def encode(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """uint8 image (..., C, H, W) in 0..255 and uint8 mask (..., 1, H, W) in {0, 1} -> float32 (..., C + 1, H, W)
        in [-1, 1]."""
        return torch.cat([image.float() / 127.5 - 1, mask.float() * 2 - 1], dim=-3)

    def decode(self, sample: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """float (B, C + 1, H, W) -> float32 image (B, C, H, W) in [0, 1] and float32 mask (B, 1, H, W) in {0, 1}.

        Values beyond [-1, 1] are clipped; there is no per-image stretch.
        """
        image, mask = sample.float().split([self.config.image_channels, self.config.mask_channels], dim=1)
        return (image / 2 + 0.5).clamp(0, 1), (mask > 0).float()

    def preprocess(self, images: list[Image.Image], masks: list[Image.Image]) -> torch.Tensor:
        """PIL RGB images and "L" masks (0 and 255, or 0 and 1; any value above 0 is the object), all of one size ->
        float32 (B, C + 1, H, W) in [-1, 1]."""
        image = torch.from_numpy(np.stack([np.asarray(i.convert("RGB")) for i in images])).movedim(-1, -3)
        mask = torch.from_numpy(np.stack([np.asarray(m.convert("L")) > 0 for m in masks])).unsqueeze(1)
        return self.encode(image, mask)

    def postprocess(self, sample: torch.Tensor, output_type: str = "pil"):
        """Decodes `sample` (B, C + 1, H, W).

        Args:
            sample: what the denoising loop ended with.
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
        image, mask = (x.movedim(1, -1).cpu().numpy() for x in (image, mask))
        if output_type == "np":
            return image, mask
        images = [Image.fromarray(i) for i in (image * 255).round().astype(np.uint8)]
        masks = [Image.fromarray(m[..., 0]) for m in (mask * 255).astype(np.uint8)]
        return images, masks
