import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from PIL import Image
from testing_utils.pairs import random_pairs
from testing_utils.pipelines import RecallingDenoiser

from synthset import (
    PairedUNet2DModel,
    PairImageProcessor,
    SynthSetPipelineOutput,
    SynthSetSRPipeline,
    make_scheduler,
)
from synthset.data.transforms import ResizePair, to_tv_tensors
from synthset.pipelines.pipeline_synthset_sr import add_condition_noise

WIDTH, HEIGHT = 12, 8


def build(scale_factor: int = 2, max_noise_level: int = 0, **config) -> SynthSetSRPipeline:
    torch.manual_seed(0)
    config = {
        "block_out_channels": [8, 16],
        "condition_channels": 4,
        "condition_noise": max_noise_level > 0,
    } | config
    unet = PairedUNet2DModel(variant="concat", layers_per_block=1, norm_num_groups=4, attention_head_dim=8, **config)
    return quiet(SynthSetSRPipeline(unet, ddim(), scale_factor, max_noise_level))


def quiet(pipeline: SynthSetSRPipeline) -> SynthSetSRPipeline:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def ddim(**config) -> DDIMScheduler:
    return DDIMScheduler(timestep_spacing="trailing", **config)


def small_pairs(count: int = 2, size: tuple[int, int] = (WIDTH, HEIGHT)) -> tuple[list, list]:
    """PIL images, and masks of 0 and 255."""
    rows = random_pairs(count, size)
    return [row["image"] for row in rows], [row["mask"].point(lambda value: value * 255) for row in rows]


def seeded(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def spy(pipeline: SynthSetSRPipeline) -> list[dict]:
    """What the network is called with, step by step: `timestep` and its keywords."""
    calls = []
    pipeline.unet.register_forward_pre_hook(
        lambda module, args, kwargs: calls.append({"timestep": int(args[1]), **kwargs}), with_kwargs=True
    )
    return calls


def as_arrays(images, masks) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of any kind -> (B, H, W, 3) in 0..255 and (B, H, W) of the mask's own values."""
    if isinstance(images, torch.Tensor):
        images, masks = images.movedim(1, -1).numpy(), masks.movedim(1, -1).numpy()
    if isinstance(images, np.ndarray):
        return images * 255, masks[..., 0] * 255
    return np.stack([np.asarray(i) for i in images]), np.stack([np.asarray(m) for m in masks])


@pytest.mark.parametrize("scale_factor", [2, 4])
def test_every_kind_of_pair_gives_the_same_kind_and_the_same_pixels(scale_factor):
    pipeline = build(scale_factor)
    images, masks = small_pairs()
    array, mask_array = np.stack(images), np.stack(masks)[..., None]
    floats, mask_floats = array.astype(np.float32) / 255, mask_array.astype(np.float32) / 255
    tensors = [torch.from_numpy(x).movedim(-1, 1) for x in (floats, mask_floats)]
    calls = {
        "pil": (images, masks),
        "uint8": (array, mask_array),
        "np": (floats, mask_floats),
        "pt": tensors,
        "output": (SynthSetPipelineOutput(images=tensors[0], masks=tensors[1]),),
    }
    large = {kind: pipeline(*pair, generator=seeded(0, 1), num_inference_steps=2) for kind, pair in calls.items()}
    size = (WIDTH * scale_factor, HEIGHT * scale_factor)
    for image, mask in zip(large["pil"].images, large["pil"].masks, strict=True):
        assert (image.mode, image.size, mask.mode, mask.size) == ("RGB", size, "L", size)
    assert isinstance(large["np"].images, np.ndarray) and large["np"].images.shape == (2, *size[::-1], 3)
    assert isinstance(large["pt"].images, torch.Tensor) and large["pt"].images.shape == (2, 3, *size[::-1])
    assert large["uint8"].images.dtype == np.float32 and isinstance(large["output"].images, torch.Tensor)
    expected_images, expected_masks = as_arrays(**large["pil"])
    assert set(np.unique(expected_masks)) == {0, 255}
    for output in large.values():
        found_images, found_masks = as_arrays(**output)
        np.testing.assert_allclose(found_images, expected_images, atol=0.5001)
        np.testing.assert_array_equal(found_masks, expected_masks)


@pytest.mark.parametrize(("output_type", "kind"), [("pil", list), ("np", np.ndarray), ("pt", torch.Tensor)])
def test_output_type_overrides_the_kind_given(output_type, kind):
    images, masks = build()(
        *(np.stack(x).reshape(2, HEIGHT, WIDTH, -1) for x in small_pairs()),
        num_inference_steps=1,
        output_type=output_type,
        return_dict=False,
    )
    assert isinstance(images, kind) and isinstance(masks, kind)


def test_one_pil_pair():
    images, masks = small_pairs(1)
    output = build()(images[0], masks[0], num_inference_steps=1)
    assert [image.size for image in output.images] == [(WIDTH * 2, HEIGHT * 2)]


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("scale_factor", [2, 4])
def test_layout_is_that_of_the_given_pair(scale_factor, prediction_type):
    """Asked in another order, with a network that knows the answers: made smaller again, they are what was given."""
    resize, processor = ResizePair(8), PairImageProcessor()
    rows = random_pairs(4, (8 * scale_factor, 8 * scale_factor))
    large = torch.stack([processor.encode(*to_tv_tensors(row)) for row in rows])
    resized = [resize(*to_tv_tensors(row)) for row in rows]
    small = torch.stack([processor.encode(*pair) for pair in resized])
    scheduler = ddim(prediction_type=prediction_type)
    pipeline = quiet(SynthSetSRPipeline(RecallingDenoiser.build(scheduler, small, large), scheduler, scale_factor))
    order = [2, 0, 3]
    output = pipeline(*processor.postprocess(small[order]), num_inference_steps=10)
    for i, image, mask in zip(order, output.images, output.masks, strict=True):
        assert image.tobytes() == rows[i]["image"].tobytes()
        again = resize(*to_tv_tensors({"image": image, "mask": mask.point(lambda value: value // 255)}))
        assert all(torch.equal(found, given) for found, given in zip(again, resized[i], strict=True))


def test_detail_comes_from_the_noise_and_layout_from_the_pair():
    pipeline = build()
    images, masks = small_pairs()
    settings = {"num_inference_steps": 4, "output_type": "np"}
    first, other_noise, other_pair = (
        pipeline([images[i]], [masks[i]], generator=seeded(seed), **settings).images
        for i, seed in ((0, 0), (0, 1), (1, 0))
    )
    assert np.abs(first - other_noise).max() > 0.1
    assert np.abs(first - other_pair).max() > 1e-3


def test_default_is_100_ddim_steps():
    pipeline = build()
    calls = spy(pipeline)
    pipeline(*small_pairs(1, (4, 4)))
    assert [call["timestep"] for call in calls] == list(range(999, 0, -10))


@pytest.mark.parametrize("noise_level", [0, 200])
def test_a_pair_depends_on_its_own_generator(noise_level):
    """With all three noises: the condition's, the first and, with `eta`, every step's."""
    pipeline = build(max_noise_level=200)
    images, masks = small_pairs(3)
    settings = {"num_inference_steps": 4, "noise_level": noise_level, "eta": 1.0, "output_type": "np"}
    together = pipeline(images, masks, generator=seeded(5, 6, 7), **settings)
    alone = pipeline(images[1:2], masks[1:2], generator=seeded(6), **settings)
    np.testing.assert_allclose(together.images[1], alone.images[0], atol=1e-3)
    assert (together.masks[1] != alone.masks[0]).mean() < 0.01
    without = pipeline(images[1:2], masks[1:2], generator=seeded(6), **settings | {"eta": 0.0})
    assert np.abs(without.images - alone.images).max() > 0.01


def test_one_generator_serves_the_noise_of_condition_and_sample():
    pipeline = build(max_noise_level=200)
    calls = spy(pipeline)
    for seed in (3, 3, 4):
        pipeline(*small_pairs(), generator=torch.Generator().manual_seed(seed), num_inference_steps=1, noise_level=200)
    first, second, other = (call["condition"] for call in calls)
    assert torch.equal(first, second)
    assert (first - other).abs().max() > 0.1


def test_noise_of_the_condition_is_the_schedulers():
    """Level s is timestep s - 1 of the forward process, and 0 is no noise at all, for every pair by itself."""
    scheduler = DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    condition, noise = torch.randn(2, 4, 3, 5, 2, generator=torch.Generator().manual_seed(0))
    levels = torch.tensor([0, 1, 250, 1000])
    noisy = add_condition_noise(condition, noise, levels, scheduler.alphas_cumprod)
    assert torch.equal(noisy[0], condition[0])
    torch.testing.assert_close(noisy[1:], scheduler.add_noise(condition[1:], noise[1:], levels[1:] - 1))


@pytest.mark.parametrize("noise_level", [0, 300])
def test_noise_level_reaches_condition_and_network(noise_level):
    """Linear betas from 1e-4 to 0.02: mean sqrt(a) x and standard deviation sqrt(1 - a), a the product of 1 - beta."""
    pipeline = build(max_noise_level=300)
    calls = spy(pipeline)
    image, mask = Image.new("RGB", (64, 64), (255, 255, 255)), Image.new("L", (64, 64), 255)
    pipeline(image, mask, generator=seeded(0), num_inference_steps=2, noise_level=noise_level)
    assert [call["noise_level"] for call in calls] == [noise_level] * 2
    a = np.prod(1 - np.linspace(1e-4, 0.02, 1000)[:noise_level])
    condition = calls[0]["condition"]
    assert torch.equal(condition, calls[1]["condition"])
    # 5 standard errors of 16 384 values
    assert condition.mean().item() == pytest.approx(a**0.5, abs=5 / 128 * (1 - a) ** 0.5 + 1e-6)
    assert condition.std().item() == pytest.approx((1 - a) ** 0.5, abs=5 / 181 * (1 - a) ** 0.5 + 1e-6)


def test_a_network_without_noise_levels_is_told_none():
    pipeline = build()
    calls = spy(pipeline)
    pipeline(*small_pairs(), num_inference_steps=1)
    assert calls[0].keys() == {"timestep", "condition"}


def test_other_channels():
    """One-channel images: nothing counts on three and one."""
    pipeline = build(image_channels=1, condition_channels=2)
    image = np.random.default_rng(0).random((2, HEIGHT, WIDTH, 1))
    output = pipeline(image, image > 0.5, num_inference_steps=1)
    assert output.images.shape == output.masks.shape == (2, HEIGHT * 2, WIDTH * 2, 1)


@pytest.mark.parametrize("steps", [3, 37])
def test_steps_that_ddim_can_not_divide(steps):
    """Without noise, another class takes them, which is the same sampler; with noise they are refused."""
    pipeline = build()
    calls = spy(pipeline)
    found = pipeline(*small_pairs(1), generator=seeded(0), num_inference_steps=steps, output_type="np")
    assert len(calls) == steps
    assert isinstance(pipeline.scheduler, DDIMScheduler)
    with pytest.raises(ValueError, match=rf"num_inference_steps is {steps}, but with eta=1.0 .* divisor of 1000, or"):
        pipeline(*small_pairs(1), num_inference_steps=steps, eta=1.0)
    pipeline.scheduler = make_scheduler("ddim", pipeline.scheduler.config, steps)
    expected = pipeline(*small_pairs(1), generator=seeded(0), num_inference_steps=steps, output_type="np")
    np.testing.assert_array_equal(found.images, expected.images)


def test_steps_by_default():
    """The paper's 100, or as many as the network was trained with."""
    pipeline = build()
    for num_train_timesteps, steps in ((1000, 100), (16, 16)):
        pipeline.scheduler = ddim(num_train_timesteps=num_train_timesteps)
        pipeline(*small_pairs(1))
        assert pipeline.num_timesteps == steps


def test_latents():
    pipeline = build()
    latents = torch.randn(1, 4, HEIGHT * 2, WIDTH * 2, generator=torch.Generator().manual_seed(0))
    settings = {"num_inference_steps": 2, "output_type": "np"}
    expected = pipeline(*small_pairs(1), generator=seeded(0), **settings)
    np.testing.assert_array_equal(pipeline(*small_pairs(1), latents=latents, **settings).images, expected.images)
    with pytest.raises(ValueError, match=r"latents is \(1, 4, 16, 24\); .* a tensor \(2, 4, 16, 24\)"):
        pipeline(*small_pairs(2), latents=latents)


def test_callback_sees_and_replaces_the_sample():
    seen = []

    def callback(pipeline, i, t, tensors):
        seen.append((i, int(t), tensors["sample"].shape))
        return {"sample": torch.ones_like(tensors["sample"])}

    output = build()(*small_pairs(), num_inference_steps=2, callback_on_step_end=callback, output_type="np")
    assert seen == [(0, 999, (2, 4, 16, 24)), (1, 499, (2, 4, 16, 24))]
    assert output.images.min() == 1 and output.masks.min() == 1


def test_half_precision():
    pipeline = build(max_noise_level=10)
    settings = {"generator": seeded(0, 1), "num_inference_steps": 4, "noise_level": 10, "output_type": "np"}
    expected = pipeline(*small_pairs(), **settings).images
    calls = spy(pipeline.to(torch.bfloat16))
    found = pipeline(*small_pairs(), **settings | {"generator": seeded(0, 1)}).images
    assert calls[0]["condition"].dtype == torch.bfloat16 and found.dtype == np.float32
    assert 0 < np.abs(found - expected).mean() < 0.02


def test_save_and_load(tmp_path):
    pipeline = build(4, 200)
    pipeline.save_pretrained(tmp_path)
    loaded = quiet(SynthSetSRPipeline.from_pretrained(tmp_path))
    assert (loaded.config.scale_factor, loaded.config.max_noise_level) == (4, 200)
    settings = {"num_inference_steps": 2, "noise_level": 200, "output_type": "np"}
    expected, found = (p(*small_pairs(), generator=seeded(0, 1), **settings) for p in (pipeline, loaded))
    np.testing.assert_allclose(found.images, expected.images, atol=1e-4)


def test_offload():
    pipeline = build(max_noise_level=10)
    settings = {"num_inference_steps": 2, "noise_level": 10, "output_type": "np"}
    expected = pipeline(*small_pairs(), generator=seeded(0, 1), **settings)
    pipeline.enable_model_cpu_offload(device="cuda" if torch.cuda.is_available() else "cpu")
    for _ in range(2):  # the hooks are put back after a call
        found = pipeline(*small_pairs(), generator=seeded(0, 1), **settings)
        assert pipeline.unet.device.type == "cpu"
        np.testing.assert_allclose(found.images, expected.images, atol=1e-3)


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"masks": None}, "masks is NoneType; give PIL images"),
        ({"masks": small_pairs(3)[1]}, "images are 2 of 12 x 8 pixels, but masks are 3 of 12 x 8"),
        ({"masks": small_pairs(2, (8, 12))[1]}, "images are 2 of 12 x 8 pixels, but masks are 2 of 8 x 12"),
        ({"images": small_pairs(1)[0] + small_pairs(1, (12, 9))[0]}, r"images are of \[\(8, 12, 3\), \(9, 12, 3\)\]"),
        ({"images": small_pairs(1)[0] + [Image.new("RGBA", (12, 8))]}, r"\(8, 12, 3\), \(8, 12, 4\).*all alike"),
        ({"images": [], "masks": []}, r"images are of \[\] .*give at least one"),
        ({"images": small_pairs()[1]}, "images have 1 channels; the model was trained on 3"),
        ({"masks": small_pairs()[0]}, "masks have 3 channels; the model was trained on 1"),
        ({"masks": np.zeros((2, 8, 12, 2))}, "masks have 2 channels; the model was trained on 1"),
        ({"images": np.full((2, 8, 12, 3), 127.5)}, r"images hold values from 127.5 to 127.5; give \[0, 1\]"),
        ({"images": torch.full((2, 3, 8, 12), torch.nan)}, "images hold values from nan to nan"),
        ({"images": np.zeros((8, 12, 3))}, r"images is ndarray \(8, 12, 3\); give .* \(B, H, W, C\)"),
        (
            {"images": small_pairs(2, (12, 7))[0], "masks": small_pairs(2, (12, 7))[1]},
            "12 x 7 .* 24 x 14 .* of 4; crop",
        ),
        ({"noise_level": 11}, "noise_level is 11, but the network was trained with 0 to 10"),
        ({"noise_level": -1}, "noise_level is -1"),
        ({"generator": seeded(0, 1, 2)}, "generator is a list of 3, but batch_size is 2"),
        ({"images": "wheat"}, "images is str; give PIL images"),
        ({"num_inference_steps": 0}, "num_inference_steps is 0; give 1 to 1000"),
        ({"generator": 7}, "generator has 7 of type int"),
        ({"output_type": "latent"}, "output_type is 'latent'; use 'pil', 'np' or 'pt'"),
        ({"callback_on_step_end_tensor_inputs": ["latents"]}, r"has \['latents'\]; use \['sample'\]"),
    ],
)
def test_bad_arguments(replaced, message):
    images, masks = small_pairs()
    pipeline = build(max_noise_level=10, block_out_channels=[8, 8, 8])
    with pytest.raises(ValueError, match=message):
        pipeline(**{"images": images, "masks": masks, "num_inference_steps": 1} | replaced)


@pytest.mark.parametrize("condition_channels", [0, 3])
def test_refuses_a_network_that_takes_no_pair(condition_channels):
    with pytest.raises(ValueError, match=f"condition_channels={condition_channels}, but a pair to enlarge has 4"):
        build(condition_channels=condition_channels)
