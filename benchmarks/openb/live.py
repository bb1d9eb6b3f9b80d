"""A real GPU cluster of 1,213 nodes and some 8,000 pods as live objects: where pods go, how many nodes would do.

Nodes and pods are made in a local control plane. The first pods in the order of their arrival are put on nodes by the
real kube-scheduler, or with --placed-by least-loaded by a plain rule that knows single GPUs, and kwok runs them; then
no scheduler runs, and the rest stays pending, with one pod that fits nowhere. The operator answers one request to place
the pending pods and one to repack the running ones. kube-scheduler's own filters judge every placement.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# The script may be started from anywhere: what it shares with other benchmarks is found before it is imported.
# ruff: noqa: E402
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from engine_ops.devcluster import BuildError, DevCluster, DevClusterError
from engine_ops.kube.connection import Connection
from lib import kube_scheduler
from lib.answers import AnswerError, ask, operator
from lib.bulk import Bulk, BulkError
from lib.definitions import apply_definitions
from lib.processes import SystemUnderTestError
from lib.scheduler_oracle import OracleError, SchedulerOracle, build_oracle
from openb.live_check import LiveObjects, Verdicts, check_placements, check_repacking, final_nodes, split_gpus
from openb.live_least_loaded import least_loaded
from openb.live_objects import (
    FITS_NOWHERE,
    GPU_RESOURCE,
    NAMESPACE,
    NODES_PATH,
    PODS_PATH,
    encode,
    node_body,
    pod_body,
)
from openb.trace import GPU_MILLI, NODE_FILE, TraceNode, TracePod, pod_file, read_nodes, read_pods

REQUESTS_NAMESPACE = "default"
PLACEMENT, REPACKING = "openb-placement", "openb-repacking"
PATIENCE_SECONDS = 600.0
SHARED = {"sharedDevices": [{"resource": GPU_RESOURCE, "unitsPerDevice": GPU_MILLI}]}
SHOWN = 10
Placed = Mapping[str, str]


async def make_nodes(bulk: Bulk, nodes: Sequence[TraceNode]) -> None:
    """Create the nodes; kwok makes them Ready, and nobody else is there to take away the taint until then."""
    await bulk.create([("/api/v1/namespaces", encode({"metadata": {"name": NAMESPACE}}))])
    seconds = await bulk.create((NODES_PATH, encode(node_body(node))) for node in nodes)
    seconds += await bulk.patch((f"{NODES_PATH}/{node.name}", b'{"spec": {"taints": null}}') for node in nodes)
    print(f"{len(nodes)} nodes made in {seconds:.1f} s", flush=True)


async def make_running(cluster: DevCluster, bulk: Bulk, pods: Sequence[TracePod]) -> None:
    """Create pods, have the real kube-scheduler put them on nodes, and wait until they run."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as directory, kube_scheduler.scheduler(cluster, Path(directory)):
        seconds = await bulk.create((PODS_PATH, encode(pod_body(pod))) for pod in pods)
        print(f"{len(pods)} pods made in {seconds:.0f} s ({len(pods) / seconds:.0f} a second)", flush=True)
        left = await kube_scheduler.decided(bulk, NAMESPACE, deadline_seconds=PATIENCE_SECONDS)
    print(f"kube-scheduler put {len(pods) - len(left)} of {len(pods)} on nodes in {time.perf_counter() - began:.0f} s")
    await kube_scheduler.running(bulk, NAMESPACE, deadline_seconds=PATIENCE_SECONDS)


async def make_bound(bulk: Bulk, nodes: Sequence[TraceNode], pods: Sequence[TracePod]) -> None:
    """Create pods on the nodes that a plain rule chooses, and wait until they run."""
    placed = least_loaded(nodes, pods)
    seconds = await bulk.create((PODS_PATH, encode(pod_body(pod, placed.get(pod.name)))) for pod in pods)
    print(f"{len(placed)} of {len(pods)} pods put on the least loaded nodes, made in {seconds:.0f} s", flush=True)
    await kube_scheduler.running(bulk, NAMESPACE, deadline_seconds=PATIENCE_SECONDS)


def describe(what: str, verdicts: Verdicts) -> bool:
    """Print what kube-scheduler says of an answer; return whether it accepts all of it."""
    print(f"  kube-scheduler's filters accept {verdicts.accepted} of {verdicts.asked} {what}")
    for sentence in verdicts.refused[:SHOWN]:
        print(f"  REFUSED: {sentence}")
    if verdicts.missed:
        print(f"  {len(verdicts.missed)} pods that we leave have a node for it: it counts the sum of a node's GPUs")
    for sentence in verdicts.missed[:3]:
        print(f"    {sentence}")
    return not verdicts.refused


def describe_gpus(live: LiveObjects, after: Placed) -> list[str]:
    """Print on which nodes the pods cannot be shared out to single GPUs; return those that are our doing."""
    before, now = set(split_gpus(live, live.bound)), set(split_gpus(live, after))
    ours = sorted(now - before)
    print(
        f"  single GPUs, beyond kube-scheduler's knowledge: at the start the pods of {len(before)} nodes could not be "
        f"shared out to them; after our answer those of {len(now)}, of which {len(ours)} are our doing"
    )
    return ours


def explain(cluster: DevCluster, *arguments: str) -> None:
    """Print what ``engine-ops explain`` says."""
    command = [str(Path(sysconfig.get_path("scripts"), "engine-ops")), "explain", *arguments]
    print(f"\n$ engine-ops explain {' '.join(arguments)}", flush=True)
    subprocess.run(command, env=cluster.environment(), check=False, timeout=PATIENCE_SECONDS)


def check(live: LiveObjects, placement: Mapping[str, Any], repacking: Mapping[str, Any]) -> bool:
    """Judge both answers; return whether they hold."""
    placed = {entry["taskId"]: entry["nodeId"] for entry in placement["placements"] if entry.get("nodeId")}
    packed = final_nodes(repacking)
    with SchedulerOracle(build_oracle(print)) as oracle:
        print(f"\n{PLACEMENT}, checked")
        holds = describe("placements, repeated in our order", check_placements(oracle, live, placement))
        if ours := describe_gpus(live, {**live.bound, **placed}):
            print(f"  FAULT: {', '.join(ours[:SHOWN])}")
            holds = False
        print(f"\n{REPACKING}, checked")
        told = packed.keys() == live.bound.keys()
        print("  every running pod is on one node" if told else "  FAULT: pods are missing, or told of though pending")
        holds = describe("pods where they end, all others being there", check_repacking(oracle, live, packed)) and holds
        if ours := describe_gpus(live, packed):
            print(f"  FAULT: {', '.join(ours[:SHOWN])}")
            holds = False
        return holds and told


async def answers(
    cluster: DevCluster, arguments: argparse.Namespace
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Ask both questions."""
    connection = await Connection.open(str(cluster.kubeconfig))
    spec = {"searchSeconds": arguments.search, "timeoutSeconds": 120, "dataFrom": {"cluster": {}}}
    placing = {**spec, "type": "scheduling", "constraints": {"strategy": arguments.strategy, **SHARED}}
    repacking = {**spec, "type": "resource", "constraints": SHARED}
    try:
        print(f"\n{PLACEMENT}: {placing}", flush=True)
        placed = await ask(connection, REQUESTS_NAMESPACE, PLACEMENT, placing)
        print(f"\n{REPACKING}: {repacking}", flush=True)
        packed = await ask(connection, REQUESTS_NAMESPACE, REPACKING, repacking)
    finally:
        await connection.close()
    return placed, packed


async def run(
    cluster: DevCluster, arguments: argparse.Namespace, nodes: Sequence[TraceNode], pods: Sequence[TracePod]
) -> bool:
    first = pods[: round(arguments.running * len(pods))]
    rest = [*pods[len(first) :], FITS_NOWHERE]
    async with Bulk.open(cluster) as bulk:
        await make_nodes(bulk, nodes)
        if arguments.placed_by == "kube-scheduler":
            await make_running(cluster, bulk, first)
        else:
            await make_bound(bulk, nodes, first)
        await bulk.create((PODS_PATH, encode(pod_body(pod))) for pod in rest)
        live = LiveObjects.of((await bulk.read(NODES_PATH))["items"], (await bulk.read(PODS_PATH))["items"])
    if arguments.dump is not None:
        items = [{**node, "kind": "Node"} for node in live.nodes] + [
            {**pod, "kind": "Pod"} for pod in live.pods.values()
        ]
        arguments.dump.write_bytes(encode({"apiVersion": "v1", "kind": "List", "items": items}))
    used = len(set(live.bound.values()))
    print(f"{len(live.bound)} pods run on {used} of {len(nodes)} nodes, {len(live.pods) - len(live.bound)} are pending")
    with operator(cluster, "--cluster-data-namespaces", f"kubernetes.io/metadata.name={REQUESTS_NAMESPACE}") as system:
        try:
            placement, repacking = await answers(cluster, arguments)
        except AnswerError as error:
            raise SystemUnderTestError(f"{error}\n{system.said}") from error
    plot = [] if arguments.plot is None else ["--plot", str(arguments.plot)]
    explain(cluster, REPACKING, "--picture", *plot)
    explain(cluster, PLACEMENT, "--pod", f"{NAMESPACE}/{FITS_NOWHERE.name}", "--no-picture")
    if placement is None or repacking is None:
        return False
    return check(live, placement, repacking)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="where openb/ is")
    parser.add_argument("--pods", default="default", help="the pod list: default, gpuspec10, gpushare100")
    parser.add_argument("--scale", type=float, default=1.0, help="take this share of nodes and pods (1.0)")
    parser.add_argument("--running", type=float, default=0.8, help="the share of pods that are on nodes (0.8)")
    parser.add_argument("--placed-by", choices=("kube-scheduler", "least-loaded"), default="kube-scheduler")
    parser.add_argument("--strategy", default="fragmentation-aware", help="of the placement (fragmentation-aware)")
    parser.add_argument("--search", type=int, default=1, help="searchSeconds (1)")
    parser.add_argument("--plot", type=Path, help="draw the repacking into this .svg or .png")
    parser.add_argument("--dump", type=Path, help="write the cluster here, for engine-ops solve --dump")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    directory = arguments.data / "openb"
    for needed in (directory / NODE_FILE, pod_file(directory, arguments.pods)):
        if not needed.exists():
            print(f"Skipped: there is no {needed}. --data names another place.")
            return 0
    step = max(1, round(1 / arguments.scale))
    nodes, pods = read_nodes(directory)[::step], read_pods(directory, arguments.pods)[::step]
    gpus = sum(node.gpus for node in nodes)
    asked = sum(pod.gpu_milli_total for pod in pods) / GPU_MILLI
    print(f"{len(nodes)} nodes with {gpus} GPUs; {len(pods)} pods that ask for {asked:,.1f} GPUs")
    try:
        with contextlib.ExitStack() as stack:
            components = ("etcd", "kube-apiserver", "kwok")
            cluster = stack.enter_context(DevCluster.start(components=components, report=print))
            apply_definitions(cluster, ROOT / "crds")
            holds = asyncio.run(run(cluster, arguments, nodes, pods))
    except (DevClusterError, BuildError, OracleError, BulkError, SystemUnderTestError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("\nboth answers hold" if holds else "\nan answer is missing or wrong")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
