"""A point and what became of its workload make the point that the history keeps."""

from __future__ import annotations

from typing import Any, Final, NamedTuple, Protocol

from engine_ops.history.outcomes.censoring import censored
from engine_ops.history.outcomes.observation import Observation
from engine_ops.history.outcomes.pods import selector_text
from engine_ops.ml.data_point import WorkloadDataPoint

OBSERVED_JOB: Final = "observed-job"
OBSERVED_USAGE: Final = "observed-usage"
SELECTOR: Final = "Selector"
"""The kind of workload that stands for pods that were chosen by label; its name is the selector's text."""


class OpenPoint(Protocol):
    """A point that waits for its outcome; `engine_ops.history.open_points.OpenPoint` is one."""

    @property
    def point(self) -> WorkloadDataPoint:
        """As it is known so far."""

    @property
    def stamp(self) -> int:
        """The log's."""

    @property
    def closes_at_ms(self) -> int:
        """When it is closed at the latest."""

    @property
    def state(self) -> dict[str, Any]:
        """Of this room: `Observation.to_json`."""


class Ending(NamedTuple):
    """How an open point ends.

    Parameters
    ----------
    state
        ``succeeded``, ``failed``, ``running`` (a service that did well so far) or ``unknown``.
    success
        Of the point; False where it is unknown.
    reason
        One word; empty where all went well.
    duration_ms
        NaN where it is not known.
    """

    state: str
    success: bool
    reason: str
    duration_ms: float


def unknown(reason: str) -> Ending:
    """Return the ending of what nobody saw end."""
    return Ending("unknown", False, reason, float("nan"))


def closed(point: WorkloadDataPoint, seen: Observation, ending: Ending, now_ms: int) -> WorkloadDataPoint:
    """Return the point as it goes into the history.

    Parameters
    ----------
    point
        The open one; it is not changed.
    seen
        What was seen of its workload.
    ending
        How it ends.
    now_ms
        When that is known.
    """
    metadata = {name: value for name, value in point.metadata.items() if name != "workloadSelector"}
    metadata["workload"] = _workload(point, seen)
    requested = metadata.get("requested") or seen.requested
    limits = metadata.get("limits") or seen.limits
    if requested:
        metadata["requested"] = dict(requested)
    if limits:
        metadata["limits"] = dict(limits)
    ends = seen.terminations
    outcome: dict[str, Any] = {
        "of": "workload",
        "state": ending.state,
        "reason": ending.reason,
        "closedAt": max(now_ms, point.timestamp),
    }
    if seen.looked:
        outcome |= {
            "restarts": sum(ends.restarts.values()),
            "oomKills": sum(ends.oom_kills.values()),
            "pods": seen.pods,
            "samples": seen.usage.samples,
        }
        if ends.exit_code is not None:
            outcome["exitCode"] = ends.exit_code
        elif ending.state == "succeeded" and seen.run is not None:
            outcome["exitCode"] = 0
        if ends.failures:
            outcome["failures"] = ends.summary()
        left_out = max(seen.usage.left_out, 0)
        if left_out:
            outcome["containersLeftOut"] = left_out
    metadata["outcome"] = outcome
    containers = _containers(seen)
    if containers:
        metadata["containers"] = containers
    cut = censored(seen.usage, ends, seen.specs)
    if cut:
        metadata["censored"] = cut
    return WorkloadDataPoint(
        timestamp=point.timestamp,
        request_type=point.request_type,
        resource_usage=seen.usage.pod_peak,
        duration=ending.duration_ms,
        success=ending.success,
        metadata=metadata,
    )


def given_up(open_point: OpenPoint, now_ms: int, reason: str = "PushedOut") -> WorkloadDataPoint:
    """Return an open point closed as unknown, with what was seen so far: when there is no room for it any more."""
    return closed(open_point.point, Observation.from_json(open_point.state), unknown(reason), now_ms)


def workload_reference(point: WorkloadDataPoint) -> dict[str, str]:
    """Return kind, namespace and name of what an open point waits for; of a selector, its text is the name."""
    selector = point.metadata.get("workloadSelector")
    if selector is not None:
        found: Any = {"kind": SELECTOR, "name": selector_text(selector)}
    else:
        found = point.metadata.get("workload")
        if not isinstance(found, dict):
            found = {}
    namespace = found.get("namespace") or point.metadata.get("namespace") or ""
    return {"kind": str(found.get("kind", "")), "namespace": str(namespace), "name": str(found.get("name", ""))}


def _workload(point: WorkloadDataPoint, seen: Observation) -> dict[str, Any]:
    earlier = point.metadata.get("workload")
    workload: dict[str, Any] = dict(earlier) if isinstance(earlier, dict) else {}
    workload |= workload_reference(point)
    run = seen.run
    if run is None:
        return workload | ({"uid": seen.uid} if seen.uid else {})
    if run.cron_name:
        # Its runs are compared with one another: their common key is the CronJob's.
        return workload | {
            "kind": "CronJob",
            "name": run.cron_name,
            "uid": run.cron_uid,
            "jobName": run.name,
            "jobUid": run.uid,
        }
    return workload | {"name": run.name, "uid": run.uid}


def _containers(seen: Observation) -> dict[str, Any]:
    ends = seen.terminations
    usage = seen.usage.summary()
    names = dict.fromkeys([*seen.specs, *usage, *ends.restarts, *ends.oom_kills])
    containers: dict[str, Any] = {}
    for name in names:
        entry: dict[str, Any] = dict(usage.get(name, {}))
        if seen.looked:
            entry |= {"restarts": ends.restarts.get(name, 0), "oomKills": ends.oom_kills.get(name, 0)}
        spec = seen.specs.get(name)
        if spec is not None and spec.requests:
            entry["requests"] = dict(spec.requests)
        if spec is not None and spec.limits:
            entry["limits"] = dict(spec.limits)
        containers[name] = entry
    return containers
