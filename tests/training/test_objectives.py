"""The objectives against numbers computed by hand."""

import math

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.models.unets.unet_2d import UNet2DOutput

from synthset.training.objectives import (
    channel_weights,
    diffusion_loss,
    discriminator_loss,
    generator_loss,
    loss_space_weight,
    min_snr_weight,
    posterior_pairs,
    posterior_sample,
    predict,
    predicted_sample,
    r1_penalty,
    timesteps_given,
    training_target,
)

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


@pytest.mark.parametrize(
    "prediction_type, space, expected",
    [
        ("sample", "v_prediction", [2.0, 4 / 3]),  # 1 / sigma^2
        ("v_prediction", "sample", [0.5, 0.75]),
        ("sample", "epsilon", [1.0, 1 / 3]),  # alpha^2 / sigma^2
        ("epsilon", "v_prediction", [2.0, 4.0]),  # 1 / alpha^2
        ("v_prediction", "v_prediction", [1.0, 1.0]),
    ],
)
def test_loss_in_another_space_is_that_of_what_is_predicted_there(prediction_type, space, expected):
    """The weights by hand; and the loss of a prediction of x_0 is that of the v that it implies."""
    t = torch.tensor([0, 1])
    torch.testing.assert_close(loss_space_weight(scheduler(prediction_type), t, space), torch.tensor(expected))
    batch = {"sample": SAMPLE.expand(2, 4, 2, 2), "noise": NOISE.expand(2, 4, 2, 2), "timestep": t}
    noisy = scheduler().add_noise(batch["sample"], batch["noise"], t)
    x_0, alpha, sigma = (
        torch.full((2, 4, 2, 2), 0.1),
        torch.tensor([0.5, 0.25]) ** 0.5,
        torch.tensor([0.5, 0.75]) ** 0.5,
    )
    alpha, sigma = alpha.view(2, 1, 1, 1), sigma.view(2, 1, 1, 1)
    noise = (noisy - alpha * x_0) / sigma
    implied = {"sample": x_0, "epsilon": noise, "v_prediction": alpha * noise - sigma * x_0}
    torch.testing.assert_close(
        diffusion_loss(implied[prediction_type], scheduler(prediction_type), batch, loss_space=space),
        diffusion_loss(implied[space], scheduler(space), batch),
    )


def test_the_weight_of_little_noise_is_limited():
    """Under cosine betas 1 / sigma^2 is 24 000 at t = 0."""
    cosine = DDPMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="sample")
    weight = loss_space_weight(cosine, torch.tensor([0, 500, 999]), "v_prediction")
    assert weight[0] == 400 and weight[1:].tolist() == pytest.approx(
        (1 / (1 - cosine.alphas_cumprod[[500, 999]])).tolist()
    )


def test_weight_of_the_mask_keeps_the_mean():
    """Weights 1, 1, 1 and 5 have the mean 2; errors of 1 in the image and of 3 in the mask cost 3 * 0.5 + 2.5 * 9."""
    weights = channel_weights(5.0, 3, 1)
    torch.testing.assert_close(weights, torch.tensor([0.5, 0.5, 0.5, 2.5]))
    assert channel_weights(1.0, 3, 1) is None
    prediction = NOISE + torch.tensor([1.0, 1.0, 1.0, 3.0]).view(1, 4, 1, 1)
    batch = {"sample": SAMPLE, "noise": NOISE, "timestep": torch.tensor([0])}
    loss = diffusion_loss(prediction, scheduler(), batch, channels=weights)
    torch.testing.assert_close(loss, torch.tensor([(3 * 0.5 + 2.5 * 9) / 4]))


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


def test_image_and_mask_have_the_noise_of_their_own_timesteps():
    """alphas_cumprod is 0.5 and 0.25 at timesteps 0 and 1."""

    def network(sample, timestep, mask_timestep):
        assert timestep.tolist() == [0] and mask_timestep.tolist() == [1]
        return UNet2DOutput(sample=sample)

    batch = {"sample": SAMPLE, "noise": NOISE, "timestep": torch.tensor([0]), "mask_timestep": torch.tensor([1])}
    expected = torch.full_like(SAMPLE, 0.5**0.5 * 0.5 + 0.5**0.5 * 2.0)
    expected[:, 3] = 0.25**0.5 * 0.5 + 0.75**0.5 * 2.0
    torch.testing.assert_close(predict(network, scheduler(), batch), expected)


@pytest.mark.parametrize("options", [{}, {"snr_gamma": 0.5}, {"loss_space": "epsilon"}])
def test_the_loss_of_a_given_part_does_not_count(options):
    """The loss of pairs is to a fourth that of the mask, and to three that of the image, with a timestep's weight."""
    generator = torch.Generator().manual_seed(0)
    sample, noise, prediction = torch.randn(3, 2, 4, 5, 5, generator=generator).unbind()
    t, noise_scheduler = torch.tensor([1, 1]), scheduler("v_prediction")

    def losses(timesteps, changed=prediction):
        return diffusion_loss(changed, noise_scheduler, {"sample": sample, "noise": noise, **timesteps}, **options)

    joint = losses({"timestep": t})
    torch.testing.assert_close(losses({"timestep": t, "mask_timestep": t}), joint)
    parts = [losses(timesteps_given(part, t, 2)) for part in ("image", "mask")]
    torch.testing.assert_close((parts[0] + 3 * parts[1]) / 4, joint)
    for part, loss, channels in (("image", parts[0], slice(0, 3)), ("mask", parts[1], slice(3, 4))):
        other = prediction.clone()
        other[:, channels] += 1
        assert torch.equal(losses(timesteps_given(part, t, 2), other), loss)


def test_given_an_image_timesteps_are_spread_as_the_latest_of_four():
    generator = torch.Generator().manual_seed(0)
    latest = torch.randint(1000, (50_000, 4), generator=generator).amax(dim=1).float()
    found = timesteps_given("image", torch.arange(1000), 1000)
    assert not found["timestep"].any() and found["mask_timestep"].dtype == torch.int64
    shares = torch.tensor([0.1, 0.3, 0.5, 0.9, 1])
    torch.testing.assert_close(found["mask_timestep"].float().quantile(shares), latest.quantile(shares), atol=6, rtol=0)
    other = timesteps_given("mask", torch.arange(1000), 1000)
    assert torch.equal(other["timestep"], torch.arange(1000)) and not other["mask_timestep"].any()


SCHEDULES = {
    "linear": {},
    "cosine": {"beta_schedule": "squaredcos_cap_v2"},
    "zero terminal SNR": {"rescale_betas_zero_snr": True},
    "short": {"num_train_timesteps": 3, "beta_start": 0.1, "beta_end": 0.7},
    "any betas": {"num_train_timesteps": 5, "trained_betas": [0.3, 0.01, 0.6, 0.05, 0.9]},
}


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_posterior_is_what_the_scheduler_steps_to(schedule, prediction_type):
    """Each pair at a timestep of its own, against `DDPMScheduler.step` with the same noise: mean and variance."""
    noise_scheduler = DDPMScheduler(**SCHEDULES[schedule], prediction_type=prediction_type, clip_sample=False)
    last = len(noise_scheduler) - 1
    timesteps = torch.tensor([0, 1, last // 2, last])
    if schedule == "zero terminal SNR" and prediction_type == "epsilon":
        timesteps = timesteps[:3]  # there is no x_0 to be had from pure noise
    noisy, prediction = torch.randn(2, len(timesteps), 4, 2, 3, generator=torch.Generator().manual_seed(0))
    predicted = predicted_sample(prediction, noise_scheduler, noisy, timesteps)
    noise = torch.randn(1, 4, 2, 3, generator=torch.Generator().manual_seed(7))
    drawn, mean = (
        posterior_sample(noise_scheduler, noisy, predicted, timesteps, x.expand_as(noisy)) for x in (noise, 0 * noise)
    )
    for i, t in enumerate(timesteps.tolist()):
        pair = slice(i, i + 1)
        step = noise_scheduler.step(prediction[pair], t, noisy[pair], generator=torch.Generator().manual_seed(7))
        torch.testing.assert_close(predicted[pair], step.pred_original_sample)
        torch.testing.assert_close(drawn[pair], step.prev_sample)
        spread = drawn[pair] - mean[pair]
        variance = noise_scheduler._get_variance(t) if t else torch.tensor(0.0)
        scale = step.prev_sample.abs().max().item()
        torch.testing.assert_close(spread, variance**0.5 * noise, rtol=1e-4, atol=1e-6 * scale)


@pytest.mark.parametrize(
    "sampler",
    [
        {"variance_type": "fixed_small_log"},
        {"variance_type": "fixed_large"},
        {"clip_sample_range": 0.5},
        {"thresholding": True, "sample_max_value": 2.0},
    ],
    ids=str,
)
def test_posterior_is_of_the_noising_process_and_not_of_the_sampler(sampler):
    """Whatever a sampler clips x_0 to, the step from that x_0 is the posterior's; a sampler that adds noise of variance
    beta in place of (1 - a') / (1 - a) beta changes nothing here."""
    noise_scheduler = DDPMScheduler(**sampler)
    noisy, prediction = torch.randn(2, 1, 4, 2, 3, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(1, 4, 2, 3, generator=torch.Generator().manual_seed(7))
    for t in (0, 1, 500, 999):
        step = noise_scheduler.step(prediction, t, noisy, generator=torch.Generator().manual_seed(7))
        drawn, mean = (
            posterior_sample(noise_scheduler, noisy, step.pred_original_sample, torch.tensor([t]), x)
            for x in (noise, 0 * noise)
        )
        a, previous = (
            noise_scheduler.alphas_cumprod[t],
            noise_scheduler.alphas_cumprod[t - 1] if t else torch.tensor(1.0),
        )
        share = ((1 - previous) / (1 - a)) ** 0.5 if sampler.get("variance_type") == "fixed_large" else 1
        torch.testing.assert_close(drawn, mean + share * (step.prev_sample - mean), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_posterior_is_bayes_rule(schedule):
    """What x_0 says of x_{t-1}, N(sqrt(a') x_0, 1 - a'), times what x_t says, N(x_t; sqrt(1 - beta) x_{t-1}, beta): the
    precisions add up, and the mean is the means weighted by them."""
    noise_scheduler = DDPMScheduler(**SCHEDULES[schedule])
    betas = noise_scheduler.betas.double()
    timesteps = torch.arange(len(betas))
    sample, noisy, noise = torch.randn(3, len(betas), 1, 1, 1, generator=torch.Generator().manual_seed(0))
    found = [
        posterior_sample(noise_scheduler, noisy, sample, timesteps, x).flatten().double()
        for x in (torch.zeros_like(noise), noise)
    ]
    assert torch.equal(found[0][:1], sample.flatten()[:1].double()) and torch.equal(found[0][:1], found[1][:1])
    a, beta, x_0, x_t = (1 - betas).cumprod(0)[:-1], betas[1:], sample.flatten()[1:], noisy.flatten()[1:]
    precision = 1 / (1 - a) + (1 - beta) / beta
    mean = (a**0.5 * x_0 / (1 - a) + (1 - beta) ** 0.5 * x_t / beta) / precision
    # betas of 1e-4 are known to 1e-3 of themselves from float32's alphas_cumprod
    torch.testing.assert_close(found[0][1:], mean, rtol=2e-3, atol=2e-3)
    torch.testing.assert_close((found[1] - found[0])[1:], precision**-0.5 * noise.flatten()[1:], rtol=2e-3, atol=1e-4)


def test_posterior_pairs_differ_in_x_0_and_noise_only():
    noise_scheduler, timesteps = DDPMScheduler(), torch.tensor([0, 500, 999])
    sample, noise, real_noise = torch.randn(3, 3, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    batch = {"sample": sample, "noise": noise, "timestep": timesteps}
    batch["posterior_noise"] = torch.stack([real_noise, -real_noise], dim=1)
    prediction = noise.clone().requires_grad_()
    real, fake = posterior_pairs(prediction, noise_scheduler, batch)
    # a perfect prediction: the two are as far from their common mean, to either side
    mean = posterior_sample(
        noise_scheduler, noise_scheduler.add_noise(sample, noise, timesteps), sample, timesteps, torch.zeros_like(noise)
    )
    torch.testing.assert_close((real + fake.detach()) / 2, mean, rtol=0, atol=1e-4)
    torch.testing.assert_close(real[0], sample[0])
    assert (real[1:] - mean[1:]).abs().max() > 0.05
    assert not real.requires_grad
    fake.sum().backward()
    assert prediction.grad.isfinite().all() and (prediction.grad != 0).all()
    assert {pair.dtype for pair in posterior_pairs(noise.bfloat16(), noise_scheduler, batch)} == {torch.float32}


def test_adversarial_losses_are_binary_cross_entropies():
    """D is 1/2, 3/4 and 1/5 on real pairs, 1/2, 1/5 and 3/4 on fake ones: logits are log(D / (1 - D))."""
    real = torch.tensor([1.0, 3.0, 0.25]).log()
    fake = torch.tensor([1.0, 0.25, 3.0]).log()
    expected = torch.tensor([-2 * math.log(0.5), -math.log(0.75) - math.log(0.8), -math.log(0.2) - math.log(0.25)])
    torch.testing.assert_close(discriminator_loss(real, fake), expected)
    torch.testing.assert_close(generator_loss(fake), -torch.tensor([0.5, 0.2, 0.75]).log())


def test_adversarial_losses_do_not_overflow():
    """Where D is certain and wrong, the loss is the logit; its gradient, that of a generator found out, is 1."""
    logits = torch.tensor([-1e4], dtype=torch.float16, requires_grad=True)
    loss = generator_loss(logits)
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(1e4, rel=1e-3)
    loss.backward()
    assert logits.grad.item() == -1
    assert discriminator_loss(logits, -logits).item() == pytest.approx(2e4, rel=1e-3)


def test_r1_penalty_of_a_linear_discriminator():
    """D(x) = w x + b has the gradient w everywhere: the penalty is |w|^2 / 2, and its gradient w."""
    w = torch.tensor([1.0, -2.0, 0.5, 3.0], requires_grad=True)
    real = torch.randn(3, 4, 1, 1, requires_grad=True)
    penalty = r1_penalty((real.flatten(1) * w).sum(1) + 0.7, real)
    torch.testing.assert_close(penalty, torch.full((3,), (1 + 4 + 0.25 + 9) / 2))
    penalty.mean().backward()
    torch.testing.assert_close(w.grad, w.detach())


def test_r1_penalty_of_a_quadratic_discriminator():
    """|c x|^2 / 2 with c = 1 for the first pair and 3 for the second has the gradient c^2 x, of each pair its own."""
    real = torch.full((2, 4, 1, 2), 1.0, requires_grad=True)
    penalty = r1_penalty((real * torch.tensor([1.0, 3.0]).view(2, 1, 1, 1)).square().sum((1, 2, 3)) / 2, real)
    torch.testing.assert_close(penalty, torch.tensor([8 / 2, 8 * 81 / 2]))
