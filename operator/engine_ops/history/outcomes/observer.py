"""What is recorded without a request: every finished Job, and what each workload uses in a day."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from engine_ops.history.keys import key_of
from engine_ops.history.open_points import OpenPoint
from engine_ops.history.outcomes.following import PODS_WAIT_MS, run_ending
from engine_ops.history.outcomes.jobs import JobIndex, run_of_job
from engine_ops.history.outcomes.joining import OBSERVED_JOB, OBSERVED_USAGE, closed
from engine_ops.history.outcomes.looking import LaterError, Look, Lookups
from engine_ops.history.outcomes.observation import Observation
from engine_ops.history.outcomes.pods import Workload
from engine_ops.history.outcomes.records import JobRecord
from engine_ops.history.outcomes.source import SourceError
from engine_ops.ml.data_point import WorkloadDataPoint

DAY_MS: Final = 86_400_000

MAX_DAILY: Final = 400
"""Workloads whose daily usage is followed at a time: the other open points are for requests."""

MAX_RUNNING: Final = 500
"""Running Jobs whose usage is followed at a time; others are recorded without."""

_MAX_NAMED: Final = 20_000
_HOLD_FROM_START: Final = 1
_EVER: Final = 2**62
"""A stamp above every watermark: only what is in the ring is known."""
_UNKNOWN: Final = math.nan
_LATE_MS: Final = 900_000
"""A Job's point is in the ring at most so long after its end."""
_SKEW_MS: Final = 60_000  # between the clocks of the cluster and ours, and whole seconds
_HOLD_AT_MOST_MS: Final = 600_000


class _Points(Protocol):
    def select(self) -> Iterable[WorkloadDataPoint]: ...


class ObserverLog(Protocol):
    """What is needed of the history; `engine_ops.history.log.HistoryLog` is one."""

    @property
    def collector(self) -> _Points:
        """Its closed points."""

    @property
    def kept_since_ms(self) -> float | None:
        """When the oldest point that is kept was known, if older ones have left the ring; None if none has."""

    def stamp(self) -> int:
        """Return the next stamp, in epoch milliseconds; it holds the watermark until it is used or abandoned."""

    def begin(self, stamp: int) -> None:
        """Keep the watermark below a stamp."""

    def abandon(self, stamp: int) -> None:
        """End `begin`."""

    def knows(self, key: bytes, stamp: int) -> bool:
        """Whether the point is there, or was."""

    def open(self, open_point: OpenPoint, /) -> bool:
        """Take in a point that waits."""

    def record(self, point: WorkloadDataPoint, stamp: int, /) -> bool:
        """Take in a point that is closed."""


@dataclasses.dataclass(slots=True)
class _Jobs:
    """The Jobs of one namespace, by uid."""

    settled: set[str] = dataclasses.field(default_factory=set)  # ended, and recorded or not to be
    unfinished: set[str] = dataclasses.field(default_factory=set)  # seen while they ran
    waiting: dict[str, tuple[JobRecord, int]] = dataclasses.field(default_factory=dict)  # ended; seen so when
    running: dict[str, Observation] = dataclasses.field(default_factory=dict)


class Observer:
    """Records Jobs and daily usage in the observed namespaces, each once, also over restarts.

    A finished Job's point has the key (its uid, 1, 1) and, where it was not seen running, the stamp of its end. So the
    log tells whether it has it, or had it before the ring went on, as long as the watermark does not pass the ends of
    Jobs that were not looked at: the observer holds it, from before the log is loaded. Jobs that ended below the
    watermark are new all the same where their points would still be in the ring: the option was turned on later.

    Parameters
    ----------
    log
        Of the history.
    lookups
        For the uid of Deployments, which their pods do not tell.

    Attributes
    ----------
    left_out
        How many workloads were over `MAX_DAILY` in the last step.
    """

    def __init__(self, log: ObserverLog, lookups: Lookups) -> None:
        self._log = log
        self._lookups = lookups
        self._held = _HOLD_FROM_START
        self._held_since_ms: int | None = None
        self._complete = False
        self._namespaces: dict[str, _Jobs] = {}
        self._named: dict[str, None] | None = None
        self._kept_since_ms: float | None = _UNKNOWN
        self._days: dict[bytes, int] = {}  # keys of daily points, and when they close
        self.left_out = 0
        log.begin(self._held)

    def name(self, uid: str) -> None:
        """Take note that a request's point tells of this Job: it is not recorded once more."""
        named = self._names()
        named[uid] = None
        if len(named) > _MAX_NAMED:
            del named[next(iter(named))]

    def _names(self) -> dict[str, None]:
        if self._named is None:
            self._named = {}
            for point in self._log.collector.select():
                workload = point.metadata.get("workload")
                if isinstance(workload, dict):
                    self._named[str(workload.get("jobUid") or workload.get("uid") or "")] = None
        return self._named

    def begin(self, now_ms: int, namespaces: Sequence[str] | None) -> None:
        """Begin a step; the namespaces are None if it is not known which are observed."""
        self._complete = namespaces is not None
        self._kept_since_ms = _UNKNOWN
        self.left_out = 0
        self._days = {key: closes_at_ms for key, closes_at_ms in self._days.items() if closes_at_ms > now_ms}
        if namespaces is not None:
            self._namespaces = {name: self._namespaces.get(name, _Jobs()) for name in namespaces}

    def sees_jobs(self, namespace: str, jobs: JobIndex | None, named: set[str]) -> bool:
        """Take in the Jobs of a namespace, and return whether some ended that are still to be recorded.

        Parameters
        ----------
        namespace
            One of the observed ones.
        jobs
            All of it; None if they could not be read.
        named
            Uids of the Jobs that requests' open points tell of.
        """
        here = self._namespaces.setdefault(namespace, _Jobs())
        if jobs is None:
            self._complete = False
            return bool(here.waiting)
        for uid in named:
            here.waiting.pop(uid, None)
        names = self._names()
        there = set(jobs.by_uid)
        here.settled &= there
        for job in jobs.by_uid.values():
            if job.uid in here.settled or job.uid in here.waiting:
                continue
            if job.uid in named or job.uid in names:
                if job.succeeded is not None:
                    here.settled.add(job.uid)
            elif job.succeeded is None:
                here.unfinished.add(job.uid)
            elif self._is_new(job, here):
                here.waiting[job.uid] = (job, 0)
            else:
                here.settled.add(job.uid)
        there.update(here.waiting)
        here.unfinished &= there
        here.running = {uid: seen for uid, seen in here.running.items() if uid in there}
        return bool(here.waiting)

    def _is_new(self, job: JobRecord, here: _Jobs) -> bool:
        # One that was seen running ended just now, whatever the cluster's clock says.
        live = job.uid in here.unfinished or job.finished_ms is None
        key = key_of(job.uid, 1, 1)
        if not self._log.knows(key, _EVER if live else job.finished_ms or 0):
            return True
        if live or self._log.knows(key, _EVER):
            return False
        if self._kept_since_ms is _UNKNOWN:
            self._kept_since_ms = self._log.kept_since_ms
        return self._kept_since_ms is None or (job.finished_ms or 0) > self._kept_since_ms + _LATE_MS

    async def look(self, namespace: str, look: Look) -> str:
        """Record what ended, and follow what runs; return why something could not be read, or an empty text."""
        here = self._namespaces[namespace]
        for uid, (job, since_ms) in list(here.waiting.items()):
            if look.pods is None and (not since_ms or abs(look.now_ms - since_ms) < PODS_WAIT_MS):
                here.waiting[uid] = (job, since_ms or look.now_ms)
                continue
            seen = here.running.pop(uid, None) or Observation()
            _see_job(seen, job, look)
            self._record(job, seen, look.now_ms, live=uid in here.unfinished)
            del here.waiting[uid]
            here.settled.add(uid)
        if look.pods is None:
            return ""
        following = sum(len(jobs.running) for jobs in self._namespaces.values())
        for job in look.jobs.by_uid.values() if look.jobs is not None else ():
            if job.uid not in here.unfinished or job.succeeded is not None:
                continue
            observed = here.running.get(job.uid)
            if observed is None and following < MAX_RUNNING:
                following += 1
                observed = here.running[job.uid] = Observation()
            if observed is not None:
                _see_job(observed, job, look)
        return await self._follow_days(namespace, look)

    def _record(self, job: JobRecord, seen: Observation, now_ms: int, *, live: bool) -> None:
        run = seen.run = run_of_job(job)
        point = WorkloadDataPoint(
            timestamp=job.started_ms or job.created_ms,
            request_type=OBSERVED_JOB,
            resource_usage={},
            duration=run.duration_ms,
            success=bool(run.succeeded),
            metadata={
                "uid": job.uid,
                "generation": 1,
                "run": 1,
                "namespace": job.namespace,
                "name": run.cron_name or job.name,
                "workload": {"kind": "Job", "namespace": job.namespace, "name": job.name},
            },
        )
        point = closed(point, seen, run_ending(run), now_ms)
        if live or job.finished_ms is None or not self._log.record(point, job.finished_ms):
            stamp = self._log.stamp()
            self._log.record(point, stamp)
            self._log.abandon(stamp)

    async def _follow_days(self, namespace: str, look: Look) -> str:
        if look.pods is None or not look.samples:
            return ""
        trouble = ""
        for workload, pods in look.pods.workloads():
            # A Job's usage is in its own point; workloads that nothing is measured of have none.
            if workload.kind == "Job" or not any(pod.name in look.samples for pod in pods):
                continue
            uid = workload.uid
            if uid is None:
                try:
                    record = await self._lookups.get(workload.kind, namespace, workload.name)
                except LaterError:
                    continue
                except SourceError as error:
                    trouble = str(error)
                    continue
                if record is None:
                    continue
                uid = record.uid
            self._open_day(Workload(workload.kind, workload.name, uid), uid, namespace, look.now_ms)
        return trouble

    def _open_day(self, workload: Workload, uid: str, namespace: str, now_ms: int) -> None:
        day = now_ms // DAY_MS
        key = key_of(uid, 0, day)
        if key in self._days:
            return
        closes_at_ms = (day + 1) * DAY_MS
        if self._log.knows(key, 2**62):
            self._days[key] = closes_at_ms
            return
        if len(self._days) >= MAX_DAILY:
            self.left_out += 1
            return
        self._days[key] = closes_at_ms
        names = {"kind": workload.kind, "namespace": namespace, "name": workload.name, "uid": uid}
        point = WorkloadDataPoint(
            timestamp=now_ms,
            request_type=OBSERVED_USAGE,
            resource_usage={},
            duration=float("nan"),
            success=True,
            metadata={
                "uid": uid,
                "generation": 0,
                "run": day,
                "namespace": namespace,
                "name": workload.name,
                "workload": names,
            },
        )
        stamp = self._log.stamp()
        self._log.open(OpenPoint(point, stamp, closes_at_ms, {}))
        self._log.abandon(stamp)

    def end(self, now_ms: int) -> None:
        """End a step: what ended before it is recorded, so the watermark may pass it."""
        waiting = any(jobs.waiting for jobs in self._namespaces.values())
        if self._held_since_ms is None:
            self._held_since_ms = now_ms
        if (not self._complete or waiting) and abs(now_ms - self._held_since_ms) < _HOLD_AT_MOST_MS:
            return
        held = max(self._held, now_ms - _SKEW_MS)
        if held != self._held:
            self._log.begin(held)
            self._log.abandon(self._held)
            self._held = held
        self._held_since_ms = now_ms


def _see_job(seen: Observation, job: JobRecord, look: Look) -> None:
    seen.see_template(job.specs)
    pods = look.pods.of_job(job.uid) if look.pods is not None else []
    if pods:
        seen.see_pods(pods, 0)
        seen.see_usage(pods, look.samples, 0, 2**63)
