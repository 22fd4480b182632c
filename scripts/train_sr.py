"""Trains the super-resolution model of image-mask pairs (SynthSet, section 3, "Super-resolution").

    accelerate launch scripts/train_sr.py --config scripts/recipes/sr_fast.yaml --dataset FOLDER --output_dir RUN

The low-resolution pairs are made from the targets on the fly. Killed at any moment, the same command line continues.
`SynthSetSRPipeline.from_pretrained(RUN)` opens what it ends with.
"""

from functools import partial
from pathlib import Path

from diffusers import DDIMScheduler

from synthset import PairedUNet2DModel, SynthSetSRPipeline
from synthset.arguments import SRArguments
from synthset.cli import run
from synthset.training import dry_run, objectives
from synthset.training.history import find_start
from synthset.training.optimization import build_lr_scheduler, build_optimizer
from synthset.training.run import TrainingRun
from synthset.training.sampler import LowResCondition
from synthset.training.setup import (
    build_model,
    build_noise_schedule,
    build_streams,
    load_training_pairs,
    start_accelerator,
)
from synthset.training.validation import inspect_enlarged

MODEL_CARD = Path(__file__).parents[1] / "model_cards" / "sr.md"


def main(args: SRArguments) -> None:
    # 1. data, noise, model
    accelerator = start_accelerator(args)
    train, validation = load_training_pairs(args, accelerator.num_processes)
    scheduler = build_noise_schedule(args)
    condition = LowResCondition(args.resolution // args.scale_factor, args.max_noise_level, scheduler.alphas_cumprod)
    model = build_model(args, condition_channels=condition.channels, condition_noise=args.max_noise_level > 0)
    if args.dry_run:
        accelerator.print(dry_run.report(args, model))
        return
    stream, validation_items = build_streams(args, train, validation, condition=condition)

    # 2. where the last run stopped, and the optimizer
    start = find_start(args, accelerator, train, validation)
    optimizer = build_optimizer(args, model.parameters())
    lr_scheduler = build_lr_scheduler(args, optimizer, start.leg_start)
    model, optimizer, lr_scheduler = accelerator.prepare(model, optimizer, lr_scheduler)
    training = TrainingRun(args, accelerator, model, start)
    ddim = DDIMScheduler.from_config(scheduler.config)

    def build_pipeline(unet: PairedUNet2DModel) -> SynthSetSRPipeline:
        return SynthSetSRPipeline(unet, ddim, args.scale_factor, args.max_noise_level, args.crop_size)

    def validate() -> None:
        inspect = partial(inspect_enlarged, args=args, items=validation_items)
        training.validate(scheduler, validation_items, build_pipeline, inspect)

    # 3. training
    if training.unvalidated:
        validate()
    for batch in training.batches(stream):
        with accelerator.accumulate(model):
            prediction = objectives.predict(model, scheduler, batch)
            loss = objectives.diffusion_loss(prediction, scheduler, batch, args.snr_gamma).mean()
            training.record(loss=loss)
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
        training.finish_step(learning_rate=lr_scheduler.get_last_lr()[0])
        if training.due(args.validation_steps):
            validate()
        if training.due(args.checkpointing_steps):
            training.save(build_pipeline, MODEL_CARD)

    # 4. the pipeline that users open
    training.finish(build_pipeline, MODEL_CARD)


if __name__ == "__main__":
    run(main, SRArguments)
