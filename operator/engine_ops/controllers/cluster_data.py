"""The live cluster as the data of a request: permission, the view, the workload."""

from __future__ import annotations

import msgspec

from engine_ops.api.faults import InvalidDataError, WaitingError
from engine_ops.api.optimizationrequest import OptimizationRequestSpec
from engine_ops.api.reasons import Reason
from engine_ops.controllers.cluster_input import ClusterInput, selection_of
from engine_ops.engine.cluster.workload import missing_pods
from engine_ops.kube.cluster_access import ClusterAccess
from engine_ops.kube.cluster_cache import ClusterCache

SNAPSHOT_SECONDS = 30.0
"""For so long a request waits for a complete view; it is tried again later."""


class ClusterData:
    """Reads the live cluster for requests.

    Parameters
    ----------
    cache
        Of nodes and pods.
    access
        Who may see them, and workloads by name.
    """

    def __init__(self, cache: ClusterCache, access: ClusterAccess) -> None:
        self._cache = cache
        self._access = access

    async def read(self, namespace: str, spec: OptimizationRequestSpec, data: bytes | None) -> ClusterInput:
        """Return the live cluster for a request in a namespace, not older than the call.

        Parameters
        ----------
        namespace, spec
            Of the request.
        data
            JSON of the tasks that it gives itself, if it does.

        Raises
        ------
        WaitingError
            With Forbidden if the namespace may not see the cluster, or the operator may not; with SourceUnavailable if
            there is no complete view; with DataNotFound if the workload is not there.
        """
        source = spec.cluster
        if source is None:
            raise AssertionError("the spec names no cluster")
        await self._access.check(namespace)
        body = None
        if source.workload is not None:
            body = await self._access.workload(namespace, source.workload)
        snapshot = await self._cache.snapshot(timeout_seconds=SNAPSHOT_SECONDS)
        given = msgspec.json.decode(data) if data is not None else None
        workload = None
        if body is not None and source.workload is not None:
            try:
                workload = missing_pods(body, snapshot, source.workload.replicas)
            except InvalidDataError as error:  # it is not the spec that must change
                raise WaitingError(Reason.INVALID_DATA, str(error)) from error
        return ClusterInput.of(snapshot, selection_of(source, namespace, workload), spec.type.value, given)
