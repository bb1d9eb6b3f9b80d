"""Who may see the cluster, and the workloads that requests name."""

from __future__ import annotations

from typing import Any, Final

from engine_ops.api.cluster_source import WorkloadSource
from engine_ops.api.faults import WaitingError
from engine_ops.api.reasons import Reason
from engine_ops.kube.connection import Connection
from engine_ops.kube.errors import ApiError, ConnectError, UnavailableError, to_waiting

OPTION: Final = "--cluster-data-namespaces"
"""The operator's option that says which namespaces may see the cluster."""

_PLURALS: Final = {
    "Deployment": "deployments",
    "ReplicaSet": "replicasets",
    "StatefulSet": "statefulsets",
    "Job": "jobs",
}


class ClusterAccess:
    """Answers whether requests of a namespace may see nodes, and pods of other namespaces.

    Parameters
    ----------
    connection
        To the API server.
    own_namespace
        The operator's, which is allowed unless ``selector`` says otherwise.
    selector
        A label selector of namespaces, as kubectl has it; None allows the operator's own only.
    """

    def __init__(self, connection: Connection, own_namespace: str, selector: str | None) -> None:
        self._connection = connection
        self._own_namespace = own_namespace
        self._selector = selector

    async def check_selector(self) -> None:
        """Have the API server read the selector once.

        Raises
        ------
        ConnectError
            If it is no selector.
        """
        if self._selector is None:
            return
        try:
            await self._matching("default")
        except ApiError as error:
            if error.status == 400:
                raise ConnectError(f"{OPTION}={self._selector}: {error.message}") from error
            # Anything else is told to the requests that it concerns.
        except UnavailableError:
            pass

    async def check(self, namespace: str) -> None:
        """Check that requests of a namespace may see the cluster.

        Raises
        ------
        WaitingError
            With Forbidden if they may not; with SourceUnavailable if that cannot be told now.
        """
        if self._selector is None:
            if namespace != self._own_namespace:
                raise _not_allowed(namespace, f"namespace {self._own_namespace} only")
            return
        try:
            allowed = await self._matching(namespace)
        except (ApiError, UnavailableError) as error:
            raise to_waiting(error, f"the labels of namespace {namespace}") from error
        if not allowed:
            raise _not_allowed(namespace, f"namespaces with the labels {self._selector}")

    async def workload(self, namespace: str, source: WorkloadSource) -> dict[str, Any]:
        """Return a workload as the API server shows it.

        Raises
        ------
        WaitingError
            With DataNotFound if it is not there, Forbidden if the operator may not read it, or SourceUnavailable.
        """
        plural = _PLURALS[source.kind]
        where = f"{source.kind} {namespace}/{source.name}"
        try:
            body = await self._connection.get(
                f"/apis/{source.api_version}/namespaces/{namespace}/{plural}/{source.name}"
            )
        except (ApiError, UnavailableError) as error:
            raise to_waiting(error, where) from error
        return {**body, "kind": source.kind}

    async def _matching(self, namespace: str) -> bool:
        # The API server reads selectors; nobody else need know their grammar.
        params = {"labelSelector": self._selector or "", "fieldSelector": f"metadata.name={namespace}"}
        found = await self._connection.get("/api/v1/namespaces", params=params)
        return bool(found.get("items"))


def _not_allowed(namespace: str, allowed: str) -> WaitingError:
    message = (
        f"spec.dataFrom.cluster: requests in namespace {namespace} may not see the cluster; the operator shows it to "
        f"{allowed} ({OPTION})"
    )
    return WaitingError(Reason.FORBIDDEN, message)
