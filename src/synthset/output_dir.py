"""Output folders: the settings that a folder was made with, a lock so that one command writes at a time, and files that
are written completely or not at all.

A command that finds its own settings in a folder continues there; one with other settings is refused.
"""

import errno
import json
import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import InputError
from .sources.names import UNSTORABLE, printable

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # a module elsewhere

_LOCKED: dict[Path, int] = {}  # folder -> descriptor, until this process ends


def lock_output_dir(output_dir: Path) -> None:
    """Locks `output_dir`, created if missing, for this process until it ends. The lock is on the folder itself and
    leaves no file. Processes launched together share the lock of the main process. On file systems that do not support
    locks, nothing is locked.

    Raises:
        InputError: another process holds the lock.
    """
    output_dir.mkdir(parents=True, exist_ok=True)
    folder = output_dir.resolve()
    if fcntl is None or folder in _LOCKED or os.environ.get("RANK", "0") != "0":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno == errno.EWOULDBLOCK:
            raise InputError(
                f"--output_dir {output_dir} is being written by another process; wait for it, or choose another folder"
            ) from None
    else:
        _LOCKED[folder] = descriptor


def require_readable_name(folder: Path, flag: str = "--output_dir") -> None:
    """Raises InputError if datasets (5.2) can't write or open a folder of parquet files of this name, or opens others.

    It takes the name, and the names of the folders above, for a pattern (`*`, `?`, `[]`), a chain of file systems
    (`::`) or text with variables of the environment (`$`); the start of a relative name for a home (`~`) or an address
    (`file:`).
    """
    name = str(folder.resolve())
    found = re.search(r"[*?]|\[(?=[^/]*\])|::|\$(?=[\w{])", name) or UNSTORABLE.search(name)
    if not found and not folder.is_absolute():
        found = re.match(r"~|[a-zA-Z][a-zA-Z0-9+.-]*:", str(folder))
    if found:
        raise InputError(
            f"{flag} is {printable(name)}, which datasets can't open because of {ascii(found[0])} in it; choose a name "
            "without"
        )


def require_empty(output_dir: Path, file_name: str) -> None:
    """Raises InputError if the folder is not empty, ignoring hidden files. Called for folders without `file_name`, the
    file that identifies their content."""
    if output_dir.exists() and any(not file.name.startswith(".") for file in output_dir.iterdir()):
        raise InputError(f"--output_dir {output_dir} is not empty and has no {file_name}; choose another folder")


def claim_output_dir(output_dir: Path, file_name: str, settings: dict, uncounted: Collection[str]) -> None:
    """Locks `output_dir`, and writes `settings` to `output_dir/file_name` or compares them with an existing file.

    Args:
        output_dir: created if missing.
        file_name: name of a JSON file.
        settings: JSON-serializable values that determine the result.
        uncounted: names of settings that may differ, such as paths of models whose digests are settings too.

    Raises:
        InputError: the folder was made with other settings or holds something else, or another process writes to it.
    """
    path = output_dir / file_name
    if path.exists():
        old = json.loads(path.read_text())
        names = [name for name in {**settings, **old} if name not in uncounted]
        differing = [f"{k} {old.get(k)} -> {settings.get(k)}" for k in names if old.get(k) != settings.get(k)]
        if differing:
            raise InputError(
                f"--output_dir {output_dir} was made with other settings: {', '.join(differing)}; give the old values "
                "to continue, or choose another folder"
            )
    else:
        require_empty(output_dir, file_name)
    lock_output_dir(output_dir)  # only after the checks, so that a refused folder is not created
    if path.exists():
        return
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(settings, indent=2) + "\n")


@contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a temporary path that is renamed to `path` when the block ends, and removed when the block fails.

    Its name is hidden, so that `datasets` never reads a leftover of a killed process, and fixed, so that the next
    attempt overwrites it.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
