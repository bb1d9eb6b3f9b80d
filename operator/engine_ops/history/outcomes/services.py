"""What has no end of its own: Deployments, StatefulSets, DaemonSets, pods by selector, running pods."""

from __future__ import annotations

from typing import NamedTuple

from engine_ops.history.outcomes.records import WorkloadRecord
from engine_ops.history.outcomes.terminations import Terminations


class Verdict(NamedTuple):
    """How it went: ``state`` and ``reason`` of metadata.outcome."""

    state: str
    success: bool
    reason: str


def judge(terminations: Terminations, record: WorkloadRecord | None, *, ended: bool) -> Verdict:
    """Return whether a service did well while it was observed.

    It did if no container was killed for its memory, none was started again after it had ended with an exit code
    other than 0, no pod failed, and at the end as many replicas were ready as were asked for. Restarts after exit
    code 0 are no failures, and what ends because its pod is deleted (a rollout, scaling down) is none either.

    Parameters
    ----------
    terminations
        What was seen.
    record
        The workload at the end; None where there is none to ask (a selector, one that is gone).
    ended
        Whether it is over, and not only its observation.
    """
    if terminations.oom_kills:
        return Verdict("failed", False, "OOMKilled")
    if terminations.failed_restarts:
        return Verdict("failed", False, "Restarted")
    if terminations.failures:
        return Verdict("failed", False, "PodFailed")
    if record is not None and record.replicas is not None and (record.ready or 0) < record.replicas:
        return Verdict("failed", False, "NotReady")
    return Verdict("succeeded" if ended else "running", True, "")
