"""The pipeline that users open, as a run writes and pushes it."""

import logging
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from accelerate import Accelerator, DistributedType
from accelerate.utils import broadcast_object_list
from diffusers import DiffusionPipeline, ModelMixin
from diffusers.training_utils import EMAModel

from ..arguments.base import resolved
from ..arguments.training import TrainingArguments
from ..publishing.cards import write_pipeline_card
from ..publishing.hub import BackgroundPush, push_folder
from ..signals import deferred
from .checkpointing import whole_or_absent
from .ema import ema_weights
from .history import Start
from .log import MetricsLog

logger = logging.getLogger("synthset")


def whole_model(accelerator: Accelerator, model: ModelMixin) -> ModelMixin:
    """The network behind what accelerate prepared, for saving and sampling: the module itself, or under FSDP a copy
    that on the main process has all weights. Every process calls it."""
    unwrapped = accelerator.unwrap_model(model, keep_torch_compile=False)
    if accelerator.distributed_type != DistributedType.FSDP:
        return unwrapped
    weights = accelerator.get_state_dict(model)
    copy = type(unwrapped).from_config(unwrapped.config)
    if accelerator.is_main_process:
        copy.load_state_dict(weights)
    return copy.to(accelerator.device)


def save_pipeline(pipeline: DiffusionPipeline, output_dir: Path, accelerator: Accelerator) -> None:
    """Writes `model_index.json` and the components' folders into `output_dir`, beside what is there. Every process
    calls it; the main one writes."""
    with deferred():
        with whole_or_absent(output_dir / "pipeline", accelerator) as folder:
            if accelerator.is_main_process:
                pipeline.save_pretrained(folder)
        if accelerator.is_main_process:
            # model_index.json goes last: a folder that has it is a whole pipeline
            (output_dir / "model_index.json").unlink(missing_ok=True)
            parts = [file for file in (output_dir / "pipeline").rglob("*") if file.is_file()]
            for part in sorted(parts, key=lambda file: file.name == "model_index.json"):
                destination = output_dir / part.relative_to(output_dir / "pipeline")
                destination.parent.mkdir(exist_ok=True)
                os.replace(part, destination)
            shutil.rmtree(output_dir / "pipeline")
        accelerator.wait_for_everyone()


class Exporter:
    """Writes a run's pipeline, with the averaged weights, and its card; pushes both.

    Args:
        args: the resolved flags.
        accelerator: the run's.
        model: the network, as prepared.
        ema: its moving average, or None.
        build_pipeline: makes a pipeline of the network.
        model_card: template of the card, in `model_cards/`.
        start: where the run continues, which the card tells.
        log: the run's, which the card tells.
    """

    def __init__(
        self,
        args: TrainingArguments,
        accelerator: Accelerator,
        model: ModelMixin,
        ema: EMAModel | None,
        build_pipeline: Callable[[ModelMixin], DiffusionPipeline],
        model_card: Path,
        start: Start,
        log: MetricsLog,
    ):
        self.args, self.accelerator, self.model, self.ema = args, accelerator, model, ema
        self.build_pipeline, self.model_card, self.start, self.log = build_pipeline, model_card, start, log
        self.output_dir, self.pushes = Path(args.output_dir), BackgroundPush()

    def push_checkpoint(self, step: int) -> None:
        """With `--hub_strategy checkpoint`, pushes the pipeline of now while training goes on, unless the last push is
        still going on. Every process calls it."""
        args = self.args
        wanted = args.push_to_hub and args.hub_strategy == "checkpoint" and step < resolved(args.max_train_steps)
        if not wanted or not broadcast_object_list([not self.pushes.busy])[0]:
            return
        folder = self.output_dir / ".hub"
        self._write(folder, step)
        if self.accelerator.is_main_process:
            push = partial(push_folder, folder, args.hub_model_id, args.hub_private_repo)
            self.pushes.start(partial(push, message=f"Step {step}", home=self.output_dir))

    def finish(self, step: int) -> None:
        """Writes the pipeline that users open. Every process calls it."""
        self._write(self.output_dir, step)
        best = ", ".join(str(path) for path in sorted(self.output_dir.glob("best-*")))
        logger.info(f"the pipeline is in {self.output_dir}, the best along the way in {best}")

    def push(self) -> None:
        """With `--push_to_hub`, pushes what `finish` wrote.

        Raises:
            InputError: it could not be pushed.
        """
        if not self.args.push_to_hub or not self.accelerator.is_main_process:
            return
        self.pushes.wait()
        shutil.rmtree(self.output_dir / ".hub", ignore_errors=True)
        address = push_folder(self.output_dir, self.args.hub_model_id, self.args.hub_private_repo)
        logger.info(f"pushed to {address}")

    def _write(self, folder: Path, step: int) -> None:
        """Writes the pipeline with the averaged weights, and its card, into `folder`."""
        network = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        with ema_weights(self.ema, network):
            pipeline = self.build_pipeline(whole_model(self.accelerator, self.model))
            save_pipeline(pipeline, folder, self.accelerator)
        if not self.accelerator.is_main_process:
            return
        if folder != self.output_dir:
            previews = sorted((self.output_dir / "previews").glob("step-*.png"))
            shutil.rmtree(folder / "previews", ignore_errors=True)
            for preview in previews[-1:]:
                (folder / "previews").mkdir()
                shutil.copy(preview, folder / "previews")
        write_pipeline_card(
            self.model_card,
            folder,
            self.args.settings() | {"data_license": self.args.data_license},
            sum(p.numel() for p in network.parameters()),
            self.log.entries,
            step,
            self.args.pairs_per_step(self.accelerator.num_processes),
            self.start.describe(step, resolved(self.args.max_train_steps)),
        )
