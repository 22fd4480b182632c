"""Output class of the pipelines."""

from dataclasses import dataclass

import numpy as np
import torch
from diffusers.utils import BaseOutput
from PIL import Image


@dataclass
class SynthSetPipelineOutput(BaseOutput):
    """Images and their masks, in the same order.

    Args:
        images: for `output_type="pil"` a list of B RGB images; for `"np"` a float32 array (B, H, W, 3) and for `"pt"`
            a float32 tensor (B, 3, H, W), both in [0, 1].
        masks: for `"pil"` a list of B "L" images that hold 0 and 255; for `"np"` a float32 array (B, H, W, 1) and for
            `"pt"` a float32 tensor (B, 1, H, W), both holding 0 and 1.
    """

    images: list[Image.Image] | np.ndarray | torch.Tensor
    masks: list[Image.Image] | np.ndarray | torch.Tensor
