"""Sampling of image-mask pairs (SynthSet, section 3)."""

import torch
from diffusers import SchedulerMixin

from ..models import PairedUNet2DModel
from .pair_pipeline import Callback, PairPipeline
from .pipeline_output import SynthSetPipelineOutput


class SynthSetPipeline(PairPipeline):
    """Draws images together with their masks from noise.

    Args:
        unet: the denoiser of the joint sample, image channels then mask channels.
        scheduler: any diffusers scheduler of epsilon, v_prediction or sample type, with the betas and the prediction
            type of training. `synthset.pipelines.make_scheduler` builds the tested ones.

        crop_size: side in pixels of the piece of a photo that the network was trained to draw, at its `sample_size`;
            None where it is not known.

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
        num_inference_steps: int = 1000,
        height: int | None = None,
        width: int | None = None,
        eta: float = 0.0,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callback | None = None,
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
        self._check_inputs(batch_size, generator, output_type, callback_on_step_end_tensor_inputs)
        config = self.unet.config
        default = config.sample_size if isinstance(config.sample_size, (tuple, list)) else [config.sample_size] * 2
        channels = config.image_channels + config.mask_channels
        return self._generate(
            (batch_size, channels, height or default[0], width or default[1]),
            generator,
            num_inference_steps,
            eta,
            output_type,
            return_dict,
            callback_on_step_end,
            callback_on_step_end_tensor_inputs,
        )
