"""Long searches beside short questions, with real processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from test_workers_pool import check_next_task_works, pid_in, pool_of, run, until
from test_workers_solve import trial

from engine_ops.workers.errors import WorkerDiedError
from engine_ops.workers.messages import Outcome
from engine_ops.workers.pool import WorkerPool

LONG = 3600.0


@contextlib.asynccontextmanager
async def two_long(pool: WorkerPool, tmp_path: Path) -> AsyncIterator[list[asyncio.Task[Outcome]]]:
    """Have the first of two long searches under way, and the second asked for."""
    first, second = tmp_path / "0", tmp_path / "1"
    calls = [
        asyncio.create_task(
            pool.run(trial({"do": "climb", "reached": str(path)}, search_seconds=LONG), timeout_seconds=LONG)
        )
        for path in (first, second)
    ]
    await pid_in(first)
    yield calls
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)


def test_short_questions_are_answered_beside_two_long_searches(tmp_path: Path) -> None:
    async def main() -> None:
        async with pool_of(2) as pool, two_long(pool, tmp_path) as calls:
            for _ in range(20):
                await check_next_task_works(pool)
            assert (pool.processes.busy, pool.processes.queued) == (1, 1)
            assert not (tmp_path / "1").exists(), "the second waits"
            assert not any(call.done() for call in calls)

    run(main())


@pytest.mark.parametrize("how", ["killed", "cancelled"])
def test_the_next_long_search_begins_when_the_first_is_over(tmp_path: Path, how: str) -> None:
    async def main() -> None:
        async with pool_of(2) as pool, two_long(pool, tmp_path) as (first, second):
            if how == "killed":
                os.kill(await pid_in(tmp_path / "0"), signal.SIGKILL)
                with pytest.raises(WorkerDiedError):
                    await first
            else:
                first.cancel()
            await pid_in(tmp_path / "1")
            await check_next_task_works(pool)
            await until(lambda: len(pool.processes.worker_pids) == 2, "there are two workers again")
            assert not second.done()
            assert (pool.processes.busy, pool.processes.queued) == (1, 0)

    run(main())


def test_a_long_search_that_waits_can_be_cancelled(tmp_path: Path) -> None:
    async def main() -> None:
        async with pool_of(2) as pool, two_long(pool, tmp_path) as (first, second):
            second.cancel()
            await asyncio.wait([second])
            await check_next_task_works(pool)
            assert not first.done()
            assert (pool.processes.busy, pool.processes.queued) == (1, 0)

    run(main())


@pytest.mark.parametrize(("size", "reserve"), [(1, True), (2, False)])
def test_long_searches_take_all_workers_where_none_is_reserved(tmp_path: Path, size: int, reserve: bool) -> None:
    async def main() -> None:
        async with pool_of(size, reserve=reserve) as pool, two_long(pool, tmp_path):
            if size > 1:
                await pid_in(tmp_path / "1")
            assert pool.processes.busy == size
            assert pool.processes.queued == 2 - size

    run(main())
