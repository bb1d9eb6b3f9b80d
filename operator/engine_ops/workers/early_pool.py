"""Workers that start before it is known what for: they load numpy while this process loads and reads the rest."""

from __future__ import annotations

import asyncio
import os
from typing import Any, Self

# Nothing heavier may be imported here: whatever is comes before the workers' start.
from engine_ops.workers.pool import WorkerPool


class EarlyPool:
    """A pool of workers that starts in the background. An asynchronous context manager.

    Parameters
    ----------
    workers
        How many; None for one a core. Who names no number is alone with their questions (`engine-ops solve`): long
        searches may then hold all workers, where they otherwise leave one to the questions of others.
    memory_limit_bytes
        A worker above it is killed.
    handler
        See `engine_ops.workers.pool.WorkerPool`; None for the solvers alone.
    """

    def __init__(
        self, workers: int | None = None, *, memory_limit_bytes: int = 2**30, handler: str | None = None
    ) -> None:
        self.workers = workers or len(os.sched_getaffinity(0))
        options: dict[str, Any] = {} if handler is None else {"handler": handler}
        self._pool = WorkerPool(
            self.workers, memory_limit_bytes=memory_limit_bytes, reserve=workers is not None, **options
        )
        self._starting: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._starting = asyncio.create_task(self._pool.start())
        await asyncio.sleep(0)  # until the processes are launched; what blocks the loop now does not hold them up
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        await self._pool.close()

    async def ready(self) -> WorkerPool:
        """Return the pool when it has started.

        Raises
        ------
        WorkerStartError
            If a solver cannot be loaded.
        """
        if self._starting is None:
            raise AssertionError("the pool is used outside of its context")
        await self._starting
        return self._pool
