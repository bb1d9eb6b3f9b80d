"""What can go wrong with a worker."""

from __future__ import annotations

import signal

from engine_ops.workers.control import Exited
from engine_ops.workers.messages import Solved


class WorkerError(Exception):
    """A task got no final reply.

    Attributes
    ----------
    incumbent
        The best answer that arrived before; None if none did.
    """

    incumbent: Solved | None = None


class WorkerTimeoutError(WorkerError):
    """The task's time was up; its worker was killed.

    Parameters
    ----------
    timeout_seconds
        The limit, counted from when a worker took the task.
    """

    def __init__(self, timeout_seconds: float) -> None:
        self.timeout_seconds = timeout_seconds
        super().__init__(f"no final answer within {timeout_seconds:g} s; the worker was killed")


class WorkerDiedError(WorkerError):
    """The worker ended, or was ended, in the middle of the task.

    Parameters
    ----------
    cause
        One sentence for people, without a full stop.
    exit_code
        Its exit code, if it exited by itself.
    signal
        The number of the signal that killed it, if one did.
    oom
        Whether it was killed for using more memory than its limit.
    """

    def __init__(
        self, cause: str, *, exit_code: int | None = None, signal: int | None = None, oom: bool = False
    ) -> None:
        self.cause = cause
        self.exit_code = exit_code
        self.signal = signal
        self.oom = oom
        super().__init__(cause)


class WorkerStartError(RuntimeError):
    """The fork server could not start: what it preloads, or the handler, cannot be imported."""


class PoolClosedError(RuntimeError):
    """The pool is closed, or was closed before a worker could take the task."""


def death(exited: Exited | None, *, what: str = "worker") -> WorkerDiedError:
    """Return the error of a worker that ended in the middle of a task.

    Parameters
    ----------
    exited
        How; None if it closed its socket and was then killed.
    what
        What people call it.
    """
    if exited is None:
        return WorkerDiedError(f"the {what} hung up in the middle of the task; it was killed")
    if exited.error is not None:
        return WorkerDiedError(exited.error)
    if exited.oom_bytes is not None:
        used = f"{exited.oom_bytes / 2**20:.0f} MiB"
        return WorkerDiedError(f"the {what} used {used} of memory, more than it may; it was killed", signal=9, oom=True)
    if exited.signal is not None:
        try:
            name = signal.Signals(exited.signal).name
        except ValueError:
            name = f"signal {exited.signal}"
        return WorkerDiedError(f"the {what} was killed by {name}", signal=exited.signal)
    return WorkerDiedError(f"the {what} exited with code {exited.exit_code}", exit_code=exited.exit_code)
