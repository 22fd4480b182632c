"""What a run would cost, without running it."""

import torch
import yaml
from diffusers import ModelMixin
from torch.utils.flop_counter import FlopCounterMode


def estimate_costs(model: ModelMixin, batch_size: int, use_ema: bool, gradient_checkpointing: bool) -> dict[str, str]:
    """Parameters, FLOPs and memory of training `model` at its `sample_size`, computed on the meta device.

    Memory counts float32 weights, gradients, Adam's two moments, the moving average and the activations that autograd
    saves; a lower bound, since buffers of convolution algorithms come on top and mixed precision takes some away.
    """
    config = model.config
    meta = type(model).from_config(config)
    meta.to("meta")
    meta.train()
    if gradient_checkpointing:
        meta.enable_gradient_checkpointing()
    shape = (batch_size, config.image_channels + config.mask_channels, config.sample_size, config.sample_size)
    saved = {}

    def pack(tensor):
        saved[id(tensor.untyped_storage())] = tensor.numel() * tensor.element_size()
        return tensor

    parameters = sum(p.numel() for p in meta.parameters())
    sample, timesteps = torch.empty(shape, device="meta"), torch.zeros(batch_size, device="meta", dtype=torch.long)
    with (
        FlopCounterMode(display=False) as counter,
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
    ):
        output = meta(sample, timesteps).sample
        forward = counter.get_total_flops()
        output.sum().backward()
    weights = sum({p.data_ptr() or id(p): p.numel() * 4 for p in meta.parameters()}.values())
    activations = sum(saved.values()) - weights
    copies = 4 + use_ema
    return {
        "parameters": f"{parameters:,}",
        "forward pass": f"{forward / batch_size / 1e9:.2f} GFLOPs per pair",
        "training step": f"{counter.get_total_flops() / 1e9:.1f} GFLOPs for {batch_size} pairs",
        "memory, weights": f"{copies * weights / 2**20:.0f} MiB (weights, gradients, Adam{', EMA' if use_ema else ''})",
        "memory, activations": f"{activations / 2**20:.0f} MiB for {batch_size} pairs",
    }


def report(arguments: dict, costs: dict[str, str]) -> str:
    """The text of `--dry_run`: the resolved flags as YAML, ready to be saved as a recipe, then the costs."""
    lines = [f"# {name}: {value}" for name, value in costs.items()]
    return yaml.safe_dump(arguments, sort_keys=False) + "\n".join(lines)
