"""What a process of ours does to itself before it works. Linux only."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""Environment of workers. Several workers, each with a thread a core, slow each other down many times over, and
a process with threads cannot be forked safely. The libraries read it once, when they are loaded."""

_OOM_SCORE_ADJUSTMENT = 500
"""When the machine is out of memory, a worker goes before the operator."""


def die_with_parent(parent_pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel signal this process when the thread that started it ends, in whatever way.

    Parameters
    ----------
    parent_pid
        Who started it. If it is gone already, this process ends now.
    number
        The signal.
    """
    _prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent_pid:
        os._exit(1)


def adopt_orphans() -> None:
    """Have whatever descends from this process become its child when its own parent ends, so that it can be ended."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def confine(niceness: int) -> None:
    """Make this process a polite worker.

    Low priority, no core dumps, first to go when memory runs out, deaf to Ctrl-C (the parent decides), and leader of
    its own process group, so that what it starts is killed with it.

    Parameters
    ----------
    niceness
        0 to 19; a higher one that was inherited stays.
    """
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    inherited = os.getpriority(os.PRIO_PROCESS, 0)
    os.setpriority(os.PRIO_PROCESS, 0, max(niceness, inherited))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Some sandboxes mount /proc read-only; the score is a courtesy.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE_ADJUSTMENT), encoding="ascii")


def hide(hidden: bool) -> None:
    """Let other processes of the same user trace this one and read its memory and descriptors, or not.

    Parameters
    ----------
    hidden
        It is inherited. A hidden process that is not root cannot look into its own ``/proc/self`` either.
    """
    _prctl(_PR_SET_DUMPABLE, 0 if hidden else 1)


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}, {value})")
