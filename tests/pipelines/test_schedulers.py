"""Every offered sampler, with a perfect denoiser: where it ends is known beforehand."""

import diffusers
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
    SchedulerMixin,
)
from testing_utils.pipelines import GaussianDenoiser

from synthset import InputError, SynthSetPipeline, make_scheduler
from synthset.arguments import TrainingArguments
from synthset.pipelines import SCHEDULERS
from synthset.pipelines.prediction_types import clip_prediction
from synthset.pipelines.schedulers import COMPATIBLE, require_compatible
from synthset.registry import Import
from synthset.training.components import build_noise_schedule

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
    with pytest.raises(InputError, match="config has no beta_schedule"):
        make_scheduler("ddim", FlowMatchEulerDiscreteScheduler().config, 20)
    with pytest.raises(InputError, match="scheduler is 'pndm'; use one of ddpm, ddim, dpmsolver\\+\\+, unipc"):
        make_scheduler("pndm", config, 20)
    for steps in (0, 1001):
        with pytest.raises(InputError, match=f"num_inference_steps is {steps}; use 1 to 1000, .*--num_train_timesteps"):
            make_scheduler("ddpm", config, steps)


@pytest.mark.parametrize("betas", BETAS)
@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
@pytest.mark.parametrize("name", COMPATIBLE)
def test_from_config_is_right_or_refused(name, prediction_type, betas):
    """Of what a model was trained with. Mean and spread are kept, and with an imperfect network the mean."""
    training = DDPMScheduler(beta_schedule=betas, prediction_type=prediction_type, timestep_spacing="trailing")
    scheduler = getattr(diffusers, name).from_config(training.config)
    unet = GaussianDenoiser.build(training, torch.full((4, 16, 16), 0.3), std=0.2)
    if prediction_type not in COMPATIBLE[name]:
        with pytest.raises(ValueError, match=f"^{name} has no prediction_type 'sample'.*; use synthset.make_scheduler"):
            final_sample(unet, scheduler, 40)
        return
    sample = final_sample(unet, scheduler, 40, batch_size=4)
    assert sample.mean().item() == pytest.approx(0.3, abs=0.0125)  # 4 standard errors of 4096 values
    assert 0.15 < sample.std().item() < 0.206
    if prediction_type != "sample":  # there an error of 0.02 is one of the sample
        unet.register_forward_hook(lambda module, args, output: type(output)(sample=output.sample + 0.02))
        assert final_sample(unet, scheduler, 40).mean().item() == pytest.approx(0.3, abs=0.06)


@pytest.mark.parametrize("name", [name for name in dir(diffusers) if name.endswith("Scheduler")])
def test_every_other_scheduler_of_diffusers_is_refused(name):
    training = DDPMScheduler()
    scheduler_class = getattr(diffusers, name)
    if name in COMPATIBLE or not issubclass(scheduler_class, SchedulerMixin):  # a stand-in for a missing library
        return
    pipeline = SynthSetPipeline(GaussianDenoiser.build(training, torch.zeros(4, 8, 8)), training)
    pipeline.scheduler = scheduler_class.__new__(scheduler_class)  # some need libraries and arguments to be built
    pipeline.scheduler.register_to_config()
    with pytest.raises(ValueError, match=f"^{name} does not sample rightly .*; use synthset.make_scheduler"):
        pipeline(num_inference_steps=2)


@pytest.mark.parametrize("name", sorted(COMPATIBLE.keys() - {"LMSDiscreteScheduler"}))  # which takes a minute
def test_any_number_of_steps_with_any_spacing(name):
    """What a training script saved, from 1 step to as many as there are timesteps."""
    training = DDPMScheduler(num_train_timesteps=40, beta_end=0.5)
    target = torch.rand(4, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1
    unet = GaussianDenoiser.build(training, target)
    last = (1 / training.alphas_cumprod[0] - 1) ** 0.5  # noise that DEIS and SA-Solver leave
    for spacing in ("trailing", "leading", "linspace"):
        scheduler = getattr(diffusers, name).from_config(training.config, timestep_spacing=spacing)
        for steps in (*range(1, 13), 20, 27, 39, 40):
            sample = final_sample(unet, scheduler, steps)
            assert (sample[0] - target).abs().max() < 5 * last


def test_noise_schedule_of_training_is_saved_as_a_whole():
    """Both training scripts save it, `train_sr` after `from_config`, which drops what was not given by name."""
    few = {"num_train_timesteps": 16, "validation_num_inference_steps": 4}
    args = TrainingArguments(dataset="demo", output_dir="run", prediction_type="v_prediction", **few)
    training = build_noise_schedule(args)
    for saved in (training, DDIMScheduler.from_config(training.config)):
        assert (saved.config.num_train_timesteps, saved.config.prediction_type) == (16, "v_prediction")
        saved.set_timesteps(4)
        assert saved.timesteps.tolist() == [15, 11, 7, 3]
        torch.testing.assert_close(saved.alphas_cumprod, training.alphas_cumprod)


def test_a_scheduler_in_the_registry_is_compatible(monkeypatch):
    scheduler = HeunDiscreteScheduler.from_config(DDPMScheduler().config)
    with pytest.raises(ValueError, match="^HeunDiscreteScheduler does not sample rightly"):
        require_compatible(scheduler)
    monkeypatch.setitem(SCHEDULERS._entries, "heun", Import("diffusers:HeunDiscreteScheduler"))
    require_compatible(scheduler)


def test_clip_prediction():
    """One value, by hand: alpha = 0.6, sigma = 0.8, x_0 = 2 and epsilon = 1, so x_t = 2; clipped to x_0 = 1, epsilon
    is (2 - 0.6) / 0.8 = 1.75 and v is 0.6 * 1.75 - 0.8."""
    bounds = torch.tensor(-1.0), torch.tensor(1.0)
    x_t, epsilon, v = torch.tensor([2.0]), 1.0, 0.6 * 1 - 0.8 * 2
    for output, kind, expected in ((2.0, "sample", 1), (epsilon, "epsilon", 1.75), (v, "v_prediction", 0.25)):
        found = clip_prediction(torch.tensor([output]), x_t, 0.36, kind, bounds)
        assert found.item() == pytest.approx(expected, abs=1e-6)
    inside = torch.rand(1000, generator=torch.Generator().manual_seed(0)) - 0.5
    for kind in PREDICTION_TYPES:
        assert torch.equal(clip_prediction(inside, torch.zeros(1000), 0.36, kind, bounds), inside)


def test_refuses_flow_sigmas():
    training = DDPMScheduler()
    unet = GaussianDenoiser.build(training, torch.zeros(4, 8, 8))
    scheduler = DPMSolverMultistepScheduler.from_config(training.config, use_flow_sigmas=True)
    with pytest.raises(ValueError, match="DPMSolverMultistepScheduler with use_flow_sigmas does not sample rightly"):
        final_sample(unet, scheduler, 10)
