"""The log beside its crashes: ring, open points, watermark, settling, import."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from history_faults import Clock, FaultyStore, drive, key, keyed_point, name_of, new_log, open_point, stored_names

from engine_ops.cli.history_view import read_directory
from engine_ops.history.driving import run_sync
from engine_ops.history.file_store import FileStore
from engine_ops.history.importing import import_points
from engine_ops.history.limits import InvalidPointError
from engine_ops.history.log import HistoryLog
from engine_ops.history.memory_store import MemoryStore
from engine_ops.history.names import HEAD, OPEN, segment_name, sequence_of
from engine_ops.history.open_points import OpenPoint
from engine_ops.history.reading import survey
from engine_ops.history.store import StoreRefusedError, StoreUnavailableError
from engine_ops.ml.data_point import WorkloadDataPoint


def names_of(log: HistoryLog) -> list[str]:
    return [name_of(point) for point in log.collector.select().points()]


def loaded(store: Any, **options: Any) -> HistoryLog:
    log = new_log(store, **options)
    run_sync(log.load())
    return log


def plain_point(name: str, timestamp: int = 5) -> WorkloadDataPoint:
    return WorkloadDataPoint(timestamp, "resource", {}, 1.0, True, {"requestId": name})


def record(log: HistoryLog, *names: str) -> None:
    for name in names:
        assert log.record(keyed_point(name), log.stamp())


def test_the_ring_keeps_the_newest_and_deletes_what_is_outside() -> None:
    store = MemoryStore()
    log = loaded(store, capacity=10)
    for index in range(57):
        record(log, f"p-{index:02}")
        if index % 3 == 0:
            run_sync(log.flush())
    run_sync(log.flush())
    expected = [f"p-{index:02}" for index in range(47, 57)]
    assert names_of(log) == expected
    assert names_of(loaded(store, capacity=10)) == expected
    assert len(store.blobs) <= 5
    assert log.health.missing == loaded(store, capacity=10).health.missing == ()


def test_nothing_is_dropped_before_the_ring_is_full() -> None:
    store = FaultyStore(MemoryStore(), lambda _, what: "refused" if what in ("create", "replace") else None)
    store.stepping = False
    log = loaded(store, capacity=20)
    for index in range(50):
        record(log, f"p-{index:02}")
        if index % 10 == 5:
            with pytest.raises(StoreRefusedError):
                run_sync(log.flush())
        assert names_of(log) == [f"p-{one:02}" for one in range(max(0, index - 19), index + 1)]
        assert log.health.dropped_unflushed <= max(0, index - 19)
    assert log.health.refused == "quota"
    assert 20 <= log.health.unflushed <= 24
    store.fault = lambda *_: None
    run_sync(log.flush())
    assert log.health.refused == ""
    assert log.health.unflushed == 0
    assert names_of(loaded(store.inner, capacity=20)) == [f"p-{one:02}" for one in range(30, 50)]


def test_a_budget_of_bytes() -> None:
    store = MemoryStore()
    log = loaded(store, budget_bytes=3_000, segment_points=10)
    for index in range(200):
        record(log, f"p-{index:03}")
        run_sync(log.flush())
    assert log.health.stored_bytes < 3_000 + 2 * 1_000
    assert names_of(log)[-1] == "p-199"
    assert names_of(loaded(store, budget_bytes=3_000))[-20:] == names_of(log)[-20:]


def test_a_segment_is_split_at_its_bytes() -> None:
    store = MemoryStore()
    log = loaded(store, segment_points=64, segment_bytes=2_000)
    expected = []
    for index in range(150):
        name = f"{index:03}"
        expected.append(name)
        log.record(keyed_point(name, noise=[(index * n) ** 3 % 999_983 for n in range(40)]), log.stamp())
    run_sync(log.flush())
    assert max(len(blob.content or b"") for blob in store.blobs.values()) <= 2_000
    assert names_of(loaded(store)) == expected


def test_what_is_split_leaves_the_ring_too_while_the_store_refuses() -> None:
    store = FaultyStore(MemoryStore(), lambda _, what: "refused" if what in ("create", "replace") else None)
    store.stepping = False
    log = loaded(store, capacity=100, segment_points=16, segment_bytes=2_000)
    for index in range(600):
        noise = [(index * n) ** 3 % 999_983 for n in range(40)]
        log.record(keyed_point(f"{index:03}", noise=noise), log.stamp())
        if index % 8 == 0:
            with pytest.raises(StoreRefusedError):
                run_sync(log.flush())
        assert log.health.unflushed <= 100 + 2 * 16
    store.fault = lambda *_: None
    run_sync(log.flush())
    assert names_of(loaded(store.inner, capacity=100)) == [f"{index:03}" for index in range(500, 600)]


def test_points_without_a_key_are_never_taken_for_each_other() -> None:
    """Three equal ones stay three, also when the answer to the write that brought them is lost."""
    inner = MemoryStore()
    for lost in range(12):
        inner = MemoryStore()
        store = FaultyStore(inner, lambda at, _, lost=lost: "lost answer" if at == lost else None)
        store.stepping = False
        log = new_log(store)
        count = 0
        for batch in (3, 2, 4):
            for _ in range(batch):
                log.record(plain_point("same"), log.stamp())
                count += 1
            while log.dirty:
                try:
                    run_sync(log.flush())
                except StoreUnavailableError:
                    continue
            assert len(loaded(inner).collector) == count
    assert len(names_of(loaded(inner))) == 9


def test_open_points_close_once() -> None:
    store = MemoryStore()
    log = loaded(store)
    stamp = log.stamp()
    assert log.open(open_point("a", stamp))
    assert not log.open(open_point("a", stamp))
    assert not log.record(keyed_point("a"), stamp)
    run_sync(log.flush())
    assert log.is_flushed(key("a"), stamp)
    assert stored_names(store)[:2] == ([], ["a"])
    assert log.close(key("a"), keyed_point("a", outcome={"state": "succeeded"}))
    assert not log.close(key("a"), keyed_point("a"))
    run_sync(log.flush())
    assert stored_names(store)[:2] == (["a"], [])
    assert not log.open(open_point("a", stamp))
    with pytest.raises(ValueError, match=r"needs metadata\.uid"):
        log.open(OpenPoint(plain_point("x"), 1, 2))
    log.open(open_point("b", log.stamp()))
    with pytest.raises(ValueError, match="keeps its uid"):
        log.close(key("b"), keyed_point("c"))
    assert key("b") in log.open_points


def test_a_closed_point_that_left_the_ring_is_not_open_again() -> None:
    store = MemoryStore()
    log = loaded(store, capacity=8)
    log.open(open_point("a", log.stamp()))
    run_sync(log.flush())
    log.close(key("a"), keyed_point("a"))
    for index in range(20):
        record(log, f"p-{index}")
        run_sync(log.flush())
        closed, opened, _ = stored_names(store, capacity=8)
        assert opened == []
    assert "a" not in closed
    assert not log.collector.knows(key("a"))


def test_a_point_that_is_closed_while_the_open_ones_are_written_is_not_open_again() -> None:
    store = FaultyStore(MemoryStore())
    log = new_log(store, capacity=8)
    drive(log.load())
    log.open(open_point("a", log.stamp()))
    flushing = log.flush()
    flushing.send(None)  # type: ignore[attr-defined]  # the blob of open points is on its way
    log.close(key("a"), keyed_point("a"))
    drive(flushing)
    for index in range(20):
        record(log, f"p-{index}")
        drive(log.flush())
        assert stored_names(store.inner, capacity=8)[1] == []


def test_a_closed_point_that_left_the_ring_unwritten_is_not_open_again() -> None:
    store = FaultyStore(MemoryStore())
    store.stepping = False
    log = loaded(store, capacity=8)
    log.open(open_point("a", log.stamp()))
    run_sync(log.flush())
    store.fault = lambda *_: "refused"
    log.close(key("a"), keyed_point("a"))
    record(log, *(f"p-{index}" for index in range(20)))
    with pytest.raises(StoreRefusedError):
        run_sync(log.flush())
    store.fault = lambda *_: None
    run_sync(log.flush())
    assert stored_names(store.inner, capacity=8)[1] == []


def test_a_closed_point_does_not_wait_for_its_outcome(tmp_path: Path) -> None:
    log = loaded(FileStore(tmp_path), segment_points=3)
    names = [f"w-{index}" for index in range(5)]
    for name in names:
        assert log.open(open_point(name, log.stamp()))
    run_sync(log.flush())
    assert read_directory(tmp_path).open_points == 5
    for name in names[1:]:
        assert log.close(key(name), keyed_point(name))
    run_sync(log.flush())
    # The closed ones are in a segment and the head, and in the blob of open points still.
    found = run_sync(survey(FileStore(tmp_path), {}))
    assert len(found.open_points) == 5
    assert [*found.waiting] == [key("w-0")]
    assert read_directory(tmp_path).open_points == 1


def test_the_oldest_open_points_are_pushed_out_as_unknown() -> None:
    store = MemoryStore()
    log = loaded(store, open_capacity=3)
    for index in range(5):
        log.open(open_point(f"o-{index}", log.stamp(), workloadSelector={"matchLabels": {}}))
    run_sync(log.flush())
    closed, opened, _ = stored_names(store)
    assert (closed, opened) == (["o-0", "o-1"], ["o-2", "o-3", "o-4"])
    first = next(iter(log.collector.select().points()))
    assert first.metadata["outcome"]["state"] == "unknown"
    assert "workloadSelector" not in first.metadata
    assert log.health.pushed_out == 2


def test_a_changed_state_is_written_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000.0
    monkeypatch.setattr("engine_ops.history.open_blob.time.monotonic", lambda: now)
    store = MemoryStore()
    log = loaded(store)
    log.open(open_point("a", log.stamp()))
    run_sync(log.flush())
    log.open_points[key("a")].state["samples"] = 2
    log.touch(key("a"))
    assert not log.dirty
    now += 61
    assert log.dirty
    run_sync(log.flush())
    assert not log.dirty
    assert loaded(store).open_points[key("a")].state == {"samples": 2}


def test_the_watermark_waits_for_what_is_on_its_way() -> None:
    clock = Clock()
    log = loaded(MemoryStore(), clock=clock)
    early = log.stamp()
    log.begin(early)
    clock.now_ms += 120_000
    record(log, "a")
    run_sync(log.flush())
    assert log.health.watermark == early - 1
    log.abandon(early)
    record(log, "b")
    run_sync(log.flush())
    assert log.health.watermark == clock.now_ms - 30_000
    assert log.knows(key("never seen"), early)
    late = log.stamp()
    assert not log.knows(key("never seen"), late)


def test_a_refused_point_holds_nothing_up() -> None:
    log = loaded(MemoryStore())
    with pytest.raises(InvalidPointError):
        log.record(keyed_point("a", bad=object()), log.stamp())
    with pytest.raises(InvalidPointError):
        log.open(open_point("b", log.stamp(), bad=object()))
    assert log.health.unflushed == 0
    assert not log.dirty


def test_the_watermark_passes_the_stamps_of_refused_points() -> None:
    clock = Clock()
    log = loaded(MemoryStore(), clock=clock)
    broken = keyed_point("c")
    broken.duration = "long"  # type: ignore[assignment]
    refused: list[Callable[[int], object]] = [
        lambda stamp: log.record(keyed_point("a", bad=object()), stamp),
        lambda stamp: log.open(open_point("b", stamp, bad=object())),
        lambda stamp: log.open(OpenPoint(plain_point("x"), stamp, 2)),
        lambda stamp: log.record(broken, stamp),
    ]
    for refuse in refused:
        stamp = log.stamp()
        with pytest.raises(ValueError, match=r"bad|uid|long"):
            refuse(stamp)
        clock.now_ms += 100_000
        record(log, f"p-{stamp}")
        run_sync(log.flush())
        assert log.health.watermark > stamp
    assert len(names_of(log)) == len(refused)


def test_recorded_before_the_load_is_kept_once() -> None:
    clock = Clock()
    store = MemoryStore()
    first = loaded(store, clock=clock)
    stamps = {}
    for name in ("a", "b", "old"):
        stamps[name] = first.stamp()
        first.record(keyed_point(name), stamps[name])
    clock.now_ms += 600_000
    record(first, "c")
    run_sync(first.flush())
    log = new_log(store, clock=clock)
    log.record(keyed_point("a"), stamps["a"])
    log.record(keyed_point("new"), log.stamp())
    # A status tells of a point that had been flushed, and has left the ring since.
    log.record(keyed_point("left the ring"), stamps["old"])
    log.open(open_point("b", stamps["b"]))
    assert not log.is_flushed(key("a"), stamps["a"])
    run_sync(log.load())
    run_sync(log.flush())
    assert stored_names(store)[:2] == (["a", "b", "c", "new", "old"], [])
    assert names_of(log) == ["a", "b", "old", "c", "new"]
    assert log.open_points == {}


def test_nothing_is_written_before_the_load() -> None:
    inner = MemoryStore()
    store = FaultyStore(inner, lambda _, what: "unavailable" if what in ("list", "read") else None)
    store.stepping = False
    log = new_log(store)
    record(log, "a")
    with pytest.raises(StoreUnavailableError):
        run_sync(log.flush())
    assert not inner.blobs
    assert log.dirty


def test_read_only_writes_nothing_and_sees_changes() -> None:
    store = MemoryStore()
    log = loaded(store)
    record(log, "a")
    run_sync(log.flush())
    reader = new_log(store)
    run_sync(reader.load(read_only=True))
    with pytest.raises(StoreRefusedError, match="reading only"):
        run_sync(reader.flush())
    record(log, *"bcdef")
    run_sync(log.flush())
    run_sync(reader.load(read_only=True))
    assert names_of(reader) == list("abcdef")


def test_settling_flushes_now_and_together() -> None:
    async def main() -> None:
        store = FaultyStore(MemoryStore())
        store.stepping = False
        log = new_log(store)
        stamps = {name: log.stamp() for name in "abc"}
        for name, stamp in stamps.items():
            log.record(keyed_point(name), stamp)
        assert all(await asyncio.gather(*(log.settle(key(name), stamp, 5) for name, stamp in stamps.items())))
        assert store.operations <= 6
        store.fault = lambda *_: "unavailable"
        stamp = log.stamp()
        log.record(keyed_point("d"), stamp)
        assert not await log.settle(key("d"), stamp, 5)
        assert not await log.settle(key("nobody knows"), log.stamp(), 5)
        store.fault = lambda *_: None
        assert await log.settle(key("d"), stamp, 5)

    asyncio.run(main())


def test_an_import_takes_the_newest_that_fit() -> None:
    store = MemoryStore()
    record_log = loaded(store)
    record(record_log, "there")
    run_sync(record_log.flush())
    points = [keyed_point(f"p-{index}", index) for index in (5, 1, 9, 3, 7)] + [keyed_point("there")]
    result = run_sync(import_points(store, points, capacity=4))
    assert (result.added, result.known, result.no_room) == (3, 1, 2)
    assert stored_names(store)[0] == ["p-5", "p-7", "p-9", "there"]
    again = run_sync(import_points(store, points, capacity=4))
    assert (again.added, again.known, again.no_room) == (0, 4, 2)
    assert stored_names(store)[2] == record_log.health.watermark


def test_a_point_that_comes_twice_takes_the_room_of_one() -> None:
    store = MemoryStore()
    points = [keyed_point(f"p-{index}", index) for index in (5, 9, 9, 7, 1, 7, 1)]
    result = run_sync(import_points(store, points, capacity=3))
    assert stored_names(store)[0] == ["p-5", "p-7", "p-9"]
    assert (result.added, result.known, result.no_room) == (3, 2, 2)


def test_names() -> None:
    assert [sequence_of(name) for name in (segment_name(7), segment_name(123_456_789), HEAD, OPEN)] == [
        7,
        123_456_789,
        None,
        None,
    ]
    assert sequence_of("engine-ops-history-000000007") is None


def test_driving() -> None:
    async def waits() -> None:
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="needs an event loop"):
        run_sync(waits())
    assert drive(import_points(MemoryStore(), [])).added == 0


def test_a_listener_is_told_of_each_point_once_and_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    log = loaded(store, capacity=10, open_capacity=1)
    record(log, "before")
    told: list[str] = []

    def listener(point: WorkloadDataPoint) -> None:
        told.append(name_of(point))
        assert name_of(point) in names_of(log), "it is told before the point is there"
        if name_of(point) == "second":
            raise RuntimeError("the listener's own fault")

    log.on_recorded = listener
    record(log, "first", "second")
    assert not log.record(keyed_point("first"), log.stamp()), "it is there already"
    with pytest.raises(InvalidPointError):
        log.record(WorkloadDataPoint(1, "resource", {}, 1.0, True, {"no": object()}), log.stamp())
    assert log.open(open_point("open", log.stamp()))
    assert told == ["first", "second"], "an open point has no outcome yet"
    assert log.close(key("open"), keyed_point("open"))
    assert not log.close(key("open"), keyed_point("open"))
    assert log.open(open_point("pushed out", log.stamp()))
    assert log.open(open_point("newer", log.stamp()))
    assert told == ["first", "second", "open", "pushed out"]
    assert "the listener's own fault" in caplog.text
    run_sync(log.flush())
    again = new_log(store, capacity=10)
    again.on_recorded = listener
    run_sync(again.load())
    assert "first" in names_of(again)
    assert len(told) == 4, "it is told of points that were read of the store"
