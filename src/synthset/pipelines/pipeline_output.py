"""Output class of the pipelines."""

from dataclasses import dataclass

import numpy as np
import torch
from diffusers.utils import BaseOutput
from PIL import Image


@dataclass(frozen=True)
class MaskVotes:
    """The vote of several masks that were drawn for each image.

    Args:
        probability: share of the draws with the object, float32 (B, H, W) in [0, 1].
        mask: where it is one half or more, bool (B, H, W).
        disagreement: share of the pairs of draws that differ, float32 (B, H, W) in [0, 1]; 0 for a single draw.
    """

    probability: np.ndarray
    mask: np.ndarray
    disagreement: np.ndarray

    @classmethod
    def count(cls, masks: torch.Tensor, num_draws: int) -> "MaskVotes":
        """Counts the votes of masks, (B * num_draws, 1, H, W) in {0, 1}, those of an image in a row."""
        ayes = masks.unflatten(0, (-1, num_draws)).sum(dim=(1, 2)).cpu().numpy()
        pairs = max(1, num_draws * (num_draws - 1) / 2)
        probability = (ayes / num_draws).astype(np.float32)
        return cls(probability, probability >= 0.5, (ayes * (num_draws - ayes) / pairs).astype(np.float32))


@dataclass
class SynthSetPipelineOutput(BaseOutput):
    """Images and their masks, in the same order.

    Args:
        images: for `output_type="pil"` a list of B RGB images; for `"np"` a float32 array (B, H, W, 3) and for `"pt"`
            a float32 tensor (B, 3, H, W), both in [0, 1].
        masks: for `"pil"` a list of B "L" images that hold 0 and 255; for `"np"` a float32 array (B, H, W, 1) and for
            `"pt"` a float32 tensor (B, 1, H, W), both holding 0 and 1.
        votes: of the masks drawn for given images, one of each image; None otherwise.
    """

    images: list[Image.Image] | np.ndarray | torch.Tensor
    masks: list[Image.Image] | np.ndarray | torch.Tensor
    votes: MaskVotes | None = None
