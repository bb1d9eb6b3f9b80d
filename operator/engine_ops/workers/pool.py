"""The pool that solves requests."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Final, Self

from engine_ops.workers.errors import WorkerError
from engine_ops.workers.messages import SOLVE, Incumbent, Outcome, Solved, SolveTask
from engine_ops.workers.process_pool import ProcessPool

LONG_SEARCH_SECONDS: Final = 5.0
"""A search whose budget is above it is long: it may keep others waiting for longer than people wait."""


def is_long_search(search_seconds: float) -> bool:
    """Whether a search with such a budget must leave room for others."""
    return search_seconds > LONG_SEARCH_SECONDS


def searches_long(task: SolveTask) -> bool:
    """Whether a task may search for long. What is only described, or is solved already, is not searched for."""
    return is_long_search(task.search_seconds) and task.built_in is None and not task.describe


class WorkerPool:
    """Solves requests in worker processes, and holds the best answer so far when one is cut off.

    First come, first served, but for searches of more than `LONG_SEARCH_SECONDS`: all workers but one
    at most are at those, so that short questions are answered beside them.

    Parameters
    ----------
    size
        How many workers.
    niceness, memory_limit_bytes, recycle_after, recycle_above_bytes
        See `engine_ops.workers.process_pool.ProcessPool`.
    preload
        Modules to load (``package.module``), or functions to call (``package.module:function``), before workers are
        forked; every solver by default.
    handler
        ``package.module:ATTRIBUTE`` of what answers a `SolveTask`; the solvers alone by default, which pay no heed to
        what plugins said.
    reserve
        Whether long searches leave one worker to other questions. With a size of 1 they cannot.
    """

    def __init__(
        self,
        size: int,
        *,
        niceness: int = 10,
        memory_limit_bytes: int = 2**30,
        recycle_after: int = 1000,
        recycle_above_bytes: int | None = None,
        preload: tuple[str, ...] = SOLVE.preload,
        handler: str = SOLVE.handler,
        reserve: bool = True,
    ) -> None:
        self.processes = ProcessPool(
            dataclasses.replace(SOLVE, preload=preload, handler=handler),
            size,
            niceness=niceness,
            memory_limit_bytes=memory_limit_bytes,
            recycle_after=recycle_after,
            recycle_above_bytes=recycle_above_bytes,
            is_long=searches_long if reserve else None,
        )

    async def start(self) -> None:
        """Start the processes.

        Raises
        ------
        WorkerStartError
            If a solver cannot be loaded.
        """
        await self.processes.start()

    async def close(self) -> None:
        """End the processes, at once."""
        await self.processes.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def run(
        self,
        task: SolveTask,
        *,
        timeout_seconds: float,
        on_incumbent: Callable[[Solved], None] | None = None,
    ) -> Outcome:
        """Solve a request.

        Cancelling the call kills the worker that is at it.

        Parameters
        ----------
        task
            The request.
        timeout_seconds
            When to kill the worker, counted from when it took the task; the wait in the queue is not limited.
        on_incumbent
            Called on the event loop with better and better answers, while the search goes on.

        Returns
        -------
        Solved or Failed
            How it ended.

        Raises
        ------
        WorkerTimeoutError, WorkerDiedError
            If there is no final answer; ``incumbent`` has the best one until then.
        FrameTooLargeError
            If the task is too large to be sent.
        PoolClosedError
            If the pool is not open.
        """
        best: Solved | None = None

        def keep(reply: Incumbent) -> None:
            nonlocal best
            best = reply.best
            if on_incumbent is not None:
                on_incumbent(best)

        try:
            return await self.processes.run(task, timeout_seconds=timeout_seconds, on_interim=keep)
        except WorkerError as error:
            error.incumbent = best
            raise
