"""How one open point is followed until it can be closed."""

from __future__ import annotations

import dataclasses
from typing import Final

from engine_ops.engine.scheduling.selectors import Selector
from engine_ops.history.outcomes.jobs import JobIndex, Run, run_of_job, run_of_pod
from engine_ops.history.outcomes.joining import OBSERVED_USAGE, Ending, OpenPoint, unknown, workload_reference
from engine_ops.history.outcomes.looking import Look
from engine_ops.history.outcomes.observation import Observation
from engine_ops.history.outcomes.pods import selector_of
from engine_ops.history.outcomes.records import PodRecord, WorkloadRecord
from engine_ops.history.outcomes.services import judge

GRACE_MS: Final = 3_600_000
"""A point whose time is over while its workload cannot be looked at waits so long for the API server."""

PODS_WAIT_MS: Final = 300_000
"""A Job that ended waits so long for a look at its pods."""

SETTLE_MS: Final = 300_000
"""The pods of a selector have come to an end when none of them ran for so long."""


@dataclasses.dataclass(slots=True)
class Followed:
    """An open point and what was seen of its workload.

    Parameters
    ----------
    key
        Of the point.
    open_point
        As the log has it.
    seen
        So far.
    written_run
        What the log was told of its run.
    """

    key: bytes
    open_point: OpenPoint
    seen: Observation
    kind: str = dataclasses.field(init=False)
    namespace: str = dataclasses.field(init=False)
    name: str = dataclasses.field(init=False)
    selector: Selector | None = dataclasses.field(init=False)
    written_run: Run | None = None

    def __post_init__(self) -> None:
        reference = workload_reference(self.open_point.point)
        self.kind, self.namespace, self.name = reference["kind"], reference["namespace"], reference["name"]
        metadata = self.open_point.point.metadata
        self.selector = selector_of(metadata.get("workloadSelector"))
        if self.is_daily and not self.seen.uid:
            self.seen.uid = str(metadata.get("uid", ""))

    @property
    def asked_ms(self) -> int:
        """When the request was solved, or the observation began."""
        return self.open_point.point.timestamp

    @property
    def is_daily(self) -> bool:
        """Whether it is what a workload uses in a day, without a request."""
        return self.open_point.point.request_type == OBSERVED_USAGE

    @property
    def is_job(self) -> bool:
        """Whether it waits for a Job's end."""
        return self.kind in {"Job", "CronJob"} and not self.is_daily

    @property
    def is_pod(self) -> bool:
        """Whether it waits for a single pod's end."""
        return self.kind == "Pod" and not self.is_daily

    @property
    def reference(self) -> tuple[str, str, str]:
        """Kind, namespace and name of its workload."""
        return self.kind, self.namespace, self.name

    def is_due(self, now_ms: int) -> bool:
        """Whether its time is over."""
        return now_ms >= self.open_point.closes_at_ms

    def wants_pods(self, now_ms: int) -> bool:
        """Whether pods are needed now, and not only when usage is sampled."""
        return self.is_due(now_ms) or (self.is_job and self.seen.run is not None and self.seen.run.ended)


def follow_job(followed: Followed, look: Look) -> Ending | None:
    """Take in what a look shows of a Job that `find_job` found, and return how the point ends if it does."""
    seen = followed.seen
    run, due = seen.run, followed.is_due(look.now_ms) and look.jobs is not None
    if run is None:
        return unknown("NoJobStarted" if followed.kind == "CronJob" else "WorkloadNotFound") if due else None
    pods = look.pods.of_job(run.uid) if look.pods is not None else []
    if pods:
        seen.see_pods(pods, 0)
        seen.see_usage(pods, look.samples, 0, 2**63)
    if run.ended:
        seen.ended_seen_ms = seen.ended_seen_ms or look.now_ms
        if look.pods is None and abs(look.now_ms - seen.ended_seen_ms) < PODS_WAIT_MS:
            return None
        return run_ending(run)
    if look.jobs is not None and run.uid not in look.jobs.by_uid:
        return unknown("Deleted")
    return unknown("StillRunning" if run.started_ms is not None else "NotStarted") if due else None


def run_ending(run: Run) -> Ending:
    """Return how a point ends whose run has ended."""
    return Ending("succeeded" if run.succeeded else "failed", bool(run.succeeded), run.reason, run.duration_ms)


def find_job(followed: Followed, jobs: JobIndex) -> None:
    """Find the Job that a point waits for, and take in how it stands.

    Which one it is, is settled when there is one; a later one of the same name is another.
    """
    seen = followed.seen
    if seen.run is not None:
        job = jobs.by_uid.get(seen.run.uid)
    elif followed.kind == "CronJob":
        job = jobs.started_by(followed.name, followed.asked_ms)
    else:
        job = jobs.named(followed.name, followed.asked_ms)
    if job is not None:
        seen.see_template(job.specs)
        seen.run = run_of_job(job)


def follow_pod(followed: Followed, look: Look) -> Ending | None:
    """Take in what a look shows of a single pod, and return how the point ends if it does."""
    if look.pods is None:
        return None
    seen, pod = followed.seen, look.pods.named(followed.name)
    if pod is not None and seen.run is not None and pod.uid != seen.run.uid:
        pod = None  # another one of that name
    if pod is not None:
        seen.run = run_of_pod(pod)
        since_ms = 0 if seen.run.ended and not seen.looked else followed.asked_ms
        seen.see_pods([pod], since_ms)
        seen.see_usage([pod], look.samples, followed.asked_ms, 2**63)
    run, due = seen.run, followed.is_due(look.now_ms)
    if run is None:
        return unknown("WorkloadNotFound") if due else None
    if run.ended:
        return run_ending(run)
    if pod is None:
        return unknown("Deleted")
    return service_ending(followed, None, followed.open_point.closes_at_ms, ended=False) if due else None


def see_service(followed: Followed, look: Look) -> bool:
    """Take in what a look shows of the pods of a service or selector, and return whether there are any."""
    if look.pods is None:
        return False
    seen, since_ms = followed.seen, followed.asked_ms
    if followed.selector is not None:
        pods = [pod for pod in look.pods.chosen(followed.selector) if not _ended_before(pod, since_ms)]
    elif followed.kind == "Selector":
        pods = []  # no selector can be read of it
    else:
        pods = look.pods.of_workload(followed.kind, followed.name, seen.uid or None)
    seen.see_pods(pods, since_ms)
    seen.see_usage(pods, look.samples, since_ms, followed.open_point.closes_at_ms)
    if any(pod.phase not in {"Succeeded", "Failed"} for pod in pods):
        seen.quiet_since_ms = None
    elif seen.quiet_since_ms is None:
        seen.quiet_since_ms = look.now_ms
    return bool(pods)


def selected_ending(followed: Followed, now_ms: int) -> Ending | None:
    """Return how a selector's pods ended, once they did: a batch of pods without a Job."""
    seen = followed.seen
    start_ms, end_ms, quiet_ms = seen.first_start_ms, seen.last_end_ms, seen.quiet_since_ms
    if start_ms is None or end_ms is None or quiet_ms is None or now_ms - quiet_ms < SETTLE_MS:
        return None
    verdict = judge(seen.terminations, None, ended=True)
    return Ending(verdict.state, verdict.success, verdict.reason, float(max(0, end_ms - start_ms)))


def service_ending(followed: Followed, record: WorkloadRecord | None, end_ms: int, *, ended: bool) -> Ending:
    """Return how a service did from when it was asked for until ``end_ms``.

    Parameters
    ----------
    followed
        Its point.
    record
        The service at the end, if it is known.
    end_ms
        When its observation ended.
    ended
        Whether the service itself did.
    """
    seen = followed.seen
    if not seen.pods and not seen.uid:
        return unknown("WorkloadNotFound")
    verdict = judge(seen.terminations, record, ended=ended)
    reason = "Deleted" if ended and verdict.success else verdict.reason
    begin_ms = max(followed.asked_ms, seen.first_start_ms or 0)
    return Ending(verdict.state, verdict.success, reason, float(max(0, end_ms - begin_ms)))


def superseded(older: Followed, newer: Followed) -> Ending | None:
    """Return how a point ends because its request was answered again; None if it goes on.

    A service is observed for the newer answer from then on. A Job is counted once: the newest answer before its end
    has its outcome. But a point whose CronJob has started its Job keeps that, as the newer one waits for the next Job.
    """
    run = older.seen.run
    if older.is_job or older.is_pod:
        if older.reference != newer.reference or (run is not None and (run.ended or older.kind == "CronJob")):
            return None
        return unknown("Superseded")
    return service_ending(older, None, newer.asked_ms, ended=False)


def _ended_before(pod: PodRecord, at_ms: int) -> bool:
    return pod.phase in {"Succeeded", "Failed"} and pod.finished_ms is not None and pod.finished_ms < at_ms
