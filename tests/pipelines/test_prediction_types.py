import pytest
import torch

from synthset.pipelines.prediction_types import DIFFUSERS_TYPES, compute_target, predict_x_0, prediction_slope
from synthset.registry import PREDICTION_TYPES

every_type = pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
ALPHAS_CUMPROD = torch.tensor([0.999, 0.64, 0.2, 0.01], dtype=torch.float64).view(-1, 1, 1, 1)


@every_type
def test_x_0_of_the_target_is_the_sample(prediction_type):
    sample, noise = torch.randn(2, 4, 4, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    noisy = ALPHAS_CUMPROD**0.5 * sample + (1 - ALPHAS_CUMPROD) ** 0.5 * noise
    target = compute_target(prediction_type, sample, noise, ALPHAS_CUMPROD)
    torch.testing.assert_close(predict_x_0(prediction_type, target, noisy, ALPHAS_CUMPROD), sample)


@every_type
def test_slope_is_the_change_of_the_prediction_by_x_0(prediction_type):
    noisy, prediction = torch.randn(2, 4, 1, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x_0, other = (predict_x_0(prediction_type, p, noisy, ALPHAS_CUMPROD) for p in (prediction, prediction + 1))
    torch.testing.assert_close(prediction_slope(prediction_type, ALPHAS_CUMPROD) * (other - x_0), torch.ones_like(x_0))


def test_types_of_diffusers_by_hand():
    """alpha = 0.8, sigma = 0.6, x_0 = 2, noise = 1."""
    targets = {
        name: compute_target(name, *torch.tensor([[2.0], [1.0]]), torch.tensor([0.64])).item()
        for name in DIFFUSERS_TYPES
    }
    assert targets == pytest.approx({"epsilon": 1.0, "v_prediction": 0.8 * 1 - 0.6 * 2, "sample": 2.0})
