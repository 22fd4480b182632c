"""Trains the joint image-mask diffusion model (SynthSet, section 3).

    accelerate launch scripts/train_paired.py --config scripts/recipes/fast.yaml --dataset FOLDER --output_dir RUN

Killed at any moment, the same command line continues. `SynthSetPipeline.from_pretrained(RUN)` opens what it ends with.
"""

import logging
from functools import partial
from pathlib import Path

from synthset import PairedUNet2DModel, SynthSetPipeline
from synthset.arguments import PairedArguments
from synthset.cli import run
from synthset.errors import InputError
from synthset.training import dry_run, objectives
from synthset.training.adversarial import SaturationWatch, build_adversary, build_discriminator
from synthset.training.history import find_start
from synthset.training.optimization import build_lr_scheduler, build_optimizer
from synthset.training.run import TrainingRun
from synthset.training.setup import (
    build_model,
    build_noise_schedule,
    build_streams,
    load_training_pairs,
    start_accelerator,
)
from synthset.training.timesteps import CurriculumTimesteps, UniformTimesteps
from synthset.training.validation import inspect_pairs

logger = logging.getLogger("synthset")

MODEL_CARD = Path(__file__).parents[1] / "model_cards" / "paired.md"


def build_timesteps(args: PairedArguments, num_pairs: int, num_processes: int) -> UniformTimesteps:
    """Builds the distribution of timesteps over a run on `num_pairs` pairs.

    Raises:
        InputError: the run would end before all of them are in use, and sampling begins with the last.
    """
    top, positions = args.num_train_timesteps, args.max_train_steps * args.pairs_per_step(num_processes)
    if not args.curriculum:
        return UniformTimesteps(top)
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


def main(args: PairedArguments) -> None:
    # 1. data, noise, model
    accelerator = start_accelerator(args)
    train, validation = load_training_pairs(args, accelerator.num_processes)
    scheduler = build_noise_schedule(args)
    timesteps = build_timesteps(args, len(train), accelerator.num_processes)
    model = build_model(args)
    if args.dry_run:
        measures = 1 + (args.num_divergence_images > 0)
        discriminator = build_discriminator(args) if args.gan_weight else None
        accelerator.print(dry_run.report(args, model, measures, discriminator))
        if args.gan_weight:
            accelerator.print("# the discriminator is counted in what is on the disk alone")
        if args.curriculum:
            pairs_per_step = args.pairs_per_step(accelerator.num_processes)
            accelerator.print(dry_run.plot_t_max(timesteps, args.max_train_steps, pairs_per_step))
        return
    stream, validation_items = build_streams(args, train, validation, timesteps, adversarial=args.gan_weight > 0)

    # 2. where the last run stopped, and optimizers
    start = find_start(args, accelerator, train, validation)
    optimizer = build_optimizer(args, model.parameters())
    lr_scheduler = build_lr_scheduler(args, optimizer, start.leg_start)
    model, optimizer, lr_scheduler = accelerator.prepare(model, optimizer, lr_scheduler)
    networks, adversary, watch = [model], None, SaturationWatch()
    if args.gan_weight:
        adversary = build_adversary(args, accelerator, start.leg_start)
        networks.append(adversary.discriminator)
    training = TrainingRun(args, accelerator, model, start)

    def build_pipeline(unet: PairedUNet2DModel) -> SynthSetPipeline:
        return SynthSetPipeline(unet, scheduler, args.crop_size)

    def validate() -> None:
        inspect = partial(inspect_pairs, args=args, stream=stream)
        training.validate(scheduler, validation_items, build_pipeline, inspect)

    # 3. training
    if training.unvalidated:
        validate()
    for batch in training.batches(stream):
        with accelerator.accumulate(*networks):
            prediction = objectives.predict(model, scheduler, batch)
            loss = objectives.diffusion_loss(prediction, scheduler, batch, args.snr_gamma).mean()
            training.record(loss=loss)
            if adversary is not None:
                real, fake = objectives.posterior_pairs(prediction, scheduler, batch)
                training.record(**adversary.step(real, fake, batch["timestep"]))
                generator_loss = adversary.generator_loss(fake, batch["timestep"])
                training.record(generator_loss=generator_loss)
                loss = loss + args.gan_weight * generator_loss
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                norm = accelerator.clip_grad_norm_(model.parameters(), args.max_grad_norm or float("inf"))
                training.record(gradient_norm=norm)
                training.require_finite(stream)
            optimizer.step()
            optimizer.zero_grad()
        if not accelerator.sync_gradients:
            continue
        lr_scheduler.step()
        values = {"learning_rate": lr_scheduler.get_last_lr()[0]}
        if args.curriculum:
            last = (training.global_step + 1) * args.pairs_per_step(accelerator.num_processes) - 1
            values["t_max"] = timesteps.t_max(last)
        logged = training.finish_step(**values)
        if adversary is not None and logged:
            watch.update(training.global_step, logged["accuracy_real"], logged["accuracy_fake"])
        if training.due(args.validation_steps):
            validate()
        if training.due(args.checkpointing_steps):
            training.save(build_pipeline, MODEL_CARD)

    # 4. the pipeline that users open
    training.finish(build_pipeline, MODEL_CARD)


if __name__ == "__main__":
    run(main, PairedArguments)
