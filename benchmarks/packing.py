"""Packing: first-fit decreasing and the built-in algorithms beside each other, on the same instances in one run.

python benchmarks/packing.py --data ../shared/data
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tabulate import tabulate

from engine_ops.engine.contract import Answer, Budget, ignore_report
from engine_ops.engine.resource.bounds import lower_bound
from engine_ops.engine.resource.data import parse
from engine_ops.engine.resource.first_fit_decreasing import first_fit_decreasing
from engine_ops.engine.resource.problem import build_problem
from engine_ops.engine.resource.solver import ResourceSolver

SYNTHETIC_NODE = {"cpu": "16000m", "memory": "65536Mi", "pods": 110}
# One above the optimum in the files, says the data's README.
IMPROVABLE = {"u120_08", "u120_19", "u250_07", "u250_12"}


class Instance(NamedTuple):
    """A request's data, and the best number of nodes that is known for it."""

    name: str
    data: dict[str, Any]
    best_known: int | None = None


class Run(NamedTuple):
    """Nodes, and the seconds they took, checks and bound included."""

    nodes: int
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="where synthetic/ and orlib/ are")
    parser.add_argument("--search", type=float, nargs="*", default=[1.0, 2.0, 5.0], help="search seconds to compare")
    parser.add_argument("--orlib-search", type=float, default=1.0, help="search seconds for each OR-Library instance")
    arguments = parser.parse_args()
    vectors = list(synthetic(arguments.data))
    if vectors:
        compare_vectors(vectors, arguments.search)
    else:
        print(f"Skipped the synthetic pods: there is no synthetic/pods10k-1.csv in {arguments.data}.")
    lines = list(orlib(arguments.data))
    if lines:
        compare_lines(lines, arguments.orlib_search)
    else:
        print(f"Skipped OR-Library: there is no orlib/binpack1.txt in {arguments.data}.")


def synthetic(folder: Path) -> Iterator[Instance]:
    """Yield the pods: rows of one deployment may repeat, so the row number is part of the id."""
    for path in sorted(folder.glob("synthetic/pods10k-*.csv")):
        with path.open() as file:
            items = [
                {
                    "id": f"{row['deployment']}-{number}",
                    "cpu": f"{row['cpu_milli']}m",
                    "memory": f"{row['memory_mib']}Mi",
                    "count": int(row["count"]),
                }
                for number, row in enumerate(csv.DictReader(file))
            ]
        yield Instance(path.stem, {"items": items, "nodeCapacity": SYNTHETIC_NODE})


def orlib(folder: Path) -> Iterator[Instance]:
    """Yield the OR-Library's instances: a name, then capacity, number of items and best known bins, then sizes."""
    for path in sorted(folder.glob("orlib/binpack[1-4].txt")):
        words = iter(path.read_text().split())
        for _ in range(int(next(words))):
            name, capacity, number, best = next(words), float(next(words)), int(next(words)), int(next(words))
            items = [{"id": str(place), "cpu": float(next(words)), "memory": 0} for place in range(number)]
            yield Instance(name, {"items": items, "nodeCapacity": {"cpu": capacity, "memory": 0}}, best)


def peer(instance: Instance) -> Run:
    started = time.perf_counter()
    packing = first_fit_decreasing(build_problem(*parse(instance.data, {})))
    return Run(len(packing.nodes), time.perf_counter() - started)


def ours(instance: Instance, search_seconds: float) -> Run:
    started = time.perf_counter()
    answer: Answer = ResourceSolver().solve(instance.data, {}, Budget.of(search_seconds), ignore_report)
    seconds = time.perf_counter() - started
    assert answer.complete
    return Run(answer.result["nodeCount"], seconds)


def bound(instance: Instance) -> int:
    problem = build_problem(*parse(instance.data, {}))
    return lower_bound(problem, problem.count).cost


def compare_vectors(instances: list[Instance], searches: list[float]) -> None:
    rows = []
    for instance in instances:
        runs = [peer(instance), ours(instance, 0), *(ours(instance, seconds) for seconds in searches)]
        rows.append([instance.name, bound(instance), *(f"{run.nodes} ({run.seconds:.2f} s)" for run in runs)])
    headers = [
        "instance",
        "bound",
        "FFD",
        "ours, first answer",
        *(f"ours, search {seconds:g} s" for seconds in searches),
    ]
    print("Vectors: nodes (wall-clock seconds of the whole solve)")
    print(tabulate(rows, headers), end="\n\n")


def compare_lines(instances: list[Instance], search_seconds: float) -> None:
    by_size: dict[str, list[tuple[Instance, int, Run, Run, Run]]] = {}
    for instance in instances:
        entry = (instance, bound(instance), peer(instance), ours(instance, 0), ours(instance, search_seconds))
        by_size.setdefault(instance.name.split("_", maxsplit=1)[0], []).append(entry)
    rows, missed = [], []
    everything = [entry for entries in by_size.values() for entry in entries]
    for size, entries in [*by_size.items(), ("all", everything)]:
        rows.append(
            [
                size,
                len(entries),
                sum(entry[0].best_known or 0 for entry in entries),
                sum(entry[1] for entry in entries),
                *(f"{sum(entry[k].nodes for entry in entries)} ({reached(entries, k)})" for k in (2, 3, 4)),
                f"{sum(entry[3].seconds for entry in entries):.2f}",
                f"{sum(entry[4].seconds for entry in entries):.1f}",
            ]
        )
    missed = [
        f"{e[0].name} ({e[4].nodes}, known {e[0].best_known})"
        for e in everything
        if e[4].nodes > (e[0].best_known or 0)
    ]
    better = [e[0].name for e in everything if e[4].nodes < (e[0].best_known or 0)]
    headers = ["OR-Library", "instances", "best known", "bound", "FFD", "first answer", f"search {search_seconds:g} s"]
    print("One dimension: sums of bins (instances that reach the best known)")
    print(tabulate(rows, [*headers, "first answer, s", "search, s"]))
    print(f"Above the best known: {', '.join(missed) or 'none'}.")
    known = ", ".join(sorted(IMPROVABLE))
    print(f"Below the file's best known: {', '.join(better) or 'none'}; known to be improvable: {known}.")


def reached(entries: list[tuple[Instance, int, Run, Run, Run]], place: int) -> int:
    return sum(entry[place].nodes <= (entry[0].best_known or 0) for entry in entries)  # type: ignore[union-attr]


if __name__ == "__main__":
    main()
