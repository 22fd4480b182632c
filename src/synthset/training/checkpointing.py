"""Checkpoints that are whole or absent, and the finished pipeline.

`OUTPUT/checkpoint-STEP/` holds `unet/` and `unet_ema/`, with a discriminator `discriminator/` (safetensors, each opens
with `from_pretrained`), accelerate's optimizer, learning rate and random states, and `training_state.json`. It is
written under a temporary name and renamed.
"""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from accelerate import Accelerator, DistributedType
from diffusers import DiffusionPipeline, ModelMixin
from diffusers.training_utils import EMAModel
from safetensors import SafetensorError

from ..errors import InputError
from ..models import PairedDiscriminator2DModel, PairedUNet2DModel

_STATE = "training_state.json"
_FOLDERS = {PairedUNet2DModel: "unet", PairedDiscriminator2DModel: "discriminator"}


@contextmanager
def whole_or_absent(target: Path, accelerator: Accelerator) -> Iterator[Path]:
    """Gives every process a temporary folder next to `target` that takes `target`'s place when the block ends.

    If the block fails, the temporary folder is removed and what stood at `target` stays.

    Raises:
        InputError: the disk is full or not writable.
    """
    temporary = target.with_name(f"tmp-{target.name}")
    try:
        if accelerator.is_main_process:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
        accelerator.wait_for_everyone()
        yield temporary
        accelerator.wait_for_everyone()
    except (OSError, RuntimeError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        reason = " ".join(str(error).split())
        if isinstance(error, RuntimeError) and "PytorchStreamWriter" not in reason:
            raise  # only torch.save reports a full disk this way
        raise InputError(
            f"cannot write {target}: {reason}; free some space or choose another --output_dir, then run the same "
            "command again: it continues from the last whole checkpoint"
        ) from error
    if accelerator.is_main_process:
        shutil.rmtree(target, ignore_errors=True)
        temporary.rename(target)
    accelerator.wait_for_everyone()


class Checkpointer:
    """Saves, rotates and restores the state of one run.

    Args:
        accelerator: everything it prepared (model, optimizer, learning rate schedule) is saved and restored.
        output_dir: the run's folder.
        ema: the U-Net's moving average, to save and restore beside it, if there is one.
        identity: the flags that decide what is learned; a checkpoint whose identity differs is refused.
        total_limit: checkpoints to keep.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        output_dir: str | Path,
        ema: EMAModel | None,
        identity: dict,
        total_limit: int | None = None,
    ):
        self.accelerator, self.output_dir, self.ema = accelerator, Path(output_dir), ema
        self.identity, self.total_limit = identity, total_limit
        accelerator.register_save_state_pre_hook(self._save_models)
        accelerator.register_load_state_pre_hook(self._load_models)

    def _save_models(self, models, weights, folder):
        # weights is empty under FSDP, where accelerate saves the shards itself
        for model in models[: len(weights)]:
            weights.pop()
            if self.accelerator.is_main_process:
                model = self.accelerator.unwrap_model(model, keep_torch_compile=False)
                model.save_pretrained(Path(folder) / _FOLDERS[type(model)])
                if self.ema is not None and isinstance(model, PairedUNet2DModel):
                    with ema_weights(self.ema, model):
                        model.save_pretrained(Path(folder) / "unet_ema")

    def _load_models(self, models, folder):
        while models:
            model = self.accelerator.unwrap_model(models.pop(), keep_torch_compile=False)
            restored = type(model).from_pretrained(folder, subfolder=_FOLDERS[type(model)])
            model.load_state_dict(restored.state_dict())
            if self.ema is not None and isinstance(model, PairedUNet2DModel):
                average = type(model).from_pretrained(folder, subfolder="unet_ema")
                self.ema.shadow_params = [p.detach().to(self.accelerator.device) for p in average.parameters()]

    def save(self, step: int) -> None:
        """Writes `checkpoint-STEP` and removes the oldest beyond `total_limit`. Every process calls it."""
        with whole_or_absent(self.output_dir / f"checkpoint-{step}", self.accelerator) as folder:
            self.accelerator.save_state(folder)
            if self.accelerator.is_main_process:
                state = {"global_step": step, "identity": self.identity}
                (folder / _STATE).write_text(json.dumps(state, indent=2) + "\n")
        if self.accelerator.is_main_process and self.total_limit:
            for old in self.list()[: -self.total_limit]:
                shutil.rmtree(old)

    def list(self) -> list[Path]:
        """The run's checkpoints, oldest first."""
        found = [p for p in self.output_dir.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", p.name)]
        return sorted(found, key=lambda p: int(p.name.split("-")[1]))

    def resume(self, resume_from_checkpoint: str) -> int:
        """Restores a checkpoint and returns its step, or 0 where there is nothing to resume.

        Args:
            resume_from_checkpoint: `latest`, `none`, or a checkpoint's path or name.

        Raises:
            InputError: the checkpoint is not there, is of another configuration, or would be written over.
        """
        if resume_from_checkpoint == "none":
            if self.list():
                raise InputError(
                    f"--output_dir is {self.output_dir}, which holds {self.list()[-1].name} of an earlier run; choose "
                    "another folder or continue with --resume_from_checkpoint latest"
                )
            return 0
        if resume_from_checkpoint == "latest":
            if not self.list():
                return 0
            folder = self.list()[-1]
        else:
            candidates = [Path(resume_from_checkpoint), self.output_dir / resume_from_checkpoint]
            folder = next((c for c in candidates if (c / _STATE).is_file()), None)
            if folder is None:
                raise InputError(
                    f"--resume_from_checkpoint is {resume_from_checkpoint}, which is no checkpoint; {self.output_dir} "
                    f"holds {', '.join(c.name for c in self.list()) or 'none'}"
                )
        state = json.loads((folder / _STATE).read_text())
        was, now = state["identity"], json.loads(json.dumps(self.identity))
        differing = [f"{name} {was.get(name)} (now {now.get(name)})" for name in now if was.get(name) != now.get(name)]
        if differing:
            raise InputError(
                f"{folder} was trained with {', '.join(differing)}; give the same values, or another --output_dir to "
                "train anew"
            )
        self.accelerator.load_state(folder)
        if self.ema is not None:
            self.ema.optimization_step = state["global_step"]
        return state["global_step"]


@contextmanager
def ema_weights(ema: EMAModel | None, model: ModelMixin) -> Iterator[None]:
    """Within the block, `model` computes with the moving average's weights (its own where `ema` is None)."""
    if ema is None:
        yield
        return
    ema.store(model.parameters())
    ema.copy_to(model.parameters())
    try:
        yield
    finally:
        ema.restore(model.parameters())


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
    with whole_or_absent(output_dir / "pipeline", accelerator) as folder:
        if accelerator.is_main_process:
            pipeline.save_pretrained(folder)
    if accelerator.is_main_process:
        # model_index.json goes last: a folder that has it is a whole pipeline
        (output_dir / "model_index.json").unlink(missing_ok=True)
        parts = sorted((output_dir / "pipeline").iterdir(), key=lambda p: p.name == "model_index.json")
        for part in parts:
            destination = output_dir / part.name
            if destination.is_dir():
                shutil.rmtree(destination)
            part.rename(destination)
        (output_dir / "pipeline").rmdir()
    accelerator.wait_for_everyone()
