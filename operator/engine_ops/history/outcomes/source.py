"""What the collector of outcomes needs of Kubernetes; `engine_ops.kube.outcome_source` fulfils it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from engine_ops.history.outcomes.records import JobRecord, PodRecord, UsageSample, WorkloadRecord


class SourceError(RuntimeError):
    """It could not be read now: the API server is away, or a right is missing. The message says which."""


class OutcomeSource(Protocol):
    """Workloads, pods and usage. Every method raises `SourceError`."""

    async def jobs(self, namespace: str) -> Sequence[JobRecord]:
        """Return every Job of a namespace, as a watch shows them; finished ones may be gone already.

        A Job that finished and was deleted since the last call is returned once more, as it last was.
        """

    async def pods(self, namespace: str) -> Sequence[PodRecord]:
        """Return the pods of a namespace, finished ones too, in any order."""

    async def workload(self, kind: str, namespace: str, name: str) -> WorkloadRecord | None:
        """Return a Deployment, StatefulSet or DaemonSet, or None if it is not there."""

    async def usage(self, namespace: str) -> Sequence[UsageSample] | None:
        """Return what the containers of a namespace use now; None where the cluster serves no metrics.k8s.io."""

    async def observed_namespaces(self) -> Sequence[str]:
        """Return the namespaces that the administrator asked to observe; empty unless asked."""

    async def changed(self, timeout_seconds: float) -> bool:
        """Wait until a Job may have changed, or the time is over; return whether one may have."""
