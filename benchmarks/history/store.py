"""The history's store: how fast it loads from a real API server, and how much is written in steady state.

    python benchmarks/history/store.py [--points 10000] [--minutes 5] [--rate 10] [--flush-seconds 3]

Points are those of `history.typical`. Loading is timed as wall clock and CPU of this process, on a control plane of
its own. Bytes are those of the blobs' contents as they are handed to the store, over simulated minutes: time is the
number of points, so that a busy machine changes nothing. Exits with 1 beyond a limit.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engine_ops.devcluster import DevCluster
from engine_ops.history.keys import point_key
from engine_ops.history.log import HistoryLog
from engine_ops.history.memory_store import MemoryStore
from engine_ops.history.open_points import OpenPoint
from engine_ops.history.store import Blob, BlobStore
from engine_ops.kube.connection import Connection
from engine_ops.kube.history_store import ConfigMapStore
from engine_ops.ml.data_point import WorkloadDataPoint
from history.typical import typical_points
from lib.summary import Target, target_table

LOAD_MS, SHARE = 300.0, 0.1
NAMESPACE = "default"
LOADS = 9


class CountingStore(BlobStore):
    """Counts what is written to another store."""

    max_blob_bytes = 1 << 20

    def __init__(self, inner: BlobStore) -> None:
        self._inner = inner
        self.written_bytes = 0
        self.writes = 0

    async def list(self, *, contents: bool = True) -> list[Blob]:
        """See `BlobStore.list`."""
        return await self._inner.list(contents=contents)

    async def read(self, name: str) -> Blob | None:
        """See `BlobStore.read`."""
        return await self._inner.read(name)

    async def create(self, name: str, content: bytes, labels: Mapping[str, str], *, sealed: bool = False) -> str:
        """See `BlobStore.create`."""
        self._count(content)
        return await self._inner.create(name, content, labels, sealed=sealed)

    async def replace(self, name: str, content: bytes, labels: Mapping[str, str], version: str) -> str:
        """See `BlobStore.replace`."""
        self._count(content)
        return await self._inner.replace(name, content, labels, version)

    async def delete(self, name: str, version: str | None = None) -> None:
        """See `BlobStore.delete`."""
        await self._inner.delete(name, version)

    def _count(self, content: bytes) -> None:
        self.written_bytes += len(content)
        self.writes += 1


def as_open(point: WorkloadDataPoint) -> WorkloadDataPoint:
    """Return a point as it was before its outcome was known."""
    later = ("outcome", "containers", "requested")
    metadata = {name: value for name, value in point.metadata.items() if name not in later}
    return WorkloadDataPoint(point.timestamp, point.request_type, {}, 5.0, True, metadata)


async def steady(
    store: CountingStore, log: HistoryLog, points: Iterator[WorkloadDataPoint], args: argparse.Namespace, open_for: int
) -> tuple[float, float]:
    """Record for the minutes asked for; return bytes a flush and writes a flush.

    Parameters
    ----------
    store, log, points
        What is measured.
    args
        The command line's.
    open_for
        For so many seconds each point waits for its outcome; 0 for none.
    """
    before, writes, flushes = store.written_bytes, store.writes, 0
    waiting: list[WorkloadDataPoint] = []
    for second in range(args.minutes * 60):
        for _ in range(args.rate):
            point = next(points)
            if not open_for:
                log.record(point, log.stamp())
                continue
            stamp = log.stamp()
            log.open(OpenPoint(as_open(point), stamp, stamp + 86_400_000, {"sampled": second}))
            waiting.append(point)
            if len(waiting) > open_for * args.rate:
                closed = waiting.pop(0)
                key = point_key(closed)
                assert key is not None
                log.close(key, closed)
        if second % args.flush_seconds == args.flush_seconds - 1:
            await log.flush()
            flushes += 1
    return (store.written_bytes - before) / flushes, (store.writes - writes) / flushes


async def filled(store: BlobStore, points: Iterator[WorkloadDataPoint], count: int) -> HistoryLog:
    """Return a log above a store that has so many points."""
    log = HistoryLog(store, capacity=count)
    await log.load()
    for index in range(count):
        log.record(next(points), log.stamp())
        if index % 500 == 499:
            await log.flush()
    await log.flush()
    return log


async def measure(args: argparse.Namespace, kubeconfig: str) -> list[Target]:
    """Return what was measured beside the limits."""
    connection = await Connection.open(kubeconfig)
    try:
        counting = CountingStore(ConfigMapStore(connection, NAMESPACE))
        points = typical_points(args.points + 4 * 60 * args.minutes * args.rate + 1_000)
        log = await filled(counting, points, args.points)
        whole = log.health.stored_bytes
        print(f"{args.points:,} points: {whole:,} bytes in {log.health.segments} segments and the head")
        walls, cpus = [], []
        for _ in range(LOADS):
            wall, cpu = time.perf_counter(), time.process_time()
            again = HistoryLog(ConfigMapStore(connection, NAMESPACE), capacity=args.points)
            await again.load()
            walls.append((time.perf_counter() - wall) * 1000)
            cpus.append((time.process_time() - cpu) * 1000)
            assert len(again.collector) == args.points
        print(f"load: {', '.join(f'{wall:.0f}' for wall in walls)} ms; CPU of this process {min(cpus):.0f} ms at least")
        targets = [Target("load from the API server, median", statistics.median(walls), LOAD_MS, unit="ms")]
        for title, open_for in (("closed at once", 0), ("open for 30 s", 30), ("open for 60 s", 60)):
            bytes_a_flush, writes = await steady(counting, log, points, args, open_for)
            print(f"{title}: {bytes_a_flush:,.0f} bytes and {writes:.2f} writes a flush at the API server")
            targets.append(Target(f"bytes a flush, {title}, of the whole", bytes_a_flush / whole, SHARE, unit=""))
        memory = CountingStore(MemoryStore())
        points = typical_points(args.points + 60 * args.minutes * args.rate + 1_000, seed=6)
        bytes_a_flush, _ = await steady(memory, await filled(memory, points, args.points), points, args, 0)
        print(f"closed at once: {bytes_a_flush:,.0f} bytes a flush into a store in memory")
        return targets
    finally:
        await connection.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--minutes", type=int, default=5)
    parser.add_argument("--rate", type=int, default=10, help="points a second")
    parser.add_argument("--flush-seconds", type=int, default=3)
    args = parser.parse_args()
    with DevCluster.start(components=("etcd", "kube-apiserver")) as cluster:
        targets = asyncio.run(measure(args, str(cluster.kubeconfig)))
    print(target_table(targets))
    return 0 if all(target.verdict == "ok" for target in targets) else 1


if __name__ == "__main__":
    raise SystemExit(main())
