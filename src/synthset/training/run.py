"""A run's folder and place in time: what a training script does around its loop."""

import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
import yaml
from accelerate import Accelerator, DistributedType
from accelerate.utils import broadcast_object_list
from diffusers import DDPMScheduler, DiffusionPipeline, ModelMixin
from PIL import Image
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from ..arguments.training import TrainingArguments
from ..cards import license_of_pairs, write_pipeline_card
from ..data.writer import atomic_path
from ..errors import InputError
from ..hub import BackgroundPush, check_push, push_folder
from ..pipelines.loading import list_checkpoints
from ..settings import lock_output_dir
from ..signals import Stopped, deferred, request, undeferred
from .checkpointing import Checkpointer, ema_weights, save_pipeline, whole_model
from .history import RUN_FILE, Start, differences, on_main_process
from .optimization import build_ema
from .sampler import PositionSampler, TrainingStream, ValidationItems
from .trackers import start_trackers, track_picture
from .validation import MetricsLog, validation_loss

logger = logging.getLogger("synthset")


class TrainingRun:
    """A run's folder and place in time; the loop itself is the script's.

    Takes the folder, restores the checkpoint to continue from, if there is one, and writes `arguments.yaml`.

    Args:
        args: the resolved flags.
        accelerator: has prepared everything that a checkpoint holds.
        model: the network, as prepared.
        start: where to continue.

    Attributes:
        global_step: optimizer steps taken.
        unwrapped: the network behind what accelerate prepared.
        ema: its moving average, or None.
        metrics: the log.

    Raises:
        InputError: another process writes into the folder, or it has somebody else's README.md, or the Hub says no.
    """

    def __init__(self, args: TrainingArguments, accelerator: Accelerator, model: ModelMixin, start: Start):
        self.args, self.accelerator, self.model, self.start = args, accelerator, model, start
        self.output_dir = Path(args.output_dir)
        self.unwrapped = accelerator.unwrap_model(model, keep_torch_compile=False)
        if args.use_ema and accelerator.distributed_type == DistributedType.FSDP:
            raise InputError("--use_ema is true, but there is no moving average of sharded weights; give false")
        self.ema = build_ema(args, self.unwrapped.parameters(), accelerator.device)
        on_main_process(accelerator, self._claim)
        self.checkpointer = Checkpointer(
            accelerator, self.output_dir, self.ema, start.legs, args.checkpoints_total_limit
        )
        self.checkpointer.restore(start)
        self.global_step = self.saved_step = start.step
        self.pushes = BackgroundPush()
        self.metrics = MetricsLog(self.output_dir / "metrics.jsonl", self.global_step, accelerator)
        if args.report_to:
            start_trackers(accelerator, args, self.global_step)
        self.recorded: dict[str, list[torch.Tensor]] = {}
        self.positions: list[torch.Tensor] = []
        self.logged, self.since = self.global_step, time.perf_counter()

    def _claim(self) -> None:
        """Makes the folder this run's, on the main process."""
        args = self.args
        if args.push_to_hub:
            data_license = args.data_license or license_of_pairs([args.dataset])
            check_push(args.hub_model_id, "model", args.hub_private_repo, data_license, self.output_dir)
        lock_output_dir(self.output_dir)
        card = self.output_dir / "README.md"
        if card.exists() and "synthset" not in card.read_text(encoding="utf-8", errors="replace"):
            raise InputError(f"{card} is not a card of SynthSet, which goes there at the end; move it away")
        for name, text in {
            RUN_FILE: json.dumps({"legs": self.start.legs}, indent=2) + "\n",
            "arguments.yaml": yaml.safe_dump(asdict(args), sort_keys=False),
        }.items():
            with atomic_path(self.output_dir / name) as temporary:
                temporary.write_text(text)
        if self.start.begins_leg:
            before, leg = (leg["identity"] for leg in self.start.legs[-2:])
            logger.info(f"a new leg begins at step {self.start.step}: {', '.join(differences(before, leg))}")
            if before.get("validation pairs") != leg.get("validation pairs"):
                logger.warning(
                    "pairs that are held out for validation now may have been trained on before; then their loss is "
                    "too low"
                )

    @property
    def parameters(self) -> int:
        """Number of the network's weights."""
        return sum(p.numel() for p in self.unwrapped.parameters())

    def batches(self, stream: TrainingStream) -> Iterator[dict[str, torch.Tensor]]:
        """This process's batches from where the run stands to its last step, on its device.

        Raises:
            Stopped: a process was asked to stop; the step is finished and in a checkpoint.
        """
        args, accelerator = self.args, self.accelerator
        positions = PositionSampler(
            args.batch_size,
            accelerator.process_index,
            accelerator.num_processes,
            start=self.global_step * args.gradient_accumulation_steps,
            stop=args.max_train_steps * args.gradient_accumulation_steps,
        )
        loader = DataLoader(
            stream,
            batch_sampler=positions,
            num_workers=args.num_workers,
            pin_memory=accelerator.device.type == "cuda",
            generator=torch.Generator(),  # else it would draw from the global one whenever a run continues
        )
        logger.info(
            f"{args.variant}, {self.parameters / 1e6:.1f} M parameters, on {len(stream.pairs)} pairs, steps "
            f"{self.global_step} to {args.max_train_steps} of {args.pairs_per_step(accelerator.num_processes)} pairs, "
            f"{accelerator.num_processes} x {accelerator.device.type}, mixed precision {accelerator.mixed_precision}"
        )
        self.model.train()
        self.progress = tqdm(
            total=args.max_train_steps, initial=self.global_step, disable=not accelerator.is_main_process
        )
        self.since = time.perf_counter()
        with self.progress, deferred():
            for batch in loader:
                self.positions.append(batch["position"])
                yield {name: value.to(accelerator.device) for name, value in batch.items()}
                if accelerator.sync_gradients and self.stop_requested():
                    if self.saved_step < self.global_step:
                        self.checkpointer.save(self.global_step, interrupted=True)
                    logger.info(f"step {self.global_step} is finished and in a checkpoint")
                    accelerator.end_training()
                    raise Stopped(request.signal)

    def stop_requested(self) -> bool:
        """True if any process was asked to stop. Every process calls it, and all get the same answer: a signal that
        comes while they agree counts the next time."""
        if self.accelerator.num_processes == 1:
            return request.signal is not None
        if request.signal:
            self.accelerator.set_trigger()
        if not self.accelerator.check_trigger():
            return False
        request.signal = request.signal or "a signal to another process"
        return True

    def require_finite(self, stream: TrainingStream) -> None:
        """Stops a run whose recorded gradient norm, which is that of all processes together, is not finite, before the
        optimizer steps. With fp16 that is no fault: accelerate leaves such a step out; then only the losses count.

        Raises:
            InputError: names the step and the pairs.
        """
        norm, halves = self.recorded["gradient_norm"][-1], self.accelerator.scaler is not None
        if not halves and norm.isfinite():
            return
        losses = self.recorded["loss"][-len(self.positions) :]
        bad = [i for i, loss in enumerate(losses) if not loss.isfinite()]
        if halves and not bad:
            return
        found = f"the loss is {losses[bad[0]].item()}" if bad else f"the gradient's norm is {norm.item()}"
        pairs = [stream.pair_index(p) for i in bad or range(len(losses)) for p in self.positions[i].tolist()]
        there = list_checkpoints(self.output_dir)
        back = f"go back with --resume_from_checkpoint {there[-1].name} --new_leg" if there else "start anew"
        raise InputError(
            f"{found} at step {self.global_step + 1} on the pairs {pairs}; nothing was learned from it: {back} and a "
            f"lower --learning_rate (now {self.args.learning_rate:g}) or --max_grad_norm 1"
        )

    def record(self, **values: torch.Tensor) -> None:
        """Takes in scalars that a forward pass measured; `finish_step` logs their means."""
        for name, value in values.items():
            if isinstance(value, DTensor):  # FSDP's gradient norm
                value = value.full_tensor()
            self.recorded.setdefault(name, []).append(value.detach())

    def finish_step(self, **values: float) -> dict[str, float]:
        """Counts an optimizer step, moves the average along, and logs every `logging_steps`: the means of what was
        recorded since the last time, and `values` as they are. Returns what it logged."""
        if self.ema is not None:
            self.ema.step(self.unwrapped.parameters())
        self.global_step += 1
        self.positions.clear()
        self.progress.update()
        if not self.due(self.args.logging_steps):
            return {}
        steps, seconds = self.global_step - self.logged, time.perf_counter() - self.since
        means = {k: self.accelerator.reduce(torch.stack(v).mean(), "mean").item() for k, v in self.recorded.items()}
        pairs = steps * self.args.pairs_per_step(self.accelerator.num_processes)
        values = {**means, **values, "images_per_second": pairs / seconds}
        self.metrics.write(values, self.global_step)
        self.progress.set_postfix({name: f"{value:.4g}" for name, value in values.items()})
        self.recorded, self.logged, self.since = {}, self.global_step, time.perf_counter()
        return values

    def due(self, every: int) -> bool:
        """True if something done every `every` steps (0 = only at the end) is to be done now."""
        last = self.global_step == self.args.max_train_steps
        return last or (every > 0 and self.global_step % every == 0)

    @property
    def unvalidated(self) -> bool:
        """True if a request to stop came between the last step and its validation."""
        done = any(entry["step"] == self.global_step for entry in self.metrics.entries if "validation_loss" in entry)
        return self.global_step > 0 and self.due(self.args.validation_steps) and not done

    def validate(
        self,
        scheduler: DDPMScheduler,
        items: ValidationItems,
        build_pipeline: Callable[[ModelMixin], DiffusionPipeline],
        inspect: Callable[[DiffusionPipeline], tuple[Image.Image, dict[str, float]]],
    ) -> None:
        """Judges the averaged weights and keeps the pipeline that is best by any measure in a folder of its own.

        Args:
            scheduler, items: for the validation loss; its folder is `best-loss`.
            build_pipeline: makes a pipeline of the network.
            inspect: draws the preview and measures what it drew, the less the better; NAME's folder is `best-NAME`.
        """
        pause, accelerator = time.perf_counter(), self.accelerator
        with deferred(), ema_weights(self.ema, self.unwrapped):
            self.unwrapped.eval()
            batch_size = self.args.batch_size
            loss = validation_loss(self.unwrapped, scheduler, items, batch_size, accelerator, self.stop_requested)
            whole, drawn = whole_model(accelerator, self.model), None
            if accelerator.is_main_process:
                try:
                    with undeferred():  # it takes long, and no other process takes part
                        drawn = inspect(build_pipeline(whole))
                except Stopped:
                    pass
            self.unwrapped.train()
            if self.stop_requested():
                return
            values = {"validation_loss": loss, **broadcast_object_list([drawn and drawn[1]])[0]}
            for name, value in values.items():
                if value < self.metrics.best(name):
                    folder = self.output_dir / f"best-{name.removeprefix('validation_')}"
                    save_pipeline(build_pipeline(whole), folder, accelerator)
            if accelerator.is_main_process:
                with atomic_path(self.output_dir / "previews" / f"step-{self.global_step:06d}.png") as temporary:
                    drawn[0].save(temporary, "PNG")
                track_picture(accelerator, "preview", drawn[0], self.global_step)
            self.metrics.write(values, self.global_step)
        self.since += time.perf_counter() - pause

    def save(self, build_pipeline: Callable[[ModelMixin], DiffusionPipeline], model_card: Path) -> None:
        """Writes a checkpoint; with `--hub_strategy checkpoint`, pushes the pipeline of now meanwhile, unless the last
        push is still going on."""
        pause, args = time.perf_counter(), self.args
        self.checkpointer.save(self.global_step)
        self.saved_step = self.global_step
        pushes = args.push_to_hub and args.hub_strategy == "checkpoint" and self.global_step < args.max_train_steps
        if pushes and broadcast_object_list([not self.pushes.busy])[0]:
            folder = self.output_dir / ".hub"
            self._write_pipeline(folder, build_pipeline, model_card)
            if self.accelerator.is_main_process:
                to = {"message": f"Step {self.global_step}", "home": self.output_dir}
                self.pushes.start(partial(push_folder, folder, args.hub_model_id, args.hub_private_repo, **to))
        self.since += time.perf_counter() - pause

    def _write_pipeline(
        self, folder: Path, build_pipeline: Callable[[ModelMixin], DiffusionPipeline], model_card: Path
    ) -> None:
        """Writes the pipeline with the averaged weights, and its card, into `folder`."""
        with ema_weights(self.ema, self.unwrapped):
            save_pipeline(build_pipeline(whole_model(self.accelerator, self.model)), folder, self.accelerator)
        if not self.accelerator.is_main_process:
            return
        if folder != self.output_dir:
            previews = sorted((self.output_dir / "previews").glob("step-*.png"))
            shutil.rmtree(folder / "previews", ignore_errors=True)
            for preview in previews[-1:]:
                (folder / "previews").mkdir()
                shutil.copy(preview, folder / "previews")
        write_pipeline_card(
            model_card,
            folder,
            self.args.settings() | {"data_license": self.args.data_license},
            self.parameters,
            self.metrics.entries,
            self.global_step,
            self.args.pairs_per_step(self.accelerator.num_processes),
            self.start.describe(self.global_step, self.args.max_train_steps),
        )

    def finish(self, build_pipeline: Callable[[ModelMixin], DiffusionPipeline], model_card: Path) -> None:
        """Writes the pipeline that users open, with the averaged weights, and its card, and pushes it.

        Raises:
            InputError: it could not be pushed.
        """
        self._write_pipeline(self.output_dir, build_pipeline, model_card)
        self.accelerator.end_training()
        best = ", ".join(str(path) for path in sorted(self.output_dir.glob("best-*")))
        logger.info(f"the pipeline is in {self.output_dir}, the best along the way in {best}")
        if self.args.push_to_hub and self.accelerator.is_main_process:
            self.pushes.wait()
            shutil.rmtree(self.output_dir / ".hub", ignore_errors=True)
            address = push_folder(self.output_dir, self.args.hub_model_id, self.args.hub_private_repo)
            logger.info(f"pushed to {address}")
