"""The terminal: timestamped log lines and progress bars, both on standard error."""

import logging
import os
import sys
from collections.abc import Iterable
from typing import Any

from tqdm.auto import tqdm


class _BarHandler(logging.StreamHandler):
    """Writes log lines above the progress bars instead of through them."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


def is_main_process() -> bool:
    """True in the one process that talks, by the environment variable RANK, which launchers set."""
    return os.environ.get("RANK", "0") == "0"


def configure_logging() -> None:
    """Sends log lines to standard error as `HH:MM:SS LEVEL message`: SynthSet's from INFO, those of other libraries
    from WARNING. Other processes than the main one log SynthSet's errors only. Logging that is set up already stays."""
    handler = _BarHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    logging.basicConfig(handlers=[handler])
    logging.getLogger("synthset").setLevel(logging.INFO if is_main_process() else logging.ERROR)


def shows_progress() -> bool:
    """True if this process shows progress bars: the main one does, in a terminal or a notebook."""
    return is_main_process() and (sys.stderr.isatty() or "ipykernel" in sys.modules)


def progress(iterable: Iterable | None = None, description: str = "", **options: Any) -> tqdm:
    """A tqdm progress bar with the time left, where `shows_progress`. A bar within another one vanishes at its end.

    Args:
        iterable: items to iterate over; without it, call `update` on the bar.
        description: text before the bar.
        options: tqdm's own, such as `total`, `initial` and `unit`.
    """
    return tqdm(iterable, description or None, **{"leave": None, "disable": not shows_progress(), **options})
