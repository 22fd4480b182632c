"""Guidance of a denoiser by a worse version of itself."""

import math
from dataclasses import dataclass

import torch

from ..image_processor import PROCESSOR_KEYS
from ..models import PairedUNet2DModel

SAMPLE_KEYS = (*PROCESSOR_KEYS, "sample_size")  # of a configuration: what samples are like


@dataclass(frozen=True)
class Autoguidance:
    """Guidance away from what a worse network predicts (Karras et al. 2024, arXiv 2406.02507).

        D = D_worse + scale * (D_better - D_worse)

    for the predicted x_0, and therefore for predictions of one `prediction_type`, in which x_0 is linear at a given
    x_t.

    Args:
        unet: the worse network, such as an earlier checkpoint of the same run.
        scale: weight of the better one; 1 is no guidance.
        interval: the lowest and the highest noise level, sqrt((1 - a) / a) with a = alphas_cumprod, at which to guide
            (Kynkaanniemi et al. 2024, arXiv 2404.07724).
    """

    unet: PairedUNet2DModel
    scale: float
    interval: tuple[float, float] = (0.0, math.inf)

    def guide(
        self, prediction: torch.Tensor, sample: torch.Tensor, timestep: torch.Tensor, alphas_cumprod: float
    ) -> torch.Tensor:
        """Guides a prediction, float32 (B, C + M, H, W), for the network's input `sample`, of that shape, at a timestep
        with `alphas_cumprod`."""
        low, high = self.interval
        level = math.sqrt((1 - alphas_cumprod) / alphas_cumprod) if alphas_cumprod > 0 else math.inf
        if self.scale == 1 or not low <= level <= high:
            return prediction
        worse = self.unet(sample.to(self.unet.dtype), timestep).sample.float()
        return worse + self.scale * (prediction - worse)
