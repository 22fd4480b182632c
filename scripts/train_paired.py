"""Trains the joint image-mask diffusion model (SynthSet, section 3).

    accelerate launch scripts/train_paired.py --config scripts/recipes/fast.yaml --dataset FOLDER --output_dir RUN

Killed at any moment, the same command line continues. `SynthSetPipeline.from_pretrained(RUN)` opens what it ends with.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from synthset import PairedUNet2DModel, SynthSetPipeline
from synthset.cli import run
from synthset.training import dry_run, objectives
from synthset.training.arguments import TrainingArguments
from synthset.training.optimization import build_lr_scheduler, build_optimizer
from synthset.training.run import TrainingRun
from synthset.training.setup import (
    build_model,
    build_noise_schedule,
    build_streams,
    load_training_pairs,
    start_accelerator,
)
from synthset.training.validation import preview

MODEL_CARD = Path(__file__).parents[1] / "model_cards" / "paired.md"


@dataclass
class PairedArguments(TrainingArguments):
    """Trains PairedUNet2DModel on image-mask pairs.

    Args:
        variant: `two_encoder`, `shared_encoder` or `concat` (paper, figure 2).
    """

    variant: Literal["two_encoder", "shared_encoder", "concat"] = "two_encoder"


def main(args: PairedArguments) -> None:
    # 1. data, noise, model
    accelerator = start_accelerator(args)
    train, validation = load_training_pairs(args, accelerator.num_processes)
    scheduler = build_noise_schedule(args)
    model = build_model(args)
    if args.dry_run:
        accelerator.print(dry_run.report(args, model))
        return
    stream, validation_items = build_streams(args, train, validation)

    # 2. optimizer, and where the last run stopped
    optimizer = build_optimizer(args, model.parameters())
    lr_scheduler = build_lr_scheduler(args, optimizer)
    model, optimizer, lr_scheduler = accelerator.prepare(model, optimizer, lr_scheduler)
    training = TrainingRun(args, accelerator, model)

    def build_pipeline(unet: PairedUNet2DModel) -> SynthSetPipeline:
        return SynthSetPipeline(unet, scheduler)

    # 3. training
    for batch in training.batches(stream):
        with accelerator.accumulate(model):
            prediction = objectives.predict(model, scheduler, batch)
            loss = objectives.diffusion_loss(prediction, scheduler, batch, args.snr_gamma).mean()
            training.require_finite(loss, batch, stream)
            accelerator.backward(loss)
            if accelerator.sync_gradients and args.max_grad_norm is not None:
                accelerator.clip_grad_norm_(model.parameters(), args.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
        training.record(loss=loss)
        if not accelerator.sync_gradients:
            continue
        lr_scheduler.step()
        training.finish_step(learning_rate=lr_scheduler.get_last_lr()[0])
        if training.due(args.validation_steps):
            training.validate(scheduler, validation_items, build_pipeline, partial(preview, args=args))
        if training.due(args.checkpointing_steps):
            training.save()

    # 4. the pipeline that users open
    training.finish(build_pipeline, MODEL_CARD)


if __name__ == "__main__":
    run(main, PairedArguments)
