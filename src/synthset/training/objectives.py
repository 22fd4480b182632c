"""What the network is asked for, and how wrong it is."""

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, ModelMixin
from diffusers.training_utils import compute_snr


def predict(model: ModelMixin, scheduler: DDPMScheduler, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The network's answer to a noisy batch: x_t = sqrt(a) x_0 + sqrt(1 - a) noise (paper, section 2).

    Args:
        model: called with x_t, the timesteps, and `condition` and `noise_level` where the batch has them.
        scheduler: its `alphas_cumprod` are a.
        batch: `sample` x_0 and `noise`, (B, C + M, H, W); `timestep`, (B,) int64.

    Returns:
        (B, C + M, H, W).
    """
    noisy = scheduler.add_noise(batch["sample"], batch["noise"], batch["timestep"])
    condition = {name: batch[name] for name in ("condition", "noise_level") if name in batch}
    return model(noisy, batch["timestep"], **condition).sample


def training_target(
    scheduler: DDPMScheduler, sample: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor
) -> torch.Tensor:
    """What the network should predict, by the scheduler's `prediction_type`.

    Args:
        scheduler: its `alphas_cumprod` define the noising process.
        sample: clean pairs x_0, (B, C + M, H, W) in [-1, 1].
        noise: the standard normal noise that was added, same shape.
        timesteps: (B,) int64 in 0..T-1.

    Returns:
        (B, C + M, H, W): the noise (`epsilon`; the paper, section 3), sqrt(a) noise - sqrt(1 - a) x_0 (`v_prediction`;
        Salimans and Ho 2022, arXiv 2202.00512, appendix D) or x_0 (`sample`).
    """
    prediction_type = scheduler.config.prediction_type
    if prediction_type == "epsilon":
        return noise
    if prediction_type == "v_prediction":
        return scheduler.get_velocity(sample, noise, timesteps)
    return sample


def min_snr_weight(scheduler: DDPMScheduler, timesteps: torch.Tensor, gamma: float) -> torch.Tensor:
    """Loss weights (B,) that keep nearly clean steps from dominating: min(SNR, gamma) on the loss in x_0, divided by
    what turns the loss in x_0 into the loss in the prediction (Hang et al. 2023, arXiv 2303.09556, equation 8):
    SNR for epsilon, SNR + 1 for v, 1 for sample."""
    snr = compute_snr(scheduler, timesteps)
    divisor = {"epsilon": snr, "v_prediction": snr + 1, "sample": torch.ones_like(snr)}
    return snr.clamp(max=gamma) / divisor[scheduler.config.prediction_type]


def diffusion_loss(
    prediction: torch.Tensor,
    scheduler: DDPMScheduler,
    batch: dict[str, torch.Tensor],
    snr_gamma: float | None = None,
) -> torch.Tensor:
    """Mean squared error over image and mask channels alike (paper, section 3), one value per pair, in float32.

    Args:
        prediction: the network's output, (B, C + M, H, W).
        scheduler, batch: as in `predict`.
        snr_gamma: weight the pairs by `min_snr_weight` with this gamma.

    Returns:
        (B,) losses.
    """
    target = training_target(scheduler, batch["sample"], batch["noise"], batch["timestep"])
    loss = F.mse_loss(prediction.float(), target.float(), reduction="none").mean(dim=(1, 2, 3))
    if snr_gamma is not None:
        loss = loss * min_snr_weight(scheduler, batch["timestep"], snr_gamma)
    return loss
