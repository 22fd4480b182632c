"""The objectives against numbers computed by hand."""

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.models.unets.unet_2d import UNet2DOutput

from synthset.training.objectives import diffusion_loss, min_snr_weight, predict, training_target

# betas 0.5 and 0.5 give alphas_cumprod 0.5 and 0.25: SNR 1 at t = 0 and 1/3 at t = 1
BETAS = [0.5, 0.5]
SAMPLE, NOISE = torch.full((1, 4, 2, 2), 0.5), torch.full((1, 4, 2, 2), 2.0)


def scheduler(prediction_type="epsilon"):
    return DDPMScheduler(len(BETAS), trained_betas=BETAS, prediction_type=prediction_type)


@pytest.mark.parametrize(
    "prediction_type, expected",
    [("epsilon", 2.0), ("sample", 0.5), ("v_prediction", 0.25**0.5 * 2.0 - 0.75**0.5 * 0.5)],
)
def test_target(prediction_type, expected):
    target = training_target(scheduler(prediction_type), SAMPLE, NOISE, torch.tensor([1]))
    torch.testing.assert_close(target, torch.full_like(SAMPLE, expected))


@pytest.mark.parametrize(
    "prediction_type, gamma, expected",
    [
        ("epsilon", 5.0, [1.0, 1.0]),
        ("epsilon", 0.5, [0.5, 1.0]),
        ("v_prediction", 5.0, [0.5, 0.25]),
        ("v_prediction", 0.5, [0.25, 0.25]),
        ("sample", 5.0, [1.0, 1 / 3]),
        ("sample", 0.5, [0.5, 1 / 3]),
    ],
)
def test_min_snr_weight(prediction_type, gamma, expected):
    weight = min_snr_weight(scheduler(prediction_type), torch.tensor([0, 1]), gamma)
    torch.testing.assert_close(weight, torch.tensor(expected))


def test_loss_is_the_mean_over_image_and_mask_channels():
    prediction = NOISE.clone()
    prediction[:, 3] += 2.0  # only the mask channel is wrong, by 2: 4 / 4 channels
    batch = {"sample": SAMPLE, "noise": NOISE, "timestep": torch.tensor([0])}
    loss = diffusion_loss(prediction, scheduler(), batch)
    torch.testing.assert_close(loss, torch.tensor([1.0]))
    weighted = diffusion_loss(prediction, scheduler(), batch, snr_gamma=0.25)
    torch.testing.assert_close(weighted, torch.tensor([0.25]))


def test_a_perfect_prediction_of_v_recovers_the_sample():
    noise_scheduler, t = scheduler("v_prediction"), torch.tensor([1])
    noisy = noise_scheduler.add_noise(SAMPLE, NOISE, t)
    v = training_target(noise_scheduler, SAMPLE, NOISE, t)
    torch.testing.assert_close(0.25**0.5 * noisy - 0.75**0.5 * v, SAMPLE)


@pytest.mark.parametrize("told", [{}, {"condition": torch.ones(1)}, {"condition": torch.ones(1), "noise_level": 3}])
def test_the_network_sees_the_noisy_pair_its_timestep_and_what_it_is_told(told):
    def network(sample, timestep, **condition):
        assert condition == told
        return UNet2DOutput(sample=sample + timestep)

    batch = {"sample": SAMPLE, "noise": NOISE, "timestep": torch.tensor([1]), "position": torch.tensor([7]), **told}
    noisy = 0.25**0.5 * 0.5 + 0.75**0.5 * 2.0
    torch.testing.assert_close(predict(network, scheduler(), batch), torch.full_like(SAMPLE, noisy + 1))
