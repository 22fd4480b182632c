"""Loading of trained pipelines from a pipeline's folder, the Hub, a run's folder or a checkpoint."""

import hashlib
import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from diffusers import DDIMScheduler, DDPMScheduler

from ..errors import InputError
from ..models import PairedUNet2DModel
from .pair_pipeline import PairPipeline, Pipeline
from .pipeline_synthset import SynthSetPipeline
from .pipeline_synthset_sr import SynthSetSRPipeline

logger = logging.getLogger("synthset")

# Flags that a run of 0.1.0.dev0 had under another name.
RENAMED = {
    "train_batch_size": "batch_size",
    "dataloader_num_workers": "num_workers",
    "train_batch_size x gradient_accumulation_steps x processes": (
        "batch_size x gradient_accumulation_steps x processes"
    ),
}
TRAINERS = {SynthSetPipeline: "synthset train", SynthSetSRPipeline: "synthset train-sr"}


def load_pipeline(cls: type[Pipeline], model: str, flag: str = "--model") -> tuple[Pipeline, str]:
    """Loads a trained pipeline.

    Args:
        cls: `SynthSetPipeline` or `SynthSetSRPipeline`.
        model: a pipeline's folder, such as that of a finished run, or its id on the Hub; or a checkpoint of a run; or
            the folder of an unfinished run, whose newest complete checkpoint is loaded, with a warning.
        flag: name of the flag that `model` comes from, for messages.

    Returns:
        The pipeline, and the SHA-256 of its weights, configuration and noise schedule.

    Raises:
        InputError: `model` can't be loaded, or is a pipeline of another class.
    """
    remedy = f"give a folder that {TRAINERS[cls]} ended with, or a model id on the Hub"
    pipeline: PairPipeline | None
    try:
        folder = Path(model) if Path(model).is_dir() else Path(cls.download(model))
        if (folder / "model_index.json").is_file():
            index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
            kind, unet = str(index["_class_name"]), folder / "unet"
            pipeline = cls.from_pretrained(folder) if kind == cls.__name__ else None
        elif steps := list_checkpoints(folder):  # also where a kill left half a pipeline beside them
            pipeline, newest = _load_newest(steps)
            kind, unet = type(pipeline).__name__, require_network(newest)
            logger.warning(
                f"{flag} is {model}, whose training has not ended; taking its newest whole checkpoint, {newest.name}. "
                f"To get the same again later, give {flag} {newest}"
            )
        elif network := find_network(folder):
            pipeline, unet = load_checkpoint(folder), network
            kind = type(pipeline).__name__
        else:
            pipeline, kind, unet = cls.from_pretrained(folder), cls.__name__, folder / "unet"
    except InputError as error:  # pickled weights or code
        raise InputError(f"{flag}: {error}") from None
    except Exception as error:  # no such repository, no network, no pipeline in the folder, damaged weights, ...
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InputError(f"{flag} is {model}, which can't be loaded ({reason}); {remedy}") from error
    if not isinstance(pipeline, cls):
        raise InputError(f"{flag} is {model}, which holds a {kind}; {remedy}")
    digest = hashlib.sha256()
    saved = folder / "scheduler" / "scheduler_config.json"
    schedule = saved.read_bytes() if saved.is_file() else pipeline.scheduler.to_json_string().encode()
    digest.update(saved.name.encode() + schedule)
    for file in sorted(unet.iterdir()):
        digest.update(file.name.encode() + file.read_bytes())
    return pipeline, digest.hexdigest()


# ---- checkpoints ----


def list_checkpoints(run_dir: Path) -> list[Path]:
    """Checkpoints of the run in `run_dir`, oldest first."""
    found = [path for path in run_dir.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    return sorted(found, key=lambda path: int(path.name.split("-")[1]))


def find_network(folder: Path) -> Path | None:
    """Folder of the network in a pipeline or checkpoint: the moving average (EMA) if there is one."""
    return next((folder / part for part in ("unet_ema", "unet") if (folder / part).is_dir()), None)


def require_network(folder: Path) -> Path:
    """[`find_network`]. Raises InputError if there is none."""
    network = find_network(folder)
    if network is None:
        raise InputError(f"{folder} holds no network (sharded checkpoints can't be opened); let the run end")
    return network


def load_checkpoint(folder: Path) -> PairPipeline:
    """Loads the pipeline of a checkpoint.

    The noise schedule is not in the checkpoint but in `arguments.yaml` of its run.

    Raises:
        InputError: the checkpoint is not in a run's folder, or holds no complete network.
    """
    flags = read_flags(folder.resolve().parent)
    unet, scheduler = PairedUNet2DModel.from_pretrained(require_network(folder)), noise_schedule(flags)
    if "scale_factor" not in flags:
        return SynthSetPipeline(unet, scheduler, flags["crop_size"])
    ddim = DDIMScheduler.from_config(scheduler.config)
    return SynthSetSRPipeline(unet, ddim, flags["scale_factor"], flags["max_noise_level"], flags["crop_size"])


def _load_newest(steps: list[Path]) -> tuple[PairPipeline, Path]:
    """Loads the newest checkpoint that is complete; returns its pipeline and its folder."""
    for folder in reversed(steps):
        try:
            return load_checkpoint(folder), folder
        except Exception as error:  # truncated weights or configuration: safetensors, diffusers and json have their own
            logger.warning(f"{folder} is not whole ({str(error).splitlines()[0]}); trying the one before")
            last = error
    raise last


def read_flags(run_dir: Path) -> dict[str, Any]:
    """The flags of the training run in `run_dir`.

    Raises:
        InputError: there is no such run.
    """
    file = run_dir / "arguments.yaml"
    if not file.is_file():
        raise InputError(
            f"{run_dir} has no arguments.yaml, which says how a checkpoint was trained; leave it in its run's folder"
        )
    flags = yaml.safe_load(file.read_text(encoding="utf-8"))
    return {RENAMED.get(name, name): value for name, value in flags.items()}


def noise_schedule(flags: Mapping[str, Any]) -> DDPMScheduler:
    """Noise schedule of training (SynthSet, section 3), built from a run's flags.

    Saved with the model, it also samples, from the noisiest timestep down.
    """
    names = ("num_train_timesteps", "beta_schedule", "prediction_type")
    # `from_config` drops settings that were not given by name
    return DDPMScheduler(**{name: flags[name] for name in names}, timestep_spacing="trailing")
