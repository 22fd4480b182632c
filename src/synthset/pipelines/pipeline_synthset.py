"""Pipeline that generates image-mask pairs (SynthSet, section 3)."""

import math

import numpy as np
import torch
from diffusers import SchedulerMixin

from ..models import PairedUNet2DModel
from .guidance import SAMPLE_KEYS, Autoguidance
from .pair_pipeline import Callback, PairPipeline
from .pipeline_output import SynthSetPipelineOutput


class SynthSetPipeline(PairPipeline):
    """Generates images together with their masks from noise.

    Args:
        unet: the denoiser of the joint sample, image channels then mask channels.
        scheduler: one with the betas and the prediction type of training, of a class in
            `synthset.pipelines.schedulers.COMPATIBLE`. Make another with `make_scheduler` or a class's
            `from_config(pipeline.scheduler.config)`. With any of them, x_0 is clipped to what pairs can be.
        crop_size: side in pixels of the square crops of photos, resized to `sample_size`, that the network was trained
            on; None if not known.

    Example:

        >>> pipeline = SynthSetPipeline.from_pretrained("outputs/wheat").to("cuda")
        >>> pair = pipeline(batch_size=4, generator=torch.Generator().manual_seed(0))
        >>> pair.images[0], pair.masks[0]
    """

    def __init__(self, unet: PairedUNet2DModel, scheduler: SchedulerMixin, crop_size: int | None = None):
        super().__init__()
        self._register(unet, scheduler)
        self.register_to_config(crop_size=crop_size)

    @torch.no_grad()
    def __call__(
        self,
        batch_size: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        num_inference_steps: int | None = None,
        height: int | None = None,
        width: int | None = None,
        eta: float = 0.0,
        latents: torch.Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callback | None = None,
        callback_on_step_end_tensor_inputs: list[str] = ["sample"],  # noqa: B006
        guidance_unet: PairedUNet2DModel | None = None,
        guidance_scale: float = 1.0,
        guidance_interval: tuple[float, float] = (0.0, math.inf),
    ) -> SynthSetPipelineOutput | tuple:
        """Generates pairs.

        Args:
            batch_size: number of pairs B.
            generator: one generator for the batch, or a list of B, one per pair, so that a pair does not depend on
                the others in its batch. CPU generators give the same noise on every device.
            num_inference_steps: number of denoising steps, 1 to the number of timesteps T that the network was trained
                with; the smaller of 1000 and T by default.
            height: height in pixels, a multiple of the network's `total_stride`; its `sample_size` by default.
            width: the same for the width.
            eta: weight of the noise in a DDIM step, in [0, 1]; ignored by other schedulers.
            latents: initial noise (B, C + M, H, W), standard normal for every scheduler, image channels first; drawn
                from the generator by default.
            output_type: `"pil"`, `"np"` or `"pt"` (see `SynthSetPipelineOutput`).
            return_dict: return a `SynthSetPipelineOutput`, not the tuple (images, masks).
            callback_on_step_end: called as `callback(pipeline, step, timestep, tensors)` after every step; may return
                a dict with a new `sample`, or set `pipeline._interrupt = True` to end the call there.
            callback_on_step_end_tensor_inputs: names of the tensors in `tensors`; only `"sample"`, float32
                (B, C + M, H, W), is available.
            guidance_unet: worse network that guides `unet`, such as that of an earlier checkpoint, on the same device
                and trained with the same noise schedule and prediction type; doubles the time.
            guidance_scale: weight of `unet` against `guidance_unet` (Karras et al. 2024, arXiv 2406.02507); 1 is no
                guidance.
            guidance_interval: lowest and highest noise level, sqrt((1 - a) / a) with a = alphas_cumprod, at which to
                guide.

        Raises:
            ValueError: an argument has the wrong type, shape or size, or the scheduler can't sample from the network
                or not in this number of steps.
        """
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size is {batch_size!r}; give the number of pairs, 1 or more. There is no prompt.")
        config, stride = self.unet.config, self.unet.total_stride
        default = np.broadcast_to(config.sample_size, 2).tolist()
        height, width = (side if given is None else given for given, side in zip((height, width), default, strict=True))
        if height < 1 or width < 1 or height % stride or width % stride:
            raise ValueError(f"height is {height} and width {width}; give multiples of {stride}, the network's stride.")
        shape = batch_size, config.image_channels + config.mask_channels, height, width
        self._check_inputs(shape, generator, latents, output_type, callback_on_step_end_tensor_inputs)
        guidance = None
        if guidance_unet is not None:
            found, wanted = ({key: unet.config.get(key) for key in SAMPLE_KEYS} for unet in (guidance_unet, self.unet))
            differing = [f"{key} {found[key]}, but unet {wanted[key]}" for key in found if found[key] != wanted[key]]
            if differing:
                raise ValueError(f"guidance_unet has {' and '.join(differing)}; give networks that agree.")
            guidance = Autoguidance(guidance_unet, guidance_scale, guidance_interval)
        elif guidance_scale != 1:
            raise ValueError(f"guidance_scale is {guidance_scale}, but there is no guidance_unet; give both.")
        if num_inference_steps is None:
            num_inference_steps = min(1000, self.scheduler.config.num_train_timesteps)
        return self._generate(
            shape,
            generator,
            num_inference_steps,
            eta,
            latents,
            output_type,
            return_dict,
            callback_on_step_end,
            callback_on_step_end_tensor_inputs,
            guidance,
        )
