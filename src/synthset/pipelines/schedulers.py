"""Schedulers for sampling: construction, compatibility with a network, and timesteps."""

from collections.abc import Mapping
from typing import Any

import diffusers
import torch
from diffusers import DDIMScheduler, SchedulerMixin

from ..errors import InputError
from ..registry import SCHEDULERS
from .prediction_types import DIFFUSERS_TYPES

# settings that a scheduler for sampling takes from training
TRAINING_KEYS = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "prediction_type",
    "rescale_betas_zero_snr",
)

# diffusers' schedulers that sample correctly from a network trained on DDPM's noise, with the prediction types for
# which they do. Others are for other kinds of networks (flow matching, EDM, distilled ones), run from data to noise, or
# get the mean or the standard deviation wrong in few steps (Heun, KDPM2) or under cosine betas (PNDM).
COMPATIBLE: dict[str, tuple[str, ...]] = {
    "DDIMParallelScheduler": DIFFUSERS_TYPES,
    "DDIMScheduler": DIFFUSERS_TYPES,
    "DDPMParallelScheduler": DIFFUSERS_TYPES,
    "DDPMScheduler": DIFFUSERS_TYPES,
    "DEISMultistepScheduler": DIFFUSERS_TYPES,
    "DPMSolverMultistepScheduler": DIFFUSERS_TYPES,
    "DPMSolverSinglestepScheduler": DIFFUSERS_TYPES,
    "EulerAncestralDiscreteScheduler": ("epsilon", "v_prediction"),
    "EulerDiscreteScheduler": DIFFUSERS_TYPES,
    "LMSDiscreteScheduler": DIFFUSERS_TYPES,
    "SASolverScheduler": DIFFUSERS_TYPES,
    "UniPCMultistepScheduler": DIFFUSERS_TYPES,
}


def make_scheduler(name: str, config: Mapping[str, Any], num_inference_steps: int) -> SchedulerMixin:
    """Builds a scheduler for sampling from a trained model.

    Args:
        name: a key of `SCHEDULERS`: `"ddpm"`, `"ddim"`, `"dpmsolver++"` or `"unipc"`.
        config: the training scheduler's config (`pipeline.scheduler.config`), of which betas, number of training
            timesteps and prediction type are kept.
        num_inference_steps: the number of sampling steps, 1 to the number of training timesteps.

    Raises:
        InputError: the name is unknown, the config is not that of a DDPM-like scheduler, or the steps are out of range.
    """
    scheduler_class = SCHEDULERS[name]
    if "beta_schedule" not in config:
        raise InputError(
            "config has no beta_schedule, like that of a scheduler for flow matching; give that of the scheduler that "
            "was saved with the model."
        )
    num_train_timesteps = config["num_train_timesteps"]
    if not 1 <= num_inference_steps <= num_train_timesteps:
        raise InputError(
            f"num_inference_steps is {num_inference_steps}; use 1 to {num_train_timesteps}, the number of timesteps "
            "that the model was trained with (--num_train_timesteps)."
        )
    training = {key: config[key] for key in TRAINING_KEYS if key in config}
    return scheduler_class(**training, timestep_spacing=_spacing(num_train_timesteps, num_inference_steps))


def require_compatible(scheduler: SchedulerMixin) -> None:
    """Raises ValueError unless `scheduler` is, or descends from, one in `COMPATIBLE` or `SCHEDULERS`, and supports its
    prediction type."""
    kind, config = type(scheduler).__name__, scheduler.config
    compatible = {_class_of(name).__name__: DIFFUSERS_TYPES for name in SCHEDULERS} | COMPATIBLE
    known = next((cls.__name__ for cls in type(scheduler).__mro__ if cls.__name__ in compatible), None)
    remedy = "use synthset.make_scheduler, or DDPMScheduler, DPMSolverMultistepScheduler or UniPCMultistepScheduler"
    if known is None or config.get("use_flow_sigmas"):
        flow = " with use_flow_sigmas" if known else ""
        raise ValueError(f"{kind}{flow} does not sample rightly from a network trained on DDPM's noise; {remedy}.")
    # a type that diffusers does not know is sampled as x_0
    sampled = config.prediction_type if config.prediction_type in DIFFUSERS_TYPES else "sample"
    if sampled not in compatible[known]:
        raise ValueError(
            f"{kind} has no prediction_type {sampled!r}, the network's, only {' and '.join(compatible[known])}; "
            f"{remedy}."
        )


def start_sampling(
    scheduler: SchedulerMixin, num_inference_steps: int, eta: float, device: torch.device | str, limit: float = 1.0
) -> SchedulerMixin:
    """Sets the timesteps; replaces the scheduler where its own would not lead from noise to a sample.

    Rounding appends timestep -1 to some `trailing` ones (61 of 1000 do, for one); `leading` ones may start far below
    the noisiest timestep; `linspace` ones repeat a timestep, and so divide by 0, in the multistep solvers' 1000 steps;
    DDIM's have one length. A prediction type that diffusers does not know is replaced by `sample`. One that clips x_0
    does so at `limit`, the largest absolute value of samples, if that is beyond its own.

    Returns:
        `scheduler` or its replacement.

    Raises:
        ValueError: `num_inference_steps` is out of range, or does not go with `eta`.
    """
    total, name = scheduler.config.num_train_timesteps, type(scheduler).__name__
    if not isinstance(num_inference_steps, int) or not 1 <= num_inference_steps <= total:
        raise ValueError(
            f"num_inference_steps is {num_inference_steps!r}; give 1 to {total}, the number of timesteps that the "
            "network was trained with."
        )
    if isinstance(scheduler, (DDIMScheduler, diffusers.DDIMParallelScheduler)) and total % num_inference_steps:
        if eta:
            raise ValueError(
                f"num_inference_steps is {num_inference_steps}, but with eta={eta} {name}'s steps are all of one "
                f"length; use a divisor of {total}, or eta=0."
            )
        scheduler = make_scheduler("ddim", scheduler.config, num_inference_steps)
    if scheduler.config.get("clip_sample") and scheduler.config.clip_sample_range < limit:
        scheduler = type(scheduler).from_config(scheduler.config, clip_sample_range=limit)
    if scheduler.config.prediction_type not in DIFFUSERS_TYPES:
        scheduler = type(scheduler).from_config(scheduler.config, prediction_type="sample")
    scheduler.set_timesteps(num_inference_steps, device=device)
    timesteps = scheduler.timesteps
    skipped = total - 1 - timesteps.max()  # of the noisiest; leading spacing skips a step's length
    few = len(timesteps.unique()) < num_inference_steps
    if timesteps.min() < 0 or skipped > total / max(2, num_inference_steps) or few:
        spacing = _spacing(total, num_inference_steps)
        scheduler = type(scheduler).from_config(scheduler.config, timestep_spacing=spacing, steps_offset=0)
        scheduler.set_timesteps(num_inference_steps, device=device)
    return scheduler


def _spacing(num_train_timesteps: int, num_inference_steps: int) -> str:
    """`timestep_spacing` that starts at the noisiest timestep and repeats none."""
    # "trailing" is exact when the steps divide the timesteps, and otherwise rounding can append timestep -1. "linspace"
    # has no such case, but repeats a timestep when the multistep solvers take all 1000 steps.
    return "trailing" if num_train_timesteps % num_inference_steps == 0 else "linspace"


def _class_of(name: str) -> type[SchedulerMixin]:
    """The class of a scheduler in `SCHEDULERS`."""
    entry = SCHEDULERS[name]
    return getattr(entry, "func", entry)
