"""Guidance of a denoiser: away from what a network predicts that is worse, or knows less."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch

from ..image_processor import PROCESSOR_KEYS
from ..models import PairedUNet2DModel
from .completion import Known, Times
from .windows import WindowedUNet

SAMPLE_KEYS = (*PROCESSOR_KEYS, "sample_size")  # of a configuration: what samples are like


@dataclass(frozen=True)
class Guidance(ABC):
    """Guidance away from a worse prediction (Karras et al. 2024, arXiv 2406.02507).

        D = D_worse + scale * (D_better - D_worse)

    for the predicted x_0, and therefore for predictions of one `prediction_type`, in which x_0 is linear at a given
    x_t.

    Args:
        unet: the network of the worse prediction.
        scale: weight of the better one; 1 is no guidance.
        interval: the lowest and the highest noise level, sqrt((1 - a) / a) with a = alphas_cumprod, at which to guide
            (Kynkaanniemi et al. 2024, arXiv 2404.07724).
    """

    unet: PairedUNet2DModel | WindowedUNet
    scale: float
    interval: tuple[float, float]

    def guide(
        self, prediction: torch.Tensor, sample: torch.Tensor, times: Times, alphas_cumprod: float
    ) -> torch.Tensor:
        """Guides a prediction, float32 (B, C + M, H, W), for the network's input `sample`, of that shape, at its
        `times`, with `alphas_cumprod`."""
        low, high = self.interval
        level = math.sqrt((1 - alphas_cumprod) / alphas_cumprod) if alphas_cumprod > 0 else math.inf
        if self.scale == 1 or not low <= level <= high:
            return prediction
        worse = self.predict_worse(sample, times)
        return worse + self.scale * (prediction - worse)

    @abstractmethod
    def predict_worse(self, sample: torch.Tensor, times: Times) -> torch.Tensor:
        """The worse prediction, float32 (B, C + M, H, W)."""


@dataclass(frozen=True)
class Autoguidance(Guidance):
    """Guidance by a worse network, such as an earlier checkpoint of the same run."""

    def predict_worse(self, sample: torch.Tensor, times: Times) -> torch.Tensor:
        timestep, told = times
        return self.unet(sample.to(self.unet.dtype), timestep, **told).sample.float()


@dataclass(frozen=True)
class MarginalGuidance(Guidance):
    """Guidance by the same network that does not know the given part: it is noise, at the last timestep (Ho and
    Salimans 2022, arXiv 2207.12598; Bao et al. 2023, "UniDiffuser", arXiv 2303.06555).

    Args:
        known: the given part.
        noise: standard normal, (B, C + M, H, W).
        num_train_timesteps: T.
    """

    known: Known
    noise: torch.Tensor
    num_train_timesteps: int

    def predict_worse(self, sample: torch.Tensor, times: Times) -> torch.Tensor:
        timestep, told = times
        last = torch.full_like(timestep, self.num_train_timesteps - 1)
        timestep, told = (last, told) if self.known.part == "image" else (timestep, {"mask_timestep": last})
        sample = torch.where(self.known.region, self.noise, sample)
        return self.unet(sample.to(self.unet.dtype), timestep, **told).sample.float()
