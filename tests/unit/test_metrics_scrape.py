"""A scrape: answered from any thread, whatever the engine's loop does."""

from __future__ import annotations

import asyncio
import platform
import threading

import pytest
import test_metrics_history
import test_metrics_http
import test_metrics_kube
import test_metrics_plugins
import test_metrics_requests
import test_metrics_workers
from metrics_names import exposed
from metrics_scrapes import MOVED, Scrape, moves

from engine_ops import __version__
from engine_ops.server import metrics as metrics_module
from engine_ops.server.metrics import Metrics, on_loop
from engine_ops.server.metrics_snapshot import MetricsSnapshot

OTHERS = (
    test_metrics_history,
    test_metrics_http,
    test_metrics_kube,
    test_metrics_plugins,
    test_metrics_requests,
    test_metrics_workers,
)
"""Importing them tells what they move."""


def test_each_metric_has_a_test_that_moves_it() -> None:
    assert OTHERS
    assert exposed().keys() == MOVED


@moves("build_info", "loop_responds", "loop_delay_seconds")
def test_a_scrape_is_answered_though_the_engine_is_not(monkeypatch: pytest.MonkeyPatch) -> None:

    monkeypatch.setattr(metrics_module, "READ_SECONDS", 0.05)
    metrics = Metrics()

    async def never() -> MetricsSnapshot:
        await asyncio.Event().wait()
        raise AssertionError

    async def main() -> None:
        metrics.collect_from(MetricsSnapshot)
        shown = Scrape(await metrics.scrape_aside())
        assert shown("build_info", version=__version__, python=platform.python_version()) == 1
        assert shown("loop_responds") == 1
        delay = shown("loop_delay_seconds")
        assert delay is not None
        assert delay >= 0
        metrics.collect_from(on_loop(asyncio.get_running_loop(), never))
        shown = Scrape(await metrics.scrape_aside())
        assert (shown("loop_responds"), shown("loop_delay_seconds")) == (0, None)

    asyncio.run(main())


def test_numbers_are_read_on_the_loop_of_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_module, "READ_SECONDS", 60.0)
    metrics, engine = Metrics(), asyncio.new_event_loop()
    seen: list[int] = []

    async def read() -> MetricsSnapshot:
        seen.append(threading.get_ident())
        return MetricsSnapshot(lease_held=True)

    thread = threading.Thread(target=engine.run_forever)
    thread.start()
    try:
        metrics.collect_from(on_loop(engine, read))
        assert Scrape(metrics.scrape())("lease_held") == 1
        assert seen == [thread.ident]
    finally:
        engine.call_soon_threadsafe(engine.stop)
        thread.join()
        engine.close()
    shown = Scrape(metrics.scrape())
    assert (shown("lease_held"), shown("loop_responds")) == (None, 0), "of a process that ends"
