"""Sampling of image-mask pairs (SynthSet, section 3)."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from diffusers import DiffusionPipeline, SchedulerMixin
from diffusers.utils.torch_utils import randn_tensor

from ..image_processor import PairImageProcessor
from ..models import PairedUNet2DModel
from .pipeline_output import SynthSetPipelineOutput


class SynthSetPipeline(DiffusionPipeline):
    """Draws images together with their masks from noise.

    Args:
        unet: the denoiser of the joint sample, image channels then mask channels.
        scheduler: any diffusers scheduler of epsilon, v_prediction or sample type, with the betas and the prediction
            type of training. `synthset.pipelines.make_scheduler` builds the tested ones.

    Example:

        >>> pipeline = SynthSetPipeline.from_pretrained("outputs/wheat").to("cuda")
        >>> pair = pipeline(batch_size=4, generator=torch.Generator().manual_seed(0))
        >>> pair.images[0], pair.masks[0]
    """

    model_cpu_offload_seq = "unet"
    _callback_tensor_inputs = ["sample"]

    def __init__(self, unet: PairedUNet2DModel, scheduler: SchedulerMixin):
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)
        self.image_processor = PairImageProcessor(unet.config.image_channels, unet.config.mask_channels)

    @torch.no_grad()
    def __call__(
        self,
        batch_size: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        num_inference_steps: int = 1000,
        height: int | None = None,
        width: int | None = None,
        eta: float = 0.0,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[["SynthSetPipeline", int, int, dict[str, Any]], dict[str, Any]] | None = None,
        callback_on_step_end_tensor_inputs: list[str] = ["sample"],  # noqa: B006
    ) -> SynthSetPipelineOutput | tuple:
        """Generates pairs.

        Args:
            batch_size: number of pairs B.
            generator: one generator for the whole batch, or a list of B, one per pair, so that a pair does not depend
                on its neighbours' noise. CPU generators give the same noise on every device.
            num_inference_steps: number of denoising steps.
            height: height in pixels; the network's `sample_size` by default.
            width: width in pixels; the network's `sample_size` by default.
            eta: weight of the noise in a DDIM step, in [0, 1]; other schedulers don't use it.
            output_type: `"pil"`, `"np"` or `"pt"` (see `SynthSetPipelineOutput`).
            return_dict: return a `SynthSetPipelineOutput`, not the tuple (images, masks).
            callback_on_step_end: called as `callback(pipeline, step, timestep, tensors)` after every step; may return
                a dict with a replaced `sample`.
            callback_on_step_end_tensor_inputs: the tensors it is given; `"sample"`, float32 (B, C + M, H, W), is all
                there is.

        Raises:
            ValueError: if the generators are not one per pair, or a callback tensor, output type or number of steps
                can't be served.
        """
        # 1. arguments
        if isinstance(generator, list) and len(generator) != batch_size:
            raise ValueError(f"generator is a list of {len(generator)}, but batch_size is {batch_size}; pass one each.")
        unknown = set(callback_on_step_end_tensor_inputs) - set(self._callback_tensor_inputs)
        if unknown:
            raise ValueError(
                f"callback_on_step_end_tensor_inputs has {sorted(unknown)}; use {self._callback_tensor_inputs}."
            )
        if output_type not in ("pil", "np", "pt"):
            raise ValueError(f"output_type is {output_type!r}; use 'pil', 'np' or 'pt'.")
        config = self.unet.config
        default = config.sample_size if isinstance(config.sample_size, (tuple, list)) else [config.sample_size] * 2
        channels = config.image_channels + config.mask_channels
        shape = (batch_size, channels, height or default[0], width or default[1])

        # 2. timesteps
        device = self._execution_device
        self.scheduler.set_timesteps(num_inference_steps, device=device)
        timesteps = self.scheduler.timesteps
        if timesteps.min() < 0:
            raise ValueError(
                f"num_inference_steps is {num_inference_steps}, for which {type(self.scheduler).__name__}'s "
                f"{self.scheduler.config.timestep_spacing!r} spacing ends in timestep -1, which is noise; use a "
                f"divisor of {self.scheduler.config.num_train_timesteps}."
            )
        accepted = inspect.signature(self.scheduler.step).parameters
        step_kwargs = {k: v for k, v in {"generator": generator, "eta": eta}.items() if k in accepted}

        # 3. noise. The sample stays in float32 whatever the network's type: a DDPM step moves it by less than bfloat16
        # can tell apart.
        sample = randn_tensor(shape, generator=generator, device=device, dtype=torch.float32)
        sample = sample * self.scheduler.init_noise_sigma

        # 4. denoising
        for i, t in enumerate(self.progress_bar(timesteps)):
            model_input = self.scheduler.scale_model_input(sample, t).to(self.unet.dtype)
            model_output = self.unet(model_input, t).sample.float()
            sample = self.scheduler.step(model_output, t, sample, **step_kwargs).prev_sample
            if callback_on_step_end is not None:
                tensors = {"sample": sample} if callback_on_step_end_tensor_inputs else {}
                sample = (callback_on_step_end(self, i, t, tensors) or {}).pop("sample", sample)

        # 5. pairs
        images, masks = self.image_processor.postprocess(sample, output_type)
        self.maybe_free_model_hooks()
        if not return_dict:
            return images, masks
        return SynthSetPipelineOutput(images=images, masks=masks)
