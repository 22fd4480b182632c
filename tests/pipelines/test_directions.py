"""Masks for images, images for masks, and completion, with a denoiser that knows the right answer."""

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from PIL import Image
from testing_utils.pipelines import EmpiricalDenoiser, GaussianDenoiser

from synthset import PairedUNet2DModel, PairImageProcessor, SynthSetPipeline, make_scheduler

SIDE = 8
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)
MASKS = RNG.integers(0, 2, (2, SIDE, SIDE, 1), dtype=np.uint8)[[0, 0, 1]]  # of two images the same


def build(steps=20, scheduler="dpmsolver++", **config):
    training = DDPMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="sample")
    pairs = PairImageProcessor().preprocess(IMAGES, MASKS)
    pipeline = SynthSetPipeline(EmpiricalDenoiser.build(training, pairs, **config), training)
    pipeline.scheduler = make_scheduler(scheduler, training.config, steps)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def seeded(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_draws_the_mask_of_an_image():
    output = build()(images=IMAGES, num_inference_steps=20, output_type="np", generator=seeded(1, 2, 3))
    np.testing.assert_array_equal(output.masks, MASKS)
    np.testing.assert_array_equal((output.images * 255).round(), IMAGES)
    np.testing.assert_array_equal(output.votes.mask, MASKS[..., 0])
    np.testing.assert_array_equal(output.votes.disagreement, 0)


def test_draws_every_image_of_a_mask():
    masks = Image.fromarray(MASKS[0, ..., 0] * 255)
    output = build()(masks=masks, num_draws=20, num_inference_steps=20, generator=seeded(*range(20)))
    assert output.votes is None
    assert all(np.array_equal(mask, masks) for mask in output.masks)
    found = [
        next(i for i in range(3) if np.abs(np.asarray(image) - IMAGES[i].astype(int)).max() < 20)
        for image in output.images
    ]
    assert 4 <= found.count(0) <= 16 and found.count(0) + found.count(1) == 20


def test_votes_count_draws():
    """Of an image that two pairs share, whose masks differ."""
    pipeline = build()
    pairs = pipeline.unet.pairs.data
    pairs[2, :3] = pairs[0, :3]
    votes = pipeline(images=IMAGES[:1], num_draws=16, num_inference_steps=20, generator=seeded(*range(16))).votes
    differing = MASKS[0, ..., 0] != MASKS[2, ..., 0]
    share = votes.probability[0][differing & (MASKS[2, ..., 0] == 1)]
    assert 0.2 < share.min() == share.max() < 0.8
    k = round(16 * share[0])
    assert votes.disagreement[0][differing] == pytest.approx(k * (16 - k) / (16 * 15 / 2))
    assert not votes.disagreement[0][~differing].any()


def test_a_draw_depends_on_its_own_generator_and_image():
    pipeline = build(steps=4)
    together = pipeline(masks=MASKS, num_draws=2, num_inference_steps=4, generator=seeded(*range(6)), output_type="pt")
    alone = pipeline(masks=MASKS[2:], num_inference_steps=4, generator=seeded(5), output_type="pt")
    assert torch.equal(together.images[5:], alone.images)


@pytest.mark.parametrize("mask_timestep", [True, False])
def test_completes_what_is_known_of_images_with_any_network(mask_timestep):
    """It recalls the rest; without corrections in 20 of 30 draws, since what begins at random persists beside it."""
    known = np.zeros((30, SIDE, SIDE, 1), np.uint8)
    known[:, :, : SIDE // 2] = 1
    pipeline, images = build(steps=50, scheduler="ddpm", mask_timestep=mask_timestep), IMAGES.repeat(10, axis=0)
    arguments = {"images": images * known + 7 * (1 - known), "known": known, "num_inference_steps": 50}
    output = pipeline(**arguments, output_type="np", generator=seeded(*range(30)))
    drawn = (output.images * 255).round()
    np.testing.assert_array_equal(drawn * known, images * known)
    right = [np.abs(one - other).max() < 20 for one, other in zip(drawn, images.astype(int), strict=True)]
    assert sum(right) >= 27
    np.testing.assert_array_equal(output.masks[right], MASKS.repeat(10, axis=0)[right])


def test_guidance_by_what_is_not_known_moves_the_mask():
    """Away from the masks of all images, to no effect where the network is sure."""
    pipeline = build()
    output = pipeline(
        images=IMAGES, guidance_scale=3.0, num_inference_steps=20, output_type="np", generator=seeded(1, 2, 3)
    )
    np.testing.assert_array_equal(output.masks, MASKS)
    pipeline.unet.pairs.data[2, :3] = pipeline.unet.pairs.data[0, :3]
    with torch.no_grad():
        plain, guided = (
            pipeline(images=IMAGES[:1], guidance_scale=scale, num_inference_steps=1, output_type="np").votes
            for scale in (1.0, 4.0)
        )
    assert plain.mask.shape == guided.mask.shape == (1, SIDE, SIDE)


def test_windows_cover_larger_pictures_without_seams():
    scheduler = DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    unet = GaussianDenoiser.build(scheduler, torch.full((4, 1, 1), 0.3), std=0.1)
    unet.register_to_config(sample_size=SIDE)
    pipeline = SynthSetPipeline(unet, scheduler)
    size = {"height": 21, "width": 13, "num_inference_steps": 10, "output_type": "pt"}
    whole = pipeline(**size, generator=torch.Generator().manual_seed(0))
    parts = pipeline(**size, generator=torch.Generator().manual_seed(0), window_size=SIDE)
    torch.testing.assert_close(parts.images, whole.images, rtol=0, atol=1e-5)


def test_windows_of_given_images():
    images = np.concatenate([IMAGES[0], IMAGES[2]], axis=1)[None]
    masks = np.concatenate([MASKS[0], MASKS[2]], axis=1)[None]
    pipeline = build()
    pairs = pipeline.image_processor.preprocess(images, masks)
    pipeline.unet.pairs = torch.nn.Parameter(torch.cat([pairs[..., i : i + SIDE] for i in range(SIDE + 1)]))
    output = pipeline(images=images, window_size=SIDE, num_inference_steps=20, output_type="np", generator=seeded(0))
    np.testing.assert_array_equal(output.masks, masks)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"images": IMAGES, "masks": MASKS}, "both given, which leaves nothing to draw"),
        ({"known": MASKS}, "known is given without images or masks"),
        ({"images": IMAGES, "known": MASKS[:2]}, r"known are 2 of 8 x 8 pixels, but images 3 of 8 x 8"),
        ({"images": IMAGES, "masks": MASKS[:, 1:], "known": MASKS}, r"masks are 3 of 8 x 7 pixels, but images 3"),
        ({"masks": MASKS * 2 + 1}, "masks hold the values 1, 3; give 0"),
        ({"images": IMAGES, "batch_size": 2}, "batch_size is 2, but images, masks and num_draws make 3"),
        ({"images": IMAGES, "num_draws": 0}, "num_draws is 0; give 1 or more"),
        ({"num_draws": 2}, "num_draws is 2, but there are neither"),
        (
            {"images": IMAGES[:, 1:]},
            "height is 7 and width 8; give multiples of 4, the network's stride, or window_size",
        ),
        ({"images": IMAGES, "height": 16}, "height is 16 and width 8, but what is given has 8 and 8"),
        ({"images": IMAGES, "window_size": 12}, "height is 8 and width 8, below the window_size 12"),
        ({"images": IMAGES, "window_size": 6}, "window_size is 6; give a multiple of 4"),
        ({"guidance_scale": 2.0}, "there is no guidance_unet, and neither images nor masks are given"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        build()(num_inference_steps=2, **arguments)


def test_refuses_a_part_of_a_network_that_draws_pairs_alone():
    pipeline = build(mask_timestep=False)
    with pytest.raises(ValueError, match="trained to draw pairs alone; train with synthset train --joint_share 0.7"):
        pipeline(images=IMAGES)


def test_the_real_network_draws_in_every_direction():
    unet = PairedUNet2DModel(16, block_out_channels=[8, 16], layers_per_block=1, mask_timestep=True)
    pipeline = SynthSetPipeline(unet, DDPMScheduler())
    images = [Image.new("RGB", (24, 16)), Image.new("RGB", (24, 16), "green")]
    output = pipeline(images=images, num_draws=2, num_inference_steps=2, guidance_scale=2.0, window_size=16)
    assert len(output.masks) == 4 and output.masks[0].size == (24, 16) and output.votes.mask.shape == (2, 16, 24)
    assert [image.getpixel((0, 0)) for image in output.images] == [(0, 0, 0)] * 2 + [(0, 128, 0)] * 2
