"""Trains the joint image-mask diffusion model (SynthSet, section 3).

    accelerate launch scripts/train_paired.py --config scripts/recipes/fast.yaml --dataset FOLDER --output_dir RUN

Killed at any moment, the same command line continues. `SynthSetPipeline.from_pretrained(RUN)` opens what it ends with.
"""

import logging
import time
from functools import partial
from pathlib import Path

from accelerate import Accelerator
from datasets import Dataset

from synthset import PairedUNet2DModel, SynthSetPipeline
from synthset.arguments import PairedArguments
from synthset.arguments.base import resolved
from synthset.cli import run
from synthset.data import Augmentation, StreamedPairs
from synthset.data.augmentation import DIMENSIONS
from synthset.errors import InputError
from synthset.image_processor import PairImageProcessor
from synthset.signals import deferred
from synthset.training import costs, objectives
from synthset.training.adversarial import SaturationWatch, build_adversary, build_discriminator
from synthset.training.base_model import begin_with, freeze
from synthset.training.budget import plan_steps
from synthset.training.checkpointing import Checkpointer
from synthset.training.components import (
    build_loader,
    build_model,
    build_noise_schedule,
    build_streams,
    load_training_pairs,
    order_weights,
    start_accelerator,
)
from synthset.training.ema import build_ema
from synthset.training.export import Exporter
from synthset.training.folder import claim_run_dir
from synthset.training.guard import LossGuard, run_with_rewinds
from synthset.training.history import find_start
from synthset.training.log import Meter, MetricsLog
from synthset.training.optimization import build_lr_scheduler, build_optimizer
from synthset.training.plan import announce
from synthset.training.processes import stop_requested
from synthset.training.timesteps import CurriculumTimesteps, Directions, UniformTimesteps, build_density
from synthset.training.timetable import Timetable
from synthset.training.trackers import start_trackers
from synthset.training.validation import Validator, inspect_pairs

logger = logging.getLogger("synthset")

MODEL_CARD = Path(__file__).parents[1] / "model_cards" / "paired.md"


def build_timesteps(args: PairedArguments, num_pairs: int, num_processes: int) -> UniformTimesteps:
    """Builds the distribution of timesteps over a run on `num_pairs` pairs.

    Raises:
        InputError: the run would end before all of them are in use, and sampling begins with the last.
    """
    top, positions = args.num_train_timesteps, resolved(args.max_train_steps) * args.pairs_per_step(num_processes)
    if not args.curriculum:
        return build_density(args, build_noise_schedule(args).alphas_cumprod)
    if args.curriculum_form == "share":
        timesteps = CurriculumTimesteps.of_run(top, positions, args.curriculum_share, args.priority_share)
        remedy = "lower --curriculum_share or give more --max_train_steps"
    else:
        timesteps = CurriculumTimesteps(
            top,
            args.curriculum_sigma,
            args.curriculum_alpha * num_pairs,
            args.curriculum_initial,
            args.priority_epochs * num_pairs,
        )
        remedy = "give --curriculum_form share, which reaches it after a third of any run"
        third = positions // num_pairs // 3
        if third:
            alpha = min(args.curriculum_alpha, third)
            sigma = -(-(top - args.curriculum_initial) // (third // alpha))
            remedy += f", or --curriculum_sigma {sigma} --curriculum_alpha {alpha}"
    if timesteps.t_max(positions - 1) < top:
        raise InputError(
            f"--curriculum ends at t_max {timesteps.t_max(positions - 1)} of --num_train_timesteps {top}: the run of "
            f"{args.max_train_steps} steps is {positions // num_pairs:,} passes over {num_pairs} pairs; {remedy}"
        )
    if timesteps.t_max(positions // 100) == top:
        logger.warning(
            f"all {top} timesteps are in use within the first hundredth of the run, {positions // num_pairs:,} passes "
            f"over {num_pairs} pairs: there is no curriculum; give --curriculum_form share"
        )
    return timesteps


def build_network(args: PairedArguments, processor: PairImageProcessor) -> PairedUNet2DModel:
    """The network of samples that `processor` encodes, with weights drawn from `--seed`."""
    augment_dim = DIMENSIONS if args.augment_prob else 0
    return build_model(args, processor, augment_dim=augment_dim, mask_timestep=args.joint_share < 1)


def build_augmentation(args: PairedArguments, crop_size: int) -> Augmentation | None:
    """The augmentation in place of random crops of side `crop_size` and flips; None where the flags ask for no more
    than these."""
    if not args.augment_prob and not args.random_turns:
        return None
    return Augmentation(
        args.resolution, crop_size, args.augment_prob, args.augmentations, args.random_turns, args.object_crops
    )


def train(
    args: PairedArguments,
    accelerator: Accelerator,
    train_pairs: Dataset | StreamedPairs,
    validation_pairs: Dataset | list,
    timetable: Timetable,
) -> Exporter:
    """Trains into `args.output_dir`, from where its last checkpoint left off. Returns what pushes the result."""
    # 1. data, noise, network
    start = find_start(args, accelerator, train_pairs, validation_pairs)
    scheduler = build_noise_schedule(args)
    timesteps = build_timesteps(args, len(train_pairs), accelerator.num_processes)
    augmentation = partial(build_augmentation, args)
    options = {
        "adversarial": args.gan_weight > 0,
        "directions": Directions(args.joint_share, args.independent_share) if args.joint_share < 1 else None,
    }
    stream, validation_items = build_streams(
        args, train_pairs, validation_pairs, timesteps, start.checkpoint, augmentation, **options
    )
    model = order_weights(build_network(args, stream.processor), accelerator)
    if args.init_from is not None and start.checkpoint is None:
        begin_with(args, model)
    freeze(model, args.freeze)

    def build_pipeline(unet: PairedUNet2DModel) -> SynthSetPipeline:
        return SynthSetPipeline(unet, scheduler, args.crop_size)

    # 2. optimizers, and everything as the last checkpoint left it
    optimizer = build_optimizer(args, accelerator, model, start.rate)
    lr_scheduler = build_lr_scheduler(args, optimizer, start.leg_start)
    model, optimizer, lr_scheduler = accelerator.prepare(model, optimizer, lr_scheduler)
    networks, adversary, watch = [model], None, SaturationWatch()
    if args.gan_weight:
        adversary = build_adversary(args, accelerator, start.leg_start, start.rate)
        networks.append(adversary.discriminator)
    network = accelerator.unwrap_model(model, keep_torch_compile=False)
    channels = objectives.channel_weights(
        args.mask_loss_weight, network.config.image_channels, network.config.mask_channels, accelerator.device
    )
    ema = build_ema(args, accelerator, network)
    claim_run_dir(args, accelerator, start, timetable.budget)
    checkpoints = Checkpointer(accelerator, args.output_dir, ema, start.legs, args.checkpoints_total_limit)
    checkpoints.restore(start)
    step = start.step

    # 3. what is measured, kept and shown
    log = MetricsLog(Path(args.output_dir) / "metrics.jsonl", step, accelerator)
    if args.report_to:
        start_trackers(accelerator, args, step)
    inspect = partial(inspect_pairs, args=args, stream=stream)
    validator = Validator(
        args, accelerator, model, ema, scheduler, validation_items, build_pipeline, inspect, log, timetable
    )
    exporter = Exporter(args, accelerator, model, ema, build_pipeline, MODEL_CARD, start, log)
    guard = LossGuard(args, accelerator, stream, log, start.leg_start)
    announce(args, accelerator, network, stream, validation_pairs, step, timetable)
    if step and timetable.due(step, args.validation_steps) and not log.has("validation_loss", step):
        validator.validate(step)  # the run was stopped in between

    # 4. training; a request to stop waits for the end of a step
    model.train()
    with timetable.begin(step) as bar, deferred():
        meter = Meter(accelerator, timetable, step, args.pairs_per_step(accelerator.num_processes))
        for batch in build_loader(args, accelerator, stream, step):
            batch = {name: value.to(accelerator.device, non_blocking=True) for name, value in batch.items()}
            with accelerator.accumulate(*networks):
                prediction = objectives.predict(model, scheduler, batch)
                loss = objectives.diffusion_loss(
                    prediction, scheduler, batch, args.snr_gamma, args.loss_space, channels
                ).mean()
                meter.record(loss=loss)
                guard.watch(loss, batch["position"])
                if adversary is not None:
                    real, fake = objectives.posterior_pairs(prediction, scheduler, batch)
                    meter.record(**adversary.step(real, fake, batch["timestep"]))
                    generator_loss = adversary.generator_loss(fake, batch["timestep"])
                    meter.record(generator_loss=generator_loss)
                    loss = loss + args.gan_weight * generator_loss
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    norm = accelerator.clip_grad_norm_(model.parameters(), args.max_grad_norm or float("inf"))
                    meter.record(gradient_norm=norm)
                    guard.check(norm, step + 1)
                optimizer.step()
                optimizer.zero_grad()
            if not accelerator.sync_gradients:
                continue
            lr_scheduler.step()
            if ema is not None:
                ema.step(network.parameters())
            step += 1
            bar.update()

            if timetable.due(step, args.logging_steps):
                values = {**meter.read(step), "learning_rate": lr_scheduler.get_last_lr()[0]}
                if args.curriculum:
                    values["t_max"] = timesteps.t_max(step * args.pairs_per_step(accelerator.num_processes) - 1)
                log.write(values, step)
                bar.set_postfix({"loss": f"{values['loss']:.4f}"})
                guard.inspect(step)
                if adversary is not None:
                    watch.update(step, values["accuracy_real"], values["accuracy_fake"])
            if timetable.due(step, args.validation_steps):
                with timetable.job("validation"):
                    validator.validate(step)
            if timetable.due(step, args.checkpointing_steps):
                with timetable.job("checkpoint"):
                    checkpoints.save(step)
                    exporter.push_checkpoint(step)
            if stop_requested(accelerator):
                checkpoints.save_and_stop(step)
            if timetable.ends(step):
                break

    # 5. the pipeline that users open
    exporter.finish(step)
    return exporter


def dry_run(args: PairedArguments, accelerator: Accelerator, num_pairs: int) -> None:
    """Prints the resolved flags and what the run would cost."""
    discriminator = build_discriminator(args) if args.gan_weight else None
    network = build_network(args, PairImageProcessor())
    if args.init_from is not None:
        begin_with(args, network)
    accelerator.print(costs.report(args, network, 1 + (args.num_divergence_images > 0), discriminator))
    if args.gan_weight:
        accelerator.print("# the discriminator is counted in what is on the disk alone")
    if args.curriculum and args.max_train_steps is not None:
        timesteps = build_timesteps(args, num_pairs, accelerator.num_processes)
        pairs_per_step = args.pairs_per_step(accelerator.num_processes)
        accelerator.print(costs.plot_t_max(timesteps, args.max_train_steps, pairs_per_step))


def main(args: PairedArguments) -> None:
    started = time.monotonic()
    accelerator = start_accelerator(args)
    train_pairs, validation_pairs = load_training_pairs(args, accelerator.num_processes)
    if args.dry_run:
        dry_run(args, accelerator, len(train_pairs))
        return

    def run_for(flags: PairedArguments, timetable: Timetable) -> Exporter:
        return train(flags, accelerator, train_pairs, validation_pairs, timetable)

    timetable = plan_steps(args, accelerator, started, run_for)
    exporter = run_with_rewinds(args, accelerator, timetable, run_for)
    accelerator.end_training()
    exporter.push()
    logger.info(f"next: synthset generate --model {args.output_dir} --output_dir PAIRS --num_samples 1000")


if __name__ == "__main__":
    run(main, PairedArguments)
