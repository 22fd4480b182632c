"""A repository on the Hub as it stands: is it SynthSet's, and this folder's, to write to?

A folder that is pushed gets a hidden file, `ORIGIN_FILE`, with a mark that the card on the Hub bears as well.
"""

import contextlib
import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import yaml
from huggingface_hub import HfApi, RepoCard, get_session

from ..errors import InputError
from ..output_dir import atomic_path
from .cards import ORIGIN

SILENCE = 120.0  # seconds without a byte from the Hub until it counts as out of reach; a large commit takes it long
ORIGIN_FILE = ".synthset-hub"


class Remote(NamedTuple):
    """A repository as it stands."""

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
    """Makes the repository, if it is not there; returns its full name, `NAMESPACE/NAME`.

    From here on the Hub counts as out of reach after `SILENCE` seconds without a byte. Left to itself, the client waits
    for ever.
    """
    get_session().timeout = SILENCE
    return HfApi().create_repo(repo_id, repo_type=repo_type, private=private, exist_ok=True).repo_id


def look_at(repo_id: str, repo_type: str) -> Remote:
    """Reads the state of the repository: its commit, files and card."""
    info = HfApi().repo_info(repo_id, repo_type=repo_type, timeout=SILENCE)
    remote = Remote(repo_id, repo_type, info.sha, sorted(file.rfilename for file in info.siblings or []), None)
    if "README.md" not in remote.files:
        return remote
    text = remote.read("README.md")
    try:
        return remote._replace(card=RepoCard(text, ignore_metadata_errors=True))
    except (ValueError, yaml.YAMLError):  # a header that no script wrote
        return remote._replace(card=RepoCard(re.sub(r"\A---.*?^---", "", text, flags=re.DOTALL | re.MULTILINE)))


def require_ours(remote: Remote, asked: bool, origin: str | None, paths: Iterable[str] = ("README.md",)) -> None:
    """Refuses a repository that is neither new nor SynthSet's, by its card, or not this folder's.

    Args:
        remote: the repository.
        asked: the user named it. One that is only called as the folder must have been pushed from the folder.
        origin: the folder's, see [`push_folder`]; None where nothing was pushed from it yet.
        paths: what a push writes.

    Raises:
        InputError: says what is there and what a push would replace.
    """
    there = [file for file in remote.files if file != ".gitattributes"]
    if not there or (there == ["README.md"] and not remote.card.text.strip()):  # new, or with what the website makes
        return
    if "synthset" not in [remote.header.get("library_name"), *(remote.header.get("tags") or [])]:
        listed = ", ".join(there[:5]) + (f" and {len(there) - 5} more" if len(there) > 5 else "")
        replaced = ", ".join(sorted(set(there) & set(paths))) or "nothing, only add to it"
        raise InputError(
            f"{remote.repo_id} is not SynthSet's: it holds {listed}, and no card with the tag synthset. A push would "
            f"replace {replaced}; name another repository, or, if that may be, add the tag to the card first"
        )
    if not asked and (origin is None or remote.header.get(ORIGIN) != origin):
        raise InputError(
            f"{remote.repo_id} was not pushed from this folder, which only has the same name, and a push would replace "
            f"what is there; name another repository, or, if that may be, {remote.repo_id} itself"
        )


def read_origin(home: str | os.PathLike) -> str | None:
    """Mark in the cards of what was pushed from this folder; None before the first push."""
    file = Path(home) / ORIGIN_FILE
    return file.read_text().strip() if file.is_file() else None


def make_origin(home: Path, card: Path) -> str:
    """A mark for `home`, kept there, from the card of what is first pushed from it. Where nothing can be written, what
    is there is pushed all the same, and pushed again by the repository's name."""
    origin = hashlib.sha256(card.read_bytes()).hexdigest()[:16]
    with contextlib.suppress(OSError), atomic_path(home / ORIGIN_FILE) as temporary:
        temporary.write_text(f"{origin}\n")
    return origin
