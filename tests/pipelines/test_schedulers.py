"""Every offered sampler, with a perfect denoiser: where it ends is known beforehand."""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, EulerDiscreteScheduler
from testing_utils.pipelines import GaussianDenoiser

from synthset import InputError, SynthSetPipeline, make_scheduler
from synthset.pipelines import SCHEDULERS

BETAS = ("linear", "squaredcos_cap_v2")
PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")


def final_sample(unet, scheduler, num_inference_steps, batch_size=1):
    """The tensor that the pipeline's last step leaves, before decoding."""
    pipeline = SynthSetPipeline(unet, scheduler)
    pipeline.set_progress_bar_config(disable=True)
    samples = []
    pipeline(
        batch_size=batch_size,
        generator=torch.Generator().manual_seed(0),
        num_inference_steps=num_inference_steps,
        callback_on_step_end=lambda pipeline, i, t, tensors: samples.append(tensors["sample"]),
        output_type="pt",
    )
    assert len(samples) == num_inference_steps
    return samples[-1]


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("num_train_timesteps", [1000, 100])
def test_timesteps_for_every_step_count(name, num_train_timesteps):
    """As many as asked for, all different, from the noisiest down to at most one stride above clean, none below 0."""
    config = DDPMScheduler(num_train_timesteps=num_train_timesteps).config
    for steps in range(1, num_train_timesteps + 1):
        scheduler = make_scheduler(name, config, steps)
        scheduler.set_timesteps(steps)
        timesteps = scheduler.timesteps
        assert len(timesteps) == steps
        assert timesteps[0] == num_train_timesteps - 1
        assert (timesteps.diff() < 0).all()
        assert 0 <= timesteps[-1] <= num_train_timesteps / steps + 0.5  # half a timestep of rounding


@pytest.mark.parametrize("betas", BETAS)
@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
@pytest.mark.parametrize("name", SCHEDULERS)
def test_ends_in_the_only_sample_there_is(name, prediction_type, betas):
    training = DDPMScheduler(beta_schedule=betas, prediction_type=prediction_type)
    target = torch.rand(4, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1
    unet = GaussianDenoiser.build(training, target)
    for steps in (300, 100, 61, 37, 20, 10):
        sample = final_sample(unet, make_scheduler(name, training.config, steps), steps)
        torch.testing.assert_close(sample[0], target, atol=1e-6, rtol=0)


@pytest.mark.parametrize("betas", BETAS)
@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
@pytest.mark.parametrize("name", SCHEDULERS)
def test_keeps_mean_and_spread(name, prediction_type, betas):
    """Coarse steps lose some of the spread (more so DDPM, which takes the smaller of its two variances), and never
    add: what a step to a wrong timestep leaves behind shows as spread above 0.2."""
    training = DDPMScheduler(beta_schedule=betas, prediction_type=prediction_type)
    unet = GaussianDenoiser.build(training, torch.full((4, 16, 16), 0.3), std=0.2)
    lowest = {"ddpm": {300: 0.185, 37: 0.145}, "ddim": {300: 0.192, 37: 0.16}}.get(name, {300: 0.197, 37: 0.175})
    for steps in (300, 37):
        sample = final_sample(unet, make_scheduler(name, training.config, steps), steps, batch_size=16)
        assert sample.mean().item() == pytest.approx(0.3, abs=0.006)  # 4 standard errors of 16 384 values
        assert lowest[steps] < sample.std().item() < 0.204


@pytest.mark.parametrize("name", SCHEDULERS)
def test_all_1000_steps(name):
    training = DDPMScheduler()
    unet = GaussianDenoiser.build(training, torch.full((4, 16, 16), 0.3), std=0.2)
    sample = final_sample(unet, make_scheduler(name, training.config, 1000), 1000, batch_size=16)
    assert sample.mean().item() == pytest.approx(0.3, abs=0.006)
    assert sample.std().item() == pytest.approx(0.2, abs=0.005)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_imperfect_epsilon_under_cosine_betas(name):
    """An epsilon off by 0.02 is an x_0 off by 400 at the first timestep; without the clip, means end near -2."""
    training = DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    unet = GaussianDenoiser.build(training, torch.full((4, 8, 8), 0.3), std=0.2)
    unet.register_forward_hook(lambda module, args, output: type(output)(sample=output.sample + 0.02))
    sample = final_sample(unet, make_scheduler(name, training.config, 50), 50, batch_size=4)
    assert sample.mean().item() == pytest.approx(0.3, abs=0.06)


def test_ddim_is_ddim():
    """Where diffusers' DDIMScheduler is right (the steps divide 1000), `ddim` gives its samples."""
    training = DDPMScheduler(prediction_type="v_prediction")
    unet = GaussianDenoiser.build(training, torch.full((4, 8, 8), 0.3), std=0.2)
    reference = DDIMScheduler.from_config(training.config, timestep_spacing="trailing")
    ours = final_sample(unet, make_scheduler("ddim", training.config, 50), 50)
    torch.testing.assert_close(ours, final_sample(unet, reference, 50), atol=1e-5, rtol=0)


def test_training_settings_carry_over_and_sampling_settings_do_not():
    training = DDPMScheduler(
        num_train_timesteps=200,
        beta_start=0.001,
        beta_end=0.03,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        clip_sample=False,
        steps_offset=1,
    )
    for name in SCHEDULERS:
        scheduler = make_scheduler(name, training.config, 20)
        torch.testing.assert_close(scheduler.alphas_cumprod, training.alphas_cumprod)
        assert scheduler.config.prediction_type == "v_prediction"
        assert scheduler.config.steps_offset == 0
    assert make_scheduler("ddpm", training.config, 20).config.clip_sample


def test_from_another_kind_of_scheduler():
    training = EulerDiscreteScheduler(beta_schedule="linear", beta_start=0.0001, beta_end=0.02)
    scheduler = make_scheduler("unipc", training.config, 20)
    torch.testing.assert_close(scheduler.alphas_cumprod, training.alphas_cumprod)


def test_bad_choices():
    config = DDPMScheduler().config
    with pytest.raises(InputError, match="scheduler is 'pndm'; use one of ddpm, ddim, dpmsolver\\+\\+, unipc"):
        make_scheduler("pndm", config, 20)
    for steps in (0, 1001):
        with pytest.raises(InputError, match=f"num_inference_steps is {steps}; use 1 to 1000"):
            make_scheduler("ddpm", config, steps)
