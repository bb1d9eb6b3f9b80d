"""What the operator says of a history that cannot be written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

import pytest

from engine_ops.controllers.history_keeper import HistoryKeeper
from engine_ops.controllers.history_loop import HistoryLoop
from engine_ops.history import flushing
from engine_ops.history.log import HistoryLog
from engine_ops.history.memory_store import MemoryStore
from engine_ops.history.store import ConflictError, StoreError, StoreRefusedError, StoreUnavailableError
from engine_ops.ml.data_point import WorkloadDataPoint

Conditions = list[Mapping[str, str]]


class _FaultyStore(MemoryStore):
    fault: StoreError | None = None

    async def create(self, name: str, content: bytes, labels: Mapping[str, str], *, sealed: bool = False) -> str:
        if self.fault is not None:
            raise self.fault
        return await super().create(name, content, labels, sealed=sealed)


class _Said:
    """Stands for the operator's status."""

    def __init__(self) -> None:
        self._conditions: Conditions = []
        self._changed = asyncio.Condition()

    async def write(self, conditions: Sequence[Mapping[str, str]]) -> None:
        async with self._changed:
            self._conditions = list(conditions)
            self._changed.notify_all()

    async def wait(self, is_so: Callable[[Mapping[str, str]], bool]) -> None:
        """Wait until HistoryWritable is as told."""

        def stands() -> bool:
            return any(one["type"] == "HistoryWritable" and is_so(one) for one in self._conditions)

        async with asyncio.timeout(60), self._changed:
            await self._changed.wait_for(stands)


class _NoRequests:
    async def histories(self, namespaces: Sequence[str]) -> AsyncIterator[object]:
        return
        yield


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (ConflictError("somebody else writes"), "Conflict"),
        (StoreUnavailableError("no answer"), "Unavailable"),
        (StoreRefusedError("exceeded quota"), "Refused"),
    ],
)
def test_a_fault_of_every_write_is_said_and_taken_back(
    fault: StoreError, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flushing, "FIRST_PAUSE_SECONDS", 0.0)

    async def play() -> None:
        store, said = _FaultyStore(), _Said()
        store.fault = fault
        log = HistoryLog(store)
        keeper = HistoryKeeper(log, outcome_window_ms=1000, opened=lambda: None)
        loop = HistoryLoop(
            log,
            keeper,
            requests=_NoRequests(),  # type: ignore[arg-type]
            namespaces=(),
            status=said,  # type: ignore[arg-type]
            flush_seconds=0.01,
            trouble=lambda: "",
        )
        running = asyncio.create_task(loop.run())
        await said.wait(lambda one: one["status"] == "True")
        log.record(WorkloadDataPoint(1, "resource", {}, 1.0, True), log.stamp())
        await said.wait(lambda one: one["reason"] == reason and str(fault) in one["message"])
        assert log.health.unflushed == 1
        store.fault = None
        await log.flush()  # by somebody who could not wait
        await said.wait(lambda one: one["status"] == "True")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert len(log.collector) == 1

    asyncio.run(play())
