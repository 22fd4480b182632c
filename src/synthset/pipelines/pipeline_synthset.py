"""Pipeline that generates image-mask pairs (SynthSet, section 3)."""

import math

import numpy as np
import torch
from diffusers import SchedulerMixin
from diffusers.image_processor import PipelineImageInput

from ..models import PairedUNet2DModel
from .completion import Known
from .guidance import SAMPLE_KEYS, Autoguidance, Guidance, MarginalGuidance
from .pair_pipeline import Callback, PairPipeline
from .pipeline_output import SynthSetPipelineOutput
from .windows import WindowedUNet


class SynthSetPipeline(PairPipeline):
    """Generates images together with their masks from noise; trained for it, also masks of images and images for masks.

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

        >>> votes = pipeline(images=photos, num_draws=10, window_size=64).votes  # PIL images of one size
        >>> votes.mask[0], votes.disagreement[0]
    """

    def __init__(self, unet: PairedUNet2DModel, scheduler: SchedulerMixin, crop_size: int | None = None):
        super().__init__()
        self._register(unet, scheduler)
        self.register_to_config(crop_size=crop_size)

    @torch.no_grad()
    def __call__(
        self,
        batch_size: int | None = None,
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
        images: PipelineImageInput | None = None,
        masks: PipelineImageInput | None = None,
        known: PipelineImageInput | None = None,
        num_draws: int = 1,
        num_corrections: int = 4,
        window_size: int | None = None,
    ) -> SynthSetPipelineOutput | tuple:
        """Generates pairs; with `images` draws their masks, with `masks` images for them, with `known` completes both.

        Args:
            batch_size: number of pairs B, 1 by default; with `images` or `masks`, `num_draws` for each of them, in a
                row.
            generator: one generator for the batch, or a list of B, one per pair, so that a pair does not depend on
                the others in its batch. CPU generators give the same noise on every device.
            num_inference_steps: number of denoising steps, 1 to the number of timesteps T that the network was trained
                with; the smaller of 1000 and T by default.
            height: height in pixels, a multiple of the network's `total_stride`; that of `images` or `masks`, or the
                network's `sample_size` by default.
            width: the same for the width.
            eta: weight of the noise in a DDIM step, in [0, 1]; ignored by other schedulers.
            latents: initial noise (B, C + M, H, W), standard normal for every scheduler, image channels first; drawn
                from the generator by default.
            output_type: `"pil"`, `"np"` or `"pt"` (see `SynthSetPipelineOutput`).
            return_dict: return a `SynthSetPipelineOutput`, not the tuple (images, masks).
            callback_on_step_end: called as `callback(pipeline, step, timestep, tensors)` after every step; may return
                a dict with a new `sample`, or set `pipeline._interrupt = True` to end the call there.
            callback_on_step_end_tensor_inputs: names of the tensors in `tensors`; only `"sample"`, float32
                (B, C + M, H, W), is available. What is given is inserted after the last step.
            guidance_unet: worse network that guides `unet`, such as that of an earlier checkpoint, on the same device
                and trained with the same noise schedule and prediction type; doubles the time.
            guidance_scale: weight of `unet` against `guidance_unet` (Karras et al. 2024, arXiv 2406.02507), or without
                one against what `unet` predicts without the given `images` or `masks` (Ho and Salimans 2022, arXiv
                2207.12598; doubles the time); 1 is no guidance.
            guidance_interval: lowest and highest noise level, sqrt((1 - a) / a) with a = alphas_cumprod, at which to
                guide.
            images: RGB images to draw masks for, of one size: PIL images (a list, or one), an array (B, H, W, C) or a
                tensor (B, C, H, W), floats in [0, 1] or uint8. The network must have been trained to
                (`synthset train --joint_share 0.7`), except with `known`.
            masks: masks to draw images for, 0 and 255 or 0 and 1, in one channel, like `images`.
            known: where `images` and `masks`, or the one of them that is given, are known, 0 where to draw, like
                `masks`; any network can complete.
            num_draws: pairs to draw for each of `images` or `masks`.
            num_corrections: with `known`, times that the noise of every step is renewed, so that what is drawn comes to
                agree with what is known; each takes as long as a step. DDPM with 50 steps or more agrees best.
            window_size: side in pixels of overlapping windows in which the network runs, with blended predictions, for
                pairs larger than those of training; a multiple of the network's `total_stride`. Height and width
                need not be one then. Everything at once by default.

        Raises:
            ValueError: an argument has the wrong type, shape, size or values, the scheduler can't sample from the
                network or not in this number of steps, or the network was not trained to draw one part for the other.
        """
        given = None
        if not isinstance(num_corrections, int) or num_corrections < 0:
            raise ValueError(f"num_corrections is {num_corrections!r}; give 0 or more.")
        if images is not None or masks is not None or known is not None:
            given = Known.encode(self.image_processor, images, masks, known).repeat(_require_draws(num_draws))
            if batch_size not in (None, len(given.sample)):
                raise ValueError(
                    f"batch_size is {batch_size!r}, but images, masks and num_draws make {len(given.sample)} pairs; "
                    "leave it out."
                )
            if given.part is not None and not self.unet.config.get("mask_timestep"):
                raise ValueError(
                    f"{given.part}s are given, but the network was trained to draw pairs alone; train with synthset "
                    "train --joint_share 0.7, or give known, which completes pairs with any network."
                )
        elif num_draws != 1:
            raise ValueError(f"num_draws is {num_draws}, but there are neither images nor masks; give batch_size.")
        shape = self._find_shape(batch_size, height, width, given, window_size)
        self._check_inputs(shape, generator, latents, output_type, callback_on_step_end_tensor_inputs)
        if num_inference_steps is None:
            num_inference_steps = min(1000, self.scheduler.config.num_train_timesteps)
        latents = self._prepare_latents(shape, generator, latents)
        given = None if given is None else given.to(latents.device)
        unet = self.unet if window_size is None else WindowedUNet(self.unet, window_size)
        guidance: Guidance | None = None
        if guidance_unet is not None:
            found, wanted = ({key: unet.config.get(key) for key in SAMPLE_KEYS} for unet in (guidance_unet, self.unet))
            differing = [f"{key} {found[key]}, but unet {wanted[key]}" for key in found if found[key] != wanted[key]]
            if differing:
                raise ValueError(f"guidance_unet has {' and '.join(differing)}; give networks that agree.")
            guide = guidance_unet if window_size is None else WindowedUNet(guidance_unet, window_size)
            guidance = Autoguidance(guide, guidance_scale, guidance_interval)
        elif given is not None and given.part is not None:
            total = self.scheduler.config.num_train_timesteps
            guidance = MarginalGuidance(unet, guidance_scale, guidance_interval, given, latents, total)
        elif guidance_scale != 1:
            raise ValueError(
                f"guidance_scale is {guidance_scale}, but there is no guidance_unet, and neither images nor masks are "
                "given; give one of them."
            )
        return self._generate(
            unet,
            latents,
            generator,
            num_inference_steps,
            eta,
            output_type,
            return_dict,
            callback_on_step_end,
            callback_on_step_end_tensor_inputs,
            guidance,
            given,
            num_draws,
            num_corrections if known is not None else 0,
        )

    def _find_shape(
        self,
        batch_size: int | None,
        height: int | None,
        width: int | None,
        given: Known | None,
        window_size: int | None,
    ) -> tuple[int, int, int, int]:
        """Shape of the samples, (B, C + M, H, W). Raises ValueError for one that can't be drawn."""
        config, stride = self.unet.config, self.unet.total_stride
        default = np.broadcast_to(config.sample_size, 2).tolist()
        if given is not None:
            batch_size, default = len(given.sample), list(given.sample.shape[-2:])
        batch_size = 1 if batch_size is None else batch_size
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size is {batch_size!r}; give the number of pairs, 1 or more. There is no prompt.")
        height, width = (side if asked is None else asked for asked, side in zip((height, width), default, strict=True))
        if given is not None and [height, width] != default:
            raise ValueError(
                f"height is {height} and width {width}, but what is given has {default[0]} and {default[1]}; leave "
                "them out."
            )
        if window_size is not None:
            if window_size < 1 or window_size % stride:
                raise ValueError(f"window_size is {window_size}; give a multiple of {stride}, the network's stride.")
            if min(height, width) < window_size:
                raise ValueError(
                    f"height is {height} and width {width}, below the window_size {window_size}; give a smaller window "
                    "or enlarge the pictures."
                )
        elif height < 1 or width < 1 or height % stride or width % stride:
            raise ValueError(
                f"height is {height} and width {width}; give multiples of {stride}, the network's stride"
                + (", or window_size." if given is not None else ".")
            )
        return batch_size, config.image_channels + config.mask_channels, height, width


def _require_draws(num_draws: int) -> int:
    if not isinstance(num_draws, int) or num_draws < 1:
        raise ValueError(f"num_draws is {num_draws!r}; give 1 or more.")
    return num_draws
