"""What recording costs a running operator: answered requests a second, CPU and bytes, with a history and without.

python benchmarks/history/throughput.py [--rounds 3] [--quick] [--json FILE]

The same operator answers the same requests on one local control plane, with --history and with --no-history in turns,
each round in the opposite order of the one before, each time in new namespaces. What counts is the ratio within a run.
The bytes are those of the API server's own count of request bodies (`apiserver_request_body_size_bytes`): ConfigMaps
are the history's, since no answer here is so large that it needs one; what statuses grow by is the difference.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import itertools
import json
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engine_ops.devcluster import DevCluster, DevClusterError
from lib import load_phases
from lib.definitions import apply_definitions
from lib.load_client import LoadClient, LoadError
from lib.load_phases import Figures, Sizes
from lib.processes import RunningSystem, System, SystemUnderTestError, memory
from lib.summary import Target, comparison_table, median_of, ratio, target_table

CRDS = Path(__file__).resolve().parents[2] / "crds"
ON, OFF = "history", "no history"
AT_LEAST = 0.9
SIZES = Sizes(rounds=3)
BODY_BYTES = re.compile(r"^apiserver_request_body_size_bytes_sum\{(?P<labels>[^}]*)\} (?P<bytes>\S+)$", re.MULTILINE)
COUNTED = {
    "history": [("configmaps", verb) for verb in ("create", "update", "patch")],
    "status": [("optimizationrequests", "patch")],
}
"""Resources and verbs. The load creates requests, and only the operator patches them."""
ROWS = (
    ("burst_answered_per_s", "answered, all at once", "1/s"),
    ("burst_cpu_ms", "main-process CPU a request, all at once", "ms"),
    ("burst_others_cpu_ms", "the workers' CPU a request", "ms"),
    ("paced_cpu_ms", "main-process CPU a request at 20/s", "ms"),
    ("paced_p50_ms", "apply to Ready at 20/s, p50", "ms"),
    ("paced_p95_ms", "apply to Ready at 20/s, p95", "ms"),
    ("paced_history_bytes", "written for the history a request, at 20/s", "B"),
    ("burst_history_bytes", "written for the history a request, all at once", "B"),
    ("burst_status_bytes", "written into statuses a request", "B"),
    ("idle_cpu_percent", "main-process CPU of a core while nothing is asked", "%"),
    ("rss_mb", "RSS at the end", "MB"),
)
IDLE_SECONDS = 5.0


class Bench:
    """One run on one cluster.

    Parameters
    ----------
    cluster
        With the custom resource definitions in it.
    sizes
        Of the load.
    """

    def __init__(self, cluster: DevCluster, sizes: Sizes) -> None:
        self._cluster = cluster
        self._sizes = sizes
        self._numbers = itertools.count()
        # The operator reaches this cluster and is not taken for a Pod.
        outside = ("KUBERNETES_SERVICE_HOST", "POD_NAME", "POD_NAMESPACE")
        environment = {key: value for key, value in os.environ.items() if key not in outside}
        self._environment = cluster.environment(environment)

    async def round(self, name: str, workers: int) -> Figures:
        """Measure an operator once, and remove what it left."""
        number = next(self._numbers)
        own = f"own-{number}"
        self._cluster.kubectl("create", "namespace", own)
        script = Path(sysconfig.get_path("scripts"), "engine-ops")
        option = "--history" if name == ON else "--no-history"
        command = [str(script), "run", f"--workers={workers}", "--probes=none", f"--lease-namespace={own}", option]
        system = System(name, command, "watching optimizationrequests")
        async with LoadClient.open(self._cluster, f"load-{number}") as client:
            with RunningSystem(system, self._environment) as running:
                try:
                    figures = await self._measure(client, running)
                except LoadError as error:
                    raise SystemUnderTestError(f"{name}: {error}\n{running.said}") from error
            await client.delete_all()
        return figures

    async def _measure(self, client: LoadClient, running: RunningSystem) -> Figures:
        await load_phases.warm_up(client)
        figures: Figures = {}
        paced = int(self._sizes.paced_seconds * self._sizes.paced_per_second)
        for phase, prefix, count in (
            (load_phases.paced, "paced", paced),
            (load_phases.burst, "burst", self._sizes.burst),
        ):
            before = await asyncio.to_thread(self._body_bytes)
            figures |= await phase(client, running, self._sizes)
            # What is left is written within the three seconds between two flushes.
            idle = running.cpu_seconds()
            await asyncio.sleep(IDLE_SECONDS)
            figures["idle_cpu_percent"] = (running.cpu_seconds() - idle) * 100 / IDLE_SECONDS
            after = await asyncio.to_thread(self._body_bytes)
            for kind in COUNTED:
                figures[f"{prefix}_{kind}_bytes"] = (after[kind] - before[kind]) / count
        figures["rss_mb"] = memory(running.pid).resident_bytes / 1e6
        return figures

    def _body_bytes(self) -> dict[str, float]:
        """Return the bytes of all writes so far by kind."""
        with self._cluster.client() as client:
            text: str = client.request("GET", "/metrics")
        totals = dict.fromkeys(COUNTED, 0.0)
        for match in BODY_BYTES.finditer(text):
            labels = dict(re.findall(r'(\w+)="([^"]*)"', match["labels"]))
            for kind, counted in COUNTED.items():
                if (labels["resource"], labels["verb"]) in counted:
                    totals[kind] += float(match["bytes"])
        return totals


async def run(bench: Bench, sizes: Sizes, workers: int) -> dict[str, Any]:
    measured: dict[str, list[Figures]] = {ON: [], OFF: []}
    for number in range(sizes.rounds):
        # Forth and back: what drifts with time falls on both alike.
        for name in (OFF, ON) if number % 2 == 0 else (ON, OFF):
            figures = await bench.round(name, workers)
            measured[name].append(figures)
            shown = ", ".join(f"{key} {value:.3g}" for key, value in figures.items())
            print(f"round {number + 1}, {name}: {shown}", flush=True)
    print("\n" + comparison_table(measured, ROWS, ours=ON, peers=(OFF,)))
    rates = [one["burst_answered_per_s"] for name in (ON, OFF) for one in measured[name]]
    pairs = [rates[number] / rates[number + sizes.rounds] for number in range(sizes.rounds)]
    print(f"\nanswered/s with a history over without, round by round: {', '.join(f'{pair:.2f}' for pair in pairs)}")
    answered = [median_of(measured[name], "burst_answered_per_s") for name in (ON, OFF)]
    targets = [Target("answered/s with a history / without", ratio(*answered), AT_LEAST, at_most=False)]
    print("\n" + target_table(targets))
    return {
        "sizes": dataclasses.asdict(sizes),
        "rounds": measured,
        "targets": [target.as_json() for target in targets],
    }


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small counts: shows that it works, measures nothing")
    parser.add_argument("--rounds", type=int, help=f"how often each is measured ({SIZES.rounds})")
    parser.add_argument("--workers", type=int, default=2, help="of engine-ops run (2)")
    parser.add_argument("--json", help="a file for everything that was measured")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    sizes = load_phases.QUICK if arguments.quick else SIZES
    if arguments.rounds:
        sizes = dataclasses.replace(sizes, rounds=arguments.rounds)
    try:
        # Without the controllers and kwok: nothing but the requests is to be served.
        with DevCluster.start(components=("etcd", "kube-apiserver"), report=print) as cluster:
            apply_definitions(cluster, CRDS)
            document = asyncio.run(run(Bench(cluster, sizes), sizes, arguments.workers))
    except (DevClusterError, SystemUnderTestError, LoadError, subprocess.TimeoutExpired) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(document, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
