"""Generates a dataset of image-mask pairs with a trained model.

    accelerate launch scripts/generate_dataset.py --model RUN --output_dir DATASET --num_samples 5000

With `--sr_model SR_RUN` a second model enlarges the pairs (SynthSet, section 3, "Super-resolution").
`datasets.load_dataset(DATASET)` opens the result once all pairs are complete. An interrupted run is continued by the
same command, and a larger `--num_samples` adds pairs. The files are identical for any number of processes. On a CPU, a
process uses one thread: launch as many processes as there are cores (`accelerate launch --config_file
accelerate_configs/multi_cpu.yaml --num_processes 8`).
"""

import io
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from shlex import quote
from typing import TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DynamoBackend, InitProcessGroupKwargs, find_executable_batch_size
from datasets import Features
from datasets import Image as ImageFeature
from PIL import Image
from tqdm import tqdm

from synthset import PairedUNet2DModel, SynthSetPipeline, SynthSetSRPipeline, make_scheduler
from synthset.arguments import GenerateArguments
from synthset.arguments.generation import NEEDS
from synthset.cli import run
from synthset.console import progress
from synthset.data import GrowingDataset, PairTensors, load_pairs, pair_features, pairs_digest, write_pairs_shard
from synthset.data.scale import recorded_crop_size, smallest_side
from synthset.data.warped_masks import WarpedMasks
from synthset.devices import DTYPES, resolve_mixed_precision
from synthset.errors import InputError
from synthset.output_dir import atomic_path, claim_output_dir, require_readable_name
from synthset.pipelines.loading import load_pipeline
from synthset.pipelines.pair_pipeline import PairPipeline
from synthset.publishing.cards import describe, license_of_models, public_name, write_dataset_card
from synthset.publishing.hub import check_push, push_folder
from synthset.stages import COLUMNS, check_guidance, check_stages, consistency, draw_rows, enlarge_rows, refine_rows
from synthset.visualization.previews import pair_grid

logger = logging.getLogger("synthset")

CARD = Path(__file__).parents[1] / "model_cards" / "dataset.md"
Pipeline = TypeVar("Pipeline", bound=PairPipeline)
# what may differ between the runs that make a dataset: models count by their digests
UNCOUNTED = ("model", "sr_model", "guidance_model", "masks_from", "mask_column", "num_samples")
PAPER_STEPS: dict[type[PairPipeline], int] = {SynthSetPipeline: 1000, SynthSetSRPipeline: 100}


@dataclass(frozen=True)
class Stages:
    """The models that the flags name, loaded, and the masks to draw images for.

    Args:
        pipeline: draws pairs.
        guidance: further arguments of its call.
        masks: what it draws images for; None to draw both.
        sr_pipeline: enlarges the pairs; None to leave them as drawn.
    """

    pipeline: SynthSetPipeline
    guidance: dict
    masks: WarpedMasks | None
    sr_pipeline: SynthSetSRPipeline | None

    def draw(self, args: GenerateArguments, batch_size: int, samples: range, bar: tqdm) -> Iterator[dict]:
        """Yields the rows of the pairs numbered `samples`, `batch_size` at once. `bar` counts denoising steps of
        pairs."""
        assert args.num_inference_steps is not None
        for start in range(0, len(samples), batch_size):
            numbers = samples[start : start + batch_size]
            on_step = partial(bar.update, len(numbers))
            options = {"mask_filter": args.mask_filter, "masks": self.masks, **self.guidance}
            rows = draw_rows(self.pipeline, args.seed, numbers, args.num_inference_steps, on_step, **options)
            if args.refine_masks:
                count = max(1, batch_size // args.refine_masks)
                parts = [rows[i : i + count] for i in range(0, len(rows), count)]
                rows = []
                for part in parts:
                    on_step = partial(bar.update, len(part) * args.refine_masks)
                    draws, steps = args.refine_masks, args.refine_num_inference_steps
                    rows += refine_rows(self.pipeline, part, args.seed, draws, steps, on_step, args.mask_filter)
            if self.sr_pipeline:
                assert args.sr_num_inference_steps is not None
                on_step = partial(bar.update, len(numbers) * self.sr_pipeline.config.scale_factor**2)
                steps, noise_level = args.sr_num_inference_steps, args.sr_noise_level
                rows = enlarge_rows(self.sr_pipeline, rows, args.seed, steps, noise_level, on_step, args.mask_filter)
            for row in rows:
                if args.consistency:
                    row |= consistency(row, args.min_consistency_psnr, args.min_consistency_dice)
                yield row

    def steps_per_pair(self, args: GenerateArguments) -> int:
        """Counts the denoising steps of a pair as `draw` counts them: the time of a step grows with the pixels."""
        assert args.num_inference_steps is not None
        steps = args.num_inference_steps + (args.refine_masks or 0) * args.refine_num_inference_steps
        if self.sr_pipeline:
            assert args.sr_num_inference_steps is not None
            steps += args.sr_num_inference_steps * self.sr_pipeline.config.scale_factor**2
        return steps


def load_stages(args: GenerateArguments, accelerator: Accelerator) -> tuple[Stages, dict[str, str]]:
    """Loads what the flags name, and the SHA-256 of each file or folder of it, by the setting's name."""
    digests: dict[str, str] = {}
    sr_pipeline: SynthSetSRPipeline | None = None
    pipeline, digests["model_sha256"] = load_stage(args, SynthSetPipeline, "", accelerator)
    guidance, digest = load_guidance(args, pipeline, accelerator)
    if digests["model_sha256"] in digest.values():
        raise InputError(
            "--guidance_model is the model of --model, which can't guide itself; give an earlier checkpoint of its run"
        )
    digests |= digest
    masks, digest = load_masks(args, pipeline, guidance)
    digests |= digest
    if masks is not None and args.guidance_model is None:
        guidance = {"guidance_scale": args.condition_scale}
    if args.sr_model is not None:
        sr_pipeline, digests["sr_model_sha256"] = load_stage(args, SynthSetSRPipeline, "sr_", accelerator)
        check_stages(pipeline, sr_pipeline, args.sr_noise_level)
    return Stages(pipeline, guidance, masks, sr_pipeline), digests


def load_stage(
    args: GenerateArguments, cls: type[Pipeline], prefix: str, accelerator: Accelerator
) -> tuple[Pipeline, str]:
    """Loads the pipeline of one stage and sets the number of its steps in `args` if it was not given.

    Args:
        args: the flags.
        cls: class of the pipeline.
        prefix: of the stage's flags, `""` or `"sr_"`.
        accelerator: has the device to load it to.

    Returns:
        The pipeline and the SHA-256 of its files.
    """
    model, scheduler, steps = (getattr(args, prefix + name) for name in ("model", "scheduler", "num_inference_steps"))
    pipeline, sha256 = load_pipeline(cls, model, f"--{prefix}model")
    if steps is None:
        steps = min(PAPER_STEPS[cls], pipeline.scheduler.config.num_train_timesteps)
        setattr(args, f"{prefix}num_inference_steps", steps)
    try:
        pipeline.scheduler = make_scheduler(scheduler, pipeline.scheduler.config, steps)
    except InputError as error:
        raise InputError(f"--{prefix}{error}") from None
    pipeline.set_progress_bar_config(disable=True)
    prepare_network(args, pipeline.unet, accelerator)
    return pipeline.to(accelerator.device), sha256


def load_guidance(args: GenerateArguments, pipeline: SynthSetPipeline, accelerator: Accelerator) -> tuple[dict, dict]:
    """Loads what guides `pipeline`: arguments of its call, and the SHA-256 of the files, by the setting's name."""
    if args.guidance_model is None:
        return {}, {}
    guide, sha256 = load_pipeline(SynthSetPipeline, args.guidance_model, "--guidance_model")
    check_guidance(pipeline, guide)
    prepare_network(args, guide.unet, accelerator)
    guidance = {"guidance_unet": guide.unet.to(pipeline.device), "guidance_scale": args.guidance_scale}
    if args.guidance_interval is not None:
        guidance["guidance_interval"] = tuple(args.guidance_interval)
    return guidance, {"guidance_model_sha256": sha256}


def prepare_network(args: GenerateArguments, unet: PairedUNet2DModel, accelerator: Accelerator) -> None:
    """Gives a network the number format and the attention that the flags ask for, and compiles it if accelerate is
    configured so."""
    unet.type(DTYPES[args.mixed_precision])
    if args.enable_xformers_memory_efficient_attention:
        unet.enable_xformers_memory_efficient_attention()
    dynamo = accelerator.state.dynamo_plugin
    if dynamo.backend != DynamoBackend.NO:
        unet.compile(**dynamo.to_kwargs())


def halving(batch_size: int) -> Callable[[], int]:
    """Builds the function that accelerate's `find_executable_batch_size` calls for a smaller batch than `batch_size`,
    and again for a smaller one than that.

    Raises:
        InputError: there is none.
    """
    sizes = [batch_size]

    def halve() -> int:
        if sizes[-1] == 1:
            raise InputError("--batch_size: not even one pair fits into memory; give --mixed_precision bf16")
        sizes.append(sizes[-1] // 2)
        logger.warning(f"{sizes[-2]} pairs at once do not fit into memory: now {sizes[-1]}")
        return sizes[-1]

    return halve


def load_masks(
    args: GenerateArguments, pipeline: SynthSetPipeline, guidance: dict
) -> tuple[WarpedMasks | None, dict[str, str]]:
    """Loads what makes the masks of `--masks_from`, and the SHA-256 of its pairs, by the setting's name."""
    if args.masks_from is not None and guidance and not guidance["guidance_unet"].config.mask_timestep:
        raise InputError(
            f"--guidance_model is {args.guidance_model}, which was trained to draw pairs alone, and --masks_from asks "
            "for images; give a checkpoint of --model's run, or leave --guidance_model out"
        )
    for flag in ("masks_from", "refine_masks"):
        if getattr(args, flag) and not pipeline.unet.config.mask_timestep:
            raise InputError(
                f"--{flag} is {getattr(args, flag)}, but --model {args.model} was trained to draw pairs alone; train "
                f"it with --joint_share 0.7, or leave --{flag} out"
            )
    if args.masks_from is None:
        return None, {}
    pairs = load_pairs(args.masks_from, args.masks_split, mask_column=args.mask_column)
    recorded, crop_size, side = recorded_crop_size(args.masks_from), pipeline.config.crop_size, smallest_side(pairs)
    if crop_size is None or (side < crop_size if recorded is None else recorded != crop_size):
        raise InputError(
            f"--masks_from {args.masks_from} shows {recorded or side} pixels of photos, but --model was trained on "
            f"crops of {crop_size}; give photos of that size or larger, or generated pairs of that crop size"
        )
    resolution = int(np.max(pipeline.unet.config.sample_size))
    tensors = PairTensors(pairs, None if recorded else crop_size, resolution)
    side = side if tensors.crop_size is None else tensors.crop_size
    return WarpedMasks(tensors, resolution, side, args.seed), {"masks_from_sha256": pairs_digest(pairs)}


def find_license(args: GenerateArguments) -> str | None:
    """Returns the license of the source data: `--data_license`, or that of the cards of the models."""
    return args.data_license or license_of_models(
        model for model in (args.model, args.guidance_model, args.sr_model) if model
    )


def finish(args: GenerateArguments, settings: dict, features: Features, pairs: GrowingDataset) -> None:
    """Writes the preview, and last the dataset card; reports drift."""
    output_dir = Path(args.output_dir)
    rows = pairs.rows(["image", "mask"], 32)
    images, masks = ([Image.open(io.BytesIO(row[column]["bytes"])) for row in rows] for column in ("image", "mask"))
    with atomic_path(output_dir / "preview.png") as temporary:
        pair_grid(images, masks).save(temporary, "PNG")
    what = f"drawn for warped masks of `{public_name(args.masks_from)}`" if args.masks_from else "drawn together"
    stages = f"{what} by the diffusion model {describe(args.model, kind='')}"
    if args.guidance_model:
        stages += f", guided by {describe(args.guidance_model, kind='')},"
    if args.sr_model:
        stages += f" and enlarged by the super-resolution model {describe(args.sr_model, kind='')}"
    if args.refine_masks:
        stages += f", each mask the vote of {args.refine_masks} that were drawn again for the image"
    description = f"{args.num_samples} synthetic pairs of image and segmentation mask, {stages}."
    if args.consistency:
        drifted = pairs.rows(["consistent"], args.num_samples).count({"consistent": False})
        report = (
            f"{drifted} of {args.num_samples} pairs drifted: downsampled, they differ from their low-resolution pairs"
        )
        description += f" {report}."
        print(f"{report} (column consistent)")
    write_dataset_card(
        output_dir,
        CARD,
        features,
        splits={"train": args.num_samples},
        tags=["synthetic"],
        title=output_dir.resolve().name,
        description=description,
        preview="preview.png",
        columns={name: meaning for name, (_, _, meaning) in COLUMNS.items()},
        details=settings | {"num_samples": args.num_samples},
        data_license=find_license(args),
    )


def draw_shards(
    stages: Stages, args: GenerateArguments, features: Features, missing: Sequence[tuple[Path, range]]
) -> None:
    """Writes the files `missing`, each with its range of pairs."""
    largest, steps = min(args.batch_size, args.samples_per_shard), stages.steps_per_pair(args)
    with progress(
        total=steps * sum(len(numbers) for _, numbers in missing),
        description="pairs",
        unit="pair",
        unit_scale=1 / steps,
        bar_format="{desc}: {percentage:.2f}%|{bar}| {n:.0f}/{total:.0f} [{elapsed}<{remaining}, {rate_fmt}]",
        smoothing=0,  # the mean rate, because the stages differ in speed
    ) as bar:

        @find_executable_batch_size(starting_batch_size=largest, reduce_batch_size_fn=halving(largest))
        def draw_shard(batch_size: int, shard: Path, numbers: range, steps_done: int) -> None:
            if bar.n > steps_done:  # a larger batch did not fit
                bar.update(steps_done - bar.n)
            try:
                write_pairs_shard(shard, stages.draw(args, batch_size, numbers, bar), features)
            except OSError as error:  # pyarrow does not say which file
                raise OSError(error.errno, error.strerror, str(shard)) from error

        for shard, numbers in missing:
            draw_shard(shard, numbers, bar.n)


def main(args: GenerateArguments) -> None:
    # A finished process waits for the others, possibly for long. Without `cpu`, processes on a machine without an
    # accelerator would not be connected.
    patience = InitProcessGroupKwargs(timeout=timedelta(weeks=4))
    accelerator = Accelerator(cpu=not torch.accelerator.is_available(), kwargs_handlers=[patience])
    args.mixed_precision = resolve_mixed_precision(args.mixed_precision)
    if args.push_to_hub and accelerator.is_main_process:
        check_push(args.hub_dataset_id, "dataset", args.hub_private_repo, find_license(args), args.output_dir)
    if accelerator.device.type == "cpu":
        # oneDNN sums the channels of a 1x1 convolution in an order that depends on the number of threads, so results
        # would differ in the last bits. Several processes are faster than several threads anyway.
        torch.set_num_threads(1)
    stages, digests = load_stages(args, accelerator)
    features = pair_features(**{name: dtype for name, (flag, dtype, _) in COLUMNS.items() if getattr(args, flag)})
    in_force = {k: v for k, v in args.settings().items() if v is not None and getattr(args, NEEDS.get(k, "model"))}
    settings = {**in_force, **digests, "noise": "synthset.keyed_generator(seed, number)"}
    if stages.pipeline.config.crop_size is not None:
        settings["crop_size"] = stages.pipeline.config.crop_size  # determines the scale of objects
    output_dir, num_samples = Path(settings.pop("output_dir")), settings.pop("num_samples")
    columns = [name for name, feature in features.items() if isinstance(feature, ImageFeature)]
    image_columns = tuple(columns) if args.format == "imagefolder" else ()
    pairs = GrowingDataset(output_dir, num_samples, args.samples_per_shard, image_columns)
    with accelerator.main_process_first():
        require_readable_name(output_dir)
        claim_output_dir(output_dir, "generation.json", settings, uncounted=UNCOUNTED)
        if accelerator.is_main_process:
            pairs.prepare()

    draw_shards(stages, args, features, pairs.missing(accelerator.process_index, accelerator.num_processes))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        pairs.publish()
        if not (output_dir / "README.md").exists():
            finish(args, settings, features, pairs)
        if args.push_to_hub:
            address = push_folder(output_dir, args.hub_dataset_id, args.hub_private_repo, args.data_license)
            print(f"pushed to {address}")
        print(
            f"Wrote {num_samples} pairs to {output_dir}. Look at {output_dir / 'preview.png'}, then run: "
            f"synthset segment --dataset {quote(str(output_dir))} --test_dataset REAL --output_dir RUN"
        )
    accelerator.end_training()


if __name__ == "__main__":
    run(main, GenerateArguments)
