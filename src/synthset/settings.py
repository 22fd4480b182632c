"""A folder remembers what it is made with: the same command line continues in it, another one is refused."""

import json
from collections.abc import Collection
from pathlib import Path

from .data.writer import atomic_path
from .errors import InputError


def claim_output_dir(output_dir: Path, file_name: str, settings: dict, uncounted: Collection[str]) -> None:
    """Writes `settings` into `output_dir/file_name`; if it is there, it must say the same.

    Args:
        output_dir: made if missing.
        file_name: a JSON file.
        settings: whatever decides the result, ready for JSON.
        uncounted: settings that may differ, such as paths of models whose digests are settings too.

    Raises:
        InputError: the folder holds other settings, or something else.
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
        return
    if output_dir.exists() and any(not file.name.startswith(".") for file in output_dir.iterdir()):
        raise InputError(f"--output_dir {output_dir} is not empty and has no {file_name}; choose another folder")
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(settings, indent=2) + "\n")
