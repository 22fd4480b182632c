"""Training targets and losses."""

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
    """Target of the network's prediction, by the scheduler's `prediction_type`.

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


def predicted_sample(
    prediction: torch.Tensor, scheduler: DDPMScheduler, noisy: torch.Tensor, timesteps: torch.Tensor
) -> torch.Tensor:
    """The clean pair x_0 that a prediction stands for, (B, C + M, H, W), not clipped: a clip has no gradient.

    Args:
        prediction: the network's output, (B, C + M, H, W), of the scheduler's `prediction_type`.
        scheduler: as in `training_target`.
        noisy: x_t, what the network saw.
        timesteps: (B,) int64.
    """
    a = _alphas_cumprod(scheduler, timesteps)
    prediction_type = scheduler.config.prediction_type
    if prediction_type == "epsilon":
        return (noisy - (1 - a) ** 0.5 * prediction) / a**0.5
    if prediction_type == "v_prediction":
        return a**0.5 * noisy - (1 - a) ** 0.5 * prediction
    return prediction


def posterior_sample(
    scheduler: DDPMScheduler, noisy: torch.Tensor, sample: torch.Tensor, timesteps: torch.Tensor, noise: torch.Tensor
) -> torch.Tensor:
    """Draws x_{t-1} from q(x_{t-1} | x_t, x_0) (Ho et al. 2020, arXiv 2006.11239, equations 6 and 7):

        mean = sqrt(a') beta / (1 - a) x_0 + sqrt(a / a') (1 - a') / (1 - a) x_t,
        variance = (1 - a') / (1 - a) beta,    beta = 1 - a / a',

    where a and a' are alphas_cumprod at t and t - 1, and a' = 1 at t = 0, so that x_{-1} = x_0.

    Args:
        scheduler: its `alphas_cumprod` define the noising process.
        noisy: x_t, (B, C + M, H, W).
        sample: x_0, the true one or a predicted one, same shape.
        timesteps: t, (B,) int64 in 0..T-1.
        noise: standard normal, same shape.
    """
    a = _alphas_cumprod(scheduler, timesteps)
    first = timesteps.view(-1, 1, 1, 1) == 0
    previous = torch.where(first, 1, _alphas_cumprod(scheduler, (timesteps - 1).clamp(min=0)))
    beta = 1 - a / previous
    mean = previous**0.5 * beta / (1 - a) * sample + (a / previous) ** 0.5 * (1 - previous) / (1 - a) * noisy
    return mean + ((1 - previous) / (1 - a) * beta) ** 0.5 * noise


def posterior_pairs(
    prediction: torch.Tensor, scheduler: DDPMScheduler, batch: dict[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Real and fake inputs of the discriminator: x_{t-1} drawn with the true x_0, and with the predicted one.

    Args:
        prediction: `predict`'s result for `batch`.
        batch: also has `posterior_noise`, (B, 2, C + M, H, W).

    Returns:
        The real and the fake x_{t-1}, (B, C + M, H, W) float32; the fake one has the prediction's gradient.
    """
    timesteps, (real_noise, fake_noise) = batch["timestep"], batch["posterior_noise"].unbind(dim=1)
    noisy = scheduler.add_noise(batch["sample"], batch["noise"], timesteps)
    predicted = predicted_sample(prediction.float(), scheduler, noisy, timesteps)
    return (
        posterior_sample(scheduler, noisy, batch["sample"], timesteps, real_noise),
        posterior_sample(scheduler, noisy, predicted, timesteps, fake_noise),
    )


def _alphas_cumprod(scheduler: DDPMScheduler, timesteps: torch.Tensor) -> torch.Tensor:
    """(B, 1, 1, 1)."""
    return scheduler.alphas_cumprod.to(timesteps.device)[timesteps].view(-1, 1, 1, 1)


def discriminator_loss(real_logits: torch.Tensor, fake_logits: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy, one value per pair: -log D(real) - log(1 - D(fake)) (Goodfellow et al. 2014, equation 1).

    Args:
        real_logits, fake_logits: (B,).
    """
    return F.softplus(-real_logits.float()) + F.softplus(fake_logits.float())


def generator_loss(fake_logits: torch.Tensor) -> torch.Tensor:
    """-log D(fake), (B,): the non-saturating loss (Goodfellow et al. 2014, section 3)."""
    return F.softplus(-fake_logits.float())


def r1_penalty(real_logits: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """1/2 |grad D(real)|^2, (B,) (Mescheder et al. 2018, arXiv 1801.04406, equation 9).

    Args:
        real_logits: (B,), computed from `real`.
        real: (B, C + M, H, W), requires a gradient.
    """
    (gradient,) = torch.autograd.grad(real_logits.sum(), real, create_graph=True)
    return gradient.float().square().sum(dim=(1, 2, 3)) / 2
