"""What an export of the history costs: time for 10,000 points, and memory for ten times as many.

    python benchmarks/rest/export.py [--rounds 7]

Points are those of `history.typical`, some 1 KB of JSON each, in a log whose blocks have been written to its store, as
in an operator that has run for a while, and read of it, as in one that was started just now. They are selected and
taken as the REST API takes them (`engine_ops.controllers.direct_history`), on a thread beside the event loop; without
HTTP. Beside them stands what the standard library's ``json`` takes for the same points, which it has in memory. Times
are of the clock, the median of several rounds; memory is what was allocated for it at most (tracemalloc). Exits with 1
beyond a limit.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

# The script may be started from anywhere: what it shares with other benchmarks is found before it is imported.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tabulate import tabulate

from engine_ops.controllers.direct_history import SelectedPoints, select
from engine_ops.history.log import HistoryLog
from engine_ops.history.memory_store import MemoryStore
from engine_ops.server.backend import PointFilter
from history.typical import typical_points
from lib.summary import Target, target_table

COUNT = 10_000
MEGABYTE = 1e6
LIMIT_MS = 200.0
LIMIT_MEGABYTES = 10.0
"""Of memory for an export, however many points it has: some blocks of 500 points as Python objects, and their JSON."""
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


def median_ms(work: Callable[[], object], rounds: int) -> float:
    """Return the median milliseconds of several rounds, by the clock."""
    spent = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        spent.append((time.perf_counter() - started) * 1e3)
    return statistics.median(spent)


async def export_ms(log: HistoryLog, chosen: PointFilter, rounds: int) -> float:
    """Return the median milliseconds from the question to the last byte."""
    spent = []
    for _ in range(rounds):
        started = time.perf_counter()
        selection = await select(log.collector, chosen)
        await asyncio.to_thread(taken, selection)
        spent.append((time.perf_counter() - started) * 1e3)
    return statistics.median(spent)


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


def plain_json_ms(rounds: int) -> float:
    """Return the median milliseconds of the standard library for the same points."""
    documents = [point.to_dict() for point in typical_points(COUNT)]
    return median_ms(lambda: sum(len(json.dumps(document).encode()) for document in documents), rounds)


async def measure(rounds: int) -> list[Target]:
    """Print what was measured, and return what it should reach."""
    logs_ = dict(zip(("written", "read"), await logs(COUNT), strict=True))
    # As in the operator: what lives as long as the process is not looked through again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    rows: list[tuple[object, ...]] = []
    targets = []
    for name, log in logs_.items():
        for what, chosen in FILTERS.items():
            spent_ms = await export_ms(log, chosen, rounds)
            selection = await select(log.collector, chosen)
            rows.append((f"{name}: {what}", len(selection), taken(selection) / MEGABYTE, spent_ms))
            if what == "all":
                targets.append(Target(f"export of 10,000 points, {name}", spent_ms, LIMIT_MS, unit="ms"))
    rows.append(("json.dumps of objects in memory", COUNT, None, plain_json_ms(rounds)))
    print(tabulate(rows, ("EXPORT AS JSON LINES", "POINTS", "MB", "MS"), floatfmt=",.1f", tablefmt="simple"))
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
