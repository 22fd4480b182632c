"""Requests to stop, sent to this very process."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from synthset import signals
from synthset.cli import call
from synthset.signals import Stopped, deferred, undeferred


@pytest.fixture(autouse=True)
def handlers():
    before = {name: signal.getsignal(getattr(signal, name)) for name in signals.SIGNALS}
    hook = sys.unraisablehook
    signals.install()
    yield
    for name, handler in before.items():
        signal.signal(getattr(signal, name), handler)
    sys.unraisablehook = hook
    signals.request.__init__()
    signal.set_wakeup_fd(-1)


@pytest.mark.parametrize("name", signals.SIGNALS)
def test_a_request_ends_what_is_going_on(name):
    with pytest.raises(Stopped, match=name):
        os.kill(os.getpid(), getattr(signal, name))
        time.sleep(5)


def test_a_request_within_a_finalizer_is_not_lost(capfd):
    """Python drops what a finalizer raises."""

    class Resource:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)

    began = time.monotonic()
    with pytest.raises(Stopped, match="SIGTERM"):
        Resource()
        time.sleep(5)
    assert time.monotonic() - began < 3  # also while the process waits
    assert "ignored" not in capfd.readouterr().err


def test_a_deferred_block_is_finished_first():
    done = []
    with pytest.raises(Stopped, match="SIGUSR1"):
        with deferred(), deferred() as request:
            os.kill(os.getpid(), signal.SIGUSR1)
            done.append(request.signal)
        done.append("never")
    assert done == ["SIGUSR1"]


def test_an_undeferred_part_of_it_is_not():
    done = []
    with pytest.raises(Stopped), deferred() as request:
        try:
            with undeferred():
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(5)
        except Stopped:
            done.append(request.signal)
        with pytest.raises(Stopped), undeferred():
            done.append("never")
        done.append("end")
    assert done == ["SIGTERM", "end"]


def test_only_a_later_second_signal_does_not_wait():
    with pytest.raises(Stopped), deferred() as request:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)  # as a launcher passes it on
        request.since -= 1
        with pytest.raises(Stopped, match="SIGINT"):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)


def test_a_called_script_is_waited_for(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import pathlib, signal, sys, time\n"
        "def leave(*_):\n"
        "    pathlib.Path(sys.argv[1]).write_text('saved')\n"
        "    sys.exit(75)\n"
        "signal.signal(signal.SIGTERM, leave)\n"
        "pathlib.Path(sys.argv[1]).write_text('started')\n"
        "time.sleep(60)\n"
    )

    def ask():
        while not (tmp_path / "said").exists() or (tmp_path / "said").read_text() != "started":
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGUSR1)

    threading.Thread(target=ask, daemon=True).start()
    with pytest.raises(Stopped, match="SIGUSR1"):
        call(script, tmp_path / "said")
    assert (tmp_path / "said").read_text() == "saved"


def test_a_script_that_was_asked_to_stop_stops_its_caller(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(f"import sys; sys.exit({signals.EXIT_CODE})")
    with pytest.raises(Stopped, match=r"script\.py"):
        call(script)
    assert sys.exc_info() == (None, None, None)


def test_a_process_that_waits_in_a_library_is_ended():
    """Its main thread is in a call that starts again after a signal, and never runs Python."""
    code = """
import ctypes, os, threading, time
from synthset import signals
signals.PATIENCE = 0.5
signals.install()
mutex = (ctypes.c_long * 8)()
libc = ctypes.CDLL(None)
libc.pthread_mutex_lock(mutex)
print("waiting", flush=True)
libc.pthread_mutex_lock(mutex)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "waiting\n"
    time.sleep(1)  # until it does
    process.terminate()
    assert process.wait(30) == signals.EXIT_CODE
