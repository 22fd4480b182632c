"""What the two pipelines share: the way from noise to pairs."""

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, DiffusionPipeline, SchedulerMixin
from diffusers.utils.torch_utils import randn_tensor

from ..image_processor import PairImageProcessor
from ..models import PairedUNet2DModel
from ..safety import require_safe_folder, require_safe_repo
from .pipeline_output import SynthSetPipelineOutput

Callback = Callable[["PairPipeline", int, int, dict[str, Any]], dict[str, Any]]


class PairPipeline(DiffusionPipeline):
    """A denoiser of joint samples, image channels then mask channels, and the scheduler that runs it."""

    model_cpu_offload_seq = "unet"
    _callback_tensor_inputs = ["sample"]

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs) -> "PairPipeline":
        """As `DiffusionPipeline.from_pretrained`, from a folder or the Hub (with `revision`, `token`, ...), but from
        safetensors only.

        Raises:
            InputError: the folder or the repository holds pickled weights or code, or names classes that are not ours.
        """
        if Path(pretrained_model_name_or_path).is_dir():
            require_safe_folder(pretrained_model_name_or_path)
        return super().from_pretrained(pretrained_model_name_or_path, **{**kwargs, "use_safetensors": True})

    @classmethod
    def download(cls, pretrained_model_name: str, **kwargs) -> str:
        """As `DiffusionPipeline.download`, but refuses what `from_pretrained` refuses, by name before anything is
        fetched."""
        if not kwargs.get("local_files_only"):
            require_safe_repo(pretrained_model_name, kwargs.get("revision"), kwargs.get("token"))
        folder = super().download(pretrained_model_name, **{**kwargs, "use_safetensors": True})
        require_safe_folder(folder)
        return folder

    def _register(self, unet: PairedUNet2DModel, scheduler: SchedulerMixin) -> None:
        self.register_modules(unet=unet, scheduler=scheduler)
        self.image_processor = PairImageProcessor(unet.config.image_channels, unet.config.mask_channels)

    def _check_inputs(
        self,
        batch_size: int,
        generator: torch.Generator | list[torch.Generator] | None,
        output_type: str,
        callback_on_step_end_tensor_inputs: list[str],
    ) -> None:
        """Raises ValueError for what can't be served, before any work."""
        if isinstance(generator, list) and len(generator) != batch_size:
            raise ValueError(f"generator is a list of {len(generator)}, but batch_size is {batch_size}; pass one each.")
        unknown = set(callback_on_step_end_tensor_inputs) - set(self._callback_tensor_inputs)
        if unknown:
            raise ValueError(
                f"callback_on_step_end_tensor_inputs has {sorted(unknown)}; use {self._callback_tensor_inputs}."
            )
        if output_type not in ("pil", "np", "pt"):
            raise ValueError(f"output_type is {output_type!r}; use 'pil', 'np' or 'pt'.")

    def _generate(
        self,
        shape: tuple[int, int, int, int],
        generator: torch.Generator | list[torch.Generator] | None,
        num_inference_steps: int,
        eta: float,
        output_type: str,
        return_dict: bool,
        callback_on_step_end: Callback | None,
        callback_on_step_end_tensor_inputs: list[str],
        **condition,
    ) -> SynthSetPipelineOutput | tuple:
        """Denoises samples of `shape`, (B, C + M, H, W); the network gets `condition` as keywords."""
        # 1. timesteps
        device = self._execution_device
        self.scheduler.set_timesteps(num_inference_steps, device=device)
        timesteps = self.scheduler.timesteps
        config = self.scheduler.config
        if timesteps.min() < 0:
            raise ValueError(
                f"num_inference_steps is {num_inference_steps}, for which {type(self.scheduler).__name__}'s "
                f"{config.timestep_spacing!r} spacing ends in timestep -1, which is noise; use a divisor of "
                f"{config.num_train_timesteps}."
            )
        even = config.num_train_timesteps % num_inference_steps == 0 or config.get("timestep_spacing") == "leading"
        if isinstance(self.scheduler, DDIMScheduler) and not even:
            raise ValueError(
                f"num_inference_steps is {num_inference_steps}, but DDIMScheduler's steps are all of one length; use a "
                f"divisor of {config.num_train_timesteps}, or synthset.make_scheduler('ddim', ...)."
            )
        accepted = inspect.signature(self.scheduler.step).parameters
        step_kwargs = {k: v for k, v in {"generator": generator, "eta": eta}.items() if k in accepted}

        # 2. noise. The sample stays in float32 whatever the network's type: a DDPM step moves it by less than bfloat16
        # can tell apart.
        sample = randn_tensor(shape, generator=generator, device=device, dtype=torch.float32)
        sample = sample * self.scheduler.init_noise_sigma

        # 3. denoising
        for i, t in enumerate(self.progress_bar(timesteps)):
            model_input = self.scheduler.scale_model_input(sample, t).to(self.unet.dtype)
            model_output = self.unet(model_input, t, **condition).sample.float()
            sample = self.scheduler.step(model_output, t, sample, **step_kwargs).prev_sample
            if callback_on_step_end is not None:
                tensors = {"sample": sample} if callback_on_step_end_tensor_inputs else {}
                sample = (callback_on_step_end(self, i, t, tensors) or {}).pop("sample", sample)

        # 4. pairs
        images, masks = self.image_processor.postprocess(sample, output_type)
        self.maybe_free_model_hooks()
        if not return_dict:
            return images, masks
        return SynthSetPipelineOutput(images=images, masks=masks)
