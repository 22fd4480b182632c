"""Trains the joint image-mask diffusion model (SynthSet, section 3).

    accelerate launch scripts/train_paired.py --config scripts/recipes/fast.yaml --dataset FOLDER --output_dir RUN

Killed at any moment, the same command line continues. `SynthSetPipeline.from_pretrained(RUN)` opens what it ends with.
"""

import logging
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
import yaml
from accelerate import Accelerator, DistributedType
from accelerate.utils import ProjectConfiguration, set_seed
from datasets import Dataset
from diffusers import DDPMScheduler
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from synthset import PairedUNet2DModel, SynthSetPipeline
from synthset.cli import run
from synthset.data import PairTensors, eval_transform, load_train_validation, resolve_crop_size, train_transform
from synthset.errors import InputError
from synthset.hub import write_model_card
from synthset.training import dry_run, objectives
from synthset.training.arguments import TrainingArguments
from synthset.training.checkpointing import Checkpointer, ema_weights, save_pipeline, whole_model
from synthset.training.optimization import build_ema, build_lr_scheduler, build_optimizer
from synthset.training.sampler import PositionSampler, TrainingStream, ValidationItems
from synthset.training.validation import MetricsLog, preview, validation_loss

MODEL_CARD = Path(__file__).parents[1] / "model_cards" / "paired.md"
logger = logging.getLogger("synthset")


@dataclass
class PairedArguments(TrainingArguments):
    """Trains PairedUNet2DModel on image-mask pairs.

    Args:
        variant: `two_encoder`, `shared_encoder` or `concat` (paper, figure 2).
        skip_fusion: how features from elsewhere enter a block: `scale_u` (the paper's choice), `zero_conv`, `concat`.
    """

    variant: Literal["two_encoder", "shared_encoder", "concat"] = "two_encoder"
    skip_fusion: Literal["scale_u", "zero_conv", "concat"] = "scale_u"


def build_model(args: PairedArguments) -> PairedUNet2DModel:
    model = PairedUNet2DModel(
        sample_size=args.resolution,
        variant=args.variant,
        skip_fusion=args.skip_fusion,
        block_out_channels=tuple(args.block_out_channels),
        layers_per_block=args.layers_per_block,
        attention_head_dim=args.attention_head_dim,
        norm_num_groups=args.norm_num_groups,
    )
    if args.gradient_checkpointing:
        model.enable_gradient_checkpointing()
    if args.enable_xformers_memory_efficient_attention:
        model.enable_xformers_memory_efficient_attention()
    return model


def build_streams(args: PairedArguments, train: Dataset, validation: Dataset) -> tuple[TrainingStream, ValidationItems]:
    still = eval_transform(args.resolution, args.crop_size)
    moving = still if args.overfit else train_transform(args.resolution, args.crop_size)
    stream = TrainingStream(PairTensors(train), moving, args.num_train_timesteps, args.seed)
    return stream, ValidationItems(PairTensors(validation), still, args.num_train_timesteps, args.seed)


def main(args: PairedArguments) -> None:
    torch.backends.cuda.matmul.allow_tf32 = args.allow_tf32
    output_dir = Path(args.output_dir)
    accelerator = Accelerator(
        cpu=not torch.accelerator.is_available(),  # without it, accelerate leaves processes on a CPU unconnected
        gradient_accumulation_steps=args.gradient_accumulation_steps,
        mixed_precision=args.mixed_precision,
        log_with=None if args.report_to == "none" else args.report_to,
        project_config=ProjectConfiguration(project_dir=output_dir, logging_dir=output_dir / "logs"),
        step_scheduler_with_optimizer=False,
    )
    logging.basicConfig(format="%(levelname)s: %(message)s")
    logger.setLevel(logging.INFO if accelerator.is_main_process else logging.ERROR)

    # 1. data
    train, validation = load_train_validation(
        args.dataset, args.image_column, args.mask_column, args.validation_fraction, args.seed
    )
    if args.overfit:
        train = validation = train.select(range(min(args.overfit, len(train))))
    args.crop_size = resolve_crop_size(args.crop_size, train, validation)
    pairs_per_step = args.train_batch_size * args.gradient_accumulation_steps * accelerator.num_processes
    if args.max_train_steps is None:
        args.max_train_steps = max(1, args.num_train_epochs * len(train) // pairs_per_step)

    # 2. model, noise, optimizer
    set_seed(args.seed)
    model = build_model(args)
    if args.dry_run:
        costs = dry_run.estimate_costs(model, args.train_batch_size, args.use_ema, args.gradient_checkpointing)
        accelerator.print(dry_run.report(asdict(args), costs))
        return
    stream, validation_items = build_streams(args, train, validation)
    scheduler = DDPMScheduler(
        args.num_train_timesteps, beta_schedule=args.beta_schedule, prediction_type=args.prediction_type
    )
    optimizer = build_optimizer(args, model.parameters())
    lr_scheduler = build_lr_scheduler(args, optimizer)
    model, optimizer, lr_scheduler = accelerator.prepare(model, optimizer, lr_scheduler)
    unwrapped = accelerator.unwrap_model(model, keep_torch_compile=False)
    if args.use_ema and accelerator.distributed_type == DistributedType.FSDP:
        raise InputError("--use_ema is true, but there is no moving average of sharded weights; give --use_ema false")
    ema = build_ema(args, unwrapped.parameters(), accelerator.device)

    # 3. where the last run stopped
    checkpointer = Checkpointer(
        accelerator, output_dir, ema, args.identity(accelerator.num_processes), args.checkpoints_total_limit
    )
    global_step = checkpointer.resume(args.resume_from_checkpoint)
    if accelerator.is_main_process:
        output_dir.mkdir(parents=True, exist_ok=True)
        (output_dir / "arguments.yaml").write_text(yaml.safe_dump(asdict(args), sort_keys=False))
    metrics = MetricsLog(output_dir / "metrics.jsonl", global_step, accelerator)
    scalars = {k: v if isinstance(v, int | float | str) else str(v) for k, v in asdict(args).items()}
    accelerator.init_trackers(args.run_name, config=scalars)
    loader = DataLoader(
        stream,
        batch_sampler=PositionSampler(
            args.train_batch_size,
            accelerator.process_index,
            accelerator.num_processes,
            start=global_step * args.gradient_accumulation_steps,
            stop=args.max_train_steps * args.gradient_accumulation_steps,
        ),
        num_workers=args.dataloader_num_workers,
        pin_memory=accelerator.device.type == "cuda",
    )
    parameters = sum(p.numel() for p in unwrapped.parameters())
    logger.info(
        f"{args.variant}, {parameters / 1e6:.1f} M parameters, on {len(train)} pairs ({len(validation)} for "
        f"validation), steps {global_step} to {args.max_train_steps} of {pairs_per_step} pairs, "
        f"{accelerator.num_processes} x {accelerator.device.type}, mixed precision {accelerator.mixed_precision}"
    )

    # 4. training
    def validate(step: int) -> None:
        with ema_weights(ema, unwrapped):
            unwrapped.eval()
            loss = validation_loss(unwrapped, scheduler, validation_items, args.train_batch_size, accelerator)
            whole = whole_model(accelerator, model)
            if loss < metrics.best("validation_loss"):
                save_pipeline(SynthSetPipeline(whole, scheduler), output_dir / "best-loss", accelerator)
            metrics.write({"validation_loss": loss}, step)
            if accelerator.is_main_process:
                steps = args.validation_num_inference_steps
                grid = preview(whole, scheduler, args.num_validation_images, steps, args.seed)
                (output_dir / "previews").mkdir(exist_ok=True)
                grid.save(output_dir / "previews" / f"step-{step:06d}.png")
            unwrapped.train()
        accelerator.wait_for_everyone()

    model.train()
    progress = tqdm(total=args.max_train_steps, initial=global_step, disable=not accelerator.is_main_process)
    total_loss, logged, since = 0.0, global_step, time.perf_counter()
    for batch in loader:
        sample, noise, timesteps = (batch[k].to(accelerator.device) for k in ("sample", "noise", "timestep"))
        with accelerator.accumulate(model):
            prediction = model(scheduler.add_noise(sample, noise, timesteps), timesteps).sample
            loss = objectives.diffusion_loss(prediction, scheduler, sample, noise, timesteps, args.snr_gamma).mean()
            if not loss.isfinite():
                raise InputError(
                    f"the loss is {loss.item()} at step {global_step + 1} on the pairs "
                    f"{[stream.pair_index(p) for p in batch['position'].tolist()]}; the checkpoints are unharmed: "
                    f"lower --learning_rate (now {args.learning_rate:g}) or set --max_grad_norm 1 in a new --output_dir"
                )
            accelerator.backward(loss)
            if accelerator.sync_gradients and args.max_grad_norm is not None:
                accelerator.clip_grad_norm_(model.parameters(), args.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
        total_loss += loss.detach() / args.gradient_accumulation_steps
        if not accelerator.sync_gradients:
            continue
        lr_scheduler.step()
        if ema is not None:
            ema.step(unwrapped.parameters())
        global_step += 1
        progress.update()

        last = global_step == args.max_train_steps
        if global_step % args.logging_steps == 0 or last:
            steps, seconds = global_step - logged, time.perf_counter() - since
            values = {
                "loss": accelerator.reduce(total_loss / steps, "mean").item(),
                "learning_rate": lr_scheduler.get_last_lr()[0],
                "images_per_second": steps * pairs_per_step / seconds,
            }
            metrics.write(values, global_step)
            progress.set_postfix(loss=f"{values['loss']:.4f}", images_per_second=f"{values['images_per_second']:.1f}")
            total_loss, logged, since = 0.0, global_step, time.perf_counter()
        pause = time.perf_counter()
        if (args.validation_steps and global_step % args.validation_steps == 0) or last:
            validate(global_step)
        if global_step % args.checkpointing_steps == 0 or last:
            checkpointer.save(global_step)
        since += time.perf_counter() - pause

    # 5. the pipeline that users open
    progress.close()
    with ema_weights(ema, unwrapped):
        save_pipeline(SynthSetPipeline(whole_model(accelerator, model), scheduler), output_dir, accelerator)
    if accelerator.is_main_process:
        write_model_card(MODEL_CARD, output_dir, asdict(args), parameters, metrics.entries)
    accelerator.end_training()
    logger.info(f"the pipeline is in {output_dir}, the best by validation loss in {output_dir / 'best-loss'}")


if __name__ == "__main__":
    run(main, PairedArguments)
