"""Questions about a cluster on the command line: where the cluster comes from, and what is asked about it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from engine_ops.api.base import API_VERSION
from engine_ops.api.cluster_source import WorkloadSource
from engine_ops.api.faults import WaitingError
from engine_ops.api.optimizationrequest import KIND, OptimizationRequestSpec
from engine_ops.api.reasons import Reason
from engine_ops.cli.manifests import DEFAULT_NAMESPACE, Request
from engine_ops.controllers.cluster_input import ClusterInput, selection_of
from engine_ops.engine.cluster.records import ClusterSnapshot
from engine_ops.engine.cluster.selection import ClusterSelection

if TYPE_CHECKING:
    from engine_ops.cli.fills import Amounts, Picture


class ClusterReader(Protocol):
    """Where nodes and pods are read from: a dump, or an API server."""

    @property
    def moment(self) -> str:
        """Which moment's cluster it is, in words that begin a sentence."""
        ...

    async def snapshot(self) -> ClusterSnapshot:
        """Return all nodes and pods; the same each time.

        Raises
        ------
        WaitingError
            If they cannot be read.
        """
        ...

    async def workload(self, namespace: str, source: WorkloadSource) -> Mapping[str, Any]:
        """Return a workload as the API server shows it.

        Raises
        ------
        WaitingError
            If it cannot be read, or is not there.
        """
        ...


class NoCluster:
    """Says that no cluster was given."""

    moment = "There is no cluster."

    async def snapshot(self) -> ClusterSnapshot:
        """Raise WaitingError, as `workload` does."""
        raise WaitingError(
            Reason.SOURCE_UNAVAILABLE,
            "spec.dataFrom.cluster: no cluster was given; pass --dump FILE (from: kubectl get nodes,pods,namespaces -A "
            "-o json), or --kubeconfig FILE or --context NAME to read a live one",
        )

    async def workload(self, namespace: str, source: WorkloadSource) -> Mapping[str, Any]:
        """Raise WaitingError."""
        del namespace, source
        raise AssertionError("a workload is read after the snapshot")


@dataclasses.dataclass(frozen=True)
class ClusterQuestion:
    """What is asked about which cluster.

    Parameters
    ----------
    snapshot
        The cluster.
    selection
        The part of it that the question is about.
    spec
        The question. Its data holds the tasks that it gives itself, if it does.
    """

    snapshot: ClusterSnapshot
    selection: ClusterSelection
    spec: OptimizationRequestSpec

    def to_input(self) -> ClusterInput:
        """Return it as a worker takes it.

        Raises
        ------
        InvalidDataError
            If a field selector is wrong.
        """
        return ClusterInput.of(self.snapshot, self.selection, self.spec.type.value, self.spec.data)

    @functools.cached_property
    def new_pods(self) -> dict[str, Amounts]:
        """What each pod asks for that the cluster does not have yet, by the name that results give it."""
        from engine_ops.engine.cluster.decode import RecordDecoder
        from engine_ops.engine.cluster.problem import GivenTask
        from engine_ops.engine.scheduling.model import Task
        from engine_ops.engine.scheduling.subjects import Rules

        workload = self.selection.workload
        if workload is not None:
            pod = RecordDecoder().pod(msgspec.json.encode(workload.pod))
            requests = {} if pod is None else pod.kind.requests
            return {f"{workload.name}-new-{number}": requests for number in range(1, workload.count + 1)}
        data = self.spec.data or {}
        written = [*data.get("tasks", ()), *([data["task"]] if "task" in data else ())]
        tasks = [Task.model_validate(task) for task in written]
        return {task.id: GivenTask.of_task(task, Rules()).requests for task in tasks}

    def picture(self, result: Mapping[str, Any]) -> Picture:
        """Return the nodes that may be used, before and after an answer."""
        from engine_ops.cli.fills import picture_of
        from engine_ops.engine.cluster.selecting import selected_nodes

        usable = selected_nodes(self.snapshot, self.selection.nodes)
        nodes = [node for node, chosen in zip(self.snapshot.nodes, usable, strict=True) if chosen]
        return picture_of(msgspec.structs.replace(self.snapshot, nodes=nodes), result, self.new_pods)


async def ask(reader: ClusterReader, namespace: str, spec: OptimizationRequestSpec) -> ClusterQuestion:
    """Return what a spec asks about a cluster.

    Parameters
    ----------
    reader
        The cluster.
    namespace
        Of the request.
    spec
        With ``dataFrom.cluster``.

    Raises
    ------
    WaitingError
        If the cluster, or the workload that the spec names, cannot be read.
    """
    source = spec.cluster
    if source is None:
        raise AssertionError("the spec names no cluster")
    snapshot = await reader.snapshot()
    workload = None
    if source.workload is not None:
        from engine_ops.engine.cluster.workload import missing_pods

        body = await reader.workload(namespace, source.workload)
        workload = missing_pods(body, snapshot, source.workload.replicas)
    return ClusterQuestion(snapshot, selection_of(source, namespace, workload), spec)


def plain_question(request_type: str) -> Request:
    """Return the request that asks about the whole cluster: its pending pods, or its repacking."""
    name = {"scheduling": "pending-pods", "resource": "fewer-nodes"}[request_type]
    spec = {"type": request_type, "dataFrom": {"cluster": {}}}
    body = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "spec": spec}
    model = OptimizationRequestSpec.model_validate(spec)
    return Request("--type", body, DEFAULT_NAMESPACE, name, generation=1, spec=model)
