"""PairedDiscriminator2DModel: what it must do beyond what its blocks, tested with the U-Net, do."""

import pytest
import torch
from testing_utils.models import assert_compiles, output_of, randomized
from testing_utils.runs import same
from torch import nn

from synthset import PairedDiscriminator2DModel

with_and_without_spectral_norm = pytest.mark.parametrize("spectral_norm", [False, True])


def build(**config) -> PairedDiscriminator2DModel:
    torch.manual_seed(0)
    config = {"block_out_channels": (8, 16), "norm_num_groups": 4} | config
    return randomized(PairedDiscriminator2DModel(sample_size=8, **config)).eval()


def inputs(channels: int = 4, size: tuple[int, int] = (8, 12)) -> tuple:
    sample = torch.randn(2, channels, *size, generator=torch.Generator().manual_seed(1))
    return sample, torch.tensor([10, 900])


@pytest.mark.parametrize(
    ("config", "size"),
    [
        ({}, (8, 8)),
        ({"block_out_channels": (8, 16, 8), "layers_per_block": 2}, (5, 7)),
        ({"block_out_channels": (8,)}, (1, 3)),
        ({"image_channels": 5, "mask_channels": 2, "spectral_norm": True}, (2, 6)),
        ({"patch_size": 2}, (6, 10)),
    ],
    ids=str,
)
def test_one_logit_for_a_pair_of_any_size(config, size):
    model = build(**config)
    logits = model(*inputs(config.get("image_channels", 3) + config.get("mask_channels", 1), size)).logits
    assert logits.shape == (2,) and logits.isfinite().all()


@with_and_without_spectral_norm
def test_every_parameter_has_a_gradient(spectral_norm):
    """DistributedDataParallel waits for all; and none is zero, beyond rounding errors."""
    model = build(spectral_norm=spectral_norm).train()
    (model(*inputs()).logits * torch.tensor([1.0, 2.0])).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.abs().max() > 1e-5, name


def test_image_mask_and_timestep_count_and_pairs_do_not_mix():
    model = build()
    sample, timestep = inputs()
    logits = model(sample, timestep).logits
    torch.testing.assert_close(model(sample[1:], 900).logits, logits[1:])
    assert (model(sample, timestep - 5).logits - logits).abs().min() > 1e-3
    for part in (slice(0, 3), slice(3, 4)):
        other = sample.clone()
        other[0, part] += torch.randn(8, 12, generator=torch.Generator().manual_seed(2))
        change = (model(other, timestep).logits - logits).abs()
        assert change[0] > 1e-3 and change[1] < 1e-6


@with_and_without_spectral_norm
def test_saves_and_loads(spectral_norm, tmp_path):
    """With the vectors that spectral normalization iterates on."""
    model = build(spectral_norm=spectral_norm).train()
    output_of(model, inputs())  # moves the vectors
    model.save_pretrained(tmp_path)
    loaded = PairedDiscriminator2DModel.from_pretrained(tmp_path)
    assert same(loaded.state_dict(), model.state_dict())
    torch.testing.assert_close(output_of(loaded, inputs()), output_of(model.eval(), inputs()))


def test_spectral_norm_bounds_every_layer():
    model = build(spectral_norm=True).train()
    for _ in range(200):
        with torch.no_grad():
            model(*inputs())
    layers = [module for module in model.eval().modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    assert len(layers) == 2 + 1 + 2 * 3 + 1 + 1 + 1  # time, in, two blocks with time, one shortcut, down, out
    for layer in layers:
        largest = torch.linalg.matrix_norm(layer.weight.flatten(1), 2)
        torch.testing.assert_close(largest, torch.tensor(1.0), rtol=0.02, atol=0, msg=str(layer))


@with_and_without_spectral_norm
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiles(spectral_norm, backend):
    assert_compiles(build(spectral_norm=spectral_norm), inputs(), backend=backend)


@with_and_without_spectral_norm
def test_channels_last(spectral_norm):
    model = build(spectral_norm=spectral_norm)
    sample, timestep = inputs()
    expected = model(sample, timestep).logits
    logits = model.to(memory_format=torch.channels_last)(sample.to(memory_format=torch.channels_last), timestep).logits
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


@with_and_without_spectral_norm
def test_half_precision_is_near(spectral_norm):
    model = build(spectral_norm=spectral_norm)
    sample, timestep = inputs()
    expected = model(sample, timestep).logits
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(model(sample, timestep).logits.float(), expected, rtol=0.03, atol=0.03)
    half = model.bfloat16()(sample.bfloat16(), timestep).logits
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), expected, rtol=0.03, atol=0.03)


def test_bad_configuration():
    with pytest.raises(ValueError, match=r"`norm_num_groups` must divide .* 8 does not divide all of \[32, 36\]"):
        PairedDiscriminator2DModel(block_out_channels=(32, 36))
