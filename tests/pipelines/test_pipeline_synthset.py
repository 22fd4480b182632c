import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, EulerDiscreteScheduler
from PIL import Image
from testing_utils.pipelines import GaussianDenoiser

from synthset import PairedUNet2DModel, SynthSetPipeline, SynthSetPipelineOutput


@pytest.fixture
def pipeline():
    torch.manual_seed(0)
    unet = PairedUNet2DModel(
        sample_size=16, block_out_channels=[8, 16], layers_per_block=1, norm_num_groups=4, attention_head_dim=8
    )
    pipeline = SynthSetPipeline(unet, DDPMScheduler())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def seeded(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_pil(pipeline):
    output = pipeline(batch_size=2, generator=seeded(0, 1), num_inference_steps=2)
    assert isinstance(output, SynthSetPipelineOutput)
    for image, mask in zip(output.images, output.masks, strict=True):
        assert (image.mode, image.size) == ("RGB", (16, 16))
        assert (mask.mode, mask.size) == ("L", (16, 16))
        assert set(np.unique(mask)) <= {0, 255}
    assert len(output.images) == 2


def test_output_types_agree(pipeline):
    pil, arrays, tensors = (
        pipeline(batch_size=2, generator=seeded(0, 1), num_inference_steps=2, output_type=kind, return_dict=False)
        for kind in ("pil", "np", "pt")
    )
    assert tensors[0].shape == (2, 3, 16, 16) and tensors[1].shape == (2, 1, 16, 16)
    assert arrays[0].shape == (2, 16, 16, 3) and arrays[1].shape == (2, 16, 16, 1)
    assert set(np.unique(arrays[1])) <= {0.0, 1.0}
    np.testing.assert_array_equal(arrays[0], tensors[0].permute(0, 2, 3, 1))
    np.testing.assert_array_equal(arrays[1], tensors[1].permute(0, 2, 3, 1))
    for i in range(2):
        np.testing.assert_allclose(np.asarray(pil[0][i]), arrays[0][i] * 255, atol=0.5001)
        np.testing.assert_array_equal(np.asarray(pil[1][i]), arrays[1][i, ..., 0] * 255)


def test_decodes_the_pair_the_network_denoises_to():
    image = Image.fromarray(np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3))
    mask = Image.fromarray((np.eye(8) * 255).astype(np.uint8))
    scheduler = DDPMScheduler()
    unet = GaussianDenoiser.build(scheduler, torch.zeros(4, 8, 8))
    pipeline = SynthSetPipeline(unet, scheduler)
    unet.mean.data = pipeline.image_processor.preprocess([image], [mask])[0]
    output = pipeline(batch_size=3, num_inference_steps=10)
    for i in range(3):
        np.testing.assert_array_equal(output.images[i], image)
        np.testing.assert_array_equal(output.masks[i], mask)


@pytest.mark.parametrize("scheduler", [DDPMScheduler(), DDIMScheduler(timestep_spacing="trailing")])
def test_decodes_standardized_pairs(scheduler):
    """Whose values reach to 12, beyond the -1 to 1 to which diffusers' schedulers clip."""
    image = Image.fromarray(np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3))
    mask = Image.fromarray((np.eye(8) * 255).astype(np.uint8))
    unet = GaussianDenoiser.build(scheduler, torch.zeros(4, 8, 8))
    unet.register_to_config(sample_mean=[-0.2, 0.1, 0.0, 0.0], sample_std=[0.1, 0.2, 0.3, 4.0])
    pipeline = SynthSetPipeline(unet, scheduler)
    unet.mean.data = pipeline.image_processor.preprocess([image], [mask])[0]
    output = pipeline(batch_size=2, num_inference_steps=10)
    for i in range(2):
        np.testing.assert_array_equal(output.images[i], image)
        np.testing.assert_array_equal(output.masks[i], mask)


@pytest.mark.parametrize("scheduler", [DDPMScheduler(), DDIMScheduler(timestep_spacing="trailing")])
def test_a_pair_depends_on_its_own_generator(pipeline, scheduler):
    pipeline.scheduler = scheduler
    settings = {"num_inference_steps": 4, "output_type": "np", "eta": 1.0}
    together = pipeline(batch_size=3, generator=seeded(5, 6, 7), **settings)
    alone = pipeline(batch_size=1, generator=seeded(6), **settings)
    other = pipeline(batch_size=1, generator=seeded(8), **settings)
    np.testing.assert_allclose(together.images[1], alone.images[0], atol=1e-4)
    assert np.abs(other.images[0] - alone.images[0]).max() > 0.1


def test_one_generator_serves_a_batch(pipeline):
    first, second = (
        pipeline(batch_size=2, generator=torch.Generator().manual_seed(3), num_inference_steps=3, output_type="np")
        for _ in range(2)
    )
    np.testing.assert_array_equal(first.images, second.images)
    assert np.abs(first.images[0] - first.images[1]).max() > 0.1


def test_eta_reaches_ddim(pipeline):
    pipeline.scheduler = DDIMScheduler(timestep_spacing="trailing")
    settings = {"num_inference_steps": 4, "output_type": "np"}
    ddim, ancestral = (pipeline(generator=seeded(0), eta=eta, **settings).images for eta in (0.0, 1.0))
    assert np.abs(ddim - ancestral).max() > 0.01


def test_size(pipeline):
    output = pipeline(num_inference_steps=1, height=24, width=32)
    assert output.images[0].size == output.masks[0].size == (32, 24)


def test_scheduler_that_scales_noise_and_input():
    """Euler starts at noise of standard deviation 157 and divides what the network sees."""
    scheduler = EulerDiscreteScheduler(
        beta_schedule="linear", beta_start=0.0001, beta_end=0.02, timestep_spacing="trailing"
    )
    target = torch.rand(4, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1
    pipeline = SynthSetPipeline(GaussianDenoiser.build(scheduler, target), scheduler)
    output = pipeline(num_inference_steps=20, output_type="pt")
    torch.testing.assert_close(output.images[0], target[:3] / 2 + 0.5, atol=1e-4, rtol=0)


def test_callback_sees_and_replaces_the_sample(pipeline):
    seen = []

    def callback(pipe, i, t, tensors):
        seen.append((pipe, i, int(t), tensors["sample"].shape))
        return {"sample": torch.ones_like(tensors["sample"])}

    output = pipeline(
        batch_size=2, num_inference_steps=2, callback_on_step_end=callback, output_type="np", return_dict=True
    )
    assert seen == [(pipeline, 0, 500, (2, 4, 16, 16)), (pipeline, 1, 0, (2, 4, 16, 16))]
    assert output.images.min() == 1 and output.masks.min() == 1


def test_half_precision_keeps_the_sample_in_float32(pipeline):
    reference = pipeline(generator=seeded(0), num_inference_steps=10, output_type="np").images
    pipeline.to(torch.bfloat16)
    dtypes = []
    images = pipeline(
        generator=seeded(0),
        num_inference_steps=10,
        output_type="np",
        callback_on_step_end=lambda pipe, i, t, tensors: dtypes.append(tensors["sample"].dtype),
    ).images
    assert set(dtypes) == {torch.float32} and images.dtype == np.float32
    assert 0 < np.abs(images - reference).mean() < 0.02


def test_no_gradients(pipeline):
    assert not pipeline(num_inference_steps=1, output_type="pt").images.requires_grad


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 3, "generator": seeded(0, 1)}, "generator is a list of 2, but batch_size is 3"),
        ({"callback_on_step_end_tensor_inputs": ["latents"]}, r"has \['latents'\]; use \['sample'\]"),
        ({"output_type": "latent"}, "output_type is 'latent'"),
        ({"height": 15}, "height is 15 and width 16; give multiples of 2, the network's stride"),
        ({"width": 0}, "width 0; give multiples of 2"),
        ({"batch_size": 0}, "batch_size is 0; give the number of pairs, 1 or more"),
        ({"batch_size": "a field of wheat"}, "batch_size is 'a field of wheat'; .* There is no prompt"),
        ({"batch_size": ["wheat", "rye"]}, r"batch_size is \['wheat', 'rye'\]"),
        ({"num_inference_steps": 0}, "num_inference_steps is 0; give 1 to 1000"),
        ({"num_inference_steps": -3}, "num_inference_steps is -3; give 1 to 1000"),
        ({"num_inference_steps": 1001}, "num_inference_steps is 1001; give 1 to 1000"),
        ({"num_inference_steps": 2.5}, "num_inference_steps is 2.5; give 1 to 1000"),
        ({"generator": 7}, "generator has 7 of type int; give a torch.Generator"),
        ({"batch_size": 2, "generator": [*seeded(0), None]}, "generator has None of type NoneType"),
        ({"generator": []}, "generator is a list of 0, but batch_size is 1"),
        ({"latents": torch.zeros(1, 3, 16, 16)}, r"latents is \(1, 3, 16, 16\); .* a tensor \(1, 4, 16, 16\)"),
        ({"latents": np.zeros((1, 4, 16, 16))}, "latents is ndarray; give standard normal noise as a tensor"),
        (
            {"guidance_scale": 2.0},
            "guidance_scale is 2.0, but there is no guidance_unet, and neither",
        ),
        (
            {"guidance_unet": GaussianDenoiser(sample_size=8)},
            "guidance_unet has sample_size 8, but unet 16",
        ),
    ],
)
def test_bad_arguments(pipeline, arguments, message):
    with pytest.raises(ValueError, match=message):
        pipeline(**{"num_inference_steps": 1, **arguments})


def test_a_spacing_that_would_end_in_noise_is_replaced(pipeline):
    """61 trailing steps of 1000 are, after rounding, 62, the last of them to timestep -1."""
    pipeline.scheduler = DDPMScheduler(timestep_spacing="trailing")
    seen = []
    pipeline(num_inference_steps=61, callback_on_step_end=lambda pipe, i, t, tensors: seen.append(int(t)))
    assert len(seen) == pipeline.num_timesteps == 61 and (seen[0], seen[-1]) == (999, 0)
    assert pipeline.scheduler.config.timestep_spacing == "trailing"


def test_steps_by_default(pipeline):
    """As many as the network was trained with."""
    for num_train_timesteps in (5, 16):
        pipeline.scheduler = DDPMScheduler(num_train_timesteps=num_train_timesteps)
        pipeline()
        assert pipeline.num_timesteps == num_train_timesteps


def test_interrupt(pipeline):
    """What a callback that sets `_interrupt` ends with is what the sample was then; the next call is whole again."""
    samples, whole = [], pipeline(generator=seeded(0), num_inference_steps=4, output_type="np")

    def stop(pipe, i, t, tensors):
        samples.append(tensors["sample"])
        pipe._interrupt = i == 1

    stopped = pipeline(generator=seeded(0), num_inference_steps=4, callback_on_step_end=stop, output_type="pt")
    assert len(samples) == 2 and pipeline.interrupt and pipeline.num_timesteps == 4
    assert torch.equal(stopped.images, pipeline.image_processor.decode(samples[1])[0])
    again = pipeline(generator=seeded(0), num_inference_steps=4, output_type="np")
    np.testing.assert_array_equal(again.images, whole.images)


@pytest.mark.parametrize("scheduler", [DDPMScheduler(), EulerDiscreteScheduler(timestep_spacing="trailing")])
def test_latents_take_the_place_of_the_generators_noise(pipeline, scheduler):
    """Standard normal, also for Euler, which starts at a larger spread."""
    pipeline.scheduler = scheduler
    settings = {"num_inference_steps": 1, "output_type": "np"}
    latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    expected = pipeline(generator=seeded(0), **settings)
    found = pipeline(latents=latents.clone(), generator=seeded(1), **settings)
    np.testing.assert_array_equal(found.images, expected.images)


def test_save_and_load(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    loaded = SynthSetPipeline.from_pretrained(tmp_path)
    settings = {"num_inference_steps": 3, "output_type": "np"}
    expected, found = (p(generator=seeded(0), **settings) for p in (pipeline, loaded))
    np.testing.assert_allclose(expected.images, found.images, atol=1e-4)
    assert (expected.masks != found.masks).mean() < 0.01


def test_offload(pipeline):
    settings = {"num_inference_steps": 2, "output_type": "np"}
    expected = pipeline(generator=seeded(0), **settings)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pipeline.enable_model_cpu_offload(device=device)
    for _ in range(2):  # the hooks are put back after a call
        found = pipeline(generator=seeded(0), **settings)
        assert pipeline.unet.device.type == "cpu"
        np.testing.assert_allclose(found.images, expected.images, atol=1e-3)


@pytest.fixture
def worse():
    torch.manual_seed(5)
    return PairedUNet2DModel(
        sample_size=16, block_out_channels=[8], layers_per_block=1, norm_num_groups=4, attention_head_dim=8
    )


@pytest.mark.parametrize("scale, itself", [(1.0, False), (3.0, True), (0.5, True)])
def test_guidance_that_changes_nothing(pipeline, worse, scale, itself):
    """To the bit: a scale of 1, or by the network itself."""
    settings = {"batch_size": 2, "num_inference_steps": 3, "output_type": "np"}
    expected = pipeline(generator=seeded(0, 1), **settings)
    guidance = {"guidance_unet": pipeline.unet if itself else worse, "guidance_scale": scale}
    found = pipeline(generator=seeded(0, 1), **settings, **guidance)
    np.testing.assert_array_equal(found.images, expected.images)
    np.testing.assert_array_equal(found.masks, expected.masks)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_guidance_is_linear_in_the_predicted_pair(prediction_type):
    """Networks that know data of one pair each: in one step, what comes out is worse + scale (better - worse)."""
    scheduler = DDPMScheduler(prediction_type=prediction_type)
    better, worse = (GaussianDenoiser.build(scheduler, torch.full((4, 8, 8), mean)) for mean in (0.2, 0.1))
    pipeline = SynthSetPipeline(better, scheduler)
    for scale, expected in ((1.5, 0.25), (2, 0.3), (5, 0.6), (0, 0.1), (100, 1)):  # 10 is clipped
        output = pipeline(num_inference_steps=1, guidance_unet=worse, guidance_scale=scale, output_type="pt")
        torch.testing.assert_close(output.images, torch.full((1, 3, 8, 8), (expected + 1) / 2), atol=1e-3, rtol=0)


def test_guidance_acts_at_the_noise_levels_of_its_interval_only(pipeline, worse):
    """Steps at the timesteps 750, 500, 250 and 0 of linear betas, whose levels are about 17, 3.5, 0.95 and 0.01."""
    seen = []
    worse.register_forward_pre_hook(lambda module, args: seen.append(int(args[1])))
    for interval, expected in (((0, 100), [750, 500, 250, 0]), ((0.5, 5), [500, 250]), ((5, 100), [750])):
        seen.clear()
        pipeline(num_inference_steps=4, guidance_unet=worse, guidance_scale=2, guidance_interval=interval)
        assert seen == expected


def test_a_guided_pair_depends_on_its_own_generator(pipeline, worse):
    settings = {"num_inference_steps": 4, "output_type": "np", "guidance_unet": worse, "guidance_scale": 2.5}
    together = pipeline(batch_size=3, generator=seeded(5, 6, 7), **settings)
    alone = pipeline(batch_size=1, generator=seeded(6), **settings)
    np.testing.assert_allclose(together.images[1], alone.images[0], atol=1e-5)
    settings["guidance_scale"] = 1.0
    assert np.abs(pipeline(generator=seeded(6), **settings).images - alone.images).max() > 0.01
