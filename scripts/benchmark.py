"""Benchmarks the paired models against UNet2DModel of diffusers and the device's peak, adversarial against plain
training steps, ScaleU against its definition with an FFT, and how cost grows with resolution, pairs and processes.

    python scripts/benchmark.py
    python scripts/benchmark.py --device cuda --mixed_precision bf16 --batch_size 64

Prints Markdown. Timings are medians over `--repeats` rounds. Each round runs every model, so that temporary load
affects all of them.
"""

import ctypes
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import cast

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
from synthset.devices import describe_device
from synthset.errors import InputError
from synthset.models import PairedDiscriminator2DModel, PairedUNet2DModel
from synthset.models.memory_format import use_channels_last
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
    compare_resolutions(args, device)
    compare_adversarial_steps(args, device)
    compare_scale_u(args, device)
    measure_loader(args)
    compare_processes(args, device)


def autocast(args: BenchmarkArguments, device: torch.device) -> AbstractContextManager:
    """The context in which models compute."""
    dtype = {"no": None, "fp16": torch.float16, "bf16": torch.bfloat16}[args.mixed_precision]
    return torch.autocast(device.type, dtype) if dtype else nullcontext()


def peak_gflops(args: BenchmarkArguments, device: torch.device) -> float:
    """GFLOP per second of a product of two large square matrices, the best that the device does in this precision."""
    side = 8192 if device.type == "cuda" else 2048
    matrices = torch.randn(2, side, side, device=device)

    def multiply() -> None:
        with autocast(args, device), torch.inference_mode():
            matrices[0] @ matrices[1]

    return 2 * side**3 / 1e9 / median_seconds({"peak": multiply}, args.repeats, device, "the peak")["peak"]


def on_device(model: torch.nn.Module, device: torch.device) -> torch.nn.Module:
    """The model on `device`, its weights in the order that training stores them in."""
    return (use_channels_last(model) if device.type == "cpu" else model).to(device)


def train_step(args: BenchmarkArguments, model: torch.nn.Module, sample: torch.Tensor) -> None:
    """A forward and a backward pass."""
    with autocast(args, sample.device):
        prediction = model(sample, 500).sample
    prediction.float().square().mean().backward()
    model.zero_grad()


def compare_models(args: BenchmarkArguments, device: torch.device) -> None:
    shared = {"block_out_channels": tuple(args.block_out_channels), "layers_per_block": args.layers_per_block}
    paired = {variant: PairedUNet2DModel(args.resolution, variant=variant, **shared) for variant in VARIANTS}
    levels = len(args.block_out_channels)
    stock = UNet2DModel(
        args.resolution,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D",) * levels,
        up_block_types=("UpBlock2D",) * levels,
        attention_head_dim=paired["concat"].config.attention_head_dim,
        norm_num_groups=paired["concat"].config.norm_num_groups,
        **shared,
    )
    sample = torch.randn(args.batch_size, 4, args.resolution, args.resolution, device=device)
    eager: dict[str, torch.nn.Module] = {**paired, "UNet2DModel": stock}
    models = {name: on_device(model, device) for name, model in eager.items()}
    if args.compile:
        models = {name: cast(torch.nn.Module, torch.compile(model)) for name, model in models.items()}

    def infer(model: torch.nn.Module) -> None:
        with autocast(args, device), torch.inference_mode():
            model(sample, 500)

    def train(model: torch.nn.Module) -> None:
        train_step(args, model, sample)

    def measure(work: Callable) -> tuple[dict, dict]:
        """GFLOP and seconds of `work` per sample, for each model."""
        gflop = {}
        for name, model in eager.items():
            with FlopCounterMode(display=False) as counter:
                work(model)
            gflop[name] = counter.get_total_flops() / args.batch_size / 1e9
        calls = {name: partial(work, model) for name, model in models.items()}
        seconds = median_seconds(calls, args.repeats, device, work.__name__)
        return gflop, {name: value / args.batch_size for name, value in seconds.items()}

    infer_gflop, infer_seconds = measure(infer)
    train_gflop, train_seconds = measure(train)

    peak = peak_gflops(args, device)
    print(f"Peak, a product of large matrices: {peak:.3g} GFLOP per second\n")

    def to_stock(name: str, gflop: dict, seconds: dict) -> float:
        """Seconds per GFLOP, relative to UNet2DModel."""
        return seconds[name] / gflop[name] / (seconds["UNet2DModel"] / gflop["UNet2DModel"])

    print(
        "| model | parameters, M | GFLOP per image, forward | s per image, forward | s per image, training step ",
        end="",
    )
    print(
        "| peak memory of a training step, GiB | s per GFLOP to UNet2DModel, forward | the same, training step ", end=""
    )
    print("| percent of the peak, training step |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, model in models.items():
        memory = peak_gib(partial(train, model), device)
        print(
            f"| {name} | {sum(p.numel() for p in model.parameters()) / 1e6:.2f} | {infer_gflop[name]:.2f} "
            f"| {infer_seconds[name]:.3g} | {train_seconds[name]:.3g} | {memory:.2f} "
            f"| {to_stock(name, infer_gflop, infer_seconds):.2f} | {to_stock(name, train_gflop, train_seconds):.2f} "
            f"| {100 * train_gflop[name] / train_seconds[name] / peak:.0f} |"
        )


def compare_resolutions(args: BenchmarkArguments, device: torch.device) -> None:
    """Prints the time of a training step at half, once and twice the resolution."""
    shared = {"block_out_channels": tuple(args.block_out_channels), "layers_per_block": args.layers_per_block}
    resolutions = [args.resolution // 2, args.resolution, 2 * args.resolution]
    print(f"\n| s per image, training step | {' | '.join(f'{side} px' for side in resolutions)} |")
    print("|---|---|---|---|")
    for variant in VARIANTS:
        model = on_device(PairedUNet2DModel(args.resolution, variant=variant, **shared), device)
        calls = {}
        for side in resolutions:
            sample = torch.randn(args.batch_size, 4, side, side, device=device)
            calls[str(side)] = partial(train_step, args, model, sample)
        seconds = median_seconds(calls, args.repeats, device, f"{variant}, resolutions")
        print(f"| {variant} | {' | '.join(f'{value / args.batch_size:.3g}' for value in seconds.values())} |")


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
        networks = [on_device(model, device), discriminator.to(device)]
        optimizers = [torch.optim.AdamW(network.parameters(), 2.1e-4, fused=True) for network in networks]
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
    """Prints the throughput of the data loader of `synthset train` without a model, for the pairs and ten times as
    many."""
    pairs = load_pairs(args.dataset, mask_column=args.mask_column)
    for repeats in (1, 10):
        many = pairs.select([*range(len(pairs))] * repeats)
        tensors = PairTensors(many, resolve_crop_size(None, many), args.resolution)
        transform = train_transform(args.resolution, resolved(tensors.crop_size))
        stream = TrainingStream(tensors, transform, UniformTimesteps(1000), seed=0)
        batches = PositionSampler(args.batch_size, 0, 1, start=0, stop=max(10, 2000 // args.batch_size))
        start = time.perf_counter()
        loader = DataLoader(stream, batch_sampler=batches, num_workers=args.num_workers)
        for _ in progress(loader, "data loader", unit="batch", leave=False):
            pass
        images = len(batches) * args.batch_size / (time.perf_counter() - start)
        print(
            f"\nData loader alone, `{args.dataset}` x {repeats}, {len(many)} pairs, {args.num_workers} workers: "
            f"{images:.0f} images per second"
        )


def compare_processes(args: BenchmarkArguments, device: torch.device) -> None:
    """Prints the pace of `synthset train` on 1, 2, 4, ... processes, up to the number of GPUs, or to 2 on a CPU; its
    threads are divided between them."""
    limit, threads = (torch.cuda.device_count(), 1) if device.type == "cuda" else (2, torch.get_num_threads())
    counts = [2**i for i in range(limit.bit_length())]
    print("\n| processes | images per second, `synthset train --variant concat` | to one process |\n|---|---|---|")
    paces: list[float] = []
    for count in progress(counts, "processes", leave=False):
        with tempfile.TemporaryDirectory() as folder:
            launch = f"-m accelerate.commands.launch --num_machines 1 --dynamo_backend no --num_processes {count}"
            launch += f" --num_cpu_threads_per_process {max(1, threads // count)}"
            launch += " --cpu --mixed_precision no" if device.type == "cpu" else ""
            flags = f"--variant concat --output_dir {folder}/run --resolution {args.resolution} --report_to none"
            flags += f" --batch_size {args.batch_size} --layers_per_block {args.layers_per_block} --max_train_steps 24"
            flags += " --logging_steps 8 --checkpointing_steps 1000 --validation_steps 0 --lr_warmup_steps 0"
            flags += f" --num_divergence_images 0 --num_validation_images 1 --mixed_precision {args.mixed_precision}"
            widths = "[" + ",".join(map(str, args.block_out_channels)) + "]"
            data = ["--dataset", args.dataset, "--block_out_channels", widths]
            data += ["--mask_column", args.mask_column] if args.mask_column else []
            script = Path(__file__).with_name("train_paired.py")
            command = [sys.executable, *launch.split(), str(script), *flags.split(), *data]
            result = subprocess.run(command, capture_output=True, text=True)
            if result.returncode:
                raise InputError(f"training on {count} processes failed: {result.stderr.strip().splitlines()[-1]}")
            lines = [json.loads(line) for line in Path(folder, "run", "metrics.jsonl").read_text().splitlines()]
            paces.append([line["images_per_second"] for line in lines if "images_per_second" in line][-1])
        print(f"| {count} | {paces[-1]:.3g} | {paces[-1] / paces[0]:.2f} |")


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
