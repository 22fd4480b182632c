"""The samplers that `generate_dataset` offers, with the settings under which tests have walked them."""

from collections.abc import Mapping
from typing import Any

from diffusers import DDPMScheduler, DPMSolverMultistepScheduler, SchedulerMixin, UniPCMultistepScheduler

from ..errors import InputError

# What a sampler must share with training; everything else in a scheduler's config is about sampling.
TRAINING_KEYS = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "prediction_type",
    "rescale_betas_zero_snr",
)

# The predicted x_0 is clipped to [-1, 1]: at the first steps an epsilon network's error comes into it times sigma /
# alpha (20 000 under cosine betas), and would move the mean of everything drawn. The multistep solvers know only
# dynamic thresholding, which with a largest value of 1 is that same clip.
CLIP = {"thresholding": True, "sample_max_value": 1.0}

# name -> (class, settings). The rest of the configuration comes from training.
SCHEDULERS: dict[str, tuple[type[SchedulerMixin], dict[str, Any]]] = {
    "ddpm": (DDPMScheduler, {"clip_sample": True, "clip_sample_range": 1.0}),
    # DDIM is first-order DPM-Solver++ (Lu et al. 2022, "DPM-Solver++", section 4.1). diffusers' DDIMScheduler steps to
    # t - 1000 // steps whatever the next timestep is, so step counts that do not divide 1000 leave noise behind.
    "ddim": (DPMSolverMultistepScheduler, {"solver_order": 1, **CLIP}),
    "dpmsolver++": (DPMSolverMultistepScheduler, {"solver_order": 2, **CLIP}),
    "unipc": (UniPCMultistepScheduler, {"solver_order": 2, **CLIP}),
}


def make_scheduler(name: str, config: Mapping[str, Any], num_inference_steps: int) -> SchedulerMixin:
    """Builds a sampler for a model trained under another scheduler.

    Args:
        name: a key of `SCHEDULERS`: `"ddpm"`, `"ddim"`, `"dpmsolver++"` or `"unipc"`.
        config: the training scheduler's config (`pipeline.scheduler.config`); betas, number of training timesteps and
            prediction type carry over, everything about sampling is replaced.
        num_inference_steps: the number of steps it will be run with, 1 to the number of training timesteps.

    Raises:
        InputError: if the name is unknown, or the steps are out of range.
    """
    if name not in SCHEDULERS:
        raise InputError(f"scheduler is {name!r}; use one of {', '.join(SCHEDULERS)}.")
    num_train_timesteps = config["num_train_timesteps"]
    if not 1 <= num_inference_steps <= num_train_timesteps:
        raise InputError(f"num_inference_steps is {num_inference_steps}; use 1 to {num_train_timesteps}.")
    scheduler_class, settings = SCHEDULERS[name]
    training = {key: config[key] for key in TRAINING_KEYS if key in config}
    # Both spacings start at the noisiest timestep. "trailing" is exact when the steps divide the timesteps, and
    # otherwise rounding can append timestep -1, pure noise, to it (61 steps do, for one). "linspace" has no such
    # case, but repeats a timestep, and so divides by 0, when the multistep solvers take all 1000 steps.
    spacing = "trailing" if num_train_timesteps % num_inference_steps == 0 else "linspace"
    return scheduler_class(**training, **settings, timestep_spacing=spacing)
