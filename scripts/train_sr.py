"""Trains the super-resolution model of image-mask pairs (SynthSet, section 3, "Super-resolution").

    accelerate launch scripts/train_sr.py --config scripts/recipes/sr_fast.yaml --dataset FOLDER --output_dir RUN

The low-resolution pairs are made from the targets on the fly. Killed at any moment, the same command line continues.
`SynthSetSRPipeline.from_pretrained(RUN)` opens what it ends with.
"""

import logging
import time
from functools import partial
from pathlib import Path

from accelerate import Accelerator
from datasets import Dataset
from diffusers import DDIMScheduler

from synthset import PairedUNet2DModel, SynthSetSRPipeline
from synthset.arguments import SRArguments
from synthset.cli import run
from synthset.data import StreamedPairs
from synthset.image_processor import PairImageProcessor
from synthset.signals import deferred
from synthset.training import costs, objectives
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
from synthset.training.stream import LowResCondition
from synthset.training.timesteps import build_density
from synthset.training.timetable import Timetable
from synthset.training.trackers import start_trackers
from synthset.training.validation import Validator, inspect_enlarged

logger = logging.getLogger("synthset")

MODEL_CARD = Path(__file__).parents[1] / "model_cards" / "sr.md"


def build_condition(args: SRArguments) -> LowResCondition:
    """The low-resolution pair as a function of the target."""
    alphas_cumprod = build_noise_schedule(args).alphas_cumprod
    return LowResCondition(args.resolution // args.scale_factor, args.max_noise_level, alphas_cumprod)


def build_sr_model(args: SRArguments, processor: PairImageProcessor) -> PairedUNet2DModel:
    """The network of samples that `processor` encodes, with weights drawn from `--seed`."""
    return build_model(args, processor, condition_channels=processor.channels, condition_noise=args.max_noise_level > 0)


def train(
    args: SRArguments,
    accelerator: Accelerator,
    train_pairs: Dataset | StreamedPairs,
    validation_pairs: Dataset | list,
    timetable: Timetable,
) -> Exporter:
    """Trains into `args.output_dir`, from where its last checkpoint left off. Returns what pushes the result."""
    # 1. data, noise, network
    start = find_start(args, accelerator, train_pairs, validation_pairs)
    scheduler = build_noise_schedule(args)
    timesteps = build_density(args, scheduler.alphas_cumprod)
    stream, validation_items = build_streams(
        args, train_pairs, validation_pairs, timesteps, start.checkpoint, condition=build_condition(args)
    )
    model = order_weights(build_sr_model(args, stream.processor), accelerator)
    if args.init_from is not None and start.checkpoint is None:
        begin_with(args, model)
    freeze(model, args.freeze)
    ddim = DDIMScheduler.from_config(scheduler.config)

    def build_pipeline(unet: PairedUNet2DModel) -> SynthSetSRPipeline:
        return SynthSetSRPipeline(unet, ddim, args.scale_factor, args.max_noise_level, args.crop_size)

    # 2. the optimizer, and everything as the last checkpoint left it
    optimizer = build_optimizer(args, accelerator, model, start.rate)
    lr_scheduler = build_lr_scheduler(args, optimizer, start.leg_start)
    model, optimizer, lr_scheduler = accelerator.prepare(model, optimizer, lr_scheduler)
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
    inspect = partial(inspect_enlarged, args=args, items=validation_items)
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
            with accelerator.accumulate(model):
                prediction = objectives.predict(model, scheduler, batch)
                loss = objectives.diffusion_loss(
                    prediction, scheduler, batch, args.snr_gamma, args.loss_space, channels
                ).mean()
                meter.record(loss=loss)
                guard.watch(loss, batch["position"])
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
                log.write(values, step)
                bar.set_postfix({"loss": f"{values['loss']:.4f}"})
                guard.inspect(step)
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


def main(args: SRArguments) -> None:
    started = time.monotonic()
    accelerator = start_accelerator(args)
    train_pairs, validation_pairs = load_training_pairs(args, accelerator.num_processes)
    if args.dry_run:
        network = build_sr_model(args, PairImageProcessor())
        if args.init_from is not None:
            begin_with(args, network)
        accelerator.print(costs.report(args, network))
        return

    def run_for(flags: SRArguments, timetable: Timetable) -> Exporter:
        return train(flags, accelerator, train_pairs, validation_pairs, timetable)

    timetable = plan_steps(args, accelerator, started, run_for)
    exporter = run_with_rewinds(args, accelerator, timetable, run_for)
    accelerator.end_training()
    exporter.push()
    logger.info(
        f"next: synthset generate --model MODEL --sr_model {args.output_dir} --output_dir PAIRS --num_samples 1000"
    )


if __name__ == "__main__":
    run(main, SRArguments)
