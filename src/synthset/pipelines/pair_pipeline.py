"""Base class of the two pipelines: the denoising loop."""

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from diffusers import DiffusionPipeline, SchedulerMixin
from diffusers.utils.torch_utils import randn_tensor

from ..image_processor import PairImageProcessor
from ..models import PairedUNet2DModel
from ..resources import MODELS
from .completion import Known, renew_noise
from .guidance import Guidance
from .pipeline_output import MaskVotes, SynthSetPipelineOutput
from .prediction_types import clip_prediction, predict_x_0
from .safety import require_safe_folder, require_safe_repo
from .schedulers import require_compatible, start_sampling
from .windows import WindowedUNet

Pipeline = TypeVar("Pipeline", bound="PairPipeline")
Callback = Callable[["PairPipeline", int, int, dict[str, Any]], dict[str, Any]]


class PairPipeline(DiffusionPipeline):
    """A denoiser of joint samples, image channels then mask channels, and the scheduler that runs it."""

    model_cpu_offload_seq = "unet"
    _callback_tensor_inputs = ["sample"]

    @classmethod
    def from_pretrained(
        cls: type[Pipeline], pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any
    ) -> Pipeline:
        """Loads a pipeline as `DiffusionPipeline.from_pretrained` does, but from safetensors only. `starter`, unless
        there is a folder of that name, is the model that comes with the package.

        Raises:
            InputError: the folder or the repository holds pickled weights or code, or names classes that are not ours.
        """
        if Path(pretrained_model_name_or_path).is_dir():
            require_safe_folder(pretrained_model_name_or_path)
        return super().from_pretrained(pretrained_model_name_or_path, **{**kwargs, "use_safetensors": True})

    @classmethod
    def download(cls, pretrained_model_name: str, **kwargs: Any) -> str:
        """Downloads as `DiffusionPipeline.download` does, but refuses by file name, before any download, what
        `from_pretrained` refuses. `starter` is in the package already."""
        if pretrained_model_name in MODELS:
            return str(MODELS[pretrained_model_name])
        if not kwargs.get("local_files_only"):
            require_safe_repo(pretrained_model_name, kwargs.get("revision"), kwargs.get("token"))
        folder = super().download(pretrained_model_name, **{**kwargs, "use_safetensors": True})
        require_safe_folder(folder)
        return folder

    def _register(self, unet: PairedUNet2DModel, scheduler: SchedulerMixin) -> None:
        self.register_modules(unet=unet, scheduler=scheduler)
        self.image_processor = PairImageProcessor.of_network(unet.config)

    @property
    def num_timesteps(self) -> int:
        """Number of denoising steps of the running or the last call."""
        return self._num_timesteps

    @property
    def interrupt(self) -> bool:
        """True if a callback has set `pipeline._interrupt = True`; the call then returns the sample of that step."""
        return self._interrupt

    def _check_inputs(
        self,
        shape: tuple[int, int, int, int],
        generator: torch.Generator | list[torch.Generator] | None,
        latents: torch.Tensor | None,
        output_type: str,
        callback_on_step_end_tensor_inputs: list[str],
    ) -> None:
        """Raises ValueError for invalid arguments of a call."""
        require_compatible(self.scheduler)
        generators = generator if isinstance(generator, (list, tuple)) else [generator] if generator is not None else []
        wrong = [one for one in generators if not isinstance(one, torch.Generator)]
        if wrong:
            raise ValueError(
                f"generator has {wrong[0]!r} of type {type(wrong[0]).__name__}; give a torch.Generator, such as "
                "torch.Generator().manual_seed(0), or a list of one for each pair."
            )
        if isinstance(generator, (list, tuple)) and len(generator) != shape[0]:
            raise ValueError(f"generator is a list of {len(generator)}, but batch_size is {shape[0]}; pass one each.")
        if latents is not None and (not isinstance(latents, torch.Tensor) or latents.shape != shape):
            found = tuple(latents.shape) if isinstance(latents, torch.Tensor) else type(latents).__name__
            raise ValueError(f"latents is {found}; give standard normal noise as a tensor {tuple(shape)}.")
        unknown = set(callback_on_step_end_tensor_inputs) - set(self._callback_tensor_inputs)
        if unknown:
            raise ValueError(
                f"callback_on_step_end_tensor_inputs has {sorted(unknown)}; use {self._callback_tensor_inputs}."
            )
        if output_type not in ("pil", "np", "pt"):
            raise ValueError(f"output_type is {output_type!r}; use 'pil', 'np' or 'pt'.")

    def _prepare_latents(
        self,
        shape: tuple[int, int, int, int],
        generator: torch.Generator | list[torch.Generator] | None,
        latents: torch.Tensor | None,
    ) -> torch.Tensor:
        """Standard normal noise of `shape`, float32: `latents`, or drawn from `generator`."""
        if latents is None:
            return randn_tensor(shape, generator=generator, device=self._execution_device, dtype=torch.float32)
        return latents.to(self._execution_device, torch.float32)

    def _generate(
        self,
        unet: PairedUNet2DModel | WindowedUNet,
        latents: torch.Tensor,
        generator: torch.Generator | list[torch.Generator] | None,
        num_inference_steps: int,
        eta: float,
        output_type: str,
        return_dict: bool,
        callback_on_step_end: Callback | None,
        callback_on_step_end_tensor_inputs: list[str],
        guidance: Guidance | None = None,
        known: Known | None = None,
        num_draws: int = 1,
        num_corrections: int = 0,
        **condition: Any,
    ) -> SynthSetPipelineOutput | tuple:
        """Denoises `latents`, (B, C + M, H, W), with `unet`, around what is `known`; `condition` are further arguments
        of the network, which `guidance`, if there is any, does without. Masks of given images are counted as votes of
        `num_draws` each. Before each step come `num_corrections`."""
        # 1. timesteps, and alphas_cumprod at each
        device = self._execution_device
        prediction_type = self.scheduler.config.prediction_type
        bounds = tuple(bound.to(device) for bound in self.image_processor.bounds)
        limit = max(bound.abs().max().item() for bound in bounds)
        scheduler = start_sampling(self.scheduler, num_inference_steps, eta, device, limit)
        timesteps, alphas = scheduler.timesteps, scheduler.alphas_cumprod.cpu()
        alphas = np.interp(timesteps.cpu(), np.arange(len(alphas)), alphas).tolist()
        self._num_timesteps, self._interrupt = len(timesteps), False
        accepted = inspect.signature(scheduler.step).parameters
        step_kwargs = {k: v for k, v in {"generator": generator, "eta": eta}.items() if k in accepted}

        # 2. noise. The sample stays in float32 whatever the network's type: a DDPM step is smaller than bfloat16's
        # resolution.
        noise, sample = latents, latents * scheduler.init_noise_sigma

        # 3. denoising
        for i, t in enumerate(self.progress_bar(timesteps)):
            if self.interrupt:
                continue
            model_input = scheduler.scale_model_input(sample, t)
            timestep, told = (t, {}) if known is None else known.timesteps(t)
            if known is not None:
                for _ in range(num_corrections):
                    model_input = known.insert(model_input, noise, alphas[i])
                    model_output = unet(model_input.to(unet.dtype), timestep, **told).sample.float()
                    x_0 = predict_x_0(prediction_type, model_output, model_input, alphas[i]).clamp(*bounds)
                    noise = randn_tensor(latents.shape, generator=generator, device=device, dtype=torch.float32)
                    model_input = renew_noise(model_input, x_0, noise, alphas[i])
                if num_corrections:
                    sample = model_input / scheduler.scale_model_input(torch.ones_like(sample), t)
                model_input = known.insert(model_input, noise, alphas[i])
            model_output = unet(model_input.to(unet.dtype), timestep, **told, **condition).sample.float()
            if guidance is not None:
                model_output = guidance.guide(model_output, model_input, (timestep, told), alphas[i])
            model_output = clip_prediction(model_output, model_input, alphas[i], prediction_type, bounds)
            sample = scheduler.step(model_output, t, sample, **step_kwargs).prev_sample
            if callback_on_step_end is not None:
                tensors = {"sample": sample} if callback_on_step_end_tensor_inputs else {}
                sample = (callback_on_step_end(self, i, t, tensors) or {}).pop("sample", sample)

        # 4. pairs
        votes = None
        if known is not None:
            sample = known.insert(sample, latents, 1.0)
            if known.part == "image":
                votes = MaskVotes.count(self.image_processor.decode(sample)[1], num_draws)
        images, masks = self.image_processor.postprocess(sample, output_type)
        self.maybe_free_model_hooks()
        if not return_dict:
            return images, masks
        return SynthSetPipelineOutput(images=images, masks=masks, votes=votes)
