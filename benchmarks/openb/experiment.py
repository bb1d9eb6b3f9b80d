"""The published allocation experiment on the openb cluster: our strategies beside six schedulers.

    python benchmarks/openb/experiment.py [--workloads default gpuspec10 gpushare100] [--seeds 42-51]
                                          [--strategies fragmentation-aware ...] [--processes 2]

Each run gives the engine's own solver one request with all pods in the order of their arrival; it places each at its
turn, and every placement is checked GPU by GPU. BestFit is measured too: only if it comes out as published is the
experiment the same one, and the other figures comparable. All strategies are online: they know of the pods to come only
how frequent each kind is, as the published FGD does. All of it takes some 10 minutes on two cores.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# The script may be started from anywhere: what it shares with other benchmarks is found before it is imported.
# ruff: noqa: E402
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from tabulate import tabulate

from engine_ops.engine.contract import Budget, ignore_report
from engine_ops.engine.scheduling.solver import SchedulingSolver
from openb.arrivals import PUBLISHED_FILE, Allocation, Published, allocation, arrivals, read_published
from openb.best_fit import place as place_best_fit
from openb.convert import GPU_RESOURCE, scheduling
from openb.trace import GPU_MILLI, NODE_FILE, TraceNode, TracePod, pod_file, read_nodes, read_pods
from openb.verify_gpus import check_gpus

BEST_FIT = "BestFit"
STRATEGIES = ("least-loaded", "most-packed", "balanced", "fragmentation-aware")
WORKLOADS = ("default", "gpuspec10", "gpushare100")
REPRODUCED_WITHIN = 0.3
"""Points that BestFit may be off."""
TARGETS = {"default": 95.1, "gpuspec10": 94.36, "gpushare100": 86.34}
"""Percent that fragmentation-aware should reach at 100 % of arrivals."""
SHARED = [{"resource": GPU_RESOURCE, "unitsPerDevice": GPU_MILLI}]


@dataclasses.dataclass(frozen=True, slots=True)
class Run:
    """One run: what was reached, what was wrong, and how long the placing took on the CPU."""

    workload: str
    policy: str
    seed: int
    reached: Allocation
    faults: tuple[str, ...]
    pods: int
    cpu_seconds: float


def answer(nodes: Sequence[TraceNode], stream: Sequence[TracePod], policy: str) -> dict[str, Any]:
    """Place the pods by a policy: a strategy of the engine, or `BEST_FIT`."""
    if policy == BEST_FIT:
        return place_best_fit(nodes, stream)
    constraints = {"strategy": policy, "sharedDevices": SHARED}
    solved = SchedulingSolver().solve(scheduling(nodes, stream), constraints, Budget.of(0.0), ignore_report)
    return dict(solved.result)


def run(nodes: Sequence[TraceNode], pods: Sequence[TracePod], workload: str, policy: str, seed: int) -> Run:
    """Run the experiment once, and check what it placed."""
    stream = arrivals(nodes, pods, seed)
    began = time.process_time()
    result = answer(nodes, stream, policy)
    seconds = time.process_time() - began
    faults = check_gpus(result, nodes, stream)
    placed = {entry["taskId"] for entry in result["placements"] if entry.get("nodeId") is not None}
    reached = allocation(nodes, stream, [pod.name in placed for pod in stream])
    return Run(workload, policy, seed, reached, tuple(faults), len(stream), seconds)


def run_from_files(directory: Path, workload: str, policy: str, seed: int) -> Run:
    """Do the same with the recorded cluster; for another process."""
    return run(read_nodes(directory), read_pods(directory, workload), workload, policy, seed)


def table(runs: Sequence[Run], published: dict[str, dict[str, Published]], workload: str) -> str:
    """Return what was measured and what was published of a workload, the most allocated last."""
    rows: list[tuple[float, list[str]]] = []
    for policy in dict.fromkeys(item.policy for item in runs):
        own = [item for item in runs if item.policy == policy and item.workload == workload]
        if not own:
            continue
        at_100 = [item.reached.at_100 for item in own]
        mean, sd = statistics.mean(at_100), statistics.stdev(at_100) if len(own) > 1 else 0.0
        each = 1e3 * sum(item.cpu_seconds for item in own) / sum(item.pods for item in own)
        at_end = statistics.mean(item.reached.at_end for item in own)
        cells = [policy, "measured", f"{mean:.2f}", f"{sd:.2f}", f"{at_end:.2f}", f"{each:.2f}"]
        rows.append((mean, cells))
    for policy, figures in published.get(workload, {}).items():
        cells = [f"{figures.at_100:.2f}", f"{figures.at_100_sd:.2f}", f"{figures.at_end:.2f}", ""]
        rows.append((figures.at_100, [policy, "published", *cells]))
    headers = (workload, "", "% AT 100", "SD", "% AT 130", "CPU MS/POD")
    return tabulate([cells for _, cells in sorted(rows)], headers=headers, tablefmt="simple", disable_numparse=True)


def verdicts(runs: Sequence[Run], published: dict[str, dict[str, Published]], workload: str) -> list[str]:
    """Return sentences: was BestFit reproduced, was the target reached."""
    means: dict[str, float] = {}
    for policy in (BEST_FIT, "fragmentation-aware"):
        own = [item.reached.at_100 for item in runs if item.policy == policy and item.workload == workload]
        if own:
            means[policy] = statistics.mean(own)
    said = []
    known = published.get(workload, {}).get(BEST_FIT)
    if BEST_FIT in means and known is not None:
        off = means[BEST_FIT] - known.at_100
        verdict = "reproduced" if abs(off) <= REPRODUCED_WITHIN else "NOT reproduced: the figures are not comparable"
        said.append(f"BestFit is {off:+.2f} points from the published figure: {verdict}.")
    if "fragmentation-aware" in means and workload in TARGETS:
        verdict = "ok" if means["fragmentation-aware"] >= TARGETS[workload] else "short"
        said.append(
            f"fragmentation-aware: {means['fragmentation-aware']:.2f}, at least {TARGETS[workload]}: {verdict}."
        )
    return said


def seeds_of(text: str) -> range:
    """Read ``42`` or ``42-51``."""
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="where openb/ is")
    parser.add_argument("--workloads", nargs="+", default=WORKLOADS, choices=WORKLOADS)
    parser.add_argument("--strategies", nargs="+", default=STRATEGIES, choices=STRATEGIES)
    parser.add_argument("--seeds", type=seeds_of, default="42-51", help="one, or first-last (42-51)")
    parser.add_argument("--processes", type=int, default=2, choices=(1, 2))
    options = parser.parse_args()
    directory = options.data / "openb"
    needed = [directory / NODE_FILE, directory / PUBLISHED_FILE, *(pod_file(directory, w) for w in options.workloads)]
    missing = [path for path in needed if not path.exists()]
    if missing:
        print(f"Skipped: there is no {missing[0]}. --data names another place.")
        return 0
    began = time.perf_counter()
    published = read_published(directory)
    faulty = 0
    with concurrent.futures.ProcessPoolExecutor(options.processes) as pool:
        for workload in options.workloads:
            jobs = [
                pool.submit(run_from_files, directory, workload, policy, seed)
                for policy in (BEST_FIT, *options.strategies)
                for seed in options.seeds
            ]
            runs = [job.result() for job in jobs]
            print(f"\n{table(runs, published, workload)}")
            for sentence in verdicts(runs, published, workload):
                print(sentence)
            for item in runs:
                faulty += bool(item.faults)
                for fault in item.faults[:5]:
                    print(f"FAULT: {item.policy}, seed {item.seed}: {fault}")
            placed = "no GPU, CPU or memory is given out twice" if not faulty else f"{faulty} runs are wrong"
            print(f"{len(runs)} runs checked GPU by GPU: {placed}.", flush=True)
    print(f"\n{time.perf_counter() - began:.0f} s with {options.processes} processes.")
    return 1 if faulty else 0


if __name__ == "__main__":
    sys.exit(main())
