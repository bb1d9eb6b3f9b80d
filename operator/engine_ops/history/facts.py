"""A finished solve as a status tells of it, and the data point that is made of it.

The status is written first, and the history is made of what stands in it: so a crash between the two loses nothing.
See `engine_ops.api.history_point.HistoryPoint` for the fields.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from engine_ops.api.optimizationrequest import OptimizationRequestSpec
from engine_ops.ml.data_point import WorkloadDataPoint

Scalar = float | str | bool


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """What the history keeps of a question: its type, what its answer is for, and what a model may learn from."""

    type: str
    workload: WorkloadName | None = None
    workload_selector: dict[str, Any] | None = None
    request: dict[str, Scalar] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, spec: OptimizationRequestSpec, request: dict[str, Scalar]) -> Asked:
        """Return what is kept of a spec, with the fields that were found in its data."""
        reference, selector = spec.workload_ref, spec.workload_selector
        return cls(
            type=spec.type.value,
            workload=None if reference is None else WorkloadName(reference.kind, reference.name),
            workload_selector=None if selector is None else selector.to_manifest(),
            request=request,
        )


class WorkloadName(msgspec.Struct, frozen=True, omit_defaults=True):
    """The workload that an answer was for."""

    kind: str
    name: str


class SolveFact(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """One entry of ``status.historyPoints``."""

    generation: int
    run: int
    stamp: int
    timestamp: int
    type: str
    success: bool
    reason: str
    duration_ms: int
    score: float | None = None
    algorithm: str | None = None
    workload: WorkloadName | None = None
    workload_selector: dict[str, Any] | None = None
    request: dict[str, Scalar] = {}

    @property
    def awaits_outcome(self) -> bool:
        """Whether there is an answer and it was for a workload, whose outcome is still to come."""
        return self.success and (self.workload is not None or self.workload_selector is not None)


def facts_of(status: Mapping[str, Any]) -> list[SolveFact]:
    """Return the facts in a status, the oldest first. One that was edited into something else is left out."""
    entries = status.get("historyPoints")
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        return []
    facts = []
    for entry in entries:
        try:
            facts.append(msgspec.convert(entry, SolveFact))
        except msgspec.ValidationError:
            continue
    return facts


def point_of(fact: SolveFact, *, uid: str, namespace: str, name: str) -> WorkloadDataPoint:
    """Return the data point of a solve. Where an outcome is awaited, it says nothing of success and duration yet.

    Parameters
    ----------
    fact
        The solve.
    uid, namespace, name
        Of the request.
    """
    solve: dict[str, Any] = {"durationMs": fact.duration_ms, "reason": fact.reason}
    if fact.score is not None:
        solve["score"] = fact.score
    if fact.algorithm is not None:
        solve["algorithm"] = fact.algorithm
    metadata: dict[str, Any] = {
        "uid": uid,
        "generation": fact.generation,
        "run": fact.run,
        "namespace": namespace,
        "name": name,
        "solve": solve,
    }
    if fact.request:
        metadata["request"] = dict(fact.request)
    if fact.workload is not None:
        metadata["workload"] = {"kind": fact.workload.kind, "namespace": namespace, "name": fact.workload.name}
    elif fact.workload_selector is not None:
        metadata["workloadSelector"] = fact.workload_selector
    if not fact.awaits_outcome:
        metadata.pop("workloadSelector", None)
        state = "succeeded" if fact.success else "failed"
        closed_at = fact.timestamp + fact.duration_ms
        metadata["outcome"] = {"of": "request", "state": state, "reason": fact.reason, "closedAt": closed_at}
    return WorkloadDataPoint(
        timestamp=fact.timestamp,
        request_type=fact.type,
        resource_usage={},
        duration=float(fact.duration_ms),
        success=fact.success,
        metadata=metadata,
    )
