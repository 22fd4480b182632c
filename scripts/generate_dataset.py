"""Generates a dataset of image-mask pairs with a trained model.

    accelerate launch scripts/generate_dataset.py --model RUN --output_dir DATASET --num_samples 5000

`datasets.load_dataset(DATASET)` opens the result. Killed at any moment, the same command line continues; however many
processes it runs on, the files hold the same bytes. On a CPU a process computes with one thread: launch as many
processes as there are cores (`accelerate launch --config_file accelerate_configs/multi_cpu.yaml --num_processes 8`).
"""

import hashlib
import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow.parquet as pq
import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from diffusers.utils import is_xformers_available
from PIL import Image
from tqdm.auto import tqdm

from synthset import SynthSetPipeline, make_scheduler
from synthset.cli import run
from synthset.data.writer import (
    atomic_path,
    export_imagefolder,
    pair_features,
    write_dataset_card,
    write_pairs_shard,
)
from synthset.errors import InputError
from synthset.previews import pair_grid
from synthset.random import keyed_generator

CARD = Path(__file__).parents[1] / "model_cards" / "dataset.md"
FEATURES = pair_features(seed="int64", coverage="float32")
COLUMNS = {
    "seed": "seed of the pair's noise: `torch.Generator().manual_seed(seed)`",
    "coverage": "share of the mask's pixels that are the object, 0 to 1",
}


@dataclass
class GenerateArguments:
    """Generates a dataset of image-mask pairs.

    Args:
        model: a folder that train_paired.py ended with, or the id of such a model on the Hub.
        output_dir: the dataset's folder.
        num_samples: number of pairs.
        scheduler: `ddpm` (the paper's, best at 1000 steps), `ddim`, `dpmsolver++` or `unipc` (good from about 50).
        num_inference_steps: denoising steps per pair, 1 to the number the model was trained with.
        batch_size: pairs drawn at once on each process; a batch never reaches into the next shard.
        seed: with the model, the other values here and its number, decides a pair.
        samples_per_shard: pairs in a parquet file; the processes share out whole files.
        format: `parquet`, or `imagefolder` for PNG files and metadata.jsonl.
        dtype: what the network computes in; half precision is faster on a GPU.
        enable_xformers_memory_efficient_attention: use xformers in the network's attention.
    """

    model: str
    output_dir: str
    num_samples: int = 5000
    scheduler: Literal["ddpm", "ddim", "dpmsolver++", "unipc"] = "ddpm"
    num_inference_steps: int = 1000
    batch_size: int = 50
    seed: int = 0
    samples_per_shard: int = 250
    format: Literal["parquet", "imagefolder"] = "parquet"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    enable_xformers_memory_efficient_attention: bool = False

    def __post_init__(self):
        for name in ("num_samples", "num_inference_steps", "batch_size", "samples_per_shard"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name} is {getattr(self, name)}; give 1 or more")
        if self.seed < 0:
            raise InputError(f"--seed is {self.seed}; give 0 or more")
        if self.enable_xformers_memory_efficient_attention and not is_xformers_available():
            raise InputError(
                "--enable_xformers_memory_efficient_attention is true, but xformers is not installed; "
                "pip install 'synthset[xformers]' or leave the flag out"
            )


def load_pipeline(args: GenerateArguments) -> tuple[SynthSetPipeline, str]:
    """The pipeline, and the SHA-256 of the files that decide what it draws."""
    try:
        folder = Path(args.model)
        if not folder.is_dir():
            folder = Path(SynthSetPipeline.download(args.model))
        pipeline = SynthSetPipeline.from_pretrained(folder)
    except Exception as error:  # no such repository, no network, no pipeline in the folder, damaged weights, ...
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InputError(
            f"--model is {args.model}, which can't be loaded ({reason}); give a folder that train_paired.py ended "
            "with, or a model id on the Hub"
        ) from error
    pipeline.scheduler = make_scheduler(args.scheduler, pipeline.scheduler.config, args.num_inference_steps)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.unet.type(getattr(torch, args.dtype))
    if args.enable_xformers_memory_efficient_attention:
        pipeline.unet.enable_xformers_memory_efficient_attention()
    digest = hashlib.sha256()
    for file in (folder / "scheduler" / "scheduler_config.json", *sorted((folder / "unet").iterdir())):
        digest.update(file.name.encode() + file.read_bytes())
    return pipeline, digest.hexdigest()


def claim_output_dir(output_dir: Path, settings: dict) -> None:
    """Writes the settings that decide the bytes into `generation.json`; if it is there, they must be the same."""
    path = output_dir / "generation.json"
    if path.exists():
        old = json.loads(path.read_text())
        differing = [f"{k} {old.get(k)} -> {v}" for k, v in settings.items() if k != "model" and old.get(k) != v]
        if differing:
            raise InputError(
                f"--output_dir {output_dir} holds pairs made with other settings: {', '.join(differing)}; "
                "give the old values to continue, or choose another folder"
            )
        return
    if output_dir.exists() and any(not file.name.startswith(".") for file in output_dir.iterdir()):
        raise InputError(f"--output_dir {output_dir} is not empty and has no generation.json; choose another folder")
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(settings, indent=2) + "\n")


def draw_pairs(pipeline: SynthSetPipeline, args: GenerateArguments, samples: range, progress: tqdm) -> Iterator[dict]:
    """Rows for the pairs numbered `samples`, each from its own noise."""
    for start in range(0, len(samples), args.batch_size):
        generators = [keyed_generator(args.seed, i) for i in samples[start : start + args.batch_size]]
        pairs = pipeline(batch_size=len(generators), generator=generators, num_inference_steps=args.num_inference_steps)
        for image, mask, generator in zip(pairs.images, pairs.masks, generators, strict=True):
            coverage = np.count_nonzero(mask) / (mask.width * mask.height)
            yield {"image": image, "mask": mask, "seed": generator.initial_seed(), "coverage": coverage}
        progress.update(len(generators))


def finish(args: GenerateArguments, settings: dict, shards: list[Path]) -> None:
    """Writes the preview, the dataset card and, if wanted, PNG files in place of the shards."""
    output_dir = Path(args.output_dir)
    shown = min(32, args.num_samples)
    rows = pq.read_table(shards[: -(-shown // args.samples_per_shard)]).slice(0, shown).to_pylist()
    images, masks = ([Image.open(io.BytesIO(row[column]["bytes"])) for row in rows] for column in ("image", "mask"))
    with atomic_path(output_dir / "preview.png") as temporary:
        pair_grid(images, masks).save(temporary, "PNG")
    write_dataset_card(
        output_dir,
        CARD,
        FEATURES,
        splits={"train": args.num_samples},
        tags=["synthetic"],
        title=output_dir.resolve().name,
        description=f"{args.num_samples} synthetic pairs of image and segmentation mask, drawn together by the "
        f"diffusion model `{args.model}`.\n\n![pairs](preview.png)",
        columns=COLUMNS,
        details=settings,
    )
    if args.format == "imagefolder":
        export_imagefolder(shards, output_dir)


def main(args: GenerateArguments) -> None:
    # A process that is done waits for the others, which may have many shards left. Without `cpu`, several processes on
    # a machine that has nothing but a CPU would not know of each other.
    patience = InitProcessGroupKwargs(timeout=timedelta(weeks=4))
    accelerator = Accelerator(cpu=not torch.accelerator.is_available(), kwargs_handlers=[patience])
    pipeline, model_sha256 = load_pipeline(args)
    pipeline.to(accelerator.device)
    if accelerator.device.type == "cpu":
        # oneDNN sums the channels of a 1x1 convolution in an order that depends on the number of threads, and the last
        # bits of a pair on that order. Several processes use the processor better than several threads, anyway.
        torch.set_num_threads(1)
    settings = {**asdict(args), "model_sha256": model_sha256}
    output_dir = Path(settings.pop("output_dir"))
    with accelerator.main_process_first():
        claim_output_dir(output_dir, settings)

    samples = range(args.num_samples)
    parts = [samples[i : i + args.samples_per_shard] for i in samples[:: args.samples_per_shard]]
    folder = output_dir / ("data" if args.format == "parquet" else ".shards")  # hidden from load_dataset
    shards = [folder / f"train-{k:05d}-of-{len(parts):05d}.parquet" for k in range(len(parts))]

    mine = list(zip(shards, parts, strict=True))[accelerator.process_index :: accelerator.num_processes]
    exported = (output_dir / "metadata.jsonl").exists()  # after which the shards are gone
    missing = [(shard, part) for shard, part in mine if not exported and not shard.exists()]
    total = sum(len(part) for _, part in missing)
    with tqdm(total=total, desc="pairs", unit="pair", disable=not accelerator.is_main_process) as progress:
        for shard, part in missing:
            try:
                write_pairs_shard(shard, draw_pairs(pipeline, args, part, progress), FEATURES)
            except OSError as error:  # pyarrow does not say which file
                raise OSError(error.errno, error.strerror, str(shard)) from error

    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        if not exported:
            finish(args, settings, shards)
        if args.format == "imagefolder":
            shutil.rmtree(folder, ignore_errors=True)
        accelerator.print(f"{args.num_samples} pairs are in {output_dir}; see {output_dir / 'preview.png'}")
    accelerator.end_training()


if __name__ == "__main__":
    run(main, GenerateArguments)
