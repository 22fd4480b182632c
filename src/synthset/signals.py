"""Stopping on request: handling of Ctrl-C, SIGTERM and SIGUSR1.

A request raises `Stopped` at once, so that a command cleans up and ends. Code that must not be interrupted runs within
`deferred`, where the request is only recorded; the exception is raised when the block ends. Python handles signals
only between its own instructions: a process that waits inside a library, for processes that may have left already, is
ended by a thread.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: nothing is wrong, run it again; batch scripts requeue on it
SIGNALS = ("SIGINT", "SIGTERM", "SIGUSR1")
PATIENCE = 20.0  # seconds; torchrun and many schedulers send SIGKILL after 30


class Stopped(BaseException):
    """The command was asked to stop. Like `KeyboardInterrupt`, it is not an `Exception`, so that error handlers let it
    pass."""


class StopRequest:
    """A request to stop this process.

    Attributes:
        signal: name of the signal that asked for it; None while nobody has.
    """

    signal: str | None

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forgets a request, and takes those to the process that calls."""
        self.signal = None
        self.depth, self.since, self.process, self.token = 0, 0.0, os.getpid(), object()

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Handles a signal. A second one, a second or more after the first (launchers pass Ctrl-C on, so that one
        comes twice), does not wait for the end of a `deferred` block."""
        if os.getpid() != self.process:
            return  # a worker of a DataLoader, forked from here; its parent ends it
        first = self.signal is None
        if first:
            self.signal, self.since = signal.Signals(number).name, time.monotonic()
        if not self.depth or (not first and time.monotonic() - self.since >= 1):
            raise Stopped(self.signal)


request = StopRequest()


def install() -> None:
    """Handles the signals of `SIGNALS`, those that the system has, by `request` from now on."""
    request.reset()
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)  # written to at once, whatever the main thread does
    threading.Thread(target=_watch, args=(reader, request.token), daemon=True).start()
    sys.unraisablehook = _raise_again
    for name in SIGNALS:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), request.receive)


def _raise_again(unraisable: "sys.UnraisableHookArgs") -> None:
    """Repeats a signal whose `Stopped` was raised in a finalizer or a library's callback, where Python drops it."""
    if isinstance(unraisable.exc_value, Stopped) and request.signal:
        again = threading.Timer(0.01, os.kill, [os.getpid(), signal.Signals[request.signal]])
        again.daemon = True
        again.start()
    else:
        sys.__unraisablehook__(unraisable)


def _watch(reader: int, token: object) -> None:
    """Ends the process, if it still runs, `PATIENCE` seconds after a request, or later when the last `deferred` block
    ends."""
    numbers = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
    while os.read(reader, 1)[0] not in numbers:
        pass
    time.sleep(PATIENCE)
    while request.depth:
        time.sleep(0.1)
    if request.token is token:
        os._exit(EXIT_CODE)


def _forget() -> None:
    """Detaches a forked process from this one's signals."""
    if threading.current_thread() is threading.main_thread():
        signal.set_wakeup_fd(-1)


os.register_at_fork(after_in_child=_forget)


@contextmanager
def deferred() -> Iterator[StopRequest]:
    """Records a request to stop within the block, in the `StopRequest` that it yields; at the end of the outermost such
    block, raises `Stopped`."""
    request.depth += 1
    try:
        yield request
    finally:
        request.depth -= 1
    if request.signal and not request.depth:
        raise Stopped(request.signal)


@contextmanager
def undeferred() -> Iterator[None]:
    """Raises `Stopped` at once on a request within the block, also inside a `deferred` one."""
    depth, request.depth = request.depth, 0
    try:
        if request.signal:
            raise Stopped(request.signal)
        yield
    finally:
        request.depth = depth
