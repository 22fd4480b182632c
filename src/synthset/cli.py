"""Command lines: the command `synthset`, one line instead of a traceback for bad input, scripts that call each other.

Flags are read and checked before torch, diffusers, datasets and accelerate are imported, which takes seconds.
"""

import difflib
import errno
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple, NoReturn, TypeVar

import yaml

from . import __version__, arguments, signals
from .arguments.base import Arguments
from .arguments.parser import describe, parse, print_commands
from .console import configure_logging
from .errors import InputError
from .resources import SCRIPTS, find_configuration

Parsed = TypeVar("Parsed", bound=Arguments)
UNWRITABLE = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EROFS, errno.EACCES)


class Command(NamedTuple):
    """A command of `synthset`.

    Attributes:
        script: name of the script whose `main` does the work.
        arguments: name of its dataclass in `synthset.arguments`.
        launchable: it can run on several processes.
    """

    script: str
    arguments: str
    launchable: bool = False

    @property
    def cls(self) -> type[Arguments]:
        return getattr(arguments, self.arguments)


COMMANDS = {
    "quickstart": Command("quickstart", "QuickstartArguments"),
    "prepare": Command("prepare_dataset", "PrepareArguments"),
    "render": Command("render_dataset", "RenderArguments"),
    "paste": Command("make_copy_paste", "CopyPasteArguments"),
    "train": Command("train_paired", "PairedArguments", launchable=True),
    "train-sr": Command("train_sr", "SRArguments", launchable=True),
    "generate": Command("generate_dataset", "GenerateArguments", launchable=True),
    "filter": Command("filter_dataset", "FilterArguments"),
    "segment": Command("train_segmentation", "SegmentationArguments", launchable=True),
    "label": Command("pseudo_label", "PseudoLabelArguments"),
    "report": Command("report", "ReportArguments"),
    "select": Command("select_checkpoint", "SelectionArguments"),
    "push": Command("push_to_hub", "PushArguments"),
}
RESEARCH = {
    "compare-sr": Command("compare_sr", "CompareArguments"),
    "table1": Command("reproduce_table1", "Table1Arguments"),
    "table2": Command("reproduce_table2", "Table2Arguments"),
    "benchmark": Command("benchmark", "BenchmarkArguments"),
}
EXAMPLE = """
From photos to a tested segmenter:

  synthset prepare --dataset photos --output_dir data
  synthset train --dataset data --output_dir model --max_train_minutes 30
  synthset generate --model model --output_dir generated --scheduler dpmsolver++ --num_inference_steps 25
  synthset segment --dataset generated --test_dataset test_photos --output_dir segmenter
  synthset label --model segmenter/seed-0 --images new_photos --output_dir labeled
"""


# ---- the command `synthset` ----


def main(argv: Sequence[str] | None = None) -> None:
    """Runs `synthset COMMAND FLAGS`."""
    argv = sys.argv[1:] if argv is None else list(argv)
    prog, commands = "synthset", COMMANDS
    if argv[:1] == ["research"]:
        prog, commands, argv = "synthset research", RESEARCH, argv[1:]
    if argv[:1] in ([], ["--help"], ["-h"]):
        title = f"Image-mask pairs for segmentation, learned from few. Flags of a command: {prog} COMMAND --help"
        groups = {"Commands": {name: describe(command.cls) for name, command in commands.items()}}
        if commands is COMMANDS:
            groups["Research"] = {f"research {name}": describe(command.cls) for name, command in RESEARCH.items()}
        print_commands(prog, title, groups)
        if commands is COMMANDS:
            print(EXAMPLE)
        return
    if argv == ["--version"]:
        print(__version__)
        return
    if argv[0] not in commands:
        names = [*commands, *(["research"] if commands is COMMANDS else [])]
        near = difflib.get_close_matches(argv[0], names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"commands are {', '.join(names)}"
        _refuse(f"{argv[0]}: {hint}")
    command = commands[argv[0]]
    args, launch = _read(command.cls, argv[1:], f"{prog} {argv[0]}", command.launchable)
    if launch is None:
        _supervise(lambda: load_script(command.script).main(args))
    else:
        flags = [flag for i, flag in enumerate(argv[1:]) if "--launch" not in (flag.partition("=")[0], argv[i])]
        launcher, environment = _launcher(launch)
        os.execve(sys.executable, [*launcher, str(SCRIPTS / f"{command.script}.py"), *flags], environment)


def load_script(name: str) -> ModuleType:
    """Imports `scripts/NAME.py`."""
    spec = importlib.util.spec_from_file_location(f"synthset.scripts.{name}", SCRIPTS / f"{name}.py")
    assert spec is not None and spec.loader is not None  # as for every file that ends with .py
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ---- scripts ----


def run(main: Callable[[Parsed], None], cls: type[Parsed]) -> None:
    """Parses the command line into `cls` and calls `main` with it: what a script does when it is started itself."""
    args = parse_arguments(cls)
    _supervise(lambda: main(args))


def parse_arguments(cls: type[Parsed], argv: Sequence[str] | None = None) -> Parsed:
    """Reads a script's command line into the dataclass `cls` (see [`parse`]); bad flags end the program with exit code
    2 and one line."""
    return _read(cls, sys.argv[1:] if argv is None else argv, Path(sys.argv[0]).name, launchable=False)[0]


def call(script: Path, *flags: object, launch: Path | None = None) -> None:
    """Runs a script as a process of its own, or as those that the accelerate configuration `launch` describes.

    Raises:
        InputError: it failed; why, it has said itself.
        Stopped: it was asked to stop, or this process was, which then waits until it has.
    """
    launcher, environment = ([sys.executable], None) if launch is None else _launcher(launch)
    process = subprocess.Popen([*launcher, str(script), *map(str, flags)], env=environment)
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


# ---- how commands run and end ----


def _read(cls: type[Parsed], argv: Sequence[str], prog: str, launchable: bool) -> tuple[Parsed, Path | None]:
    """The flags, and the accelerate configuration of `--launch`; bad ones end the program."""
    try:
        args, launch = parse(cls, argv, prog, launchable)
        return args, None if launch is None else find_configuration(launch)
    except InputError as error:
        _refuse(str(error))


def _refuse(message: str) -> NoReturn:
    sys.stderr.write(f"error: {message}\n")
    sys.exit(2)


def _launcher(configuration: Path) -> tuple[list[str], dict[str, str]]:
    """The command that starts a script as an accelerate configuration describes, and its environment, in which the
    processes of this machine share its cores: accelerate's own default is one thread for each."""
    settings = yaml.safe_load(configuration.read_text(encoding="utf-8")) or {}
    machines = settings.get("num_machines") or 1
    processes = max(1, (settings.get("num_processes") or 1) // machines)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    environment = {"OMP_NUM_THREADS": str(max(1, cores // processes)), **os.environ}
    command = [sys.executable, "-m", "accelerate.commands.launch", "--quiet", "--config_file", str(configuration)]
    if machines == 1:  # a free port, since other commands may run beside this one
        command += ["--main_process_port", "0"]
    return command, environment


def _supervise(work: Callable[[], None]) -> None:
    """Does the work of a command, and reports bad input, a full disk and a request to stop in one line; after the last,
    the exit code is `signals.EXIT_CODE`."""
    signals.install()
    configure_logging()
    message, stopped = None, None
    try:
        try:
            work()
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
