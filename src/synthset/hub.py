"""Publishing on the Hugging Face Hub: the flags, what is pushed of a folder, how it gets there, and that it arrived."""

import logging
import os
import shlex
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils.sha import git_hash

from .cards import card_license, hub_card
from .errors import InputError

logger = logging.getLogger("synthset")

FILES_AT_ONCE = 20


@dataclass(kw_only=True)
class RepoArguments:
    """Flags about a repository on the Hub.

    Args:
        hub_private_repo: make the repository private, if it is new.
        hub_token: access token with write permission. Safer than on the command line: `hf auth login`, or the
            environment variable HF_TOKEN.
        data_license: licence of the data that the result was made from, for its card: an identifier of the Hub such as
            `cc-by-4.0`, or a name, or a name and an address. Nothing but what comes from `demo` is pushed without.
    """

    hub_private_repo: bool = False
    hub_token: str | None = None
    data_license: str | None = None

    def __post_init__(self):
        if self.hub_token:  # where the client looks for it, and gone from all that is logged and saved
            os.environ["HF_TOKEN"], self.hub_token = self.hub_token, None


@dataclass(kw_only=True)
class HubArguments(RepoArguments):
    """Flags of scripts that can push what they make.

    Args:
        push_to_hub: upload the result to the Hugging Face Hub when it is finished.
    """

    push_to_hub: bool = False

    def settings(self) -> dict:
        """The flags that say how something is made, without those that say what becomes of it."""
        return {name: value for name, value in asdict(self).items() if name not in HUB_FLAGS}


HUB_FLAGS = {field.name for field in fields(HubArguments)} | {"hub_model_id", "hub_dataset_id", "hub_strategy"}


# ---- what is pushed ----


class Content(NamedTuple):
    """What of a folder goes to the Hub: no checkpoints, logs, and files with paths of this machine."""

    repo_type: str
    paths: list[str]  # relative to the folder, with /


def find_content(folder: str | os.PathLike) -> Content:
    """What is pushed of a folder that a script finished.

    Raises:
        InputError: it holds no pipeline, segmenter or dataset.
    """
    folder = Path(folder)
    previews = sorted((folder / "previews").glob("step-*.png"))[-1:]
    if (folder / "model_index.json").is_file():
        repo_type, patterns = "model", ("model_index.json", "unet/*", "scheduler/*", "metrics.jsonl")
    elif (folder / "segmenter.json").is_file():
        repo_type, patterns = "model", ("segmenter.json", "config.json", "model.safetensors", "predictions.png")
    elif any(folder.glob("data/*.parquet")):
        repo_type, patterns = "dataset", ("data/*.parquet", "preview.png", "overlay.png")
    elif (folder / "metadata.jsonl").is_file():
        repo_type, patterns = "dataset", ("metadata.jsonl", "*s/*.png", "preview.png")
    else:
        raise InputError(
            f"{folder} holds nothing to push; give a folder that train_paired.py, train_sr.py or generate_dataset.py "
            "ended with, or a seed-N of train_segmentation.py"
        )
    files = previews + [path for pattern in patterns for path in folder.glob(pattern)]
    return Content(repo_type, sorted({file.relative_to(folder).as_posix() for file in files} | {"README.md"}))


# ---- how it gets there ----


def create_repo(repo_id: str, repo_type: str, private: bool) -> str:
    """Makes the repository, if it is not there; returns its full name, `NAMESPACE/NAME`."""
    return HfApi().create_repo(repo_id, repo_type=repo_type, private=private, exist_ok=True).repo_id


def check_push(repo_id: str, repo_type: str, private: bool, licence: str | None) -> None:
    """Makes sure before the work that its result can be pushed, as far as that can be known: makes the repository.

    A Hub that can't be reached is only warned of; it may be back when the work is done.

    Raises:
        InputError: no licence, or the Hub refuses: no or a wrong token, no right to write there, a bad name.
    """
    require_license(licence)
    try:
        create_repo(repo_id, repo_type, private)
    except Exception as error:  # the client raises several kinds, of two HTTP libraries
        if _refused(error):
            raise InputError(f"--push_to_hub to {repo_id}: {explain(error)}") from error
        logger.warning(f"{explain(error)}; going on, and trying to push to {repo_id} at the end")


def require_license(licence: str | None) -> None:
    """Raises InputError where there is none."""
    if licence is None:
        raise InputError(
            "the licence of the source data is not known, and nothing is pushed without; name it with --data_license, "
            "such as cc-by-4.0"
        )


def push_folder(
    folder: str | os.PathLike,
    repo_id: str,
    private: bool = False,
    data_license: str | None = None,
    message: str = "Upload with SynthSet",
) -> str:
    """Uploads what [`find_content`] finds, in one commit, and checks that it arrived.

    Files are streamed from disk, `FILES_AT_ONCE` at a time. What the Hub has of an interrupted attempt, or of an
    earlier push, is not sent again. Files of an earlier push that are no longer in the folder are removed.

    Args:
        folder: of a finished pipeline, segmenter or dataset, with its card.
        repo_id: `NAMESPACE/NAME`, or a name in the token owner's namespace.
        private: makes a new repository private.
        data_license: for a card that names no licence.
        message: of the commit.

    Returns:
        The address of the repository.

    Raises:
        InputError: the folder holds nothing to push, its card names no licence, or the upload failed; then the message
            has the command that tries again.
    """
    folder = Path(folder)
    repo_type, paths = find_content(folder)
    require_license(card_license(folder) or data_license)
    api = HfApi()
    try:
        repo_id = patiently(create_repo, repo_id, repo_type, private)
        card = hub_card(folder, repo_id, data_license).encode()
        additions = [CommitOperationAdd(path, card if path == "README.md" else folder / path) for path in paths]
        for start in range(0, len(additions), FILES_AT_ONCE):
            api.preupload_lfs_files(repo_id, additions[start : start + FILES_AT_ONCE], repo_type=repo_type)
        folders = {path.split("/")[0] for path in paths if "/" in path} | {"data", "images", "masks"}
        stale = set(api.list_repo_files(repo_id, repo_type=repo_type)) - set(paths)
        deletions = [CommitOperationDelete(path) for path in sorted(stale) if path.split("/")[0] in folders]
        changes = [*additions, *deletions]
        commit = patiently(api.create_commit, repo_id, changes, commit_message=message, repo_type=repo_type)
        tree = api.list_repo_tree(repo_id, recursive=True, revision=commit.oid, repo_type=repo_type)
        verify(additions, [entry for entry in tree if isinstance(entry, RepoFile)])
    except InputError:
        raise
    except Exception as error:  # the client raises several kinds, of two HTTP libraries
        retry = f"python scripts/push_to_hub.py --folder {shlex.quote(str(folder))} --repo_id {repo_id}"
        retry += " --hub_private_repo" if private else ""
        retry += f" --data_license {shlex.quote(data_license)}" if data_license else ""
        raise InputError(
            f"{folder} is finished and safe, but was not pushed to {repo_id}: {explain(error)}. To try again: {retry}"
        ) from error
    kind = "datasets/" if repo_type == "dataset" else ""
    return f"{api.endpoint}/{kind}{repo_id}"


def patiently(call: Callable, *args, attempts: int = 4, **kwargs):
    """`call(*args, **kwargs)`, for the calls that the client does not repeat itself: again while the Hub is busy or
    broken (429, 5xx), after the time it asks for, or else 1, 2, 4 s."""
    for attempt in range(attempts):
        try:
            return call(*args, **kwargs)
        except HfHubHTTPError as error:
            status = error.response.status_code
            if attempt + 1 == attempts or (status != 429 and status < 500):
                raise
            asked = error.response.headers.get("Retry-After", "")
            time.sleep(min(float(asked), 300) if asked.isdigit() else 2**attempt)


def verify(additions: Iterable[CommitOperationAdd], remote: Iterable[RepoFile]) -> None:
    """Compares what should be in a commit with what is there: SHA-256 of large files, git's SHA-1 of others.

    Raises:
        OSError: a file is missing or different.
    """
    there = {file.path: file.lfs.sha256 if file.lfs else file.blob_id for file in remote}
    for addition in additions:
        found = there.get(addition.path_in_repo)
        if found != addition.upload_info.sha256.hex():
            with addition.as_file() as file:
                if found != git_hash(file.read()):
                    raise OSError(f"{addition.path_in_repo} did not arrive as it is on disk")


def _refused(error: Exception) -> bool:
    """Whether the Hub, or its client, said no for good."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return isinstance(error, HFValidationError) or status in (400, 401, 403, 404)


def explain(error: Exception) -> str:
    """What went wrong with the Hub and what to do, in one line and without a token."""
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
    return f"the Hub can't be reached ({type(error).__name__}: {(str(error) or 'no answer').splitlines()[0]})"


class BackgroundPush:
    """Pushes while training goes on, one push at a time; a failure is a warning."""

    def __init__(self):
        self.pool, self.running = ThreadPoolExecutor(1, "push_to_hub"), Future()
        self.running.set_result(None)

    @property
    def busy(self) -> bool:
        return not self.running.done()

    def start(self, push: Callable[[], str]) -> None:
        """Runs `push` in a thread."""

        def guarded():
            try:
                logger.info(f"pushed to {push()}")
            except InputError as error:
                logger.warning(f"training goes on: {error}")

        self.running = self.pool.submit(guarded)

    def wait(self) -> None:
        """Until the last push has ended."""
        self.running.result()
