"""Workers that work, queue and end are counted, with real processes."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
from metrics_scrapes import moves, scraped
from test_workers_pool import check_next_task_works, pool_of, run, until
from test_workers_solve import trial

from engine_ops.controllers.metrics_source import MetricsSource
from engine_ops.server.metrics import Metrics
from engine_ops.workers.errors import WorkerDiedError, WorkerTimeoutError

FOREVER = {"do": "climb"}


@moves("workers", "workers_busy", "workers_started_total", "workers_ended_total")
def test_workers_that_work_queue_and_end_are_shown() -> None:
    metrics = Metrics()

    async def main() -> None:
        async with pool_of(1, recycle_after=3) as pool:
            source = MetricsSource(pool=pool)
            shown = scraped(metrics, source)
            assert (shown("workers"), shown("workers_busy")) == (1, 0)
            assert shown("workers_started_total") == 1
            slow = [asyncio.create_task(pool.run(trial(FOREVER), timeout_seconds=0.3)) for _ in range(3)]
            await until(lambda: pool.processes.busy == 1, "a worker is busy")
            shown = scraped(metrics, source)
            assert (shown("workers_busy"), shown("queue_depth", queue="worker")) == (1, 2)
            slow[2].cancel()
            for call in slow[:2]:
                with pytest.raises(WorkerTimeoutError):
                    await call
            shown = scraped(metrics, source)
            assert shown("workers_ended_total", reason="timeout") == 2
            assert shown("workers_ended_total", reason="recycled") == 0
            for _ in range(3):
                await check_next_task_works(pool)
            shown = scraped(metrics, source)
            assert shown("workers_ended_total", reason="recycled") == 1
            held = asyncio.create_task(pool.run(trial(FOREVER), timeout_seconds=60))
            await until(lambda: pool.processes.busy == 1, "a worker is busy")
            held.cancel()
            await asyncio.wait([held])
            (pid,) = await until(lambda: pool.processes.worker_pids, "there is another worker")
            await check_next_task_works(pool)
            os.kill(pid, signal.SIGKILL)
            await until(lambda: pool.processes.ended["crashed"] == 1, "its end is noticed")
            shown = scraped(metrics, source)
            assert shown("workers_ended_total", reason="cancelled") == 1
            assert shown("workers_ended_total", reason="crashed") == 1
            assert shown("workers_ended_total", reason="memory") == 0
            ended = sum(pool.processes.ended.values())
            await until(lambda: pool.processes.started == 1 + ended, "each was replaced")

    run(main())


def test_a_worker_that_grows_too_large_is_counted() -> None:
    metrics = Metrics()

    async def main() -> None:
        async with pool_of(1, memory_limit_bytes=150 * 2**20) as pool:
            with pytest.raises(WorkerDiedError):
                await pool.run(trial({"do": "hoard", "bytes": 400 * 2**20}), timeout_seconds=30)
            shown = scraped(metrics, MetricsSource(pool=pool))
            assert shown("workers_ended_total", reason="memory") == 1

    run(main())
