"""1,000,000 points through `engine-ops history import` into a directory, and their statistics.

The points are the jobs of the Atlas trace, again and again at later times; random jobs where the trace is absent.
Import and statistics each run in a process of their own, whose peak memory and time stand beside the limits. Times are
wall-clock: a busy machine makes them longer, so the CPU time of the processes stands beside them. Exits with 1 beyond a
limit.

    python benchmarks/history/million.py --data DIR
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
LOG = "swf/LLNL-Atlas-2006-2.1-cln.swf.gz"
COUNT = 1_000_000
RSS_LIMIT_MB = 300
SECONDS_LIMIT = 60
_SHIFT_S = 30_000_000


class Cost(NamedTuple):
    """What a process took, and what it printed."""

    wall_s: float
    cpu_s: float
    peak_mb: float
    output: str


def rows(path: Path) -> list[list[str]]:
    """Return the jobs of the trace, or random ones."""
    if path.exists():
        with gzip.open(path, "rt", encoding="ascii") as file:
            return [line.split() for line in file if not line.startswith(";")]
    print(f"there is no {path} (--data): the jobs are random")
    source = random.Random(1)
    return [
        f"{job} {job * 400} -1 {int(source.lognormvariate(5, 2))} {2 ** source.randrange(12)} -1 -1 -1 "
        f"{source.choice((-1, 3600, 36000))} -1 {source.choice((0, 1, 1, 5))} {source.randrange(130)} 1 "
        f"{source.randrange(4000)} -1 1 -1 -1".split()
        for job in range(40_000)
    ]


def repeated(jobs: list[list[str]], count: int) -> Iterator[str]:
    """Yield so many lines: all jobs, then all of them again, later and under other numbers."""
    for number in range(count):
        turn, at = divmod(number, len(jobs))
        job = jobs[at]
        yield f"{number + 1} {int(job[1]) + turn * _SHIFT_S} {' '.join(job[2:])}\n"


def run(*arguments: str) -> Cost:
    """Run a command of engine-ops in a process of its own."""
    code = "from engine_ops.cli.main import main; main()"
    begun = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, encoding="utf-8"
    ) as process:
        assert process.stdout is not None
        output = process.stdout.read()
        # wait4 tells the peak of this process alone; RUSAGE_CHILDREN is the highest of all so far.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"engine-ops {' '.join(arguments)} ended with {process.returncode}")
    unit = 1024 if sys.platform == "linux" else 1024 * 1024
    return Cost(time.monotonic() - begun, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / unit, output)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="where the traces are")
    parser.add_argument("--count", type=int, default=COUNT, help="how many points")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        log, store = Path(directory, "log.swf"), Path(directory, "store")
        with log.open("w", encoding="ascii") as file:
            file.write("; UnixStartTime: 1163199901\n")
            file.writelines(repeated(rows(options.data / LOG), options.count))
        imported = run("history", "import", str(log), "--store", str(store))
        counted = run("history", "stats", "-o", "json", "--store", str(store))
        size_mb = sum(path.stat().st_size for path in store.iterdir()) / 1e6
        found = json.loads(counted.output)
        assert found["count"] == options.count, found["count"]
        print(imported.output, end="")
        print(f"{options.count:,} points, {log.stat().st_size / 1e6:.0f} MB as SWF, {size_mb:.0f} MB in the directory")
    print(f"{'':22} {'wall s':>8} {'cpu s':>8} {'peak RSS MB':>12}")
    for name, cost in (("import", imported), ("statistics", counted)):
        print(f"{name:22} {cost.wall_s:8.1f} {cost.cpu_s:8.1f} {cost.peak_mb:12.0f}")
    wall_s, cpu_s = imported.wall_s + counted.wall_s, imported.cpu_s + counted.cpu_s
    peak_mb = max(imported.peak_mb, counted.peak_mb)
    print(f"{'both':22} {wall_s:8.1f} {cpu_s:8.1f} {peak_mb:12.0f}")
    print(f"{'limit':22} {SECONDS_LIMIT:8} {'':8} {RSS_LIMIT_MB:12}")
    return 0 if wall_s < SECONDS_LIMIT and peak_mb < RSS_LIMIT_MB else 1


if __name__ == "__main__":
    sys.exit(main())
