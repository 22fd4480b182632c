"""Benchmarks the paired models against UNet2DModel of diffusers, adversarial against plain training steps, ScaleU
against its definition with an FFT, and the data loader.

    python scripts/benchmark.py
    python scripts/benchmark.py --device cuda --mixed_precision bf16 --batch_size 64

Prints Markdown. Timings are medians over `--repeats` rounds. Each round runs every model, so that temporary load
affects all of them.
"""

import ctypes
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers import DDPMScheduler, UNet2DModel
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from synthset.arguments import BenchmarkArguments
from synthset.arguments.base import resolved
from synthset.cli import run
from synthset.console import progress
from synthset.data import PairTensors, load_pairs, resolve_crop_size, train_transform
from synthset.evaluation.devices import describe_device
from synthset.models import PairedDiscriminator2DModel, PairedUNet2DModel
from synthset.models.skip_fusion import ScaleU
from synthset.registry import VARIANTS
from synthset.training import objectives
from synthset.training.adversarial import Adversary
from synthset.training.stream import PositionSampler, TrainingStream
from synthset.training.timesteps import UniformTimesteps


def main(args: BenchmarkArguments) -> None:
    device = torch.device(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    print(f"## {describe_device(device)}, torch {torch.__version__}\n")
    print(f"{args.resolution} px, batch {args.batch_size}, precision {args.mixed_precision}, widths", end=" ")
    print(f"{'-'.join(map(str, args.block_out_channels))}, {args.layers_per_block} layers per block\n")
    compare_models(args, device)
    compare_adversarial_steps(args, device)
    compare_scale_u(args, device)
    measure_loader(args)


def compare_models(args: BenchmarkArguments, device: torch.device) -> None:
    shared = {"block_out_channels": tuple(args.block_out_channels), "layers_per_block": args.layers_per_block}
    models = {variant: PairedUNet2DModel(args.resolution, variant=variant, **shared) for variant in VARIANTS}
    levels = len(args.block_out_channels)
    models["UNet2DModel"] = UNet2DModel(
        args.resolution,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D",) * levels,
        up_block_types=("UpBlock2D",) * levels,
        attention_head_dim=models["concat"].config.attention_head_dim,
        norm_num_groups=models["concat"].config.norm_num_groups,
        **shared,
    )
    sample = torch.randn(args.batch_size, 4, args.resolution, args.resolution, device=device)
    dtype = {"no": None, "fp16": torch.float16, "bf16": torch.bfloat16}[args.mixed_precision]

    def forward(model: torch.nn.Module) -> torch.Tensor:
        with torch.autocast(device.type, dtype) if dtype else nullcontext():
            return model(sample, 500).sample

    def infer(model: torch.nn.Module) -> None:
        with torch.inference_mode():
            forward(model)

    def train(model: torch.nn.Module) -> None:
        forward(model).float().square().mean().backward()
        model.zero_grad()

    def measure(work: Callable) -> tuple[dict, dict]:
        """GFLOP and seconds of `work` per sample, for each model."""
        gflop = {}
        for name, model in models.items():
            with FlopCounterMode(display=False) as counter:
                work(model)
            gflop[name] = counter.get_total_flops() / args.batch_size / 1e9
        calls = {name: partial(work, model) for name, model in models.items()}
        seconds = median_seconds(calls, args.repeats, device, work.__name__)
        return gflop, {name: value / args.batch_size for name, value in seconds.items()}

    for model in models.values():
        model.to(device)
    infer_gflop, infer_seconds = measure(infer)
    train_gflop, train_seconds = measure(train)

    def to_stock(name: str, gflop: dict, seconds: dict) -> float:
        """Seconds per GFLOP, relative to UNet2DModel."""
        return seconds[name] / gflop[name] / (seconds["UNet2DModel"] / gflop["UNet2DModel"])

    print(
        "| model | parameters, M | GFLOP per image, forward | s per image, forward | s per image, training step ",
        end="",
    )
    print("| peak memory of a training step, GiB | s per GFLOP to UNet2DModel, forward | the same, training step |")
    print("|---|---|---|---|---|---|---|---|")
    for name, model in models.items():
        memory = peak_gib(partial(train, model), device)
        print(
            f"| {name} | {sum(p.numel() for p in model.parameters()) / 1e6:.2f} | {infer_gflop[name]:.2f} "
            f"| {infer_seconds[name]:.3g} | {train_seconds[name]:.3g} | {memory:.2f} "
            f"| {to_stock(name, infer_gflop, infer_seconds):.2f} | {to_stock(name, train_gflop, train_seconds):.2f} |"
        )


def compare_adversarial_steps(args: BenchmarkArguments, device: torch.device) -> None:
    """Prints the time of a training step of `synthset train` with its optimizers, with and without `--gan_weight`."""
    accelerator = Accelerator(device_placement=False, cpu=device.type == "cpu", mixed_precision=args.mixed_precision)
    scheduler, widths = DDPMScheduler(), tuple(args.block_out_channels)
    draws = torch.randn(4, args.batch_size, 4, args.resolution, args.resolution, device=device)
    batch = {"sample": draws[0], "noise": draws[1], "posterior_noise": draws[2:].transpose(0, 1)}
    batch["timestep"] = torch.randint(len(scheduler), (args.batch_size,), device=device)

    def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, adversary: Adversary | None = None) -> None:
        prediction = objectives.predict(model, scheduler, batch)
        loss = objectives.diffusion_loss(prediction, scheduler, batch).mean()
        if adversary is not None:
            real, fake = objectives.posterior_pairs(prediction, scheduler, batch)
            adversary.step(real, fake, batch["timestep"])
            loss = loss + 0.25 * adversary.generator_loss(fake, batch["timestep"])
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()

    print("\n| variant | s per image, plain training step | the same, adversarial | to plain |\n|---|---|---|---|")
    for variant in VARIANTS:
        model = PairedUNet2DModel(
            args.resolution, variant=variant, block_out_channels=widths, layers_per_block=args.layers_per_block
        )
        discriminator = PairedDiscriminator2DModel(args.resolution, block_out_channels=widths)
        networks = [network.to(device) for network in (model, discriminator)]
        optimizers = [torch.optim.AdamW(network.parameters(), 2.1e-4) for network in networks]
        lr_scheduler = torch.optim.lr_scheduler.ConstantLR(optimizers[1], factor=1.0)
        model, discriminator, *prepared = accelerator.prepare(*networks, *optimizers, lr_scheduler)
        plain = partial(step, model, prepared[0])
        calls = {"plain": plain, "adversarial": partial(plain, Adversary(accelerator, discriminator, *prepared[1:]))}
        seconds = median_seconds(calls, args.repeats, device, f"{variant}, training steps")
        images = [value / args.batch_size for value in seconds.values()]
        print(f"| {variant} | {images[0]:.3g} | {images[1]:.3g} | {images[1] / images[0]:.2f} |")


def compare_scale_u(args: BenchmarkArguments, device: torch.device) -> None:
    hidden, skip = torch.randn(2, 8, 32, 128, 128, device=device)
    scale_u = ScaleU(32, 1).to(device)
    torch.nn.init.normal_(scale_u.s)

    @torch.inference_mode()
    def with_fft() -> torch.Tensor:
        spectrum = torch.fft.fftshift(torch.fft.fftn(skip, dim=(-2, -1)), dim=(-2, -1))
        spectrum[..., 63:65, 63:65] *= torch.tanh(scale_u.s) + 1
        filtered = torch.fft.ifftn(torch.fft.ifftshift(spectrum, dim=(-2, -1)), dim=(-2, -1)).real
        return torch.cat([hidden * (torch.tanh(scale_u.b) + 1)[:, None, None], filtered], dim=1)

    without_fft = torch.inference_mode()(lambda: scale_u(hidden, skip))
    calls = {"ScaleU": without_fft, "its definition with an FFT": with_fft}
    seconds = median_seconds(calls, 4 * args.repeats, device, "ScaleU")
    print("\n| one skip of (8, 32, 128, 128) | ms | to ScaleU |\n|---|---|---|")
    for name, value in seconds.items():
        print(f"| {name} | {1000 * value:.2f} | {value / seconds['ScaleU']:.1f} |")


def measure_loader(args: BenchmarkArguments) -> None:
    """Prints the throughput of the data loader of `synthset train` without a model."""
    pairs = load_pairs(args.dataset, mask_column=args.mask_column)
    tensors = PairTensors(pairs, resolve_crop_size(None, pairs), args.resolution)
    transform = train_transform(args.resolution, resolved(tensors.crop_size))
    stream = TrainingStream(tensors, transform, UniformTimesteps(1000), seed=0)
    batches = PositionSampler(args.batch_size, 0, 1, start=0, stop=max(10, 2000 // args.batch_size))
    start = time.perf_counter()
    loader = DataLoader(stream, batch_sampler=batches, num_workers=args.num_workers)
    for _ in progress(loader, "data loader", unit="batch", leave=False):
        pass
    images = len(batches) * args.batch_size / (time.perf_counter() - start)
    print(f"\nData loader alone, `{args.dataset}`, {args.num_workers} workers: {images:.0f} images per second")


def median_seconds(
    calls: Mapping[str, Callable], repeats: int, device: torch.device, description: str
) -> dict[str, float]:
    """Median duration of each call over `repeats` rounds that make all of them, after a warm-up round.

    Args:
        calls: functions by name.
        repeats: rounds.
        device: device that the calls compute on.
        description: text before the progress bar.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in progress(range(1 + repeats), f"timing {description}", unit="round", leave=False):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}


def peak_gib(call: Callable, device: torch.device) -> float:
    """Peak memory of `call` in GiB above the memory in use before; on a CPU, resident memory of the process (Linux)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return (torch.cuda.max_memory_allocated(device) - before) / 2**30
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # return free memory to the system, so that it is not resident already
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak
    before = _resident_kib("VmRSS")
    call()
    return (_resident_kib("VmHWM") - before) / 2**20


def _resident_kib(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1])


if __name__ == "__main__":
    run(main, BenchmarkArguments)
