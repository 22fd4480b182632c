import json
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from PIL import Image
from testing_utils.models import (
    assert_checkpointing_keeps_gradients,
    assert_compiles,
    assert_every_parameter_has_a_gradient,
    assert_saves_and_loads,
    output_of,
    randomized,
)

from synthset.models import PairedUNet2DModel
from synthset.registry import SKIP_FUSIONS, VARIANTS

every_variant = pytest.mark.parametrize("variant", VARIANTS)
every_fusion = pytest.mark.parametrize("skip_fusion", SKIP_FUSIONS)
with_and_without_condition = pytest.mark.parametrize("condition_channels", [0, 4])


def build(variant: str, **config) -> PairedUNet2DModel:
    torch.manual_seed(0)
    config = {
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "attention_head_dim": 8,
    } | config
    return randomized(PairedUNet2DModel(sample_size=8, variant=variant, **config))


def inputs(channels: int = 4, size: tuple[int, int] = (8, 12), condition_channels: int = 0) -> tuple:
    generator = torch.Generator().manual_seed(1)
    sample = torch.randn(2, channels, *size, generator=generator)
    condition = torch.randn(2, condition_channels, 5, 6, generator=generator) if condition_channels else None
    return sample, torch.tensor([10, 900]), condition


@every_variant
@every_fusion
@pytest.mark.parametrize(
    ("config", "size"),
    [
        ({}, (8, 8)),
        ({"block_out_channels": (8, 16, 8)}, (4, 12)),
        ({"block_out_channels": (8,)}, (3, 5)),
        ({"image_channels": 5, "mask_channels": 2, "layers_per_block": 2}, (2, 6)),
        ({"image_channels": 1, "condition_channels": 3}, (6, 4)),
        ({"condition_channels": 2}, (6, 4)),
        ({"patch_size": 2, "condition_channels": 2}, (8, 12)),
        ({"block_out_channels": (8, 16, 8), "attention_levels": (0, 2)}, (4, 12)),
    ],
    ids=str,
)
def test_output_has_the_shape_of_the_sample(variant, skip_fusion, config, size):
    model = build(variant, skip_fusion=skip_fusion, **config)
    channels = config.get("image_channels", 3) + config.get("mask_channels", 1)
    sample, timestep, condition = inputs(channels, size, config.get("condition_channels", 0))
    output = model(sample, timestep, condition).sample
    assert output.shape == sample.shape
    assert output.isfinite().all()


@every_variant
@every_fusion
@with_and_without_condition
def test_every_parameter_has_a_gradient(variant, skip_fusion, condition_channels):
    model = build(variant, skip_fusion=skip_fusion, condition_channels=condition_channels)
    assert_every_parameter_has_a_gradient(model, inputs(condition_channels=condition_channels))


@every_variant
def test_every_parameter_has_a_gradient_at_the_start_of_training(variant):
    """Also with the published widths, where 32 groups of one channel would take the time embedding out again."""
    model = PairedUNet2DModel(variant=variant, block_out_channels=(32, 64))
    assert_every_parameter_has_a_gradient(model, inputs(size=(16, 16)))


@every_variant
def test_attention_at_a_level_comes_after_its_down_and_up_block_of_each_branch(variant):
    """A network whose attentions there give 0 is that without them; all of them take part."""
    plain, attentive = build(variant), build(variant, attention_levels=(0,))
    assert [len(list(level.parameters())) > 0 for level in attentive.down_attentions] == [True, False]
    assert [len(list(level.parameters())) > 0 for level in attentive.up_attentions] == [False, True]
    missing = attentive.load_state_dict(plain.state_dict(), strict=False).missing_keys
    attentions = VARIANTS[variant].encoders + VARIANTS[variant].streams
    assert len(missing) == len(set(missing)) == 7 * attentions  # q, k, v, and norm and output with biases
    assert {name.split(".")[0] for name in missing} == {"down_attentions", "up_attentions"}
    assert_every_parameter_has_a_gradient(attentive, inputs())
    for attention in [*attentive.down_attentions[0], *attentive.up_attentions[1]]:
        torch.nn.init.zeros_(attention.to_out[0].weight)
        torch.nn.init.zeros_(attention.to_out[0].bias)
    torch.testing.assert_close(output_of(attentive, inputs()), output_of(plain, inputs()), rtol=1e-4, atol=1e-5)


@every_variant
@with_and_without_condition
def test_gradient_checkpointing(variant, condition_channels):
    model = build(variant, condition_channels=condition_channels)
    assert_checkpointing_keeps_gradients(model, inputs(condition_channels=condition_channels))


@every_variant
def test_compiles(variant):
    model = build(variant, condition_channels=4, attention_levels=(0,))
    assert_compiles(model, inputs(condition_channels=4), backend="eager")


@pytest.mark.slow
def test_compiles_with_inductor():
    model = build("shared_encoder", condition_channels=4)
    assert_compiles(model, inputs(condition_channels=4), backend="inductor")


@every_variant
@every_fusion
@with_and_without_condition
def test_half_precision_is_near(variant, skip_fusion, condition_channels):
    model = build(variant, skip_fusion=skip_fusion, condition_channels=condition_channels)
    sample, timestep, condition = inputs(condition_channels=condition_channels)
    expected = model(sample, timestep, condition).sample
    with torch.autocast("cpu", torch.bfloat16):
        autocast = model(sample, timestep, condition).sample
    condition = condition if condition is None else condition.bfloat16()
    half = model.bfloat16()(sample.bfloat16(), timestep, condition).sample
    assert half.dtype == torch.bfloat16
    for output in (autocast, half):
        assert (output - expected).square().mean() < 1e-3 * expected.square().mean()


@every_variant
@every_fusion
def test_channels_last(variant, skip_fusion):
    model = build(variant, skip_fusion=skip_fusion)
    sample, timestep, _ = inputs()
    expected = model(sample, timestep).sample
    output = model.to(memory_format=torch.channels_last)(sample.to(memory_format=torch.channels_last), timestep).sample
    torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-4)


@every_variant
@with_and_without_condition
def test_saves_and_loads(variant, condition_channels, tmp_path):
    model = build(variant, condition_channels=condition_channels)
    assert_saves_and_loads(model, inputs(condition_channels=condition_channels), tmp_path)


SAVED_MODULES = {
    "two_encoder": "time_embedding noise_level_embedding conv_in.0 conv_in.1 down_blocks.0.0 down_blocks.0.1 "
    "down_blocks.1.0 down_blocks.1.1 downsamplers.0.0 downsamplers.0.1 mid_in_blocks.0 mid_in_blocks.1 "
    "self_attentions.0 self_attentions.1 cross_attentions.0 cross_attentions.1 mid_out_blocks.0 mid_out_blocks.1 "
    "up_blocks.0.0 up_blocks.0.1 up_blocks.1.0 up_blocks.1.1 upsamplers.0.0 upsamplers.0.1 fusion_out.0 fusion_out.1 "
    "conv_out.0.0 conv_out.0.2 conv_out.1.0 conv_out.1.2 input_gate",
    "shared_encoder": "time_embedding noise_level_embedding conv_in.0 conv_in.1 down_blocks.0.0 down_blocks.1.0 "
    "downsamplers.0.0 mid_in_blocks.0 self_attentions.0 cross_attentions.0 mid_out_blocks.0 "
    "up_blocks.0.0 up_blocks.0.1 up_blocks.1.0 up_blocks.1.1 upsamplers.0.0 upsamplers.0.1 fusion_out.0 fusion_out.1 "
    "conv_out.0.0 conv_out.0.2 conv_out.1.0 conv_out.1.2 input_gate",
    "concat": "time_embedding noise_level_embedding conv_in.0 down_blocks.0.0 down_blocks.1.0 downsamplers.0.0 "
    "mid_in_blocks.0 self_attentions.0 mid_out_blocks.0 up_blocks.0.0 up_blocks.1.0 upsamplers.0.0 "
    "conv_out.0.0 conv_out.0.2 input_gate",
}
SAVED_BLOCK = (
    "fusion.b fusion.s resnets.0.norm1.weight resnets.0.norm1.bias resnets.0.conv1.weight resnets.0.conv1.bias "
    "resnets.0.time_emb_proj.weight resnets.0.time_emb_proj.bias resnets.0.norm2.weight resnets.0.norm2.bias "
    "resnets.0.conv2.weight resnets.0.conv2.bias resnets.0.conv_shortcut.weight resnets.0.conv_shortcut.bias"
)


@every_variant
def test_weights_and_optimizer_states_of_version_0_1_load(variant):
    """Weights are loaded by name, an optimizer's state by the order of the parameters."""
    model = build(variant, condition_channels=4, condition_noise=True, input_skip=True)
    names = [name for name, _ in model.named_parameters()]
    modules = dict.fromkeys(re.match(r"[a-z_]+(\.\d+)*", name)[0] for name in names)
    assert " ".join(modules) == SAVED_MODULES[variant]
    block = [name.removeprefix("up_blocks.0.0.") for name in names if name.startswith("up_blocks.0.0.")]
    assert " ".join(block) == SAVED_BLOCK
    saved = {name: torch.full_like(value, 0.5) for name, value in model.state_dict().items()}
    assert list(saved) == names
    model.load_state_dict(saved)
    assert all((parameter == 0.5).all() for parameter in model.parameters())


@pytest.mark.parametrize(("variant", "layers"), [("two_encoder", 4), ("shared_encoder", 2), ("concat", 1)])
def test_attention_processors(variant, layers):
    """Self-attention per encoder, cross-attention where there are two branches; xformers comes in the same way."""
    model = build(variant)
    assert len(model.attn_processors) == layers
    model.set_attn_processor(AttnProcessor2_0())
    expected = output_of(model, inputs())
    model.set_attn_processor(AttnProcessor())
    torch.testing.assert_close(output_of(model, inputs()), expected, rtol=1e-4, atol=1e-4)


@every_variant
@every_fusion
def test_image_and_mask_hear_of_each_other(variant, skip_fusion):
    model = build(variant, skip_fusion=skip_fusion)
    sample, timestep, _ = inputs()
    other_image, other_mask = sample.clone(), sample.clone()
    other_image[:, :3] += 1
    other_mask[:, 3:] += 1
    output = model(sample, timestep).sample
    assert (model(other_mask, timestep).sample - output)[:, :3].abs().max() > 1e-3
    assert (model(other_image, timestep).sample - output)[:, 3:].abs().max() > 1e-3


@pytest.mark.parametrize("variant", ["two_encoder", "shared_encoder"])
def test_cross_attention_attends_to_the_other_branch(variant):
    """Without links, which zero-initialized convolutions close, only cross-attention leads from mask to image."""
    model = PairedUNet2DModel(variant=variant, skip_fusion="zero_conv", block_out_channels=(8, 16), norm_num_groups=4)
    sample, timestep, _ = inputs()
    other_mask = sample.clone()
    other_mask[:, 3:] += torch.randn(2, 1, 8, 12, generator=torch.Generator().manual_seed(2))

    def change_of_image() -> float:
        return (model(other_mask, timestep).sample - model(sample, timestep).sample)[:, :3].abs().max().item()

    assert change_of_image() > 1e-4
    for attention in model.cross_attentions:
        torch.nn.init.zeros_(attention.to_out[0].weight)
    assert change_of_image() == 0


@every_variant
def test_patches_are_pixels_of_more_channels(variant):
    """A model with patches is the one without on unshuffled branches; the condition is resized to the patches' grid."""
    patched = build(variant, patch_size=2, condition_channels=4)
    plain = build(variant, image_channels=3 * 4, mask_channels=4, condition_channels=4)
    plain.register_to_config(image_channels=3)  # of the condition, which has no patches
    plain.load_state_dict(patched.state_dict())
    sample, timestep, condition = inputs(size=(8, 12), condition_channels=4)
    unshuffled = torch.cat([F.pixel_unshuffle(part, 2) for part in sample.split([3, 1], dim=1)], dim=1)
    image, mask = plain(unshuffled, timestep, condition).sample.split([3 * 4, 4], dim=1)
    expected = torch.cat([F.pixel_shuffle(image, 2), F.pixel_shuffle(mask, 2)], dim=1)
    torch.testing.assert_close(patched(sample, timestep, condition).sample, expected)


@every_variant
@with_and_without_condition
def test_input_skip_adds_what_comes_in_by_channel_and_timestep(variant, condition_channels):
    config = {"condition_channels": condition_channels}
    skipping, plain = build(variant, input_skip=True, **config), build(variant, **config)
    plain.load_state_dict({name: value for name, value in skipping.state_dict().items() if "input_gate" not in name})
    sample, timestep, condition = inputs(condition_channels=condition_channels)
    added = skipping(sample, timestep, condition).sample - plain(sample, timestep, condition).sample
    incoming = [sample]
    if condition_channels:
        incoming.append(skipping._resize_condition(condition, sample.shape[-2:]))
    # the factors that explain what is added, for each pair and channel: (2, 4, 1 or 2, 1)
    basis = torch.stack(incoming, dim=-1).flatten(2, 3)
    gates = torch.linalg.lstsq(basis, added.flatten(2)[..., None]).solution
    torch.testing.assert_close((basis @ gates).squeeze(-1), added.flatten(2), rtol=1e-3, atol=1e-4)
    assert (gates[0] - gates[1]).abs().min() > 1e-3 and gates.diff(dim=1).abs().min() > 1e-3
    assert_every_parameter_has_a_gradient(skipping, inputs(condition_channels=condition_channels))


@every_variant
def test_input_skip_adds_nothing_at_the_start_of_training(variant):
    outputs = []
    for input_skip in (False, True):
        torch.manual_seed(0)
        model = PairedUNet2DModel(variant=variant, block_out_channels=(32, 64), input_skip=input_skip)
        outputs.append(output_of(model, inputs()))
    assert torch.equal(*outputs)
    assert_every_parameter_has_a_gradient(model, inputs(size=(16, 16)))


@every_variant
def test_pairs_of_a_batch_do_not_mix(variant):
    model = build(variant, condition_channels=4)
    sample, timestep, condition = inputs(condition_channels=4)
    together = model(sample, timestep, condition).sample
    alone = model(sample[1:], timestep[1:], condition[1:]).sample
    torch.testing.assert_close(together[1:], alone, rtol=1e-4, atol=1e-4)


@every_variant
def test_timestep_as_a_number_or_a_tensor(variant):
    model = build(variant)
    sample = inputs()[0]
    expected = model(sample, torch.tensor([700, 700])).sample
    for timestep in (700, 700.0, torch.tensor(700), torch.tensor([700]), torch.tensor([700.0, 700.0])):
        torch.testing.assert_close(model(sample, timestep).sample, expected)
    assert (model(sample, 699.5).sample - expected).abs().max() > 1e-5


@every_variant
def test_image_and_mask_of_the_condition_reach_both_outputs(variant):
    model = build(variant, condition_channels=4)
    sample, timestep, condition = inputs(condition_channels=4)
    output = model(sample, timestep, condition).sample
    for part in (slice(0, 3), slice(3, 4)):
        other = condition.clone()
        other[:, part] += 1
        change = (model(sample, timestep, other).sample - output).abs()
        assert change[:, :3].max() > 1e-3
        assert change[:, 3:].max() > 1e-3


@every_variant
def test_every_parameter_has_a_gradient_with_noise_levels(variant):
    model = build(variant, condition_channels=4, condition_noise=True)
    assert_every_parameter_has_a_gradient(model, (*inputs(condition_channels=4), torch.tensor([0, 100])))


def test_noise_level_is_one_for_the_batch_or_each_pairs_own():
    model = build("concat", condition_channels=4, condition_noise=True)
    sample, timestep, condition = inputs(condition_channels=4)
    levels = model(sample, timestep, condition, torch.tensor([0, 100])).sample
    for pair, noise_level in enumerate((0, 100)):
        for level in (noise_level, torch.tensor(noise_level), torch.tensor([noise_level])):
            output = model(sample, timestep, condition, level).sample
            torch.testing.assert_close(output[pair], levels[pair], rtol=1e-4, atol=1e-5)
            assert (output[1 - pair] - levels[1 - pair]).abs().max() > 1e-3
    # An embedding of its own: exchanged with the timestep, it says something else.
    exchanged = model(sample, 100, condition, 900).sample
    assert (model(sample, 900, condition, 100).sample - exchanged).abs().max() > 1e-3


@pytest.mark.parametrize("scale_factor", [2, 4])
def test_every_level_sees_the_condition_at_its_size(scale_factor):
    """Image bilinear with antialiasing, as Pillow does it; the mask's nearest pixels, by hand; both as they are where
    sizes agree; going down and going up, for any number of channels."""
    model = build("concat", image_channels=2, block_out_channels=(8, 8, 8), condition_channels=3)
    seen = []
    for blocks in (*model.down_blocks, *model.up_blocks):
        blocks[0].register_forward_pre_hook(lambda module, args: seen.append(args[3][0].numpy()))
    height, width = 16, 24
    condition = torch.rand(1, 3, height // scale_factor, width // scale_factor)
    model(torch.zeros(1, 3, height, width), 0, condition)
    *image, mask = condition[0].numpy()
    masks = {
        2: [mask.repeat(2, 0).repeat(2, 1), mask, mask[1::2, 1::2]],
        4: [mask.repeat(4, 0).repeat(4, 1), mask.repeat(2, 0).repeat(2, 1), mask],
    }[scale_factor]
    for found, again, level in zip(seen[:3], seen[:2:-1], range(3), strict=True):
        size = (width >> level, height >> level)
        for channel, expected in zip(found[:2], image, strict=True):
            expected = np.asarray(Image.fromarray(expected).resize(size, Image.Resampling.BILINEAR))
            np.testing.assert_allclose(channel, expected, atol=1e-5)
        np.testing.assert_array_equal(found[2], masks[level])
        np.testing.assert_array_equal(again, found)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"condition_noise": True}, "`condition_noise` is True, but .* `condition_channels` is 0"),
        ({"variant": "three_encoder"}, "variant is 'three_encoder'; use one of two_encoder, shared_encoder, concat"),
        ({"input_skip": True, "condition_channels": 3}, "`input_skip` adds .* `condition_channels` is 3, not 4"),
        ({"skip_fusion": "sum"}, "skip_fusion is 'sum'; use one of scale_u, zero_conv, concat"),
        ({"block_out_channels": (32, 36)}, r"`norm_num_groups` must divide .* 8 does not divide all of \[32, 36\]"),
    ],
)
def test_bad_configuration(config, message):
    with pytest.raises(ValueError, match=message):
        PairedUNet2DModel(**config)


@pytest.mark.parametrize(
    ("size", "condition", "config", "message"),
    [
        ((8, 10), None, {}, "`sample` is 8 x 10 pixels.*stride, 4"),
        ((8, 12), None, {"patch_size": 2}, "`sample` is 8 x 12 pixels.*stride, 8"),
        ((8, 8), None, {"condition_channels": 4}, "`condition` is missing.*`condition_channels=4`"),
        ((8, 8), torch.zeros(1, 4, 4, 4), {}, "`condition` is given.*`condition_channels=0`"),
        ((8, 8), torch.zeros(1, 3, 4, 4), {"condition_channels": 4}, "`condition` has 3 .*`condition_channels=4`"),
    ],
)
def test_bad_input(size, condition, config, message):
    model = build("concat", block_out_channels=(8, 8, 8), **config)
    with pytest.raises(ValueError, match=message):
        model(torch.zeros(1, 4, *size), 0, condition)


@pytest.mark.parametrize(
    ("condition_noise", "noise_level", "message"),
    [
        (False, 0, "`noise_level` is given.*`condition_noise=False`"),
        (True, None, "`noise_level` is missing.*`condition_noise=True`"),
    ],
)
def test_noise_level_where_there_is_none(condition_noise, noise_level, message):
    model = build("concat", condition_channels=4, condition_noise=condition_noise)
    with pytest.raises(ValueError, match=message):
        model(*inputs(condition_channels=4), noise_level)


@every_variant
def test_without_augmentation_a_model_computes_as_one_that_is_not_told(variant, tmp_path):
    """Bit for bit, with zeros or nothing; at the start of training, whatever it is told."""
    plain, told = build(variant), build(variant, augment_dim=9)
    missing = told.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert missing == ["time_embedding.cond_proj.weight"]
    assert not PairedUNet2DModel(variant=variant, augment_dim=9).time_embedding.cond_proj.weight.any()
    sample, timestep, _ = inputs()
    augmentation = torch.randn(2, 9, generator=torch.Generator().manual_seed(3))
    expected = plain(sample, timestep).sample
    for nothing in (None, torch.zeros(2, 9)):
        assert torch.equal(told(sample, timestep, augmentation=nothing).sample, expected)
    changed = (told(sample, timestep, augmentation=augmentation).sample - expected).abs().amax(dim=(1, 2, 3))
    assert (changed > 1e-3).all()
    assert_every_parameter_has_a_gradient(told, (sample, timestep, None, None, augmentation))
    assert_saves_and_loads(told, (sample, timestep, None, None, augmentation), tmp_path)


def test_a_model_saved_before_there_was_augmentation_loads(tmp_path):
    model = build("concat")
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config.pop("augment_dim") == 0
    (tmp_path / "config.json").write_text(json.dumps(config))
    loaded = PairedUNet2DModel.from_pretrained(tmp_path)
    assert torch.equal(output_of(loaded, inputs()), output_of(model.eval(), inputs()))


@pytest.mark.parametrize(("augment_dim", "shape"), [(0, (2, 9)), (9, (2, 8)), (9, (1, 9)), (9, (9,))])
def test_an_augmentation_of_another_size_is_refused(augment_dim, shape):
    model = build("concat", augment_dim=augment_dim)
    with pytest.raises(ValueError, match=rf"`augmentation` is .*must be \(2, {augment_dim}\)"):
        model(*inputs()[:2], augmentation=torch.zeros(shape))


@every_variant
def test_with_equal_timesteps_a_model_computes_as_one_that_has_one(variant, tmp_path):
    """Bit for bit; before training the other branch's timestep does not matter."""
    config = {"input_skip": True, "condition_channels": 4}
    plain, told = build(variant, **config), build(variant, mask_timestep=True, **config)
    missing = told.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert missing and all(name.startswith("other_time_embedding.") for name in missing)
    sample, timestep, condition = inputs(condition_channels=4)
    expected = plain(sample, timestep, condition).sample
    for same in (None, timestep):
        assert torch.equal(told(sample, timestep, condition, mask_timestep=same).sample, expected)
    every = (sample, timestep, condition, None, None, torch.tensor([500, 0]))
    assert (output_of(told, every) - expected).abs().amax(dim=(2, 3)).min() > 1e-3
    assert_every_parameter_has_a_gradient(told, every)
    assert_saves_and_loads(told, every, tmp_path)
    fresh = PairedUNet2DModel(variant=variant, mask_timestep=True)
    assert not fresh.other_time_embedding.linear_2.weight.any() and fresh.other_time_embedding.linear_2.bias is None


@pytest.mark.parametrize("variant", ["two_encoder", "shared_encoder"])
def test_branches_take_their_own_timesteps(variant):
    """And each other's timesteps alike."""
    model = build(variant, mask_timestep=True)
    for parameter in model.other_time_embedding.parameters():
        torch.nn.init.zeros_(parameter)
    sample = inputs()[0]
    temb = model._embed_times(10, 900, sample, None)
    image, mask = (model._embed_times(t, None, sample, None)[0] for t in (10, 900))
    assert torch.equal(temb[0], image) and torch.equal(temb[1], mask)
    swapped = build(variant, mask_timestep=True)._embed_times(900, 10, sample, None)
    kept = build(variant, mask_timestep=True)._embed_times(10, 900, sample, None)
    assert torch.equal(swapped[0], kept[1]) and torch.equal(swapped[1], kept[0])


def test_mask_timestep_as_a_number_or_a_tensor():
    model, sample = build("two_encoder", mask_timestep=True), inputs()[0]
    expected = model(sample, 700, mask_timestep=torch.tensor([20, 20])).sample
    for timestep in (20, 20.0, torch.tensor(20), torch.tensor([20.0])):
        torch.testing.assert_close(model(sample, 700, mask_timestep=timestep).sample, expected)


def test_mask_timestep_where_there_is_none():
    with pytest.raises(ValueError, match="`mask_timestep` is given, but the model has `mask_timestep=False`"):
        build("concat")(*inputs()[:2], mask_timestep=0)
