"""Child processes that cannot outlive their parent, and what their logs said last."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_TAIL_BYTES = 16_384
# Loaded before any fork: nothing may be imported or allocated for the first time between fork and exec.
_LIBC = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> Callable[[], None]:
    """Make a `preexec_fn` after which the kernel kills the child when the thread that started it ends.

    The kernel ties the signal to the parent's *thread*. The caller must therefore be a thread that stays for as long
    as the child should; the supervisor is a process with one thread for this reason.

    Returns
    -------
    callable
        For `subprocess.Popen`.
    """
    parent = os.getpid()

    def arrange() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        # A parent that died before the line above sends no signal any more.
        if os.getppid() != parent:
            os._exit(1)

    return arrange


def spawn(
    arguments: Sequence[str], *, log_file: Path, working_directory: Path, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start a process that dies with this one and writes to a log.

    Parameters
    ----------
    arguments : sequence of str
        The command line.
    log_file : Path
        Both of its outputs are appended here.
    working_directory : Path
        Where it runs.
    environment : mapping
        All of its environment.

    Returns
    -------
    subprocess.Popen
        The process.
    """
    with log_file.open("ab") as log:
        return subprocess.Popen(
            list(arguments),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=working_directory,
            env=dict(environment),
            preexec_fn=die_with_parent(),
        )


def end(process: subprocess.Popen[bytes], grace_seconds: float) -> None:
    """Ask a process to end, and kill it when it does not.

    Parameters
    ----------
    process : subprocess.Popen
        The process; it may have ended already.
    grace_seconds : float
        How long it may take.
    """
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(grace_seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def tail(log_file: Path, lines: int = 15) -> str:
    """Read the last lines of a log.

    Parameters
    ----------
    log_file : Path
        The log; it may be absent.
    lines : int
        How many lines at most.

    Returns
    -------
    str
        The lines, empty if there are none.
    """
    try:
        with log_file.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            content = file.read()
    except FileNotFoundError:
        return ""
    return "\n".join(content.decode("utf-8", "replace").splitlines()[-lines:])
