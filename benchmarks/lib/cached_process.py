"""A process that does nothing but keep the cluster cache, driven by lines on stdin. Run with ``python -m``."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from engine_ops.kube.cluster_cache import ClusterCache
from engine_ops.kube.connection import Connection


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def look(cache: ClusterCache, count: int) -> dict[str, Any]:
    """Take snapshots one after the other."""
    took = []
    encode_ms = 0.0
    for _ in range(count):
        began = time.perf_counter()
        snapshot = await cache.snapshot(timeout_seconds=60)
        took.append(1000 * (time.perf_counter() - began))
        began = time.perf_counter()
        encoded = len(msgspec.msgpack.encode(snapshot))
        encode_ms = 1000 * (time.perf_counter() - began)
        await asyncio.sleep(0.1)
    return {
        "p50_ms": statistics.median(took),
        "max_ms": max(took),
        "encode_ms": encode_ms,
        "encoded_bytes": encoded,
        "nodes": len(snapshot.nodes),
        "pods": len(snapshot.pods),
        "kinds": len(snapshot.kinds),
        "late": sum(counters.late for counters in cache.counters.values()),
        "events": sum(counters.events for counters in cache.counters.values()),
    }


async def main() -> None:
    connection = await Connection.open()
    cache = ClusterCache(connection)
    loop = asyncio.get_running_loop()
    try:
        before = resident_bytes()
        began, cpu = time.perf_counter(), time.process_time()
        await cache.snapshot(timeout_seconds=120)
        first = {"first_s": time.perf_counter() - began, "first_cpu_s": time.process_time() - cpu}
        answer: dict[str, Any] = {**first, "before_bytes": before}
        while True:
            gc.collect()
            print(json.dumps({**answer, "resident_bytes": resident_bytes()}), flush=True)
            command = (await loop.run_in_executor(None, sys.stdin.readline)).split()
            if not command:
                return
            answer = await look(cache, int(command[1]))
    finally:
        await cache.close()
        await connection.close()


if __name__ == "__main__":
    if sys.argv[1:] == ["uvloop"]:
        import uvloop

        uvloop.run(main())
    else:
        asyncio.run(main())
