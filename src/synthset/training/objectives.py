"""Training targets and losses."""

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, ModelMixin
from diffusers.training_utils import compute_snr

from ..pipelines.completion import Part
from ..pipelines.prediction_types import compute_target, predict_x_0, prediction_slope

# what a network may be told beside x_t and the timestep
CONDITIONS = ("condition", "noise_level", "augmentation", "mask_timestep")


def channel_timesteps(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Timestep of each channel of a batch: (B,), or (B, C + M) where the mask, the last channel, has `mask_timestep`,
    its own."""
    if "mask_timestep" not in batch:
        return batch["timestep"]
    channels = batch["sample"].shape[1]
    return torch.stack([*[batch["timestep"]] * (channels - 1), batch["mask_timestep"]], dim=1)


def timesteps_given(part: Part, timesteps: torch.Tensor, num_train_timesteps: int) -> dict[str, torch.Tensor]:
    """`timestep` and `mask_timestep` of a batch of which one part is given, at timestep 0.

    Args:
        part: what is given.
        timesteps: of the other, (B,), evenly spread over 0..T-1. Those of a mask become as unevenly spread as in
            training, where they are the latest of four: T u ^ (1/4), u uniform.
        num_train_timesteps: T.
    """
    clean = torch.zeros_like(timesteps)
    if part == "mask":
        return {"timestep": timesteps, "mask_timestep": clean}
    late = num_train_timesteps * ((timesteps + 0.5) / num_train_timesteps) ** 0.25
    return {"timestep": clean, "mask_timestep": late.long()}


def predict(model: ModelMixin, scheduler: DDPMScheduler, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Prediction of the network for a batch with noise added, x_t = sqrt(a) x_0 + sqrt(1 - a) noise (paper, section 2).

    Args:
        model: called with x_t, the timesteps, and the `CONDITIONS` that the batch has.
        scheduler: its `alphas_cumprod` are a.
        batch: `sample` x_0 and `noise`, (B, C + M, H, W); `timestep`, (B,) int64; that of the image alone where
            `mask_timestep`, (B,) int64, is that of the mask.

    Returns:
        (B, C + M, H, W).
    """
    a = _alphas_cumprod(scheduler, channel_timesteps(batch))
    noisy = a**0.5 * batch["sample"] + (1 - a) ** 0.5 * batch["noise"]
    conditions = {name: batch[name] for name in CONDITIONS if name in batch}
    return model(noisy, batch["timestep"], **conditions).sample


def training_target(
    scheduler: DDPMScheduler, sample: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor
) -> torch.Tensor:
    """Target of the network's prediction, by the scheduler's `prediction_type`.

    Args:
        scheduler: its `alphas_cumprod` define the noising process.
        sample: clean pairs x_0, (B, C + M, H, W).
        noise: the standard normal noise that was added, same shape.
        timesteps: (B,), or (B, C + M) for each channel its own, int64 in 0..T-1.

    Returns:
        (B, C + M, H, W): the noise (`epsilon`; the paper, section 3), sqrt(a) noise - sqrt(1 - a) x_0 (`v_prediction`;
        Salimans and Ho 2022, arXiv 2202.00512, appendix D), x_0 (`sample`), or what else is in `PREDICTION_TYPES`.
    """
    return compute_target(scheduler.config.prediction_type, sample, noise, _alphas_cumprod(scheduler, timesteps))


def min_snr_weight(scheduler: DDPMScheduler, timesteps: torch.Tensor, gamma: float) -> torch.Tensor:
    """Min-SNR loss weights (Hang et al. 2023, arXiv 2303.09556, equation 8), which limit that of low noise levels.

    min(SNR, gamma) is the weight of the loss in x_0; divided by SNR for epsilon, SNR + 1 for v and 1 for sample, it is
    that of the loss in the prediction.

    Args:
        scheduler: its `alphas_cumprod` and `prediction_type` are used.
        timesteps: int64 in 0..T-1, of any shape.
        gamma: largest weight of the loss in x_0.

    Returns:
        Weights of the timesteps' shape.
    """
    a = _alphas_cumprod(scheduler, timesteps).view(timesteps.shape)
    slope = prediction_slope(scheduler.config.prediction_type, a)
    return compute_snr(scheduler, timesteps).clamp(max=gamma) / slope**2


MAX_SPACE_WEIGHT = 400.0  # 0.05 ** -2, of JiT (arXiv 2511.13720, section 4), which clips sigma at 0.05


def loss_space_weight(scheduler: DDPMScheduler, timesteps: torch.Tensor, loss_space: str) -> torch.Tensor:
    """Weights that make of the loss in the prediction the loss in what it implies for another prediction type.

    An error of x_0 at a given x_t is `prediction_slope` times as large in a prediction. So the weight is the square of
    the slopes' ratio: 1 / sigma^2 for a prediction of x_0 with the loss in v, at most `MAX_SPACE_WEIGHT`.

    Args:
        scheduler: its `alphas_cumprod` and `prediction_type` are used.
        timesteps: int64 in 0..T-1, of any shape.
        loss_space: a key of `PREDICTION_TYPES`.

    Returns:
        Weights of the timesteps' shape.
    """
    a = _alphas_cumprod(scheduler, timesteps).view(timesteps.shape)
    ratio = prediction_slope(loss_space, a) / prediction_slope(scheduler.config.prediction_type, a)
    return (ratio**2).clamp(max=MAX_SPACE_WEIGHT)


def channel_weights(
    mask_weight: float, image_channels: int, mask_channels: int, device: torch.device | None = None
) -> torch.Tensor | None:
    """Weights of the channels' losses, (C + M,): `mask_weight` for a mask beside 1 for an image, scaled to a mean of 1.
    None if all are 1."""
    if mask_weight == 1:
        return None
    weights = torch.tensor([1.0] * image_channels + [mask_weight] * mask_channels, device=device)
    return weights / weights.mean()


def diffusion_loss(
    prediction: torch.Tensor,
    scheduler: DDPMScheduler,
    batch: dict[str, torch.Tensor],
    snr_gamma: float | None = None,
    loss_space: str | None = None,
    channels: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mean squared error over all image and mask channels (paper, section 3), one value per pair, in float32. Where the
    mask has a timestep of its own, what has timestep 0 is given and does not count.

    Args:
        prediction: the network's output, (B, C + M, H, W).
        scheduler, batch: as in `predict`.
        snr_gamma: gamma of `min_snr_weight`; None for no weights.
        loss_space: that of `loss_space_weight`; None for the prediction's own.
        channels: `channel_weights`; None for weights of 1.

    Returns:
        (B,) losses.
    """
    timesteps = channel_timesteps(batch)
    target = training_target(scheduler, batch["sample"], batch["noise"], timesteps)
    loss = F.mse_loss(prediction.float(), target.float(), reduction="none").mean(dim=(2, 3))
    if channels is not None:
        loss = loss * channels
    drawn = (timesteps > 0).float() if timesteps.ndim > 1 else torch.ones_like(loss)
    timesteps = timesteps.view(len(timesteps), -1)
    if loss_space is not None:
        loss = loss * loss_space_weight(scheduler, timesteps, loss_space)
    if snr_gamma is not None:
        loss = loss * min_snr_weight(scheduler, timesteps, snr_gamma)
    return (loss * drawn).sum(dim=1) / drawn.sum(dim=1).clamp(min=1)


def predicted_sample(
    prediction: torch.Tensor, scheduler: DDPMScheduler, noisy: torch.Tensor, timesteps: torch.Tensor
) -> torch.Tensor:
    """x_0 that a prediction implies, (B, C + M, H, W), not clipped: clipping would zero the gradient.

    Args:
        prediction: the network's output, (B, C + M, H, W), of the scheduler's `prediction_type`.
        scheduler: as in `training_target`.
        noisy: x_t, the network's input.
        timesteps: (B,) int64.
    """
    return predict_x_0(scheduler.config.prediction_type, prediction, noisy, _alphas_cumprod(scheduler, timesteps))


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
    """(B, 1, 1, 1) of timesteps (B,), (B, N, 1, 1) of timesteps (B, N)."""
    return scheduler.alphas_cumprod.to(timesteps.device)[timesteps].view(len(timesteps), -1, 1, 1)


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
