"""Tools of the scripts' command lines: parsing, one line instead of a traceback for bad input, calling each other."""

import errno
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TypeVar

from jsonargparse import ArgumentParser

from . import signals
from .errors import InputError

Arguments = TypeVar("Arguments")
UNWRITABLE = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EROFS, errno.EACCES)


def parse_arguments(cls: type[Arguments], argv: list[str] | None = None) -> Arguments:
    """Parses the command line into the dataclass `cls`; `--config FILE.yaml` gives values that flags override.

    A flag of type bool may stand alone, for true; one of type list takes `'[a,b]'`, or is given once for each value. A
    value of the wrong type, an unknown flag and an `InputError` raised by `cls.__post_init__` all end the program with
    exit code 2 and one line.
    """
    argv = sys.argv[1:] if argv is None else argv
    if any(flag.partition("=")[0] == "--hub_token" for flag in argv):
        sys.stderr.write(
            "error: --hub_token is not taken any more, because command lines get into logs; log in with "
            "`hf auth login` or set HF_TOKEN, and revoke the token that was given\n"
        )
        sys.exit(2)
    switches = {f"--{field.name}" for field in fields(cls) if field.type in (bool, "bool")}
    lists = {f"--{field.name}" for field in fields(cls) if str(field.type).startswith("list[")}
    recipes, flags = [], []
    for i, flag in enumerate(argv):
        name, equals, value = flag.partition("=")
        after = argv[i + 1] if i + 1 < len(argv) else "--"
        if flag == "--config" or (i and argv[i - 1] == "--config"):
            recipes.append(flag)  # jsonargparse lets the last one win, so recipes go first
        elif name in lists and not (value or after).startswith("["):
            # jsonargparse's `+` appends, also to a default and to a recipe's values, which the first flag empties
            empty = f"{name}=[]"
            flags += [*([] if empty in flags else [empty]), f"{name}+{equals}{value}"]
        else:
            flags += [flag, "true"] if flag in switches and after.startswith("--") else [flag]
    parser = ArgumentParser(description=cls.__doc__.splitlines()[0], exit_on_error=False, allow_abbrev=False)
    parser.add_argument(
        "--config", action="config", help="YAML file with any of the values below (see scripts/recipes)"
    )
    parser.add_class_arguments(cls, nested_key=None, as_group=False)
    try:
        values = vars(parser.parse_args(recipes + flags))
        values.pop("config")
        return cls(**values)
    except InputError as error:
        message = str(error)
    except Exception as error:  # jsonargparse raises several kinds; the text names the flag
        message = " ".join(re.sub(r'Parser key "(\w+)":', r"--\1:", str(error)).split())
        message = re.sub(r"\bhf_\w+", "hf_...", message)  # a token, given to a flag that is not there
    parser.exit(2, f"error: {message}\n")


def run(main: Callable[[Arguments], None], cls: type[Arguments]) -> None:
    """Parses the command line into `cls`, calls `main` with it, and reports bad input, a full disk and a request to
    stop in one line; after the last, the exit code is `signals.EXIT_CODE`."""
    signals.install()
    message, stopped = None, None
    try:
        try:
            main(parse_arguments(cls))
            return
        except Exception as error:  # in which a request to stop may still be waiting to be raised
            message = _explain(error)
            if message is None and not signals.request.signal:
                raise
    except signals.Stopped as stop:
        stopped = str(stop)
    # Another process of the run may have left first, which is an error of its own kind here.
    stopped = signals.request.signal or stopped
    # Not in the blocks above, where the error still holds progress bars, which end with a line of their own.
    if not stopped:
        sys.stderr.write(f"error: {message}\n")
        sys.exit(1)
    if os.environ.get("RANK", "0") == "0":
        sys.stderr.write(f"stopped by {stopped}; the same command continues\n")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(signals.EXIT_CODE)  # at once: pushes and workers in the background would hold the process up


def _explain(error: BaseException) -> str | None:
    """One line for an error that a user can do something about; None for another one."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, OSError) and error.errno in UNWRITABLE:
        return (
            f"cannot write {error.filename or 'the output'}: {error.strerror}; free some space or choose another "
            "--output_dir"
        )
    return None


def call(script: Path, *flags: object, launch_config: str | None = None) -> None:
    """Runs a script as a process of its own, or as those that an accelerate configuration file describes.

    Raises:
        InputError: it failed; why, it has said itself.
        Stopped: it was asked to stop, or this process was, which then waits until it has.
    """
    launcher = []
    if launch_config is not None:
        launcher = ["-m", "accelerate.commands.launch", "--config_file", launch_config]
    process = subprocess.Popen([sys.executable, *launcher, str(script), *map(str, flags)])
    try:
        code = process.wait()
    except signals.Stopped:
        process.terminate()
        process.wait()
        raise
    if code == signals.EXIT_CODE:
        raise signals.Stopped(f"{script.name}, which was asked to stop")
    if code:
        raise InputError(f"{script.name} ended with exit code {code}; its error is above")
