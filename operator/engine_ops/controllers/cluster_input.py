"""A question about a live cluster as a worker takes it. Importing it loads no Kubernetes client."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import msgspec

from engine_ops.api.cluster_source import ClusterSource
from engine_ops.engine.cluster.digest import digest
from engine_ops.engine.cluster.records import ClusterSnapshot
from engine_ops.engine.cluster.selection import ClusterSelection, WorkloadPods


@dataclasses.dataclass(frozen=True, slots=True)
class ClusterInput:
    """A question about a live cluster, as a worker takes it.

    Parameters
    ----------
    snapshot
        msgpack of a `ClusterSnapshot`.
    selection
        JSON of a `ClusterSelection`.
    digest
        Of what matters to the answer.
    """

    snapshot: bytes
    selection: bytes
    digest: str

    @classmethod
    def of(
        cls,
        snapshot: ClusterSnapshot,
        selection: ClusterSelection,
        request_type: str,
        data: Mapping[str, Any] | None = None,
    ) -> ClusterInput:
        """Return the input for a snapshot, a selection and the tasks that the request gives itself."""
        return cls(
            snapshot=msgspec.msgpack.encode(snapshot),
            selection=msgspec.json.encode(selection.to_manifest()),
            digest=digest(snapshot, selection, request_type, data),
        )


def selection_of(source: ClusterSource, namespace: str, workload: WorkloadPods | None = None) -> ClusterSelection:
    """Return the selection that the spec of a request in a namespace asks for."""
    written = {**source.to_manifest(), "namespace": namespace}
    written.pop("workload", None)
    if workload is not None:
        written["workload"] = workload.to_manifest()
    return ClusterSelection.model_validate(written)
