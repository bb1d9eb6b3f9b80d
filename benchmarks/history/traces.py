"""Imports recorded traces and shows their statistics beside ones that are computed of the raw files alone.

Two job logs (NASA iPSC 1993, LLNL Atlas 2006) and the usage of 50 virtual machines (Bitbrains) go through
`engine-ops history import` into a directory; `engine-ops history stats -o json` and `export` say what is there. The
numbers beside them come from gzip, csv and numpy, without any code of the project. Exits with 1 where they differ.

    python benchmarks/history/traces.py --data DIR --plot usage.png
"""

from __future__ import annotations

import argparse
import csv
import datetime
import gzip
import json
import math
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
LOGS = {"NASA": "swf/NASA-iPSC-1993-3.1-cln.swf.gz", "Atlas": "swf/LLNL-Atlas-2006-2.1-cln.swf.gz"}
USAGE, MACHINES = "bitbrains/cpu_usage.csv.gz", "bitbrains/vms.csv"
TOLERANCE = 1e-9
DAY_S = 86_400
Row = tuple[str, float, float]
"""What is compared, by the history, and by the raw file."""


def engine_ops(*arguments: str | Path) -> str:
    """Run a command as a user does and return what it printed."""
    command = [sys.executable, "-c", "from engine_ops.cli.main import main; main()", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, encoding="utf-8")
    return done.stdout


def history_of(store: Path, *imported: str | Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Import files and return the statistics and the points."""
    print(engine_ops("history", "import", *imported, "--store", store), end="")
    statistics = json.loads(engine_ops("history", "stats", "-o", "json", "--store", store))
    points = [json.loads(line) for line in engine_ops("history", "export", "--store", store).splitlines()]
    return statistics, points


def compare_log(path: Path, store: Path) -> list[Row]:
    """Compare a job log's numbers."""
    found, points = history_of(store, path)
    with gzip.open(path, "rt", encoding="ascii") as file:
        text = [line for line in file if not line.startswith(";")]
        jobs = np.loadtxt(text)
    with gzip.open(path, "rt", encoding="ascii") as file:
        begun = next(int(line.split(":")[1]) for line in file if line.startswith("; UnixStartTime"))
    run, status, users = jobs[:, 3], jobs[:, 10], jobs[:, 11]
    recorded = status >= 0
    run_ms = run[run >= 0] * 1000
    outcomes = [point["metadata"]["outcome"] for point in points]
    closed = jobs[:, 1] + np.maximum(jobs[:, 2], 0) + np.maximum(run, 0)
    return [
        ("jobs", found["count"], len(jobs)),
        ("succeeded or not recorded", found["succeeded"], float((status == 1).sum() + (~recorded).sum())),
        ("success rate", found["successRate"], float(((status == 1) | ~recorded).mean())),
        ("cancelled", sum(outcome.get("reason") == "Cancelled" for outcome in outcomes), float((status == 5).sum())),
        ("mean duration, ms", found["avgDurationMs"], float(run_ms.mean())),
        ("p50 duration, ms", found["p50DurationMs"], float(np.percentile(run_ms, 50))),
        ("p95 duration, ms", found["p95DurationMs"], float(np.percentile(run_ms, 95))),
        ("first submit, ms", found["startMs"], (begun + float(jobs[:, 1].min())) * 1000),
        ("last submit, ms", found["endMs"], (begun + float(jobs[:, 1].max())) * 1000),
        ("last end, ms", max(outcome["closedAt"] for outcome in outcomes), (begun + closed.max()) * 1000),
        ("users", len({point["metadata"]["request"].get("user") for point in points} - {None}), len({*users} - {-1.0})),
        (
            "sum of allocated processors",
            sum(point["metadata"].get("allocated", {}).get("cpu", 0) for point in points),
            float(jobs[:, 4][jobs[:, 4] > 0].sum()),
        ),
    ]


def compare_usage(path: Path, machines: Path, store: Path) -> list[Row]:
    """Compare the virtual machines' daily peaks and 95th percentiles."""
    found, points = history_of(store, path, "--capacity", machines)
    with machines.open(encoding="utf-8") as file:
        cores_of = {row["id"]: float(row["cpu_count"]) / float(row["cpu_capacity"]) for row in csv.DictReader(file)}
    days: dict[tuple[str, int], list[float]] = defaultdict(list)
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            days[row["id"], int(row["timestamp"]) // DAY_S].append(float(row["cpu_usage"]) * cores_of[row["id"]])
    ours = {
        (point["metadata"]["name"], point["timestamp"] // (DAY_S * 1000)): point["metadata"]["containers"]["main"][
            "cpu"
        ]
        for point in points
    }
    rows: list[Row] = [
        ("windows of a day", found["count"], len(days)),
        ("virtual machines", len({name for name, _ in ours}), len({name for name, _ in days})),
        ("samples", sum(point["metadata"]["outcome"]["samples"] for point in points), sum(map(len, days.values()))),
        ("windows in one and not in the other", len(ours.keys() ^ days.keys()), 0),
    ]
    for name, quantile in (("p50", 50), ("p95", 95), ("peak", 100)):
        pairs = [
            (ours[key][name], float(np.percentile(samples, quantile))) for key, samples in days.items() if key in ours
        ]
        rows += [
            (f"{name} of cpu, sum of all days", sum(one for one, _ in pairs), sum(other for _, other in pairs)),
            (f"{name} of cpu, largest difference of a day", max(abs(one - other) for one, other in pairs), 0),
        ]
    peaks: dict[str, list[float]] = defaultdict(list)
    for (name, _), samples in days.items():
        peaks[name] += samples
    for name in sorted(peaks, key=lambda one: -max(peaks[one]))[:3]:
        recorded = max(point["resourceUsage"]["cpu"] for point in points if point["metadata"]["name"] == name)
        rows.append((f"peak of machine {name}, cores", recorded, max(peaks[name])))
    return rows


def show(title: str, rows: list[Row]) -> bool:
    """Print a comparison; return whether all agrees."""
    print(f"\n{title:45} {'by the history':>20} {'by the raw file':>20}")
    agrees = True
    for name, ours, theirs in rows:
        same = math.isclose(ours, theirs, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
        agrees &= same
        print(f"  {name:43} {_number(ours):>20} {_number(theirs):>20}{'' if same else '   DIFFERS'}")
    return agrees


def _number(value: float) -> str:
    if value > 1e11:
        return datetime.datetime.fromtimestamp(value / 1000, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.6g}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="where the traces are")
    parser.add_argument("--plot", type=Path, help="draw the usage of the virtual machines into this .png or .svg")
    options = parser.parse_args()
    agrees, skipped = True, 0
    with tempfile.TemporaryDirectory() as directory:
        for name, place in LOGS.items():
            path = options.data / place
            if not path.exists():
                print(f"SKIPPED {name}: there is no {path} (--data)")
                skipped += 1
                continue
            agrees &= show(name, compare_log(path, Path(directory, name)))
        path, machines = options.data / USAGE, options.data / MACHINES
        if path.exists() and machines.exists():
            store = Path(directory, "Bitbrains")
            agrees &= show("Bitbrains", compare_usage(path, machines, store))
            plot = [] if options.plot is None else ["--plot", options.plot]
            print("\n" + engine_ops("history", "show", "--store", store, *plot))
        else:
            print(f"SKIPPED Bitbrains: there is no {path} with {machines.name} (--data)")
            skipped += 1
    compared = 3 - skipped
    verdict = "nothing was compared" if not compared else "all numbers agree" if agrees else "numbers DIFFER"
    print(f"{verdict} ({compared} of 3 traces)")
    return 0 if agrees else 1


if __name__ == "__main__":
    sys.exit(main())
