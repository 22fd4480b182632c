"""Safe loading of models: safetensors and data only, because pickles and code could execute anything.

[`require_safe_folder`] checks every folder before a library opens it, including the cached copy of a repository;
[`require_safe_repo`] checks a repository before anything is downloaded.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import diffusers
from huggingface_hub import HfApi

from ..errors import InputError

# Extensions of files that are allowed beside weights; none of them is executed by any library.
SUFFIXES = set(
    ".safetensors .json .jsonl .yaml .yml .csv .md .txt .html .log .out .err .lock .bib .cff .sha256 .png .jpg .jpeg"
    " .gif .webp .svg .pdf".split()
)
NAMES = {"LICENSE", "LICENCE", "NOTICE", "COPYING", "README", "AUTHORS"}
PARTS = ("unet", "scheduler")  # sub-folders that a pipeline loads


def require_safe_folder(folder: str | os.PathLike) -> None:
    """Refuses a folder that holds anything executable.

    Checks the files of the folder, those of the `PARTS` at any depth, and the entries of `model_index.json`, which
    decide what diffusers imports. Other sub-folders, such as checkpoints and logs, are never loaded.

    Raises:
        InputError: names the first file or entry that could be executed, or says that the folder is a checkpoint.
    """
    folder = Path(folder)
    index = folder / "model_index.json"
    if not index.is_file() and (folder / "training_state.json").is_file():
        raise InputError(
            f"{folder} is a training checkpoint, with the optimizer's state, and no pipeline; it opens with --model "
            f"{folder}, or in Python with synthset.pipelines.loading.load_pipeline(SynthSetPipeline, {str(folder)!r})"
        )
    files = [*folder.iterdir(), *(file for part in PARTS for file in sorted((folder / part).rglob("*")))]
    require_safe(str(folder), (file.relative_to(folder).as_posix() for file in files if not file.is_dir()))
    if index.is_file():
        entries = json.loads(index.read_text(encoding="utf-8"))
        # A list is [library, class]: diffusers imports the library, which may be a file of the folder.
        for name, value in entries.items() if isinstance(entries, dict) else [("content", entries)]:
            if isinstance(value, list | dict) and not _is_known(name, value):
                raise InputError(
                    f"{folder} has {name} {value} in model_index.json; only SynthSet's networks and diffusers' "
                    "schedulers are loaded: give a model that synthset train or train-sr wrote"
                )


def _is_known(name: str, value: list | dict) -> bool:
    """True if an entry of `model_index.json` names a class that SynthSet's pipelines consist of."""
    if name == "unet":
        return value == ["synthset", "PairedUNet2DModel"]
    library, class_name = value if isinstance(value, list) and len(value) == 2 else (None, None)
    scheduler = getattr(diffusers, class_name, None) if isinstance(class_name, str) else None
    known = isinstance(scheduler, type) and issubclass(scheduler, diffusers.SchedulerMixin)
    return name == "scheduler" and library == "diffusers" and known


def require_safe(model: str, files: Iterable[str]) -> None:
    """Checks file names, relative paths with /, as [`require_safe_folder`] does; `model` is its name in the message."""
    for file in files:
        path = PurePosixPath(file)
        hidden_data = path.name.startswith(".") and not path.suffix  # .gitattributes
        if path.suffix.lower() not in SUFFIXES and path.name not in NAMES and not hidden_data:
            raise InputError(
                f"{model} holds {file}; weights are loaded from safetensors only, and no code: give a model without "
                "such files, or ask its owner to save it with save_pretrained(..., safe_serialization=True)"
            )


def require_safe_repo(repo_id: str, revision: str | None = None, token: str | bool | None = None) -> None:
    """Checks the file names of a model on the Hub with [`require_safe`] before anything is downloaded.

    A repository that can't be listed (unknown, private, no network) passes: the download raises the proper error.
    """
    try:
        files = HfApi().list_repo_files(repo_id, revision=revision, token=token)
    except Exception:
        return
    require_safe(repo_id, files)
