"""Cost estimates of a run, without running it."""

import shutil
from dataclasses import asdict
from pathlib import Path

import torch
import yaml
from diffusers import ModelMixin
from torch.utils.flop_counter import FlopCounterMode

from .arguments import TrainingArguments
from .plan import JOBS
from .timesteps import UniformTimesteps


def estimate_costs(
    model: ModelMixin, batch_size: int, use_ema: bool = True, gradient_checkpointing: bool = False
) -> dict[str, float]:
    """Parameters, FLOPs and memory of one training step of a model at its `sample_size`, from a run on the meta device.

    Memory counts float32 weights, gradients, Adam's two moments and the moving average, and the activations that
    autograd keeps: a lower bound for float32 training, since convolution workspaces come on top.

    Args:
        model: with the config entries `sample_size` (int), `image_channels` and `mask_channels`.
        batch_size: pairs in a forward pass.
        use_ema: count the moving average.
        gradient_checkpointing: keep the blocks' inputs only.

    Returns:
        `parameters`; `forward_flops` per pair; `step_flops` per forward and backward pass of the batch;
        `state_bytes` and `activation_bytes`.
    """
    config = model.config
    condition = {}
    if config.condition_channels:  # of any size: it is resized to each level
        condition["condition"] = torch.empty(batch_size, config.condition_channels, 2, 2, device="meta")
    if config.condition_noise:
        condition["noise_level"] = torch.zeros(batch_size, dtype=torch.long, device="meta")
    meta = type(model).from_config(config).to("meta")
    if gradient_checkpointing:
        meta.enable_gradient_checkpointing()
    channels = config.image_channels + config.mask_channels
    sample = torch.empty(batch_size, channels, config.sample_size, config.sample_size, device="meta")
    timesteps = torch.zeros(batch_size, dtype=torch.long, device="meta")
    weights = {p.untyped_storage()._cdata for p in meta.parameters()}
    kept = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage.nbytes()
        return tensor

    with FlopCounterMode(display=False) as counter, torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        output = meta(sample, timesteps, **condition).sample
        forward_flops, activation_bytes = counter.get_total_flops(), sum(kept.values())
        output.sum().backward()
    parameters = sum(p.numel() for p in meta.parameters())
    return {
        "parameters": parameters,
        "forward_flops": forward_flops / batch_size,
        "step_flops": counter.get_total_flops(),
        "state_bytes": parameters * 4 * (5 if use_ema else 4),
        "activation_bytes": activation_bytes,
    }


def estimate_disk(
    args: TrainingArguments, model: ModelMixin, measures: int, discriminator: ModelMixin | None = None
) -> dict[str, int]:
    """The most that a run's folder holds at any time, but for its log and previews, which are small.

    Args:
        args: the flags.
        model: the network.
        measures: by how many the best weights are kept.
        discriminator: saved in checkpoints beside the network.

    Returns:
        `checkpoints`, the limit and the one that is being written, or what the run makes if that is less, of
        `checkpoint_bytes`: weights, Adam's two moments and the moving average, in float32. `pipelines`, of
        `pipeline_bytes`: the best ones, the finished one, and a copy while it is pushed. `bytes` in all.
    """
    networks = [model] if discriminator is None else [model, discriminator]
    saved = [sum(tensor.nbytes for tensor in network.state_dict().values()) for network in networks]
    moments = 2 * sum(parameter.nbytes for network in networks for parameter in network.parameters())
    checkpoint_bytes = sum(saved) + moments + (saved[0] if args.use_ema else 0)
    checkpoints = JOBS
    if args.max_train_steps is not None and args.checkpointing_steps is not None:
        checkpoints = -(-args.max_train_steps // args.checkpointing_steps)
    if args.checkpoints_total_limit is not None:
        checkpoints = min(checkpoints, args.checkpoints_total_limit + 1)
    pipelines = measures + 1 + (args.push_to_hub and args.hub_strategy == "checkpoint")
    return {
        "checkpoints": checkpoints,
        "checkpoint_bytes": checkpoint_bytes,
        "pipelines": pipelines,
        "pipeline_bytes": saved[0],
        "bytes": checkpoints * checkpoint_bytes + pipelines * saved[0],
    }


def report(
    args: TrainingArguments, model: ModelMixin, measures: int = 1, discriminator: ModelMixin | None = None
) -> str:
    """The text of `--dry_run`: the resolved flags as YAML, ready to be saved as a recipe, and the costs as comments.
    The arguments are those of `estimate_disk`."""
    disk = estimate_disk(args, model, measures, discriminator)
    there = next(folder for folder in Path(args.output_dir).absolute().parents if folder.exists())
    costs = estimate_costs(model, args.batch_size, args.use_ema, args.gradient_checkpointing)
    return f"""{yaml.safe_dump(asdict(args), sort_keys=False)}
# parameters: {costs["parameters"]:,}
# forward pass: {costs["forward_flops"] / 1e9:.2f} GFLOPs per pair
# forward and backward pass: {costs["step_flops"] / 1e9:.1f} GFLOPs for {args.batch_size} pairs
# memory: {costs["state_bytes"] / 2**20:.0f} MiB of weights, gradients, Adam's moments and moving average
# memory: {costs["activation_bytes"] / 2**20:.0f} MiB of activations, in float32
# disk: {disk["bytes"] / 2**30:.2f} GiB for at most {disk["checkpoints"]} checkpoints of \
{disk["checkpoint_bytes"] / 2**20:.0f} MiB and {disk["pipelines"]} pipelines of \
{disk["pipeline_bytes"] / 2**20:.0f} MiB; {shutil.disk_usage(there).free / 2**30:.1f} GiB are free"""


def plot_t_max(timesteps: UniformTimesteps, steps: int, pairs_per_step: int, width: int = 60, height: int = 10) -> str:
    """The number of timesteps in use against optimizer steps, in characters."""
    top = timesteps.num_train_timesteps
    bars = [timesteps.t_max(steps * pairs_per_step * i // width) / top for i in range(width)]
    rows = [
        "# " + (f"{top * level // height:>5} |" + "".join("#" if bar * height >= level else " " for bar in bars))
        for level in range(height, 0, -1)
    ]
    return "\n".join(["# t_max", *rows, f"# {'':>5} +{'-' * width}", f"# {'':>6} 0{steps:>{width - 1}} steps"])
