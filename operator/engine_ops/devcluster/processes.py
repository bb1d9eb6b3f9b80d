"""Child processes that cannot outlive their parent, and what their logs said last."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_TAIL_BYTES = 16_384
# Run by a Python of its own between fork and exec, instead of a `preexec_fn`, which may deadlock where the parent has
# threads. The kernel keeps the setting across exec. A parent that ended before it was made sends no signal any more,
# hence the second look.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


def spawn(
    arguments: Sequence[str],
    *,
    log_file: Path,
    working_directory: Path,
    environment: Mapping[str, str],
    own_session: bool = False,
) -> subprocess.Popen[bytes]:
    """Start a process that the kernel kills when the thread that called this ends, and that writes to a log.

    The kernel ties the signal to the *thread*: call this from one that stays for as long as the process should.

    Parameters
    ----------
    arguments : sequence of str
        The command line; the first is a path.
    log_file : Path
        Both of its outputs go here; what an earlier process wrote is dropped.
    working_directory : Path
        Where it runs.
    environment : mapping
        All of its environment.
    own_session : bool
        Whether it leads a session, so that `os.killpg` reaches everything that it starts.

    Returns
    -------
    subprocess.Popen
        The process.
    """
    with log_file.open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=working_directory,
            env=dict(environment),
            start_new_session=own_session,
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
