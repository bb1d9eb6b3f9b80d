"""What an export of the history costs: time and CPU for 10,000 points, and memory for ten times as many.

    python benchmarks/rest/export.py [--rounds 7]

Points are those of `history.typical`, some 1 KB of JSON each, in a log whose blocks have been written to its store, as
in an operator that has run for a while, and read of it, as in one that was started just now. They are selected and
taken as the REST API takes them (`engine_ops.controllers.direct_history`), on a thread beside the event loop: first
without HTTP, then by a client in another process through the whole API. Beside them stands what the standard library's
``json`` takes for the same points, which it has in memory. Wall is of the clock, CPU what this process used (without
the client), medians of several rounds, in turns; memory is what was allocated for it at most (tracemalloc). Exits with
1 beyond a limit.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import gc
import json
import multiprocessing
import statistics
import sys
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

# The script may be started from anywhere: what it shares with other benchmarks is found before it is imported.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tabulate import tabulate

from engine_ops.controllers.direct_history import SelectedPoints, select
from engine_ops.history.log import HistoryLog
from engine_ops.history.memory_store import MemoryStore
from engine_ops.server.workload_points import PointFilter
from history.typical import typical_points
from lib.history_server import EXPORT, fetch, serving
from lib.summary import Target, target_table

COUNT = 10_000
MEGABYTE = 1e6
LIMIT_MS = 200.0
LIMIT_MEGABYTES = 10.0
"""Of memory for an export, however many points it has: some blocks of 500 points as Python objects, and their JSON."""
PLAIN = "json.dumps of objects in memory"
FILTERS = {
    "all": PointFilter(),
    "two namespaces of 20": PointFilter(namespaces=frozenset({"team-01", "team-02"})),
    "of a type, the newest 1,000": PointFilter(request_type="resource", limit=1_000),
}


async def logs(count: int) -> tuple[HistoryLog, HistoryLog]:
    """Return a log that has written its points, and one that has read them."""
    store = MemoryStore()
    wrote = HistoryLog(store, capacity=count)
    await wrote.load()
    for number, point in enumerate(typical_points(count), start=1):
        wrote.record(point, wrote.stamp())
        if number % 5_000 == 0:
            await wrote.flush()
    await wrote.flush()
    read = HistoryLog(store, capacity=count)
    await read.load()
    return wrote, read


def taken(selection: SelectedPoints) -> int:
    """Take an export as the API does, a piece at a time, and return its bytes."""
    return sum(len(piece) for piece in selection.json_lines())


@dataclasses.dataclass
class Spent:
    """Milliseconds of each round."""

    wall_ms: list[float] = dataclasses.field(default_factory=list)
    cpu_ms: list[float] = dataclasses.field(default_factory=list)
    points: int = 0
    size: int = 0

    @property
    def medians(self) -> tuple[float, float]:
        """Wall and CPU."""
        return statistics.median(self.wall_ms), statistics.median(self.cpu_ms)


Export = Callable[[], Awaitable[tuple[float, int, int]]]
"""Exports once: milliseconds of wall, bytes, points."""


async def spent_on(exports: Mapping[str, Export], rounds: int) -> dict[str, Spent]:
    """Do each in turns, and once before that is not counted."""
    spent = {name: Spent() for name in exports}
    for number in range(rounds + 1):
        for name, export in exports.items():
            began = time.process_time()
            wall_ms, size, points = await export()
            used_ms = (time.process_time() - began) * 1e3
            if number:
                each = spent[name]
                each.wall_ms.append(wall_ms)
                each.cpu_ms.append(used_ms)
                each.size, each.points = size, points
    return spent


def without_http(log: HistoryLog, chosen: PointFilter) -> Export:
    """From the question to the last byte, in this process."""

    async def export() -> tuple[float, int, int]:
        started = time.perf_counter()
        selection = await select(log.collector, chosen)
        size = await asyncio.to_thread(taken, selection)
        return (time.perf_counter() - started) * 1e3, size, len(selection)

    return export


def over_http(address: tuple[str, int], path: str, client: ProcessPoolExecutor) -> Export:
    """From the connection to the last byte, in the client's process."""

    async def export() -> tuple[float, int, int]:
        return await asyncio.get_running_loop().run_in_executor(client, fetch, *address, path)

    return export


def plain_json(documents: Sequence[Mapping[str, Any]]) -> Export:
    """As the standard library writes the same points."""

    async def export() -> tuple[float, int, int]:
        started = time.perf_counter()
        size = sum(len(json.dumps(document).encode()) for document in documents)
        return (time.perf_counter() - started) * 1e3, size, len(documents)

    return export


async def peak_bytes(log: HistoryLog) -> int:
    """Return how much was allocated for an export at most."""
    await asyncio.to_thread(taken, await select(log.collector, PointFilter(limit=1)))  # what is made once
    gc.collect()
    tracemalloc.start()
    try:
        await asyncio.to_thread(taken, await select(log.collector, PointFilter()))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


async def measure(rounds: int) -> list[Target]:
    """Print what was measured, and return what it should reach."""
    logs_ = dict(zip(("written", "read"), await logs(COUNT), strict=True))
    # As in the operator: what lives as long as the process is not looked through again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    spawning = multiprocessing.get_context("spawn")  # the client shares nothing with what is measured
    documents = [point.to_dict() for point in typical_points(COUNT)]
    async with serving(logs_["written"]) as written, serving(logs_["read"]) as read:
        with ProcessPoolExecutor(1, mp_context=spawning) as client:
            exports = {
                f"{name}: {what}": without_http(log, chosen)
                for name, log in logs_.items()
                for what, chosen in FILTERS.items()
            }
            over = {
                "written: all": over_http(written, f"{EXPORT}?format=jsonl", client),
                "read: all": over_http(read, f"{EXPORT}?format=jsonl", client),
                "read: all, as one JSON object": over_http(read, EXPORT, client),
            }
            exports |= {f"{name}, over HTTP": export for name, export in over.items()}
            spent = await spent_on({**exports, PLAIN: plain_json(documents)}, rounds)
    rows = [(name, each.points, each.size / MEGABYTE, *each.medians) for name, each in spent.items()]
    print(tabulate(rows, ("EXPORT", "POINTS", "MB", "WALL MS", "CPU MS"), floatfmt=",.1f", tablefmt="simple"))
    if any(spent[f"{name}, over HTTP"].size < spent["read: all"].size for name in over):
        raise RuntimeError("an export over HTTP is shorter than it is without")
    targets = [
        Target(
            f"export of 10,000 points over HTTP, {name}", spent[f"{name}, over HTTP"].medians[0], LIMIT_MS, unit="ms"
        )
        for name in over
    ]
    targets += [
        Target(f"CPU against json.dumps, {name}", spent[f"{name}, over HTTP"].medians[1] / spent[PLAIN].medians[1], 1.0)
        for name in over
    ]
    many = (await logs(10 * COUNT))[1]
    peaks = {COUNT: await peak_bytes(logs_["read"]), 10 * COUNT: await peak_bytes(many)}
    print("memory:", ", ".join(f"{count:,} points {peak / MEGABYTE:.1f} MB" for count, peak in peaks.items()))
    targets += [
        Target(f"memory of an export, {count:,} points", peak / MEGABYTE, LIMIT_MEGABYTES, unit="MB")
        for count, peak in peaks.items()
    ]
    return targets


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    targets = asyncio.run(measure(parser.parse_args().rounds))
    print()
    print(target_table(targets))
    return int(any(target.verdict != "ok" for target in targets))


if __name__ == "__main__":
    sys.exit(main())
