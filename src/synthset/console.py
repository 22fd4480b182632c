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
    """Sends SynthSet's log lines from INFO to standard error as `HH:MM:SS LEVEL message`; processes other than the main
    one log errors only. Other libraries log as they do by themselves. Logging that is set up already stays."""
    logger = logging.getLogger("synthset")
    logger.setLevel(logging.INFO if is_main_process() else logging.ERROR)
    if not logging.root.handlers and not logger.handlers:
        handler = _BarHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
        logger.addHandler(handler)


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
