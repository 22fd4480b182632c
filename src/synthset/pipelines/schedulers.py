"""Samplers: those that `generate_dataset` offers, and which of diffusers' can run a pipeline."""

from collections.abc import Mapping
from typing import Any

import diffusers
import torch
from diffusers import DDIMScheduler, SchedulerMixin

from ..errors import InputError
from ..registry import SCHEDULERS

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

# diffusers' schedulers that end where they should for a network whose answer is known, and the prediction types with
# which they do. Others are for networks of another kind (flow matching, EDM, distilled ones), go the other way, or
# leave the right mean or spread in coarse steps (Heun, KDPM2) or under cosine betas (PNDM).
_ALL = ("epsilon", "v_prediction", "sample")
COMPATIBLE: dict[str, tuple[str, ...]] = {
    "DDIMParallelScheduler": _ALL,
    "DDIMScheduler": _ALL,
    "DDPMParallelScheduler": _ALL,
    "DDPMScheduler": _ALL,
    "DEISMultistepScheduler": _ALL,
    "DPMSolverMultistepScheduler": _ALL,
    "DPMSolverSinglestepScheduler": _ALL,
    "EulerAncestralDiscreteScheduler": ("epsilon", "v_prediction"),
    "EulerDiscreteScheduler": _ALL,
    "LMSDiscreteScheduler": _ALL,
    "SASolverScheduler": _ALL,
    "UniPCMultistepScheduler": _ALL,
}


def make_scheduler(name: str, config: Mapping[str, Any], num_inference_steps: int) -> SchedulerMixin:
    """Builds a sampler for a model trained under another scheduler.

    Args:
        name: a key of `SCHEDULERS`: `"ddpm"`, `"ddim"`, `"dpmsolver++"` or `"unipc"`.
        config: the training scheduler's config (`pipeline.scheduler.config`); betas, number of training timesteps and
            prediction type carry over, everything about sampling is replaced.
        num_inference_steps: the number of steps it will be run with, 1 to the number of training timesteps.

    Raises:
        InputError: if the name is unknown, the config is that of another kind of scheduler, or the steps are out of
            range.
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
    """Raises ValueError unless `scheduler` is, or descends from, one of `COMPATIBLE`, with settings that it knows."""
    kind, config = type(scheduler).__name__, scheduler.config
    known = next((cls.__name__ for cls in type(scheduler).__mro__ if cls.__name__ in COMPATIBLE), None)
    remedy = "use synthset.make_scheduler, or DDPMScheduler, DPMSolverMultistepScheduler or UniPCMultistepScheduler"
    if known is None or config.get("use_flow_sigmas"):
        flow = " with use_flow_sigmas" if known else ""
        raise ValueError(f"{kind}{flow} does not sample rightly from a network trained on DDPM's noise; {remedy}.")
    if config.prediction_type not in COMPATIBLE[known]:
        raise ValueError(
            f"{kind} has no prediction_type {config.prediction_type!r}, the network's, only "
            f"{' and '.join(COMPATIBLE[known])}; {remedy}."
        )


def start_sampling(
    scheduler: SchedulerMixin, num_inference_steps: int, eta: float, device: torch.device | str
) -> SchedulerMixin:
    """`scheduler` with its timesteps set; or its like, where its own steps would not lead from noise to a sample.

    Rounding appends timestep -1, pure noise, to some `trailing` ones (61 of 1000 do, for one); `leading` ones may begin
    far from the noisiest; `linspace` ones repeat a timestep, and so divide by 0, in the multistep solvers' 1000 steps;
    and DDIM's have one length.

    Raises:
        ValueError: it can't take so many steps.
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
    scheduler.set_timesteps(num_inference_steps, device=device)
    timesteps = scheduler.timesteps
    skipped = total - 1 - timesteps.max()  # of the noisiest; leading spacing skips a step's length
    few = len(timesteps.unique()) < num_inference_steps
    if timesteps.min() < 0 or skipped > total / max(2, num_inference_steps) or few:
        spacing = _spacing(total, num_inference_steps)
        scheduler = type(scheduler).from_config(scheduler.config, timestep_spacing=spacing, steps_offset=0)
        scheduler.set_timesteps(num_inference_steps, device=device)
    return scheduler


def clip_prediction(output: torch.Tensor, sample: torch.Tensor, a: float, prediction_type: str) -> torch.Tensor:
    """The network's output, changed where the x_0 it means lies outside [-1, 1], so that it means the nearest inside.

    At the first steps an epsilon network's error comes into x_0 times sigma / alpha (20 000 under cosine betas), and
    would move the mean of everything drawn. Some schedulers clip, others can't; clipped here, all are alike. What
    means an x_0 inside comes back as it is, to the bit.

    Args:
        output: the network's, (B, C + M, H, W).
        sample: what it was given, alpha x_0 + sigma epsilon, of that shape.
        a: alpha^2, the cumulative product of 1 - beta; sigma^2 is 1 - a.
        prediction_type: `"epsilon"`, `"v_prediction"` (alpha epsilon - sigma x_0) or `"sample"` (x_0).
    """
    alpha, sigma = a**0.5, (1 - a) ** 0.5
    if prediction_type == "epsilon":
        x_0, slope = (sample - sigma * output) / alpha, -alpha / sigma
    elif prediction_type == "v_prediction":
        x_0, slope = alpha * sample - sigma * output, -1 / sigma
    else:
        x_0, slope = output, 1.0
    return output + slope * (x_0.clamp(-1, 1) - x_0)


def _spacing(num_train_timesteps: int, num_inference_steps: int) -> str:
    """A spacing that starts at the noisiest timestep and has as many as asked for, all different."""
    # "trailing" is exact when the steps divide the timesteps, and otherwise rounding can append timestep -1. "linspace"
    # has no such case, but repeats a timestep when the multistep solvers take all 1000 steps.
    return "trailing" if num_train_timesteps % num_inference_steps == 0 else "linspace"
