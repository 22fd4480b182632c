"""State of a repository on the Hub, and the check that a push may write to it.

A pushed folder gets a hidden file, `ORIGIN_FILE`, with an identifier that the card on the Hub holds as well.
"""

import contextlib
import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import yaml
from huggingface_hub import DatasetInfo, HfApi, ModelInfo, RepoCard, get_session

from ..errors import InputError
from ..output_dir import atomic_path
from .cards import ORIGIN

SILENCE = 120.0  # timeout in seconds for a response of the Hub, which takes long for large commits
ORIGIN_FILE = ".synthset-hub"


class Remote(NamedTuple):
    """State of a repository."""

    repo_id: str
    repo_type: str
    head: str  # commit
    files: list[str]
    card: RepoCard | None

    @property
    def header(self) -> dict:
        return self.card.data.to_dict() if self.card else {}

    def read(self, path: str) -> str:
        file = HfApi().hf_hub_download(self.repo_id, path, repo_type=self.repo_type, revision=self.head)
        return Path(file).read_text(encoding="utf-8")


def create_repo(repo_id: str, repo_type: str, private: bool) -> str:
    """Creates the repository if it does not exist; returns its full name, `NAMESPACE/NAME`.

    Also sets the timeout of the client to `SILENCE` seconds; by default it has none.
    """
    get_session().timeout = SILENCE
    return HfApi().create_repo(repo_id, repo_type=repo_type, private=private, exist_ok=True).repo_id


def look_at(repo_id: str, repo_type: str) -> Remote:
    """Reads the state of a repository: its commit, files and card."""
    info = HfApi().repo_info(repo_id, repo_type=repo_type, timeout=SILENCE)
    assert isinstance(info, ModelInfo | DatasetInfo) and info.sha is not None
    remote = Remote(repo_id, repo_type, info.sha, sorted(file.rfilename for file in info.siblings or []), None)
    if "README.md" not in remote.files:
        return remote
    text = remote.read("README.md")
    try:
        return remote._replace(card=RepoCard(text, ignore_metadata_errors=True))
    except (ValueError, yaml.YAMLError):  # an invalid header
        return remote._replace(card=RepoCard(re.sub(r"\A---.*?^---", "", text, flags=re.DOTALL | re.MULTILINE)))


def require_ours(remote: Remote, asked: bool, origin: str | None, paths: Iterable[str] = ("README.md",)) -> None:
    """Refuses a repository that is neither new nor written by SynthSet, by its card, or that belongs to another folder.

    Args:
        remote: the repository.
        asked: true if the user gave its name. Otherwise it must have been pushed from this folder.
        origin: identifier of the folder, see [`push_folder`]; None if nothing was pushed from it yet.
        paths: files that a push would write.

    Raises:
        InputError: lists what the repository holds and what a push would replace.
    """
    there = [file for file in remote.files if file != ".gitattributes"]
    if not there or (there == ["README.md"] and remote.card and not remote.card.text.strip()):
        return  # new, or as the website creates it
    if "synthset" not in [remote.header.get("library_name"), *(remote.header.get("tags") or [])]:
        listed = ", ".join(there[:5]) + (f" and {len(there) - 5} more" if len(there) > 5 else "")
        replaced = ", ".join(sorted(set(there) & set(paths))) or "nothing, only add to it"
        raise InputError(
            f"{remote.repo_id} is not SynthSet's: it holds {listed}, and no card with the tag synthset. A push would "
            f"replace {replaced}; name another repository, or, to overwrite it, add the tag to the card first"
        )
    if not asked and (origin is None or remote.header.get(ORIGIN) != origin):
        raise InputError(
            f"{remote.repo_id} was not pushed from this folder, which only has the same name, and a push would replace "
            f"what is there; name another repository, or, to overwrite it, {remote.repo_id} itself"
        )


def read_origin(home: str | os.PathLike) -> str | None:
    """Reads the identifier of a folder; None before the first push from it."""
    file = Path(home) / ORIGIN_FILE
    return file.read_text().strip() if file.is_file() else None


def make_origin(home: Path, card: Path) -> str:
    """Makes an identifier for `home`, derived from the first card that is pushed from it, and writes it there. In a
    read-only folder it is not written; the next push from it must name the repository."""
    origin = hashlib.sha256(card.read_bytes()).hexdigest()[:16]
    with contextlib.suppress(OSError), atomic_path(home / ORIGIN_FILE) as temporary:
        temporary.write_text(f"{origin}\n")
    return origin
