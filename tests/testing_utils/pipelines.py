"""Denoisers whose right answer is known, to check samplers and pipelines against."""

import math

import torch
from diffusers import ConfigMixin, ModelMixin, SchedulerMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.unets.unet_2d import UNet2DOutput


class GaussianDenoiser(ModelMixin, ConfigMixin):
    """The perfect network for data drawn from N(mean, std^2), every value by itself.

    With x_t = sqrt(a) x_0 + sqrt(1 - a) e,

        E[x_0 | x_t] = mean + std^2 sqrt(a) / (a std^2 + 1 - a) (x_t - sqrt(a) mean);

    epsilon and v follow from it. A std of 0 is data of one sample, `mean`. Between two timesteps, a is interpolated.

    Args:
        scheduler: the training scheduler; gives alphas_cumprod and the prediction type.
        mean: (C + 1, H, W).
        std: a number.
    """

    total_stride = 1

    @register_to_config
    def __init__(self, sample_size: int = 8, image_channels: int = 3, mask_channels: int = 1):
        super().__init__()

    @classmethod
    def build(cls, scheduler: SchedulerMixin, mean: torch.Tensor, std: float = 0.0) -> "GaussianDenoiser":
        model = cls(sample_size=mean.shape[-1], image_channels=mean.shape[0] - 1)
        model.mean = torch.nn.Parameter(mean)
        model.std, model.alphas_cumprod = std, scheduler.alphas_cumprod.double()
        model.prediction_type = scheduler.config.prediction_type
        return model

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> UNet2DOutput:
        return self.answer(sample, timestep, self.mean)

    def answer(self, sample: torch.Tensor, timestep: torch.Tensor, mean: torch.Tensor) -> UNet2DOutput:
        a = torch.lerp(*self.alphas_cumprod[[math.floor(timestep), math.ceil(timestep)]], timestep.double() % 1)
        x_t, mean = sample.double(), mean.double()
        x_0 = mean + self.std**2 * a**0.5 / (a * self.std**2 + 1 - a) * (x_t - a**0.5 * mean)
        epsilon = (x_t - a**0.5 * x_0) / (1 - a) ** 0.5
        velocity = a**0.5 * epsilon - (1 - a) ** 0.5 * x_0
        answer = {"sample": x_0, "epsilon": epsilon, "v_prediction": velocity}[self.prediction_type]
        return UNet2DOutput(sample=answer.to(sample.dtype))


class RecallingDenoiser(GaussianDenoiser):
    """The perfect super-resolution network for data that is a few large pairs: it looks up which one the condition is.

    Args:
        scheduler: the training scheduler.
        small: (N, C + 1, h, w), what the large pairs look like small.
        large: (N, C + 1, H, W).
    """

    total_stride = 2

    @register_to_config
    def __init__(
        self,
        image_channels: int = 3,
        mask_channels: int = 1,
        condition_channels: int = 4,
        condition_noise: bool = False,
    ):
        torch.nn.Module.__init__(self)

    @classmethod
    def build(cls, scheduler: SchedulerMixin, small: torch.Tensor, large: torch.Tensor) -> "RecallingDenoiser":
        model = cls()
        model.small, model.large = small, torch.nn.Parameter(large)
        model.std, model.alphas_cumprod = 0.0, scheduler.alphas_cumprod.double()
        model.prediction_type = scheduler.config.prediction_type
        return model

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor, condition: torch.Tensor) -> UNet2DOutput:
        nearest = torch.cdist(condition.flatten(1), self.small.flatten(1)).argmin(dim=1)
        return self.answer(sample, timestep, self.large[nearest])


class EmpiricalDenoiser(ModelMixin, ConfigMixin):
    """The perfect network for data that is a few pairs: E[x_0 | x_t], with timesteps for image and mask of their own.

    The weight of a pair is its likelihood, prod over parts of N(x_t; sqrt(a) x_0, 1 - a). It predicts x_0.

    Args:
        scheduler: the training scheduler; gives alphas_cumprod.
        pairs: (N, 4, H, W).
    """

    total_stride = 4

    @register_to_config
    def __init__(
        self, sample_size: int = 8, image_channels: int = 3, mask_channels: int = 1, mask_timestep: bool = True
    ):
        super().__init__()

    @classmethod
    def build(cls, scheduler: SchedulerMixin, pairs: torch.Tensor, **config) -> "EmpiricalDenoiser":
        model = cls(sample_size=pairs.shape[-1], **config)
        model.pairs, model.alphas_cumprod = torch.nn.Parameter(pairs), scheduler.alphas_cumprod.double()
        return model

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor, mask_timestep=None) -> UNet2DOutput:
        times = [timestep] * 3 + [timestep if mask_timestep is None else mask_timestep]
        a = self.alphas_cumprod[torch.stack([torch.as_tensor(t).long() for t in times])].view(4, 1, 1)
        distance = (sample.double()[:, None] - a**0.5 * self.pairs.double()) ** 2 / (1 - a)
        weights = (-distance.sum(dim=(2, 3, 4)) / 2).softmax(dim=1)
        return UNet2DOutput(sample=torch.einsum("bn,nchw->bchw", weights, self.pairs.double()).to(sample.dtype))
