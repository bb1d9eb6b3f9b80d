"""The real kube-scheduler at a rate that a benchmark can wait for, and the end of its work."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

from engine_ops.devcluster import DevCluster
from lib.bulk import Bulk, BulkError
from lib.processes import RunningSystem, System

QPS = 2000
"""The default of 50 a second is made to spare an API server; here nobody else is waiting."""
POLL_SECONDS = 1.0


def scheduler(cluster: DevCluster, directory: Path) -> RunningSystem:
    """Return kube-scheduler with its default profile, to be started as a context manager.

    Parameters
    ----------
    cluster
        Without a scheduler of its own.
    directory
        For its configuration.
    """
    configuration = {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "clientConnection": {"kubeconfig": str(cluster.kubeconfig), "qps": QPS, "burst": 2 * QPS},
        "leaderElection": {"leaderElect": False},
    }
    file = directory / "kube-scheduler.json"
    file.write_text(json.dumps(configuration))
    binary = str(cluster.binaries.path("kube-scheduler"))
    # Each line of its log begins with the severity; the first is one of information.
    system = System("kube-scheduler", [binary, f"--config={file}", "--secure-port=0"], "I")
    return RunningSystem(system, cluster.environment())


async def decided(bulk: Bulk, namespace: str, *, deadline_seconds: float) -> list[str]:
    """Wait until every pod of a namespace is bound or known to fit nowhere, and return the names of the latter.

    Raises
    ------
    BulkError
        If that takes too long.
    """
    path = f"/api/v1/namespaces/{namespace}/pods"
    deadline = time.monotonic() + deadline_seconds
    while True:
        unbound = (await bulk.read(path, {"fieldSelector": "spec.nodeName="}))["items"]
        if all(_unschedulable(pod) for pod in unbound):
            return [pod["metadata"]["name"] for pod in unbound]
        if time.monotonic() > deadline:
            raise BulkError(f"{len(unbound)} pods have no node after {deadline_seconds:.0f} s")
        await asyncio.sleep(POLL_SECONDS)


async def running(bulk: Bulk, namespace: str, *, deadline_seconds: float) -> None:
    """Wait until every bound pod of a namespace runs.

    Raises
    ------
    BulkError
        If that takes too long.
    """
    path = f"/api/v1/namespaces/{namespace}/pods"
    deadline = time.monotonic() + deadline_seconds
    while waiting := await bulk.names(path, {"fieldSelector": "status.phase=Pending,spec.nodeName!="}):
        if time.monotonic() > deadline:
            raise BulkError(f"{len(waiting)} pods do not run after {deadline_seconds:.0f} s: is kwok running?")
        await asyncio.sleep(POLL_SECONDS)


def _unschedulable(pod: dict[str, dict[str, list[dict[str, str]]]]) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(condition["type"] == "PodScheduled" and condition["status"] == "False" for condition in conditions)
