"""The running operator under load, beside a bare watch with one status patch and beside stock kopf handlers.

Every system answers the same requests on the same local control plane, one system at a time, in rounds whose order
alternates. What counts are the ratios within a run. See docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import itertools
import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine_ops.devcluster import DevCluster, DevClusterError
from lib import load_phases
from lib.definitions import apply_definitions
from lib.load_client import LoadClient, LoadError
from lib.load_phases import Figures, Sizes
from lib.processes import RunningSystem, System, SystemUnderTestError
from lib.summary import Target, comparison_table, median_of, ratio, target_table

HERE = Path(__file__).resolve().parent
OURS, BARE, STOCK = "engine-ops", "bare watch", "stock kopf"
PHASES = ("paced", "burst", "large", "memory")
ROWS = (
    ("paced_p50_ms", "apply to Ready at 20/s, p50", "ms"),
    ("paced_p95_ms", "apply to Ready at 20/s, p95", "ms"),
    ("paced_cpu_ms", "main-process CPU a request at 20/s", "ms"),
    ("burst_answered_per_s", "answered, all at once", "1/s"),
    ("burst_cpu_ms", "main-process CPU a request, all at once", "ms"),
    ("burst_others_cpu_ms", "the workers' CPU a request", "ms"),
    ("burst_client_cpu_ms", "the load client's CPU a request", "ms"),
    ("large_cpu_ms", "main-process CPU a request, 5,000 items", "ms"),
    ("large_parse_ms", "one json.loads of it", "ms"),
    ("large_cpu_parses", "main-process CPU a request, 5,000 items", "parses"),
    ("large_p50_ms", "apply to Ready, 5,000 items, p50", "ms"),
)
MEMORY_ROWS = (
    ("served_rss_mb", "RSS after serving", "MB"),
    ("served_peak_rss_mb", "peak RSS while serving", "MB"),
    ("served_pss_mb", "PSS after serving", "MB"),
    ("served_others", "other processes (workers, fork server)", "count"),
    ("served_others_rss_mb", "their RSS, added up", "MB"),
    ("served_others_pss_mb", "their PSS, added up", "MB"),
    ("restarted_rss_mb", "RSS after a restart that lists all", "MB"),
    ("restarted_peak_rss_mb", "peak RSS in that restart", "MB"),
    ("restarted_pss_mb", "PSS after that restart", "MB"),
    ("restarted_others_rss_mb", "the others' RSS after it, added up", "MB"),
)


def systems(workers: int) -> dict[str, System]:
    """Return how each system under test is started."""
    script = Path(sysconfig.get_path("scripts"), "engine-ops")
    command = [str(script), "run", "--workers", str(workers), "--probes", "none"]
    peers = HERE / "peers"
    return {
        BARE: System(BARE, [sys.executable, str(peers / "bare_watch.py")], "ready"),
        OURS: System(OURS, command, "watching optimizationrequests"),
        STOCK: System(STOCK, [sys.executable, str(peers / "stock_kopf.py")], "ready"),
    }


class Bench:
    """One run on one cluster.

    Parameters
    ----------
    cluster
        With the custom resource definitions in it.
    sizes
        Of the load.
    phases
        Which of `PHASES`.
    """

    def __init__(self, cluster: DevCluster, sizes: Sizes, phases: Sequence[str]) -> None:
        self._cluster = cluster
        self._sizes = sizes
        self._phases = phases
        self._numbers = itertools.count()
        # The systems under test reach this cluster and are not taken for a Pod.
        outside = ("KUBERNETES_SERVICE_HOST", "POD_NAME", "POD_NAMESPACE")
        environment = {key: value for key, value in os.environ.items() if key not in outside}
        self._environment = cluster.environment(environment)

    async def round(self, system: System) -> Figures:
        """Measure a system once, and remove what it left."""
        figures: Figures = {}
        async with LoadClient.open(self._cluster, self._namespace()) as client:
            with self._start(system) as running:
                try:
                    await load_phases.warm_up(client)
                    if "paced" in self._phases:
                        figures |= await load_phases.paced(client, running, self._sizes)
                    if "burst" in self._phases:
                        figures |= await load_phases.burst(client, running, self._sizes)
                    if "large" in self._phases and system.name != BARE:
                        figures |= await load_phases.large_items(client, running, self._sizes)
                except LoadError as error:
                    raise SystemUnderTestError(f"{system.name}: {error}\n{running.said}") from error
            await client.delete_all()
        return figures

    async def memory(self, system: System) -> Figures:
        """Measure a system's memory with a crowd of finished requests in the cluster."""
        async with LoadClient.open(self._cluster, self._namespace()) as client:
            with self._start(system) as running:
                await load_phases.crowd(client, self._sizes)
                await asyncio.to_thread(running.settle)
                figures = load_phases.memory_figures(running, "served")
            with self._start(system) as running:
                # Answered after it has listed all the others.
                await load_phases.warm_up(client)
                await asyncio.to_thread(running.settle)
                figures |= load_phases.memory_figures(running, "restarted")
            await client.delete_all()
        return figures

    def _namespace(self) -> str:
        return f"load-{next(self._numbers)}"

    def _start(self, system: System) -> RunningSystem:
        return RunningSystem(system, self._environment)


def targets(measured: dict[str, list[Figures]], memory: dict[str, list[Figures]]) -> list[Target]:
    """Return the figures that should be reached."""

    def against(key: str, peer: str) -> float | None:
        return ratio(median_of(measured.get(OURS, []), key), median_of(measured.get(peer, []), key))

    crowd = memory.get(OURS, [])
    return [
        Target("apply to Ready at 20/s, p50, against the bare watch", against("paced_p50_ms", BARE), 1.3),
        Target("answered/s against the bare watch", against("burst_answered_per_s", BARE), 0.8, at_most=False),
        Target("answered/s against stock kopf", against("burst_answered_per_s", STOCK), 1.0, at_most=False),
        Target("main-process CPU a request against the bare watch", against("burst_cpu_ms", BARE), 3.0),
        Target("main-process CPU a request against stock kopf", against("burst_cpu_ms", STOCK), 0.45),
        Target(
            "main-process CPU of 5,000 items inline, in JSON parses",
            median_of(measured.get(OURS, []), "large_cpu_parses"),
            5.0,
        ),
        Target("main-process RSS, the crowd served", median_of(crowd, "served_rss_mb"), 200, unit="MB"),
        Target("main-process RSS, the crowd listed at start", median_of(crowd, "restarted_rss_mb"), 200, unit="MB"),
    ]


async def run(bench: Bench, chosen: dict[str, System], phases: Sequence[str], sizes: Sizes) -> dict[str, Any]:
    measured: dict[str, list[Figures]] = {name: [] for name in chosen}
    memory: dict[str, list[Figures]] = {}
    if set(phases) - {"memory"}:
        for number in range(sizes.rounds):
            # Forth and back: what drifts with time falls on the first and the last alike.
            order = list(chosen.values())[:: 1 if number % 2 == 0 else -1]
            for system in order:
                figures = await bench.round(system)
                measured[system.name].append(figures)
                shown = ", ".join(f"{key} {value:.3g}" for key, value in figures.items())
                print(f"round {number + 1}, {system.name}: {shown}", flush=True)
    if "memory" in phases and OURS in chosen:
        memory[OURS] = [await bench.memory(chosen[OURS])]
    peers = (BARE, STOCK)
    if any(measured.values()):
        print("\n" + comparison_table(measured, ROWS, ours=OURS, peers=peers))
    if memory:
        print(f"\n{sizes.crowd} finished requests in the cluster")
        print(comparison_table(memory, MEMORY_ROWS, ours=OURS, peers=()))
    reached = targets(measured, memory)
    print("\n" + target_table(reached))
    return {
        "sizes": dataclasses.asdict(sizes),
        "rounds": measured,
        "memory": memory,
        "targets": [target.as_json() for target in reached],
    }


def parse_arguments() -> argparse.Namespace:
    def names(known: Sequence[str], text: str) -> list[str]:
        chosen = [name.strip() for name in text.split(",")]
        unknown = sorted(set(chosen) - set(known))
        if unknown:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; choose from {', '.join(known)}")
        return chosen

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", type=lambda text: names(PHASES, text), default=list(PHASES), help=f"of {','.join(PHASES)}"
    )
    parser.add_argument(
        "--systems",
        type=lambda text: names((BARE, OURS, STOCK), text),
        default=[BARE, OURS, STOCK],
        help=f"of '{BARE},{OURS},{STOCK}'",
    )
    parser.add_argument("--quick", action="store_true", help="small counts: shows that it works, measures nothing")
    parser.add_argument("--rounds", type=int, help="how often each system is measured (2)")
    parser.add_argument("--workers", type=int, default=2, help="of engine-ops run (2)")
    parser.add_argument("--json", help="a file for everything that was measured")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    sizes = load_phases.QUICK if arguments.quick else Sizes()
    if arguments.rounds:
        sizes = dataclasses.replace(sizes, rounds=arguments.rounds)
    chosen = {name: system for name, system in systems(arguments.workers).items() if name in arguments.systems}
    try:
        # Without the controllers and kwok: nothing but the requests is to be served.
        with DevCluster.start(components=("etcd", "kube-apiserver"), report=print) as cluster:
            apply_definitions(cluster, HERE.parent / "crds")
            document = asyncio.run(run(Bench(cluster, sizes, arguments.only), chosen, arguments.only, sizes))
    except (DevClusterError, SystemUnderTestError, LoadError, subprocess.TimeoutExpired) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(document, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
