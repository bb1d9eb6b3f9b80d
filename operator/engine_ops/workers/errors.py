"""What can go wrong with a worker."""

from __future__ import annotations

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
