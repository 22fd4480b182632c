"""Optimizers and the moving average against what their papers say, and their states across a checkpoint."""

import math

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel

from synthset.arguments import TrainingArguments
from synthset.training.components import build_model
from synthset.training.ema import build_ema, power_function_gamma
from synthset.training.optimization import OUTER, build_lr_scheduler, build_optimizer

SMALL = {
    "dataset": "field",
    "output_dir": "run",
    "report_to": "none",
    "variant": "concat",
    "resolution": 8,
    "block_out_channels": [8, 16],
    "layers_per_block": 1,
    "attention_head_dim": 8,
    "max_train_steps": 20,
    "lr_warmup_steps": 0,
}


def build(**flags):
    args = TrainingArguments(**{**SMALL, **flags})
    accelerator, network = Accelerator(cpu=True), build_model(args)
    optimizer = build_optimizer(args, accelerator, network)
    return args, accelerator, network, optimizer


def learn(network, optimizer, lr_scheduler, steps):
    """The given steps, numbered from the beginning, each with a gradient of its own."""
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        pair = torch.randn(2, 4, 8, 8, generator=generator)
        network(pair, torch.tensor([3, 500])).sample.square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        lr_scheduler.step()


@pytest.mark.parametrize(
    "flags",
    [{"optimizer": "muon", "muon_learning_rate": 2e-3}, {"optimizer": "soap"}, {"dropout": 0.3}],
    ids=str,
)
def test_a_restored_optimizer_goes_on_to_the_bit(flags, tmp_path):
    """SOAP's bases change in its eleventh step: after the checkpoint. Dropout draws from the saved generator."""
    ends = []
    for start in (0, 6):
        args, accelerator, network, optimizer = build(**flags)
        lr_scheduler = build_lr_scheduler(args, optimizer)
        network, optimizer, lr_scheduler = accelerator.prepare(network, optimizer, lr_scheduler)
        network.train()
        if start:
            accelerator.load_state(tmp_path)
        else:
            learn(network, optimizer, lr_scheduler, range(6))
            accelerator.save_state(tmp_path)
        learn(network, optimizer, lr_scheduler, range(6, 13))
        ends.append({name: value.clone() for name, value in network.state_dict().items()})
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    assert all(value.isfinite().all() for value in ends[0].values())


def test_muon_gets_the_matrices_of_hidden_layers():
    args, _, network, optimizer = build(optimizer="muon", muon_learning_rate=4e-3)
    adam, muon = optimizer.param_groups
    assert (adam["lr"], muon["lr"], adam["use_muon"], muon["use_muon"]) == (args.learning_rate, 4e-3, False, True)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    outer = {names[id(p)] for p in adam["params"] if p.ndim >= 2}
    assert outer and {name.split(".")[0] for name in outer} <= set(OUTER)
    hidden = {names[id(p)] for p in muon["params"]}
    assert {"down_blocks.0.0.resnets.0.conv1.weight", "self_attentions.0.to_q.weight"} <= hidden
    assert len(hidden) + len(adam["params"]) == len(names)


def test_an_update_of_muon_is_orthogonal_and_of_the_size_of_adams():
    """The first update is that of the gradient's polar factor U V' as a matrix (out, in * 9), whose entries have the
    root mean square max(out, in * 9) ** -0.5, times 0.2 max(out, in * 9) ** 0.5. Five Newton-Schulz steps are within
    0.7 to 1.2 of it in every singular value."""
    _, _, network, optimizer = build(optimizer="muon", learning_rate=0.5)
    weight = network.down_blocks[1][0].resnets[0].conv1.weight
    assert weight.ndim == 4
    before, weight.grad = weight.detach().clone(), torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    gradient = weight.grad.clone().flatten(1)
    optimizer.step()
    update = (before - weight.detach()).flatten(1) / (0.5 * 0.2 * max(gradient.shape) ** 0.5)
    u, _, v = torch.linalg.svd(gradient, full_matrices=False)
    inner = u.T @ update @ v.T
    diagonal = inner.diagonal()
    assert (diagonal > 0.6).all() and (diagonal < 1.25).all()
    torch.testing.assert_close(inner, diagonal.diag(), atol=1e-4, rtol=0)  # float32 on a processor


@pytest.mark.parametrize("std, gamma", [(0.05, 16.97), (0.10, 6.94), (12**-0.5, 0.0)])
def test_power_function_is_the_papers(std, gamma):
    """gamma of section 3.1; a uniform average, of gamma 0, has the standard deviation 12 ** -0.5."""
    assert power_function_gamma(std) == pytest.approx(gamma, abs=0.005)


@pytest.mark.parametrize("std", [0.05, 0.15])
def test_the_average_has_the_width_asked_for(std):
    """The weights after step t are t / steps: the average of 1, t and t^2 has the standard deviation asked for."""
    args = TrainingArguments(**{**SMALL, "ema_std": std})
    weights, steps = torch.nn.Parameter(torch.zeros(2)), 600
    network = torch.nn.Module()
    network.weights = weights
    ema = build_ema(args, Accelerator(cpu=True), network)
    assert isinstance(ema, EMAModel)
    for step in range(1, steps + 1):
        weights.data = torch.tensor([step / steps, (step / steps) ** 2])
        ema.step([weights])
    mean, square = np.float64(ema.shadow_params[0])
    assert math.sqrt(square - mean**2) == pytest.approx(std, rel=0.03)
