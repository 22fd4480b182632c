"""Trains segmentation models on generated or real pairs and tests them on real ones.

    accelerate launch scripts/train_segmentation.py --dataset GENERATED --test_dataset REAL --output_dir RUN

With `--finetune REAL_TRAIN`, which may be repeated, training continues there in further stages (SynthSet, table 1).
`--dataset A --dataset B --mix 0.5` trains on both, with half of the samples from A. With `--validation_dataset REAL`,
every stage keeps the weights with the highest Dice there. RUN gets

- `results.json`: Dice, IoU and boundary F1 on the test photos, each pixel counted once: mean and standard deviation
  over `--seeds` (`dice_std`), and the standard error over photos (`dice_se`);
- `seed-N/`: the model, for `synthset label` and `synthset.segmentation.Segmenter.from_pretrained`, its scores after
  every stage and the step whose weights were kept (`results.json`), and real and predicted masks of some test tiles
  (`predictions.png`);
- with `--images FOLDER_OR_FILE`, `seed-N/predictions/`: the masks of these photos (`NAME_mask.png`) and orthomosaics
  (`NAME_mask.tif`, georeferenced), 0 and 255, written anew by every run.

An interrupted run is continued by the same command, after the last finished seed; more seeds may be added. On one
device, the same seed gives bitwise equal weights.
"""

import json
import logging
import os
from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import NamedTuple

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import set_seed
from torch.utils.data import DataLoader

from synthset.arguments import SegmentationArguments
from synthset.cli import run
from synthset.console import progress
from synthset.data import choose_crop_size
from synthset.devices import describe_device
from synthset.errors import InputError
from synthset.evaluation.segmentation_metrics import mean_and_std
from synthset.output_dir import atomic_path, claim_output_dir
from synthset.publishing.cards import license_of_pairs, write_segmenter_card
from synthset.publishing.hub import check_push, push_folder
from synthset.segmentation import (
    BestWeights,
    PairSource,
    Segmenter,
    TestPhotos,
    TrainingPairs,
    begin_with,
    build_lr_scheduler,
    build_optimizer,
    build_segmenter,
    check_stage,
    check_test,
    load_segmenter,
    load_source,
    save,
    score,
    segmentation_loss,
)
from synthset.segmentation.predictions import (
    check_orthomosaic,
    list_photos,
    mask_paths,
    open_photo,
    write_mask,
)
from synthset.sources.rasters import is_orthomosaic
from synthset.sources.reading import Reading
from synthset.training.checkpointing import whole_or_absent
from synthset.training.stream import PositionSampler

CARD = Path(__file__).parents[1] / "model_cards" / "segmentation.md"
logger = logging.getLogger("synthset")
# what may differ between the runs that add seeds to a folder: data and weights count by their digests
UNCOUNTED = (
    "seeds",
    "num_workers",
    "init_from",
    "image_column",
    "mask_column",
    "test_split",
    "validation_split",
    "images",
    "bands",
    "bit_depth",
)


class Stage(NamedTuple):
    """Stage of training: its data, number of steps and learning rate."""

    sources: list[PairSource]
    steps: int
    learning_rate: float
    mix: float | None = None

    @property
    def name(self) -> str:
        """Flags that define the stage."""
        return " ".join(source.name for source in self.sources)


def build_stages(args: SegmentationArguments, accelerator: Accelerator) -> list[Stage]:
    """Loads the data of each stage and computes its steps; requires `args.crop_size`."""
    stages = []
    for number, names in enumerate([args.dataset, *([name] for name in args.finetune)]):
        flag = "--finetune" if number else "--dataset"
        columns = args.image_column, args.mask_column
        limits = [0] * len(names) if number else args.max_train_samples or [0] * len(names)
        sources = [
            load_source(flag, name, ["train"], *columns, args.crop_size, limit)
            for name, limit in zip(names, limits, strict=True)
        ]
        check_stage(sources)
        steps = args.of_stage("max_train_steps", number)
        if steps is None or (number and args.finetune_num_train_epochs and not args.finetune_max_train_steps):
            pairs = args.of_stage("num_train_epochs", number) * sum(map(len, sources))
            steps = max(1, pairs // (args.batch_size * accelerator.num_processes))
        stages.append(Stage(sources, steps, args.of_stage("learning_rate", number), None if number else args.mix))
    return stages


def train(
    args: SegmentationArguments,
    stage: Stage,
    key: tuple[int, int],
    model: torch.nn.Module,
    validation: TestPhotos | None,
    accelerator: Accelerator,
) -> dict[str, float]:
    """Trains one stage; `key`, the seed and the index of the stage, determines the order of its data. Returns which
    step's weights are kept, and their Dice on `validation`."""
    optimizer = accelerator.prepare(build_optimizer(args.optimizer, model.parameters(), stage.learning_rate))
    lr_scheduler = build_lr_scheduler(args.lr_scheduler, optimizer, stage.steps)
    assert args.crop_size is not None
    crops = stage.mix, args.augment, args.object_crops
    pairs = TrainingPairs(stage.sources, args.resolution, args.crop_size, key, *crops)
    positions = PositionSampler(args.batch_size, accelerator.process_index, accelerator.num_processes, 0, stage.steps)
    loader = DataLoader(pairs, batch_sampler=positions, num_workers=args.num_workers)
    segmenter = accelerator.unwrap_model(model, keep_torch_compile=False)
    best, interval = BestWeights(segmenter), args.validation_steps or max(1, stage.steps // 10)
    model.train()
    with progress(loader, f"seed {key[0]}, {stage.name}", unit="step", leave=False) as bar:
        for step, (images, masks) in enumerate(bar, start=1):
            loss = segmentation_loss(model(images.to(accelerator.device)), masks.to(accelerator.device))
            if not loss.isfinite():
                raise InputError(f"{stage.name}: the loss is {loss.item()}; lower its learning rate")
            accelerator.backward(loss)
            optimizer.step()
            lr_scheduler.step()
            optimizer.zero_grad()
            bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
            if validation is not None and (step % interval == 0 or step == stage.steps):
                dice = score(segmenter, validation, accelerator, args.batch_size, args.ignore_empty)["dice"]
                assert dice is not None  # there is an object in `validation`
                best.offer(step, dice)
                model.train()
    if validation is None:
        return {"kept_step": stage.steps}
    best.restore()
    return {"kept_step": best.step, "validation_dice": best.score}


def check_images(args: SegmentationArguments) -> tuple[list[Path], Reading]:
    """Lists `--images` and reads each, orthomosaics in part, so that what can't be read is refused before training.

    Raises:
        InputError: one can't be read, or the masks of two would have one name.
    """
    reading = Reading(bands=tuple(args.bands) if args.bands else None, bit_depth=args.bit_depth)
    files = [] if args.images is None else list_photos(Path(args.images))
    mask_paths(files, Path())
    for file in progress(files, "reading images", unit="image", leave=False, delay=1):
        if is_orthomosaic(file):
            check_orthomosaic(file, reading)
        else:
            open_photo(file, reading)
    return files, reading


def load_judges(args: SegmentationArguments) -> list[PairSource]:
    """Loads the test pairs and, after them, those of `--validation_dataset`, if any."""
    columns = args.image_column, args.mask_column
    splits = [args.test_split] if args.test_split else ["test", "validation", "train"]
    judges = [load_source("--test_dataset", args.test_dataset, splits, *columns)]
    if args.validation_dataset is not None:
        splits = [args.validation_split] if args.validation_split else ["validation", "train"]
        judges.append(load_source("--validation_dataset", args.validation_dataset, splits, *columns))
    return judges


def default_crop_size(args: SegmentationArguments, judges: list[PairSource]) -> int:
    """`--crop_size`, or what fits the smallest of the photos to score on."""
    places = [f"image {number} of {source.name}" for source in judges for number in range(len(source))]
    sides = [min(size) for source in judges for size in source.sizes]
    return choose_crop_size(args.crop_size, sides, places.__getitem__)


def build(args: SegmentationArguments, base: Segmenter | None) -> Segmenter:
    """Builds the network; it begins with the weights of `base`, if given."""
    weights = None if args.encoder_weights == "none" else args.encoder_weights
    assert args.crop_size is not None
    sizes = args.resolution, args.crop_size, args.threshold, args.batch_size
    segmenter = build_segmenter(args.arch, args.encoder_name, weights, *sizes)
    if base is not None:
        begin_with(segmenter, base, f"--init_from {args.init_from}")
    return segmenter


def claim(
    args: SegmentationArguments,
    accelerator: Accelerator,
    stages: list[Stage],
    judges: list[PairSource],
    base_sha256: str | None,
) -> None:
    """Creates the output folder, or checks that its seeds were trained with these settings on this data."""
    further = [source for stage in stages[1:] for source in stage.sources]
    test, *validation = judges
    data = {"dataset": stages[0].sources, "finetune": further, "test_dataset": [test], "validation_dataset": validation}
    digests = {f"{flag}_sha256": [source.sha256 for source in of_flag] for flag, of_flag in data.items()}
    digests |= {} if base_sha256 is None else {"init_from_sha256": [base_sha256]}
    settings = {**args.settings(), **digests, "processes": accelerator.num_processes}
    settings |= {"mixed_precision": accelerator.mixed_precision, "scored": "photos"}  # earlier versions scored tiles
    output_dir = settings.pop("output_dir")
    with accelerator.main_process_first():
        claim_output_dir(Path(output_dir), "settings.json", settings, (*UNCOUNTED, *data))


def train_seed(
    args: SegmentationArguments,
    seed: int,
    base: Segmenter | None,
    stages: list[Stage],
    test: TestPhotos,
    validation: TestPhotos | None,
    accelerator: Accelerator,
) -> None:
    """Trains a segmenter through all stages, scores it after each, and writes `seed-N`."""
    folder = Path(args.output_dir) / f"seed-{seed}"
    steps, device = sum(stage.steps for stage in stages), describe_device(accelerator.device)
    logger.info(f"seed {seed}: {len(stages)} stage(s), {steps} steps on {device}")
    # initial weights, broadcast from the first process, use 32 bits of the seed, data uses all
    set_seed((seed + accelerator.process_index) % 2**32)
    segmenter = build(args, base)
    model = accelerator.prepare(segmenter)
    report = []
    for number, stage in enumerate(stages):
        kept = train(args, stage, (seed, number), model, validation, accelerator)
        scores = score(segmenter, test, accelerator, args.batch_size, args.ignore_empty)
        made = {"stage": stage.name, "steps": stage.steps, "learning_rate": stage.learning_rate, **kept}
        report.append({**made, **scores})
        logger.info(f"seed {seed}, after {stage.name}: Dice {scores['dice']:.4f}, IoU {scores['iou']:.4f}")
    with whole_or_absent(folder, accelerator) as temporary:
        if accelerator.is_main_process:
            segmenter = accelerator.unwrap_model(model, keep_torch_compile=False)
            save(temporary, segmenter, test, {"seed": seed, **scores, "stages": report})
            logger.info(f"saved {folder}")
    accelerator.free_memory(model)


def summarize(args: SegmentationArguments) -> None:
    """Writes `results.json` of all seeds and the card of each, and prints the scores."""
    output_dir = Path(args.output_dir)
    runs = [json.loads((output_dir / f"seed-{seed}" / "results.json").read_text()) for seed in args.seeds]
    counted = [{k: v for k, v in run.items() if k not in ("seed", "stages")} for run in runs]
    summary = mean_and_std(counted)
    with atomic_path(output_dir / "results.json") as temporary:
        temporary.write_text(json.dumps({**summary, "seeds": runs}, indent=2) + "\n")
    for seed, scores in zip(args.seeds, runs, strict=True):
        write_segmenter_card(output_dir / f"seed-{seed}", CARD, scores, runs, asdict(args))
    for name, mean in summary.items():
        if name not in counted[0] or mean is None or name.endswith("_se"):
            continue
        spreads = {"seeds": summary.get(f"{name}_std"), "photos": summary.get(f"{name}_se")}
        spread = [f"+- {value:.4f} over {what}" for what, value in spreads.items() if value is not None]
        print(f"{name}: {round(mean, 4)} {', '.join(spread)}".rstrip())


def segment_images(args: SegmentationArguments, images: list[Path], reading: Reading, device: torch.device) -> None:
    """Writes the masks of `--images` by every seed."""
    for seed in args.seeds:
        folder = Path(args.output_dir) / f"seed-{seed}"
        segmenter = Segmenter.from_pretrained(folder).to(device)
        for file, mask in progress(mask_paths(images, folder / "predictions").items(), f"masks of seed {seed}"):
            write_mask(file, mask, segmenter, reading, args.batch_size)
        print(f"Wrote {len(images)} masks to {folder / 'predictions'}")


def main(args: SegmentationArguments) -> None:
    # 1. data and network, checked before anything is written
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # for deterministic matrix products on a GPU
    torch.use_deterministic_algorithms(True, warn_only=True)
    accelerator = Accelerator(
        cpu=not torch.accelerator.is_available(),  # otherwise accelerate does not connect processes on a CPU
        mixed_precision=args.mixed_precision,
        # some encoders have unused layers
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    judges = load_judges(args)
    args.crop_size = default_crop_size(args, judges)
    base, base_sha256 = (None, None) if args.init_from is None else load_segmenter(args.init_from, "--init_from")
    build(args, base)
    stages = build_stages(args, accelerator)
    sources = [source for stage in stages for source in stage.sources]
    for number, source in enumerate(judges):
        check_test(source, [*judges[number + 1 :], *sources])
    test, *chosen_on = (TestPhotos(source, args.resolution, args.crop_size) for source in judges)
    validation = chosen_on[0] if chosen_on else None
    images, reading = check_images(args)
    if args.push_to_hub and accelerator.is_main_process:
        data_license = args.data_license or license_of_pairs([*args.dataset, *args.finetune])
        check_push(args.hub_model_id, "model", args.hub_private_repo, data_license, args.output_dir)
    claim(args, accelerator, stages, judges, base_sha256)

    # 2. training
    output_dir = Path(args.output_dir)
    for seed in args.seeds:
        if not (output_dir / f"seed-{seed}").exists():
            train_seed(args, seed, base, stages, test, validation, accelerator)

    # 3. all seeds together
    if accelerator.is_main_process:
        summarize(args)
        first = output_dir / f"seed-{args.seeds[0]}"
        if args.push_to_hub:  # not the best seed, which would be selected on the test set
            address = push_folder(first, args.hub_model_id, args.hub_private_repo, home=output_dir)
            print(f"pushed to {address}")
        if images:
            segment_images(args, images, reading, accelerator.device)
        print(
            f"Wrote results.json and {len(args.seeds)} models to {output_dir}. To segment images, run: synthset label "
            f"--model {quote(str(first))} --images FOLDER_OR_VIDEO --output_dir DATASET"
        )
    accelerator.end_training()


if __name__ == "__main__":
    run(main, SegmentationArguments)
