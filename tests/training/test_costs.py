"""The estimates of `--dry_run` against the real thing."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from synthset import PairedUNet2DModel
from synthset.training.costs import estimate_costs, plot_t_max
from synthset.training.timesteps import CurriculumTimesteps, UniformTimesteps


@pytest.fixture(scope="module")
def model():
    return PairedUNet2DModel(sample_size=32, block_out_channels=(16, 32), layers_per_block=1, attention_head_dim=8)


def test_flops_and_parameters_are_those_of_a_real_pass(model):
    costs = estimate_costs(model, batch_size=3)
    # PyTorch does not count what its fused attention for CPUs does, which some processors use
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        output = model(torch.randn(3, 4, 32, 32), 0).sample
        forward = counter.get_total_flops()
        output.sum().backward()
    assert costs["parameters"] == sum(p.numel() for p in model.parameters())
    assert costs["forward_flops"] == pytest.approx(forward / 3, rel=0.05)
    assert costs["step_flops"] == pytest.approx(counter.get_total_flops(), rel=0.05)
    assert costs["state_bytes"] == costs["parameters"] * 4 * 5


def test_the_condition_is_part_of_the_pass():
    """A pair of a lower resolution adds 4 input channels, 3 x 3 x 16 weights each, to the first block at 32 x 32."""
    config = {"sample_size": 32, "variant": "concat", "block_out_channels": (16,), "layers_per_block": 1}
    plain, sr = (PairedUNet2DModel(**config, **extra) for extra in ({}, {"condition_channels": 4}))
    difference = estimate_costs(sr, 2)["forward_flops"] - estimate_costs(plain, 2)["forward_flops"]
    # twice, in the down and in the up block, and in each in the shortcut as well; the down block gains its shortcut
    assert difference == pytest.approx(2 * 32**2 * 16 * (2 * 4 * 9 + 4 + 20))


def test_activations_grow_with_the_batch_and_checkpointing_keeps_few_of_them(model):
    one, four = (estimate_costs(model, batch_size)["activation_bytes"] for batch_size in (1, 4))
    assert one * 3.5 < four < one * 4.1
    # a level's output alone is 16 channels x 32 x 32 pixels x 4 bytes, and each block keeps several such tensors
    assert one > 20 * 16 * 32 * 32 * 4
    assert estimate_costs(model, 1, gradient_checkpointing=True)["activation_bytes"] < 0.7 * one


def test_plot_of_t_max():
    """Eight steps of four pairs in sixteen columns, two of each; every other step 3 more timesteps, up to 9."""
    timesteps = CurriculumTimesteps(9, sigma=3, alpha=8, initial=3, priority=0)
    plot = plot_t_max(timesteps, steps=8, pairs_per_step=4, width=16, height=3)
    assert plot.splitlines() == [
        "# t_max",
        "#     9 |        ########",
        "#     6 |    ############",
        "#     3 |################",
        "#       +----------------",
        "#        0              8 steps",
    ]


def test_plot_of_a_t_max_that_never_changes_and_of_no_step():
    rows = plot_t_max(UniformTimesteps(10), steps=0, pairs_per_step=4, width=4, height=2).splitlines()
    assert rows[1:3] == ["#    10 |####", "#     5 |####"]
