"""Checkpoints that are whole or absent.

`OUTPUT/checkpoint-STEP/` holds `unet/`, `unet_ema/` and, if there is one, `discriminator/` (safetensors, each loads
with `from_pretrained`), accelerate's optimizer, learning rate and random states, and `training_state.json` with the
digests of all other files. It is written under a temporary name and renamed.
"""

import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from accelerate import Accelerator
from diffusers import ModelMixin
from diffusers.training_utils import EMAModel
from safetensors import SafetensorError

from ..errors import InputError
from ..models import PairedDiscriminator2DModel, PairedUNet2DModel
from ..pipelines.loading import list_checkpoints
from ..signals import Stopped, deferred, request
from .ema import ema_weights
from .history import STATE_FILE, Start, list_digests, step_of

logger = logging.getLogger("synthset")

_FOLDERS = {PairedUNet2DModel: "unet", PairedDiscriminator2DModel: "discriminator"}


@contextmanager
def whole_or_absent(target: Path, accelerator: Accelerator) -> Iterator[Path]:
    """Yields a temporary folder, the same in every process, that replaces `target` when the block ends.

    If the block fails, the temporary folder is removed and `target` stays as it was. A request to stop waits.

    Raises:
        InputError: the disk is full or not writable.
    """
    temporary = target.with_name(f"tmp-{target.name}")
    with deferred():
        try:
            if accelerator.is_main_process:
                shutil.rmtree(temporary, ignore_errors=True)
                temporary.mkdir(parents=True)
            accelerator.wait_for_everyone()
            if not temporary.is_dir():
                raise InputError(f"--output_dir {target.parent} is not one folder for all processes; give one that is")
            yield temporary
            accelerator.wait_for_everyone()
            if accelerator.is_main_process:
                shutil.rmtree(target, ignore_errors=True)
                temporary.rename(target)
            accelerator.wait_for_everyone()
        except (OSError, RuntimeError, SafetensorError) as error:
            reason = " ".join(str(error).split())
            if isinstance(error, RuntimeError) and "PytorchStreamWriter" not in reason:
                raise  # only torch.save reports a full disk this way
            raise InputError(
                f"cannot write {target}: {reason}; free some space or choose another --output_dir, then run the same "
                "command again: it continues from the last whole checkpoint"
            ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


class Checkpointer:
    """Saves, rotates and restores the state of one run.

    Args:
        accelerator: everything it prepared (model, optimizer, learning rate schedule) is saved and restored.
        output_dir: the run's folder.
        ema: moving average of the U-Net's weights, saved and restored with it; None if there is none.
        legs: those of the run's [`Start`].
        total_limit: checkpoints to keep, 2 or more, since the newest may turn out to be damaged; None keeps all.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        output_dir: str | Path,
        ema: EMAModel | None,
        legs: list[dict],
        total_limit: int | None = None,
    ):
        self.accelerator, self.output_dir, self.ema = accelerator, Path(output_dir), ema
        self.legs, self.total_limit = legs, total_limit
        self.saved_step: int | None = None

    def _save_models(self, models: list[ModelMixin], weights: list[dict], folder: str) -> None:
        # weights is empty under FSDP, where accelerate saves the shards itself
        for model in models[: len(weights)]:
            weights.pop()
            if self.accelerator.is_main_process:
                model = self.accelerator.unwrap_model(model, keep_torch_compile=False)
                model.save_pretrained(Path(folder) / _FOLDERS[type(model)])
                if self.ema is not None and isinstance(model, PairedUNet2DModel):
                    with ema_weights(self.ema, model):
                        model.save_pretrained(Path(folder) / "unet_ema")

    def _load_models(self, models: list[ModelMixin], folder: str) -> None:
        while models:
            model = self.accelerator.unwrap_model(models.pop(), keep_torch_compile=False)
            restored = type(model).from_pretrained(folder, subfolder=_FOLDERS[type(model)])
            model.load_state_dict(restored.state_dict())
            if self.ema is not None and isinstance(model, PairedUNet2DModel):
                average = type(model).from_pretrained(folder, subfolder="unet_ema")
                self.ema.shadow_params = [p.detach().to(self.accelerator.device) for p in average.parameters()]

    def save(self, step: int, interrupted: bool = False) -> None:
        """Writes `checkpoint-STEP`, and removes older ones beyond `total_limit`, those written only because the run was
        interrupted, and those of later steps, left from before the run went back. Every process calls it.

        Args:
            step: optimizer steps done.
            interrupted: whether to remove this one when the next is written.
        """
        with whole_or_absent(self.output_dir / f"checkpoint-{step}", self.accelerator) as folder:
            hook = self.accelerator.register_save_state_pre_hook(self._save_models)
            try:
                self.accelerator.save_state(folder)
            finally:
                hook.remove()
            self.accelerator.wait_for_everyone()
            if self.accelerator.is_main_process:
                state = {"global_step": step, "interrupted": interrupted, "legs": self.legs}
                state["files"] = list_digests(folder)
                (folder / STATE_FILE).write_text(json.dumps(state, indent=2) + "\n")
        if self.accelerator.is_main_process:
            for other in list_checkpoints(self.output_dir):
                if step_of(other) > step or (step_of(other) < step and _is_interrupted(other)):
                    shutil.rmtree(other)
            for old in list_checkpoints(self.output_dir)[: -self.total_limit] if self.total_limit else []:
                shutil.rmtree(old)
        self.saved_step = step
        logger.info(f"saved {self.output_dir / f'checkpoint-{step}'}")

    def save_and_stop(self, step: int) -> NoReturn:
        """Ends the run, which was asked to stop, after `step`. Every process calls it.

        Raises:
            Stopped: always; the step is in a checkpoint.
        """
        if self.saved_step != step:
            self.save(step, interrupted=True)
        logger.info(f"step {step} is finished and in a checkpoint")
        self.accelerator.end_training()
        raise Stopped(request.signal)

    def restore(self, start: Start) -> None:
        """Restores the checkpoint of `start`, if there is one. At the beginning of a leg, the optimizers' moments are
        kept, while the learning rate and other settings are those of the current flags. After a rewind, the learning
        rate's schedule goes on from the rate that the optimizers were built with."""
        if start.checkpoint is None:
            return
        optimizers, lr_schedulers = self.accelerator._optimizers, self.accelerator._schedulers
        numbers = [[dict(group, params=None) for group in optimizer.param_groups] for optimizer in optimizers]
        schedules = [lr_scheduler.state_dict() for lr_scheduler in lr_schedulers]
        hook = self.accelerator.register_load_state_pre_hook(self._load_models)
        try:
            self.accelerator.load_state(start.checkpoint)
        finally:
            hook.remove()
        self.saved_step = start.step
        if start.begins_leg:
            for optimizer, groups in zip(optimizers, numbers, strict=True):
                for group, new in zip(optimizer.param_groups, groups, strict=True):
                    group.update({name: value for name, value in new.items() if name != "params"})
            for lr_scheduler, schedule in zip(lr_schedulers, schedules, strict=True):
                lr_scheduler.load_state_dict(schedule)
        elif start.rate < 1:
            for lr_scheduler, schedule in zip(lr_schedulers, schedules, strict=True):
                lr_scheduler.scheduler.base_lrs = schedule["base_lrs"]
                lr_scheduler.scheduler.last_epoch -= 1
                lr_scheduler.step()  # computes the rate again
        if self.ema is not None:
            self.ema.optimization_step = start.step


def _is_interrupted(checkpoint: Path) -> bool:
    """True if a checkpoint was only written because its run was interrupted."""
    try:
        return json.loads((checkpoint / STATE_FILE).read_text())["interrupted"]
    except (OSError, ValueError, KeyError):  # damaged
        return False
