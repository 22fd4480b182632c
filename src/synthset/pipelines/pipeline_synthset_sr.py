"""Pipeline for super-resolution of image-mask pairs (SynthSet, section 3, "Super-resolution")."""

from typing import Any

import numpy as np
import torch
from diffusers import SchedulerMixin
from diffusers.image_processor import PipelineImageInput
from diffusers.utils.torch_utils import randn_tensor

from ..models import PairedUNet2DModel
from .pair_pipeline import Callback, PairPipeline
from .pipeline_output import SynthSetPipelineOutput


def add_condition_noise(
    condition: torch.Tensor, noise: torch.Tensor, noise_level: torch.Tensor, alphas_cumprod: torch.Tensor
) -> torch.Tensor:
    """Noise augmentation of a low-resolution pair (Ho et al. 2021, "Cascaded Diffusion Models", arXiv 2106.15282,
    section 4.2), to the noise of a training timestep.

    Args:
        condition: (B, C + M, h, w).
        noise: standard normal noise of that shape.
        noise_level: (B,) int64 in 0..T; 0 adds no noise, s > 0 the noise of timestep s - 1.
        alphas_cumprod: (T,), the scheduler's.
    """
    alphas = torch.cat([torch.ones(1), alphas_cumprod.float().cpu()]).to(condition.device)
    a = alphas[noise_level].view(-1, 1, 1, 1)
    return a**0.5 * condition + (1 - a) ** 0.5 * noise


class SynthSetSRPipeline(PairPipeline):
    """Upscales images together with their masks; details are generated.

    Args:
        unet: the denoiser of the joint sample, with `condition_channels` of a pair.
        scheduler: as in `SynthSetPipeline`; `synthset train-sr` saves a DDIM one, the paper's.
        scale_factor: ratio of output to input size.
        max_noise_level: largest `noise_level` that the network was trained with; 0 for none.
        crop_size: as in `SynthSetPipeline`.

    Example:

        >>> small = SynthSetPipeline.from_pretrained("outputs/wheat")(batch_size=4)
        >>> large = SynthSetSRPipeline.from_pretrained("outputs/wheat-sr")(small)
        >>> large.images[0], large.masks[0]
    """

    def __init__(
        self,
        unet: PairedUNet2DModel,
        scheduler: SchedulerMixin,
        scale_factor: int = 2,
        max_noise_level: int = 0,
        crop_size: int | None = None,
    ):
        super().__init__()
        self._register(unet, scheduler)
        self.register_to_config(scale_factor=scale_factor, max_noise_level=max_noise_level, crop_size=crop_size)
        channels = unet.config.image_channels + unet.config.mask_channels
        if unet.config.condition_channels != channels:
            raise ValueError(
                f"unet has condition_channels={unet.config.condition_channels}, but a pair to enlarge has {channels} "
                "channels; was it trained with synthset train-sr?"
            )
        if unet.config.condition_noise != (max_noise_level > 0):
            raise ValueError(
                f"max_noise_level is {max_noise_level}, but unet has condition_noise={unet.config.condition_noise}."
            )

    @torch.no_grad()
    def __call__(
        self,
        images: PipelineImageInput | SynthSetPipelineOutput,
        masks: PipelineImageInput | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        num_inference_steps: int | None = None,
        noise_level: int = 0,
        eta: float = 0.0,
        latents: torch.Tensor | None = None,
        output_type: str | None = None,
        return_dict: bool = True,
        callback_on_step_end: Callback | None = None,
        callback_on_step_end_tensor_inputs: list[str] = ["sample"],  # noqa: B006
    ) -> SynthSetPipelineOutput | tuple:
        """Upscales pairs by `scale_factor`.

        Args:
            images: B RGB PIL images (a list, or one), an array (B, H, W, C), a tensor (B, C, H, W), floats in [0, 1] or
                uint8; or a `SynthSetPipelineOutput`.
            masks: their masks of the same type and size; none for a `SynthSetPipelineOutput`.
            generator: one generator for the batch, or a list of B, one per pair.
            num_inference_steps: number of denoising steps, 1 to the number of timesteps T that the network was trained
                with; the smaller of 100, the paper's, and T by default.
            noise_level: noise added to the given pairs, in timesteps, 0 to `max_noise_level`. It hides artifacts of
                generated pairs, on which the network was not trained.
            eta: weight of the noise in a DDIM step, in [0, 1]; ignored by other schedulers.
            latents: initial noise of the output's size, as in `SynthSetPipeline`. The noise of `noise_level` is still
                drawn from the generator.
            output_type: `"pil"`, `"np"` or `"pt"` (see `SynthSetPipelineOutput`); the type of `images` by default.
            return_dict: return a `SynthSetPipelineOutput`, not the tuple (images, masks).
            callback_on_step_end: as in `SynthSetPipeline`.
            callback_on_step_end_tensor_inputs: as in `SynthSetPipeline`.

        Raises:
            ValueError: images and masks don't match each other or the network, the noise level is out of range, or as
                `SynthSetPipeline`.
        """
        # 1. arguments
        if isinstance(images, SynthSetPipelineOutput):
            if masks is not None:
                raise ValueError("masks is given, but images is a SynthSetPipelineOutput, which has its own.")
            masks = images.masks
            images = images.images
        condition = self.image_processor.preprocess(images, masks)
        if output_type is None:
            output_type = {np.ndarray: "np", torch.Tensor: "pt"}.get(type(images), "pil")
        if not 0 <= noise_level <= self.config.max_noise_level:
            raise ValueError(
                f"noise_level is {noise_level}, but the network was trained with 0 to {self.config.max_noise_level}; "
                "give one of those, or train with --max_noise_level."
            )
        batch_size, channels, low_height, low_width = condition.shape
        height, width = (side * self.config.scale_factor for side in (low_height, low_width))
        stride = self.unet.total_stride
        if height % stride or width % stride:
            raise ValueError(
                f"images are {low_width} x {low_height} pixels, {width} x {height} enlarged, but the network needs "
                f"multiples of {stride}; crop or pad them."
            )
        shape = batch_size, channels, height, width
        self._check_inputs(shape, generator, latents, output_type, callback_on_step_end_tensor_inputs)
        if num_inference_steps is None:
            num_inference_steps = min(100, self.scheduler.config.num_train_timesteps)

        # 2. condition
        condition = condition.to(self._execution_device)
        model_kwargs: dict[str, Any] = {}
        if noise_level:
            noise = randn_tensor(condition.shape, generator=generator, device=condition.device, dtype=torch.float32)
            level = torch.tensor([noise_level], device=condition.device)
            condition = add_condition_noise(condition, noise, level, self.scheduler.alphas_cumprod)
        if self.unet.config.condition_noise:
            model_kwargs["noise_level"] = noise_level

        # 3. pairs
        return self._generate(
            self.unet,
            self._prepare_latents(shape, generator, latents),
            generator,
            num_inference_steps,
            eta,
            output_type,
            return_dict,
            callback_on_step_end,
            callback_on_step_end_tensor_inputs,
            condition=condition.to(self.unet.dtype),
            **model_kwargs,
        )
