"""Relations between a prediction, the noisy sample and x_0, for every prediction type.

With alpha^2 = alphas_cumprod, sigma^2 = 1 - alpha^2 and x_t = alpha * x_0 + sigma * noise, a prediction of a type in
`PREDICTION_TYPES` estimates c * x_0 + d * noise.
"""

from typing import TypeVar

import torch

from ..registry import PREDICTION_TYPES

Number = TypeVar("Number", float, torch.Tensor)

# those that diffusers' schedulers know; the others are sampled as x_0
DIFFUSERS_TYPES = ("epsilon", "v_prediction", "sample")


def compute_target(
    prediction_type: str, sample: torch.Tensor, noise: torch.Tensor, alphas_cumprod: torch.Tensor
) -> torch.Tensor:
    """Training target c * x_0 + d * noise, (B, C + M, H, W).

    Args:
        prediction_type: a key of `PREDICTION_TYPES`.
        sample: x_0, (B, C + M, H, W).
        noise: same shape.
        alphas_cumprod: (B, 1, 1, 1).
    """
    c, d = PREDICTION_TYPES[prediction_type](*_alpha_sigma(alphas_cumprod))
    return c * sample + d * noise


def predict_x_0(
    prediction_type: str, prediction: torch.Tensor, noisy: torch.Tensor, alphas_cumprod: Number
) -> torch.Tensor:
    """x_0 that a prediction implies, (B, C + M, H, W), not clipped.

    Args:
        prediction_type: a key of `PREDICTION_TYPES`.
        prediction: the network's output, (B, C + M, H, W).
        noisy: x_t, same shape.
        alphas_cumprod: (B, 1, 1, 1) or a number.
    """
    alpha, sigma = _alpha_sigma(alphas_cumprod)
    c, d = PREDICTION_TYPES[prediction_type](alpha, sigma)
    return (sigma * prediction - d * noisy) / (sigma * c - alpha * d)


def prediction_slope(prediction_type: str, alphas_cumprod: Number) -> Number:
    """Derivative of the prediction by x_0 at a given x_t: c - d * alpha / sigma. Its square is the weight of the loss
    in the prediction, in units of the loss in x_0."""
    alpha, sigma = _alpha_sigma(alphas_cumprod)
    c, d = PREDICTION_TYPES[prediction_type](alpha, sigma)
    return (sigma * c - alpha * d) / sigma


def clip_prediction(
    output: torch.Tensor,
    sample: torch.Tensor,
    a: float,
    prediction_type: str,
    bounds: tuple[torch.Tensor, torch.Tensor],
) -> torch.Tensor:
    """Prediction with its x_0 clipped to what pairs can be; unchanged, to the bit, where x_0 is inside.

    At the first steps the error of an epsilon prediction is multiplied by sigma / alpha in x_0 (20 000 under cosine
    betas), which would shift the mean of all samples. Not every scheduler can clip, so the pipeline does.

    Args:
        output: the network's prediction, (B, C + M, H, W).
        sample: x_t, same shape.
        a: alphas_cumprod.
        prediction_type: a key of `PREDICTION_TYPES`.
        bounds: lowest and highest x_0, (C + M, 1, 1).

    Returns:
        The prediction, (B, C + M, H, W); of a type that diffusers does not know, x_0.
    """
    x_0 = predict_x_0(prediction_type, output, sample, a)
    if prediction_type not in DIFFUSERS_TYPES:
        return x_0.clamp(*bounds)
    return output + prediction_slope(prediction_type, a) * (x_0.clamp(*bounds) - x_0)


def _alpha_sigma(alphas_cumprod: Number) -> tuple[Number, Number]:
    return alphas_cumprod**0.5, (1 - alphas_cumprod) ** 0.5
