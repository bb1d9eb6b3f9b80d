"""A cluster of 1,000 nodes and 10,000 pods read live: the first answer after a start, later ones, and the memory.

The operator is asked where the pending pods would go. Beside it in the same run: kubectl reading the same objects. See
docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from engine_ops.devcluster import DevCluster, DevClusterError
from lib import questions
from lib.answers import operator, request
from lib.bulk import Bulk, BulkError
from lib.definitions import apply_definitions
from lib.load_client import LoadClient, LoadError
from lib.processes import RunningSystem, SystemUnderTestError, descendants, memory, others_cpu_seconds
from lib.realistic_cluster import NAMESPACES, RealisticCluster
from lib.summary import Target, percentile, target_table

HERE = Path(__file__).resolve().parent
NAMESPACE = "live"
OPTIONS = ("--cluster-data-namespaces", f"kubernetes.io/metadata.name={NAMESPACE}")
PATIENCE_SECONDS = 120.0
INTERVAL_SECONDS = 10
"""The shortest that a standing request may have."""
STANDING_LOOKS = 2


async def fill(bulk: Bulk, cluster: RealisticCluster) -> None:
    """Create the cluster's objects."""
    namespaces = [{"metadata": {"name": name}} for name in (*NAMESPACES, "kube-agents")]
    await bulk.create(("/api/v1/namespaces", msgspec.json.encode(body)) for body in namespaces)
    nodes = list(cluster.nodes())
    seconds = await bulk.create(("/api/v1/nodes", body) for _, body, _ in nodes)
    seconds += await bulk.patch((f"/api/v1/nodes/{name}", patch) for name, _, patch in nodes)
    pods = list(cluster.running())
    pending = list(cluster.pending())
    seconds += await bulk.create((path, body) for path, body, _ in pods)
    seconds += await bulk.create(pending)
    seconds += await bulk.patch((f"{path}/{_name(body)}/status", patch) for path, body, patch in pods)
    print(f"{len(nodes)} nodes, {len(pods)} running pods and {len(pending)} pending ones made in {seconds:.0f} s")


def _name(body: bytes) -> str:
    name: str = msgspec.json.decode(body)["metadata"]["name"]
    return name


def kubectl_seconds(cluster: DevCluster) -> float:
    """Return how long kubectl takes to get the same objects."""
    began = time.perf_counter()
    command = [str(cluster.binaries.path("kubectl")), "get", "nodes,pods", "-A", "-o", "json"]
    subprocess.run(command, env=cluster.environment(), stdout=subprocess.DEVNULL, check=True, timeout=PATIENCE_SECONDS)
    return time.perf_counter() - began


def question(name: str, request_type: str, interval_seconds: int | None = None) -> bytes:
    """Return a request about the whole cluster whose first answer counts."""
    spec: dict[str, Any] = {"type": request_type, "searchSeconds": 0, "dataFrom": {"cluster": {}}}
    if interval_seconds is not None:
        spec["intervalSeconds"] = interval_seconds
    return request(name, spec)


class Bench:
    """One run on one cluster.

    Parameters
    ----------
    cluster
        Filled.
    client
        Of the namespace that may see the cluster.
    bulk
        To change the cluster.
    """

    def __init__(self, cluster: DevCluster, client: LoadClient, bulk: Bulk) -> None:
        self._cluster = cluster
        self._client = client
        self._bulk = bulk
        self._numbers = itertools.count()

    async def first_answer(self) -> dict[str, float]:
        """Start the operator with a request waiting for it; return seconds from the start."""
        name = f"first-{next(self._numbers)}"
        await self._client.create(name, question(name, "scheduling"))
        system = operator(self._cluster, *OPTIONS)
        began = time.perf_counter()
        await asyncio.to_thread(system.__enter__)
        try:
            serving = time.perf_counter()
            await self._ready(system)
            answered = self._client.ready[name]
            own, others = system.cpu_seconds(), others_cpu_seconds(system.pid)
            await self._print_status(name)
        finally:
            await asyncio.to_thread(system.__exit__, None, None, None)
        return {
            "serving_s": serving - began,
            "first_answer_s": answered - began,
            "cpu_s": own,
            "others_cpu_s": others,
        }

    async def serve(self, later: int) -> dict[str, float]:
        """Measure memory before and after the first look at the cluster, and each of some later requests."""
        with operator(self._cluster, *OPTIONS) as system:
            for number in range(20):
                await self._client.create(f"warm-{number}", questions.small(f"warm-{number}"))
            await self._ready(system)
            await asyncio.to_thread(system.settle)
            before = memory(system.pid)
            await self._client.create("filling", question("filling", "scheduling"))
            await self._ready(system)
            await asyncio.to_thread(system.settle)
            cached = memory(system.pid)
            figures: dict[str, float] = {
                "rss_before_mb": before.resident_bytes / 1e6,
                "rss_cached_mb": cached.resident_bytes / 1e6,
                "rss_peak_mb": cached.peak_bytes / 1e6,
            }
            for request_type in ("scheduling", "resource"):
                figures |= await self._later(system, request_type, later)
            await asyncio.to_thread(system.settle)
            after = memory(system.pid)
            figures |= {
                "rss_after_mb": after.resident_bytes / 1e6,
                "rss_after_peak_mb": after.peak_bytes / 1e6,
                "others_pss_mb": sum(memory(pid).proportional_bytes for pid in descendants(system.pid)) / 1e6,
            }
            await self._standing(system)
        return figures

    async def _later(self, system: RunningSystem, request_type: str, count: int) -> dict[str, float]:
        milliseconds = []
        cpu, others = system.cpu_seconds(), others_cpu_seconds(system.pid)
        for _ in range(count):
            name = f"later-{request_type}-{next(self._numbers)}"
            await self._client.create(name, question(name, request_type))
            await self._ready(system)
            milliseconds.append(1000 * (self._client.ready[name] - self._client.created[name]))
            print(f"  {request_type}: apply to Ready {milliseconds[-1]:,.0f} ms")
        await self._print_status(name)
        return {
            f"{request_type}_p50_ms": statistics.median(milliseconds),
            f"{request_type}_p95_ms": percentile(milliseconds, 95),
            f"{request_type}_cpu_ms": 1000 * (system.cpu_seconds() - cpu) / count,
            f"{request_type}_others_cpu_ms": 1000 * (others_cpu_seconds(system.pid) - others) / count,
        }

    async def _standing(self, system: RunningSystem) -> None:
        """Show that a standing request is answered again only when something changes."""
        await self._client.create("standing", question("standing", "scheduling", INTERVAL_SECONDS))
        await self._ready(system)
        cpu = system.cpu_seconds()
        await asyncio.sleep(INTERVAL_SECONDS * (STANDING_LOOKS + 0.5))
        cpu = system.cpu_seconds() - cpu
        unchanged = await self._run()
        pending = await self._bulk.names("/api/v1/pods", {"fieldSelector": "spec.nodeName="})
        listed = await self._bulk.read("/api/v1/pods", {"fieldSelector": f"metadata.name={pending[0]}"})
        gone = listed["items"][0]["metadata"]
        await self._bulk.delete(f"/api/v1/namespaces/{gone['namespace']}/pods/{gone['name']}")
        await asyncio.sleep(INTERVAL_SECONDS * 1.5)
        changed = await self._run()
        print(
            f"standing request, every {INTERVAL_SECONDS} s: run {unchanged} after {STANDING_LOOKS} intervals in which "
            f"nothing changed ({1000 * cpu:.0f} ms of the main process's CPU), run {changed} after a pending pod went"
        )

    async def _run(self) -> int:
        run: int = json.loads(await self._client.read("standing"))["status"]["run"]
        return run

    async def _ready(self, system: RunningSystem) -> None:
        try:
            await self._client.all_ready(deadline_seconds=PATIENCE_SECONDS)
        except LoadError as error:
            names = [name for name in self._client.created if name not in self._client.ready]
            status = json.loads(await self._client.read(names[0])).get("status", {})
            raise SystemUnderTestError(f"{error}: {status}\n{system.said}") from error

    async def _print_status(self, name: str) -> None:
        status = json.loads(await self._client.read(name))["status"]
        ready = next(condition for condition in status["conditions"] if condition["type"] == "Ready")
        print(f"  {name}: {ready['reason']}: {ready['message'][:200]}; solved in {status['metrics']['durationMs']} ms")


def targets(first: list[dict[str, float]], served: dict[str, float]) -> list[Target]:
    """Return the figures that should be reached."""
    growth = served["rss_cached_mb"] - served["rss_before_mb"]
    return [
        Target(
            "first answer, from the process's start, median",
            statistics.median(one["first_answer_s"] for one in first),
            5.0,
            unit="s",
        ),
        Target("later placement, apply to Ready, p50", served["scheduling_p50_ms"], 500.0, unit="ms"),
        Target("later repacking, apply to Ready, p50", served["resource_p50_ms"], 500.0, unit="ms"),
        Target("main-process RSS that the cluster adds", growth, 40.0, unit="MB"),
    ]


async def run(cluster: DevCluster, arguments: argparse.Namespace) -> dict[str, Any]:
    async with Bulk.open(cluster) as bulk, LoadClient.open(cluster, NAMESPACE) as client:
        await fill(bulk, RealisticCluster(arguments.nodes, arguments.pods))
        bench = Bench(cluster, client, bulk)
        first, kubectl = [], []
        for number in range(arguments.rounds):
            kubectl.append(await asyncio.to_thread(kubectl_seconds, cluster))
            first.append(await bench.first_answer())
            shown = ", ".join(f"{key} {value:.3g}" for key, value in first[-1].items())
            print(f"round {number + 1}: {shown}; kubectl get {kubectl[-1]:.3g} s", flush=True)
        served = await bench.serve(arguments.later)
    print("\n" + ", ".join(f"{key} {value:.4g}" for key, value in served.items()))
    ratio = statistics.median(one["first_answer_s"] for one in first) / statistics.median(kubectl)
    print(f"first answer / kubectl get nodes,pods -A -o json: {ratio:.2f}")
    reached = targets(first, served)
    print("\n" + target_table(reached))
    return {
        "first": first,
        "kubectl_s": kubectl,
        "served": served,
        "targets": [target.as_json() for target in reached],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=1000, help="(1000)")
    parser.add_argument("--pods", type=int, default=10_000, help="that run; 50 more are pending (10000)")
    parser.add_argument("--rounds", type=int, default=3, help="starts of the operator (3)")
    parser.add_argument("--later", type=int, default=20, help="later requests of each type (20)")
    parser.add_argument("--json", help="a file for everything that was measured")
    arguments = parser.parse_args()
    try:
        # Without the controllers, the scheduler and kwok: nothing changes but by us, and pending pods stay so.
        with DevCluster.start(components=("etcd", "kube-apiserver"), report=print) as cluster:
            apply_definitions(cluster, HERE.parent / "crds")
            document = asyncio.run(run(cluster, arguments))
    except (DevClusterError, SystemUnderTestError, LoadError, BulkError, subprocess.SubprocessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(document, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
