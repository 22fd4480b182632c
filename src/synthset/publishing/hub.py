"""Publishing on the Hugging Face Hub: selects the files of a folder, uploads them and verifies the upload."""

import json
import logging
import os
import re
import shlex
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils.sha import git_hash

from ..errors import InputError
from .cards import card_license, hub_card, load_card
from .repository import Remote, create_repo, look_at, make_origin, read_origin, require_ours

logger = logging.getLogger("synthset")

FILES_AT_ONCE = 20
Result = TypeVar("Result")


# ---- what is pushed ----

# Files of a model, by the file that identifies its kind. Only these are pushed from a folder, and removed from a
# repository.
MODEL_FILES = {
    "model_index.json": (
        "model_index.json unet/config.json unet/*.safetensors unet/*.safetensors.index.json "
        "scheduler/scheduler_config.json metrics.jsonl previews/step-*.png"
    ).split(),
    "segmenter.json": "segmenter.json config.json model.safetensors predictions.png".split(),
}


class Content(NamedTuple):
    """Files of a folder to push, without checkpoints, logs and files with local paths."""

    repo_type: str
    paths: list[str]  # relative to the folder, with /

    @property
    def splits(self) -> set[str]:
        """Splits of a dataset; a folder of PNG files is `train`."""
        return {path[len("data/") :].split("-")[0] for path in self.paths if path.startswith("data/")} or {"train"}


def find_content(folder: str | os.PathLike) -> Content:
    """Lists the files to push from a finished folder.

    Raises:
        InputError: it holds no pipeline, segmenter or dataset.
    """
    folder = Path(folder)
    marker = next((marker for marker in MODEL_FILES if (folder / marker).is_file()), None)
    listed = []
    if marker:
        patterns = MODEL_FILES[marker]
    elif any(folder.glob("data/*.parquet")):
        patterns = ["preview.png", "overlay.png", "data/*.parquet"]
    elif (folder / "metadata.jsonl").is_file():
        patterns = ["preview.png", "overlay.png", "metadata.jsonl"]
        listed = listed_files((folder / "metadata.jsonl").read_text(encoding="utf-8"))
        missing = [path for path in listed if not (folder / path).is_file()]
        if missing:
            raise InputError(
                f"{folder / 'metadata.jsonl'} lists {missing[0]}, which does not exist; recreate the folder"
            )
    elif (folder / "training_state.json").is_file() or any(folder.glob("checkpoint-*")):
        raise InputError(
            f"{folder} is of a training run that has not ended, and has no card to push; push the run's folder once it "
            "has ended, or train with --push_to_hub --hub_strategy checkpoint"
        )
    else:
        raise InputError(
            f"{folder} holds nothing to push; give a folder that synthset train, train-sr or generate finished, or a "
            "folder seed-N of synthset segment"
        )
    found = {path.relative_to(folder).as_posix() for pattern in patterns for path in folder.glob(pattern)}
    previews = sorted(path for path in found if path.startswith("previews/"))
    repo_type = "model" if marker else "dataset"
    return Content(repo_type, sorted(found - set(previews[:-1]) | {*listed, "README.md"}))


def listed_files(metadata: str) -> list[str]:
    """Files listed in the text of a `metadata.jsonl` of [`export_imagefolder`]."""
    rows = [json.loads(line) for line in metadata.splitlines()]
    return [str(value) for row in rows for name, value in row.items() if name.endswith("file_name")]


def find_stale(content: Content, remote: Remote) -> list[str]:
    """Lists files in the repository that an earlier push wrote and this one does not: shards of the pushed splits,
    images listed in the last `metadata.jsonl`, files of a pipeline or segmenter. Other files are kept."""
    if remote.repo_type == "model":
        patterns = [p for marker, of_kind in MODEL_FILES.items() if marker in remote.files for p in of_kind]
        ours = {f for f in remote.files for p in patterns if fnmatchcase(f, p) and f.count("/") == p.count("/")}
    else:
        shard = re.compile(rf"data/({'|'.join(map(re.escape, content.splits))})-\d+(-of-\d+)?\.parquet")
        ours = {file for file in remote.files if shard.fullmatch(file)}
        if "metadata.jsonl" in content.paths and "metadata.jsonl" in remote.files:
            ours |= {
                path for path in listed_files(remote.read("metadata.jsonl")) if re.fullmatch(r"\w+s/\d{6}\.png", path)
            }
    return sorted(ours & set(remote.files) - set(content.paths))


# ---- upload ----


def check_push(
    repo_id: str | None, repo_type: str, private: bool, data_license: str | None, home: str | os.PathLike | None = None
) -> None:
    """Checks before a job starts that its result can be pushed, and creates the repository.

    If the Hub can't be reached, only a warning is logged, because it may be reachable when the job is done.

    Args:
        repo_id: as in [`push_folder`].
        repo_type: `model` or `dataset`.
        private: as in [`push_folder`].
        data_license: license of the source data.
        home: as in [`push_folder`].

    Raises:
        InputError: the license is missing; the Hub refuses the token, the permission or the name; or
            [`require_ours`] refuses the repository.
    """
    require_license(data_license)
    name = repo_id or Path(home or "").resolve().name
    try:
        remote = patiently(look_at, patiently(create_repo, name, repo_type, private), repo_type)
        require_ours(remote, repo_id is not None, read_origin(home) if home else None)
    except InputError as error:
        raise InputError(f"--push_to_hub: {error}") from None
    except Exception as error:  # the client raises several kinds, of two HTTP libraries
        if _refused(error):
            raise InputError(f"--push_to_hub to {name}: {explain(error)}") from error
        logger.warning(f"{explain(error)}; continuing, the push to {name} is tried at the end")


def require_license(data_license: str | None) -> None:
    """Raises InputError if `data_license` is None."""
    if data_license is None:
        raise InputError(
            "the license of the source data is not known, and nothing is pushed without; name it with --data_license, "
            "such as cc-by-4.0"
        )


def push_folder(
    folder: str | os.PathLike,
    repo_id: str | None = None,
    private: bool = False,
    data_license: str | None = None,
    message: str = "Upload with SynthSet",
    home: str | os.PathLike | None = None,
) -> str:
    """Uploads the files that [`find_content`] lists in one commit, and verifies the upload.

    Files are streamed from disk, `FILES_AT_ONCE` at a time. Files that the Hub already has, from an interrupted or an
    earlier push, are not sent again. Files that [`find_stale`] lists are removed; no others are changed. A repository
    that [`require_ours`] refuses is not changed at all. An identifier, written to a hidden file in `home` and to the
    card on the Hub, links the repository to this folder.

    Args:
        folder: folder of a finished pipeline, segmenter or dataset, with its card.
        repo_id: `NAMESPACE/NAME`, or a name in the token owner's namespace; the name of `home` when not given.
        private: makes a new repository private.
        data_license: license for a card that names none.
        message: commit message.
        home: output folder that `folder` belongs to; `folder` itself when not given.

    Returns:
        URL of the repository.

    Raises:
        InputError: the folder holds nothing to push, its card names no license, the repository is refused, or the
            upload failed; the message then holds the command that tries again.
    """
    folder, home = Path(folder), Path(home or folder)
    content = find_content(folder)
    load_card(folder)
    require_license(card_license(folder) or data_license)
    name, asked, api = repo_id or home.resolve().name, repo_id is not None, HfApi()
    try:
        name, origin = patiently(create_repo, name, content.repo_type, private), read_origin(home)
        require_ours(patiently(look_at, name, content.repo_type), asked, origin, content.paths)
        origin = origin or make_origin(home, folder / "README.md")
        additions = [CommitOperationAdd(path, folder / path) for path in content.paths if path != "README.md"]
        for start in range(0, len(additions), FILES_AT_ONCE):
            batch = additions[start : start + FILES_AT_ONCE]
            api.preupload_lfs_files(name, batch, repo_type=content.repo_type)

        def commit() -> tuple[str, list[CommitOperationAdd]]:
            # read again, because the upload may have taken hours, and a commit may have succeeded without its reply
            remote = look_at(name, content.repo_type)
            require_ours(remote, asked, origin, content.paths)
            stale = find_stale(content, remote)
            kept = sorted(set(remote.files) - set(stale))
            text = hub_card(folder, name, data_license, origin, kept, remote.header)
            sent = [CommitOperationAdd("README.md", text.encode()), *additions]
            made = api.create_commit(
                name,
                [*sent, *map(CommitOperationDelete, stale)],
                commit_message=message,
                repo_type=content.repo_type,
                parent_commit=remote.head,
            )
            return made.oid, sent

        revision, sent = patiently(commit)
        tree = api.list_repo_tree(name, recursive=True, revision=revision, repo_type=content.repo_type)
        verify(sent, [entry for entry in tree if isinstance(entry, RepoFile)])
    except InputError as error:
        raise InputError(f"{folder} is finished and safe, but was not pushed to {name}: {error}") from None
    except Exception as error:  # the client raises several kinds, of two HTTP libraries
        retry = f"synthset push --folder {shlex.quote(str(folder))}"
        retry += f" --repo_id {name}" if asked or home != folder else ""
        retry += " --hub_private_repo" if private else ""
        retry += f" --data_license {shlex.quote(data_license)}" if data_license else ""
        raise InputError(
            f"{folder} is finished and safe, but was not pushed to {name}: {explain(error)}. To try again: {retry}"
        ) from error
    kind = "datasets/" if content.repo_type == "dataset" else ""
    return f"{api.endpoint}/{kind}{name}"


def patiently(call: Callable[..., Result], *args: Any, attempts: int = 4, **kwargs: Any) -> Result:
    """Calls `call(*args, **kwargs)`, with retries for calls that the client does not retry itself: if the Hub is busy
    or fails (429, 5xx), or the repository has changed meanwhile (412). Waits as long as the Hub asks, or 1, 2, 4 s."""
    for attempt in range(attempts):
        try:
            return call(*args, **kwargs)
        except HfHubHTTPError as error:
            status = error.response.status_code
            if attempt + 1 == attempts or (status not in (412, 429) and status < 500):
                raise
            asked = error.response.headers.get("Retry-After", "")
            time.sleep(min(float(asked), 300) if asked.isdigit() else 2**attempt)
    raise AssertionError("unreachable")


def verify(additions: Iterable[CommitOperationAdd], remote: Iterable[RepoFile]) -> None:
    """Compares the files of a commit with those that were sent: SHA-256 of large files, git's SHA-1 of others.

    Raises:
        OSError: a file is missing or differs.
    """
    there = {file.path: file.lfs.sha256 if file.lfs else file.blob_id for file in remote}
    for addition in additions:
        found = there.get(addition.path_in_repo)
        if found != addition.upload_info.sha256.hex():
            with addition.as_file() as file:
                if found != git_hash(file.read()):
                    raise OSError(f"{addition.path_in_repo} did not arrive as it is on disk")


def _refused(error: Exception) -> bool:
    """True if the Hub or its client refused the request, so that retrying would not help."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return isinstance(error, HFValidationError) or status in (400, 401, 403, 404)


def explain(error: BaseException) -> str:
    """Describes a failure of the Hub and its remedy in one line, without the token."""
    if isinstance(error, RuntimeError) and error.__cause__:  # raised by an upload to the storage
        error = error.__cause__
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 401:
        return "the Hub does not accept the token (401); log in with `hf auth login`, or set HF_TOKEN to a valid one"
    if status == 403:
        return "the token may not write there (403); use one with write permission, or a namespace of your own"
    if isinstance(error, HFValidationError):
        return f"{' '.join(str(error).split())}; give NAMESPACE/NAME"
    if status is not None:
        detail = getattr(error, "server_message", None) or str(error).splitlines()[0]
        return f"the Hub answered {status} ({' '.join(str(detail).split())})"
    if type(error) is OSError:  # raised by `verify`
        return str(error)
    return f"the Hub can't be reached ({type(error).__name__}: {(str(error) or 'no answer').splitlines()[0]})"


class BackgroundPush:
    """Pushes in the background during training, one push at a time; a failure is logged as a warning."""

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(1, "push_to_hub")
        self.running: Future[None] = Future()
        self.running.set_result(None)

    @property
    def busy(self) -> bool:
        return not self.running.done()

    def start(self, push: Callable[[], str]) -> None:
        """Runs `push` in a thread."""

        def guarded() -> None:
            try:
                logger.info(f"pushed to {push()}")
            except Exception as error:  # a failed push must not end the training
                logger.warning(f"training goes on: {error}")

        self.running = self.pool.submit(guarded)

    def wait(self) -> None:
        """Waits until the last push has ended."""
        self.running.result()
