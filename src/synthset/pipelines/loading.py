"""Trained pipelines from what a user names on a command line."""

import hashlib
from pathlib import Path

from diffusers import DiffusionPipeline

from ..errors import InputError
from .pair_pipeline import PairPipeline
from .pipeline_synthset import SynthSetPipeline
from .pipeline_synthset_sr import SynthSetSRPipeline

TRAINERS = {SynthSetPipeline: "train_paired.py", SynthSetSRPipeline: "train_sr.py"}


def load_pipeline(cls: type[PairPipeline], model: str, flag: str = "--model") -> tuple[PairPipeline, str]:
    """Loads a trained pipeline.

    Args:
        cls: `SynthSetPipeline` or `SynthSetSRPipeline`.
        model: its folder, or its id on the Hub.
        flag: where the user gave `model`, for messages.

    Returns:
        The pipeline, and the SHA-256 of the files that, with the size of a pair, decide what it draws.

    Raises:
        InputError: it can't be loaded, or is a pipeline of another class.
    """
    remedy = f"give a folder that {TRAINERS[cls]} ended with, or a model id on the Hub"
    try:
        folder = Path(model) if Path(model).is_dir() else Path(cls.download(model))
        pipeline = DiffusionPipeline.from_pretrained(folder, use_safetensors=True)
    except InputError as error:  # pickled weights or code
        raise InputError(f"{flag}: {error}") from None
    except Exception as error:  # no such repository, no network, no pipeline in the folder, damaged weights, ...
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InputError(f"{flag} is {model}, which can't be loaded ({reason}); {remedy}") from error
    if not isinstance(pipeline, cls):
        raise InputError(f"{flag} is {model}, which holds a {type(pipeline).__name__}; {remedy}")
    digest = hashlib.sha256()
    for file in (folder / "scheduler" / "scheduler_config.json", *sorted((folder / "unet").iterdir())):
        digest.update(file.name.encode() + file.read_bytes())
    return pipeline, digest.hexdigest()
