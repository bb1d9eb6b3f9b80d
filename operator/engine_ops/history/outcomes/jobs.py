"""Runs that come to an end: Jobs, the Jobs of CronJobs, and single pods."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from engine_ops.history.outcomes.records import JobRecord, Owner, PodRecord


@dataclasses.dataclass(frozen=True, slots=True)
class Run:
    """One run of a workload, as far as it is known.

    Parameters
    ----------
    uid, name
        Of the Job or pod.
    cron_uid, cron_name
        Of the Job's CronJob; empty if it has none.
    started_ms, finished_ms
        Epoch milliseconds; None if it has not. A Job that was suspended and resumed has its last start.
    succeeded
        None while it runs.
    reason
        Why it failed.
    """

    uid: str
    name: str
    cron_uid: str = ""
    cron_name: str = ""
    started_ms: int | None = None
    finished_ms: int | None = None
    succeeded: bool | None = None
    reason: str = ""

    @property
    def ended(self) -> bool:
        """Whether it came to an end."""
        return self.succeeded is not None

    @property
    def duration_ms(self) -> float:
        """How long it took; NaN if it did not start or end. 0 where the clock of the cluster stepped back."""
        if self.started_ms is None or self.finished_ms is None:
            return float("nan")
        return float(max(0, self.finished_ms - self.started_ms))

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        values = ((name, getattr(self, name)) for name in self.__slots__)
        return {name: value for name, value in values if value is not None and value != ""}

    @classmethod
    def from_json(cls, data: Any) -> Run:
        """Return what `to_json` gave.

        Raises
        ------
        TypeError, ValueError, KeyError, AttributeError
            If it is something else.
        """
        for name in ("started_ms", "finished_ms"):
            if not isinstance(data.get(name, 0), int):
                raise TypeError(f"{name} must be epoch milliseconds")
        return cls(**data)


def run_of_job(job: JobRecord) -> Run:
    """Return the run that a Job is."""
    cron = job.owner if job.owner is not None and job.owner.kind == "CronJob" else Owner("", "", "")
    ended = job.succeeded is not None
    return Run(
        uid=job.uid,
        name=job.name,
        cron_uid=cron.uid,
        cron_name=cron.name,
        # A Job that failed before it started (its deadline passed while it was suspended) took no time.
        started_ms=job.finished_ms if ended and job.started_ms is None else job.started_ms,
        finished_ms=job.finished_ms,
        succeeded=job.succeeded,
        reason=job.reason,
    )


def run_of_pod(pod: PodRecord) -> Run:
    """Return the run that a pod is; it ends with phase Succeeded or Failed."""
    ended = pod.phase in {"Succeeded", "Failed"}
    failed = [s for s in pod.statuses if s.oom_killed or s.exit_code not in {None, 0}]
    last = max(failed, key=lambda status: status.finished_ms or 0, default=None)
    reason = pod.reason or ("" if last is None else "OOMKilled" if last.oom_killed else last.reason) or "Failed"
    return Run(
        uid=pod.uid,
        name=pod.name,
        started_ms=pod.started_ms,
        finished_ms=pod.finished_ms if ended else None,
        succeeded=pod.phase == "Succeeded" if ended else None,
        reason=reason if pod.phase == "Failed" else "",
    )


class JobIndex:
    """The Jobs of a namespace, to be found by uid, name and CronJob.

    Parameters
    ----------
    jobs
        All of them; gone ones that are still told of too.
    """

    def __init__(self, jobs: Iterable[JobRecord]) -> None:
        self.by_uid: dict[str, JobRecord] = {}
        self._by_name: dict[str, list[JobRecord]] = {}
        self._by_cron: dict[str, list[JobRecord]] = {}
        for job in sorted(jobs, key=lambda job: (job.created_ms, job.name)):
            self.by_uid[job.uid] = job
            self._by_name.setdefault(job.name, []).append(job)
            if job.owner is not None and job.owner.kind == "CronJob":
                self._by_cron.setdefault(job.owner.name, []).append(job)

    def named(self, name: str, asked_ms: int) -> JobRecord | None:
        """Return the Job that a request meant by a name.

        Of several that followed one another under the name: the one that was there when the request was solved, else
        the first that came after.

        Parameters
        ----------
        name
            Of the Job.
        asked_ms
            When the solve began.
        """
        named = self._by_name.get(name, [])
        before = [job for job in named if job.created_ms <= asked_ms]
        return before[-1] if before else named[0] if named else None

    def started_by(self, cron_job: str, asked_ms: int) -> JobRecord | None:
        """Return the first Job that a CronJob made after a request, or in its second: Kubernetes writes no smaller."""
        since_ms = asked_ms - asked_ms % 1000
        return next((job for job in self._by_cron.get(cron_job, []) if job.created_ms >= since_ms), None)
