"""What a point costs: time to record it, bytes in memory and in segments, time to read and to summarise.

    python benchmarks/history/points.py [--million 1000000]

Points are those of `history.typical`; plain JSON of the same points stands beside them. Times are CPU time of this
process, the least of several rounds: other processes on the machine still make them longer. Memory is what was
allocated for the ring (tracemalloc) and how the process grew (RSS), each measured in a process of its own. Exits with
1 beyond a limit.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import sys
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

# The script may be started from anywhere: what it shares with other benchmarks is found before it is imported.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import msgspec
from tabulate import tabulate

from engine_ops.history.block import Block
from engine_ops.history.codec import SegmentHeader, decode_segment, encode_segment
from engine_ops.history.collector import WorkloadCollector
from engine_ops.ml.data_point import WorkloadDataPoint
from history.typical import typical_points
from lib.processes import memory
from lib.summary import Target, target_table

COUNT, SEGMENT = 10_000, 500
HEADER = SegmentHeader(sequence=1, count=0, start_ms=0, end_ms=0)
MEGABYTE = 1e6


def cpu(work: Callable[[], Any], rounds: int = 5) -> float:
    """Return the least CPU seconds of several rounds."""
    least = float("inf")
    for _ in range(rounds):
        started = time.process_time()
        work()
        least = min(least, time.process_time() - started)
    return least


def filled(points: list[WorkloadDataPoint], **options: Any) -> WorkloadCollector:
    collector = WorkloadCollector(**options)
    for point in points:
        collector.record(point)
    return collector


def times_and_bytes() -> list[Target]:
    points = list(typical_points(COUNT))
    # What the benchmark itself keeps should not be looked through by Python's collector of garbage again and again.
    gc.collect()
    gc.freeze()
    head_only = points[:1_500]
    record_s = cpu(lambda: filled(head_only, auto_seal=False)) / len(head_only)
    sealed_s = cpu(lambda: filled(points), 3) / COUNT
    collector = filled(points)
    # In the operator the log encodes; here every block is one of the 20 segments that the ring makes.
    blocks = [block for block in collector.blocks if len(block)]
    segments = [encode_segment(block, HEADER) for block in blocks]
    head = Block()
    for point in points[:SEGMENT]:
        head.append(point)
    first, last = points[1_000].timestamp, points[8_000].timestamp
    json_s = cpu(lambda: [json.dumps(point.to_dict()).encode() for point in points], 2)
    documents = [msgspec.json.encode(point.to_dict()) for point in points]
    decoded = [decode_segment(segment)[1] for segment in segments]
    rows = [
        ("record a point and compress every 500 (us)", sealed_s * 1e6, None),
        ("encode a head of 500 (ms)", cpu(lambda: encode_segment(head, HEADER)) * 1e3, json_s / 20 * 1e3),
        ("decode a segment of 500 (ms)", cpu(lambda: decode_segment(segments[3])) * 1e3, None),
        (
            "... and all its points (ms)",
            cpu(lambda: list(decode_segment(segments[3])[1].points())) * 1e3,
            cpu(lambda: [WorkloadDataPoint.from_dict(json.loads(text)) for text in documents[:500]]) * 1e3,
        ),
        ("all points of 20 segments (ms)", cpu(lambda: [list(block.points()) for block in decoded], 3) * 1e3, None),
        ("export as JSON lines (ms)", cpu(lambda: b"".join(collector.export_jsonl()), 2) * 1e3, json_s * 1e3),
        ("bytes of 10,000", sum(map(len, segments)), sum(map(len, documents))),
        ("... compressed whole", None, len(zlib.compress(b"\n".join(documents)))),
    ]
    print(tabulate(rows, ("10,000 TYPICAL POINTS", "HERE", "PLAIN JSON"), floatfmt=",.1f", tablefmt="simple"))
    filters = {
        "type": {"type": "resource"},
        "namespace": {"namespace": "team-03"},
        "time range": {"start": first, "end": last},
        "all three": {"type": "resource", "namespace": "team-03", "start": first, "end": last},
    }
    return [
        Target("record a point", record_s * 1e6, 20, unit="us"),
        Target("statistics of 10,000", cpu(collector.statistics) * 1e3, 5, unit="ms"),
        *(
            Target(f"filter by {name}, statistics", cpu(lambda f=f: collector.statistics(**f)) * 1e3, 5, unit="ms")
            for name, f in filters.items()
        ),
        Target("encoded, 20 segments", sum(map(len, segments)) / 1e3, 700, unit="kB"),
        Target("decode 20 segments", cpu(lambda: [decode_segment(s) for s in segments]) * 1e3, 100, unit="ms"),
    ]


def ring_memory() -> list[Target]:
    traced = alone(_traced_bytes)
    grown = alone(_grown_bytes)
    return [
        Target("10,000 in memory (tracemalloc)", traced / MEGABYTE, 8, unit="MB"),
        Target("10,000 in memory (growth of RSS)", grown / MEGABYTE, 8, unit="MB"),
    ]


def _traced_bytes() -> float:
    _warm_up()
    tracemalloc.start()
    collector = WorkloadCollector()
    before = tracemalloc.get_traced_memory()[0]
    for point in typical_points(COUNT):
        collector.record(point)
    gc.collect()
    return float(tracemalloc.get_traced_memory()[0] - before)


def _grown_bytes() -> float:
    _warm_up()
    before = memory(os.getpid()).resident_bytes
    collector = WorkloadCollector()
    for point in typical_points(COUNT):
        collector.record(point)
    gc.collect()
    grown = float(memory(os.getpid()).resident_bytes - before)
    assert len(collector) == COUNT
    return grown


def _warm_up() -> None:
    # Imports and working memory of numpy and zlib are not the ring's.
    for point in typical_points(SEGMENT * 2):
        filled([point])
    encode_segment(filled(list(typical_points(SEGMENT))).head, HEADER)
    gc.collect()


def million(count: int) -> list[Target]:
    result = alone(_million, count)
    print(f"{count:,} points in blocks of 20,000: record {result['record_s']:.1f} s CPU, "
          f"{result['bytes'] / MEGABYTE:.1f} MB encoded")  # fmt: skip
    return [
        Target(f"{count:,}: peak RSS", result["peak"] / MEGABYTE, 300, unit="MB"),
        Target(f"{count:,}: record and statistics, CPU", result["record_s"] + result["statistics_s"], 60, unit="s"),
        Target(f"{count:,}: statistics", result["statistics_s"] * 1e3, 1_000, unit="ms"),
        Target(f"{count:,}: statistics by type and time", result["filtered_s"] * 1e3, 1_000, unit="ms"),
    ]


def _million(count: int) -> dict[str, float]:
    collector = WorkloadCollector(count, block_points=20_000)
    spent = 0.0
    source = typical_points(count)
    while points := [point for _, point in zip(range(1_000), source, strict=False)]:
        started = time.process_time()
        collector.record_many(points)
        spent += time.process_time() - started
    assert len(collector) == count
    middle = int(collector.select(newest=count // 2).columns.timestamps[0])
    return {
        "record_s": spent,
        "statistics_s": cpu(collector.statistics, 2),
        "filtered_s": cpu(lambda: collector.statistics(type="resource", start=middle), 2),
        "bytes": sum(block.encoded_bytes_estimate for block in collector.blocks),
        "peak": memory(os.getpid()).peak_bytes,
    }


def alone(work: Callable[..., Any], *arguments: Any) -> Any:
    """Return what the function returns in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--million", type=int, default=0, metavar="COUNT", help="also so many points in large blocks")
    arguments = parser.parse_args()
    targets = [*times_and_bytes(), *ring_memory()]
    if arguments.million:
        targets += million(arguments.million)
    print()
    print(target_table(targets))
    return int(any(target.verdict != "ok" for target in targets))


if __name__ == "__main__":
    sys.exit(main())
