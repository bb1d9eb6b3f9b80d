"""The running operator answers a real GPU cluster of 1,213 nodes and some 8,000 pods, by packing and by scheduling.

Both requests take their data from a ConfigMap. Without --kubeconfig it starts a local control plane and the operator;
with it, the operator of that cluster answers, into a namespace of its own. The answers are fetched from the API server
and checked against the recorded nodes and pods.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

# The script may be started from anywhere: what it shares with other benchmarks is found before it is imported.
# ruff: noqa: E402
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from engine_ops.devcluster import DevCluster
from engine_ops.kube.connection import Connection
from engine_ops.kube.paths import config_map_path
from lib.answers import AnswerError, ask, operator
from lib.definitions import apply_definitions
from openb.convert import packing, scheduling
from openb.trace import GPU_MILLI, NODE_FILE, TraceNode, TracePod, pod_file, read_nodes, read_pods
from openb.verify import Checked, check_packing, check_scheduling

CONFIG_MAP_LIMIT_BYTES = 1024 * 1024
KEY = "data.json"
RELAXATION = (
    "GPUs are counted as the sum of a node's thousandths, which relaxes the sharing of single GPUs: "
    "an answer may place more than the cluster could run."
)


class OpenbError(RuntimeError):
    """The data does not fit."""


@contextlib.contextmanager
def operator_at(kubeconfig: str | None) -> Iterator[str]:
    """Give the kubeconfig of a cluster with an operator: the given one, or one of a local cluster started for it."""
    if kubeconfig is not None:
        yield kubeconfig
        return
    with DevCluster.start(components=("etcd", "kube-apiserver"), report=print) as cluster:
        apply_definitions(cluster, ROOT / "crds")
        with operator(cluster):
            yield str(cluster.kubeconfig)


async def answer(
    connection: Connection, namespace: str, name: str, spec: dict[str, Any], document: dict[str, Any]
) -> dict[str, Any] | None:
    """Have one request with its data in a ConfigMap answered, print what became of it, and return its result."""
    data = json.dumps(document, separators=(",", ":")).encode()
    print(f"\n{name}: {len(data):,} bytes of data", flush=True)
    if len(data) > CONFIG_MAP_LIMIT_BYTES:
        raise OpenbError(f"{name}: the data is over the {CONFIG_MAP_LIMIT_BYTES:,} bytes of a ConfigMap")
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {KEY: data.decode()}}
    await connection.request("POST", config_map_path(namespace), body=json.dumps(config_map).encode())
    return await ask(connection, namespace, name, {**spec, "dataFrom": {"configMapKeyRef": {"name": name, "key": KEY}}})


def report(checked: Checked, nodes: Sequence[TraceNode]) -> bool:
    """Print what the check found; return whether the answer holds."""
    all_gpu_milli = sum(node.gpus for node in nodes) * GPU_MILLI
    print(
        f"  checked: {checked.placed} pods placed, {checked.unplaced} not, "
        f"on {checked.nodes_used} of {len(nodes)} nodes; "
        f"placed pods ask for {100 * checked.gpu_milli / all_gpu_milli:.2f} % of all GPUs"
    )
    for fault in checked.faults[:10]:
        print(f"  FAULT: {fault}")
    print(
        "  no node is over its capacity, every pod is told of once" if not checked.faults else "  the answer is wrong"
    )
    return not checked.faults


async def run(kubeconfig: str, arguments: argparse.Namespace, nodes: list[TraceNode], pods: list[TracePod]) -> bool:
    connection = await Connection.open(kubeconfig)
    namespace = f"openb-{os.getpid()}"
    spec = {"searchSeconds": arguments.search, "timeoutSeconds": max(120, arguments.search)}
    packing_spec = {**spec, "type": "resource"}
    scheduling_spec = {**spec, "type": "scheduling", "constraints": {"strategy": arguments.strategy}}
    try:
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        await connection.request("POST", "/api/v1/namespaces", body=json.dumps(body).encode())
        packed = await answer(connection, namespace, "openb-packing", packing_spec, packing(nodes, pods))
        holds = packed is not None and report(check_packing(packed, nodes, pods), nodes)
        placed = await answer(connection, namespace, "openb-scheduling", scheduling_spec, scheduling(nodes, pods))
        holds = placed is not None and report(check_scheduling(placed, nodes, pods), nodes) and holds
        await connection.request("DELETE", f"/api/v1/namespaces/{namespace}")
    finally:
        await connection.close()
    return holds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="where openb/ is")
    parser.add_argument("--pods", default="default", help="the pod list: default, gpuspec10, gpushare100")
    parser.add_argument("--kubeconfig", help="a cluster with the operator in it; by default one is started")
    parser.add_argument("--search", type=int, default=1, help="searchSeconds (1)")
    parser.add_argument("--strategy", default="most-packed", help="of the scheduling request (most-packed)")
    arguments = parser.parse_args()
    directory = arguments.data / "openb"
    for needed in (directory / NODE_FILE, pod_file(directory, arguments.pods)):
        if not needed.exists():
            print(f"Skipped: there is no {needed}. --data names another place.")
            return 0
    nodes, pods = read_nodes(directory), read_pods(directory, arguments.pods)
    gpus = sum(node.gpus for node in nodes)
    asked = sum(pod.gpu_milli_total for pod in pods) / GPU_MILLI
    print(f"{len(nodes)} nodes with {gpus} GPUs; {len(pods)} pods that ask for {asked:,.1f} GPUs. {RELAXATION}")
    try:
        with operator_at(arguments.kubeconfig) as kubeconfig:
            return 0 if asyncio.run(run(kubeconfig, arguments, nodes, pods)) else 1
    except (OpenbError, AnswerError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
