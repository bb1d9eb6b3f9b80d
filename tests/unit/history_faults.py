"""A store that fails as stores do, and writers that are driven one store operation at a time."""

from __future__ import annotations

import types
from collections.abc import Callable, Coroutine, Generator, Mapping
from typing import Any

from engine_ops.history.keys import key_of
from engine_ops.history.log import HistoryLog
from engine_ops.history.memory_store import MemoryStore
from engine_ops.history.open_points import OpenPoint
from engine_ops.history.store import Blob, BlobStore, ConflictError, StoreRefusedError, StoreUnavailableError
from engine_ops.ml.data_point import WorkloadDataPoint

FAULTS = ("unavailable", "lost answer", "refused", "conflict", "touched")


@types.coroutine
def step() -> Generator[None, None, None]:
    """Give the driver the word."""
    yield


class FaultyStore(BlobStore):
    """Blobs of another store. The driver has the word before and after each operation.

    Parameters
    ----------
    inner
        Where the blobs are.
    fault
        Called with the number of the operation and its name; returns one of `FAULTS` or None.
    """

    max_blob_bytes = MemoryStore.max_blob_bytes

    def __init__(self, inner: MemoryStore, fault: Callable[[int, str], str | None] = lambda *_: None) -> None:
        self.inner = inner
        self.fault = fault
        self.operations = 0
        self.stepping = True
        self.written_bytes = 0

    async def list(self, *, contents: bool = True) -> list[Blob]:
        return await self._run("list", None, self.inner.list(contents=contents))

    async def read(self, name: str) -> Blob | None:
        return await self._run("read", None, self.inner.read(name))

    async def create(self, name: str, content: bytes, labels: Mapping[str, str], *, sealed: bool = False) -> str:
        self.written_bytes += len(content)
        return await self._run("create", name, self.inner.create(name, content, labels, sealed=sealed))

    async def replace(self, name: str, content: bytes, labels: Mapping[str, str], version: str) -> str:
        self.written_bytes += len(content)
        return await self._run("replace", name, self.inner.replace(name, content, labels, version))

    async def delete(self, name: str, version: str | None = None) -> None:
        return await self._run("delete", name, self.inner.delete(name, version))

    async def _run(self, what: str, name: str | None, operation: Coroutine[Any, Any, Any]) -> Any:
        number = self.operations
        self.operations += 1
        fault = self.fault(number, what)
        try:
            if self.stepping:
                await step()
            if fault == "unavailable":
                raise StoreUnavailableError("away")
            if fault == "refused":
                raise StoreRefusedError("quota")
            if fault == "conflict" and name is not None:
                raise ConflictError("so it says")
            if fault == "touched" and name in self.inner.blobs and not self.inner.blobs[name].sealed:
                blob = self.inner.blobs[name]
                assert blob.content is not None
                await self.inner.replace(name, blob.content, blob.labels, blob.version)
            result = await operation
            if self.stepping:
                await step()
            if fault == "lost answer":
                raise StoreUnavailableError("the answer was lost")
            return result
        finally:
            operation.close()


class Clock:
    """A clock that a test sets."""

    def __init__(self, now_ms: int = 1_800_000_000_000) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms


class CrashError(Exception):
    """The process ended."""


def drive(coroutine: Coroutine[Any, Any, Any], steps: int | None = None) -> Any:
    """Run a coroutine to its end; after so many steps its process is killed."""
    taken = 0
    try:
        while True:
            if steps is not None and taken >= steps:
                raise CrashError
            coroutine.send(None)
            taken += 1
    except StopIteration as stop:
        return stop.value
    finally:
        coroutine.close()


def keyed_point(uid: str, timestamp: int = 1_000, **metadata: Any) -> WorkloadDataPoint:
    identity = {"uid": uid, "generation": 1, "run": 1}
    return WorkloadDataPoint(timestamp, "resource", {"cpu": 0.5}, 12.5, True, {**identity, **metadata})


def key(uid: str) -> bytes:
    return key_of(uid, 1, 1)


def open_point(uid: str, stamp: int, **metadata: Any) -> OpenPoint:
    return OpenPoint(keyed_point(uid, **metadata), stamp, stamp + 86_400_000, {"samples": 1})


def new_log(store: BlobStore, clock: Clock | None = None, **options: Any) -> HistoryLog:
    chosen: dict[str, Any] = {"segment_points": 4, "open_capacity": 5, "capacity": 10_000, **options}
    return HistoryLog(store, clock=clock or Clock(), **chosen)


def stored_names(inner: MemoryStore, **options: Any) -> tuple[list[str], list[str], int]:
    """What a new process finds: names of the closed points and of the open ones, sorted, and the watermark."""
    log = new_log(inner, **options)
    drive(log.load(read_only=True))
    closed = [name_of(point) for point in log.collector.select().points()]
    opened = [name_of(one.point) for one in log.open_points.values()]
    return sorted(closed), sorted(opened), log.health.watermark


def name_of(point: WorkloadDataPoint) -> str:
    return str(point.metadata.get("uid") or point.metadata["requestId"])
