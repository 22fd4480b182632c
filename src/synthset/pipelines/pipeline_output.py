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
        mask: where it is above `threshold`, bool (B, H, W): of all masks that a threshold makes, the one of the highest
            mean Dice with the draws. Two empty masks have 1.
        threshold: between two shares, float32 (B,). It is one half where draws agree, and less where they differ: the
            threshold of the highest expected Dice is half of that Dice (Lipton et al. 2014, arXiv 1402.1892).
        confidence: mean Dice of `mask` with the draws, float32 (B,) in [0, 1].
        disagreement: share of the pairs of draws that differ, float32 (B, H, W) in [0, 1]; 0 for a single draw.
    """

    probability: np.ndarray
    mask: np.ndarray
    threshold: np.ndarray
    confidence: np.ndarray
    disagreement: np.ndarray

    @classmethod
    def count(cls, masks: torch.Tensor, num_draws: int) -> "MaskVotes":
        """Counts the votes of masks, (B * num_draws, 1, H, W) in {0, 1}, those of an image in a row."""
        draws = masks[:, 0].unflatten(0, (-1, num_draws)).float().cpu()
        ayes = draws.sum(dim=1)
        # of equal masks, the one whose threshold is nearest to a half is taken; the last is empty
        thresholds = torch.tensor(sorted((k + 0.5 for k in range(num_draws + 1)), key=lambda k: abs(k - num_draws / 2)))
        candidates = (ayes[:, None] > thresholds.view(-1, 1, 1)).float()
        both = torch.einsum("bkhw,bnhw->bkn", candidates, draws)
        sizes = candidates.sum(dim=(2, 3))[:, :, None] + draws.sum(dim=(2, 3))[:, None]
        confidence, best = torch.where(sizes > 0, 2 * both / sizes.clamp(min=1), 1.0).mean(dim=2).max(dim=1)
        return cls(
            probability=(ayes / num_draws).numpy(),
            mask=candidates[torch.arange(len(best)), best].bool().numpy(),
            threshold=(thresholds[best] / num_draws).numpy(),
            confidence=confidence.numpy(),
            disagreement=(ayes * (num_draws - ayes) / max(1, num_draws * (num_draws - 1) / 2)).numpy(),
        )


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
