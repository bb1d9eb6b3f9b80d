"""How the history is, as metrics show it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from history_faults import keyed_point, new_log, open_point
from metrics_scrapes import moves, scraped

from engine_ops.controllers.metrics_source import MetricsSource
from engine_ops.history.driving import run_sync
from engine_ops.history.memory_store import MemoryStore
from engine_ops.history.names import sequence_of
from engine_ops.history.store import StoreRefusedError
from engine_ops.server.metrics import Metrics


def history_of(log: Any) -> MetricsSource:
    return MetricsSource(history=lambda: log.health)


@moves(
    "history_loaded",
    "history_writable",
    "history_points",
    "history_open_points",
    "history_unflushed_points",
    "history_segments",
    "history_stored_bytes",
    "history_last_flush_timestamp_seconds",
)
def test_how_the_history_is_is_shown() -> None:
    metrics, store = Metrics(), MemoryStore()
    log = new_log(store)
    source = history_of(log)
    shown = scraped(metrics, source)
    assert (shown("history_loaded"), shown("history_writable")) == (0, 0)
    assert shown("history_last_flush_timestamp_seconds") is None
    run_sync(log.load())
    for index in range(30):
        log.record(keyed_point(f"p-{index}"), log.stamp())
    log.open(open_point("open", log.stamp()))
    shown = scraped(metrics, source)
    assert (shown("history_loaded"), shown("history_writable")) == (1, 1)
    assert (shown("history_points"), shown("history_open_points")) == (30, 1)
    assert shown("history_unflushed_points") == 31
    run_sync(log.flush())
    shown = scraped(metrics, source)
    assert (shown("history_unflushed_points"), shown("history_segments")) == (0, log.health.segments)
    assert log.health.segments > 0
    assert shown("history_stored_bytes") == log.health.stored_bytes > 0
    flushed_at_ms = log.health.flushed_at_ms
    assert flushed_at_ms is not None
    assert shown("history_last_flush_timestamp_seconds") == flushed_at_ms / 1000


@moves("history_damaged_segments", "history_missing_segments")
def test_segments_that_are_damaged_or_missing_are_shown() -> None:
    metrics, store = Metrics(), MemoryStore()
    log = new_log(store)
    run_sync(log.load())
    for index in range(60):
        log.record(keyed_point(f"p-{index}"), log.stamp())
    run_sync(log.flush())
    names = sorted(name for name in store.blobs if sequence_of(name) is not None)
    assert len(names) >= 3
    blob = store.blobs[names[0]]
    assert blob.content is not None
    store.blobs[names[0]] = dataclasses.replace(blob, content=blob.content[: len(blob.content) // 2])
    del store.blobs[names[1]]
    again = new_log(store)
    run_sync(again.load())
    shown = scraped(metrics, history_of(again))
    assert shown("history_damaged_segments") == len(again.health.damaged) > 0
    assert shown("history_missing_segments") == len(again.health.missing) > 0


@moves("history_conflicts_total", "history_pushed_out_points_total", "history_lost_points_total")
def test_what_the_history_could_not_do_is_counted() -> None:
    metrics, store = Metrics(), MemoryStore()
    log, other = new_log(store, capacity=10, open_capacity=1), new_log(store, capacity=10)
    for each in (log, other):
        run_sync(each.load())
    log.record(keyed_point("mine"), log.stamp())
    other.record(keyed_point("theirs"), other.stamp())
    run_sync(log.flush())
    run_sync(other.flush())
    assert scraped(metrics, history_of(other))("history_conflicts_total") == 1
    log.open(open_point("first", log.stamp()))
    log.open(open_point("second", log.stamp()))
    assert scraped(metrics, history_of(log))("history_pushed_out_points_total") == 1
    for index in range(60):
        log.record(keyed_point(f"p-{index}"), log.stamp())
    lost = scraped(metrics, history_of(log))("history_lost_points_total")
    assert lost == log.health.dropped_unflushed > 0


def test_a_store_that_refuses_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics, store = Metrics(), MemoryStore()
    log = new_log(store)
    run_sync(log.load())

    async def refuse(*_: object, **__: object) -> str:
        raise StoreRefusedError("a quota")

    log.record(keyed_point("p"), log.stamp())
    monkeypatch.setattr(store, "create", refuse)
    assert scraped(metrics, history_of(log))("history_writable") == 1
    with pytest.raises(StoreRefusedError):
        run_sync(log.flush())
    assert scraped(metrics, history_of(log))("history_writable") == 0
