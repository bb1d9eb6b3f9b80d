"""Events about requests: where there is something to notice."""

from __future__ import annotations

from typing import Literal

from engine_ops.api import status as statuses
from engine_ops.api.reasons import Reason
from engine_ops.api.status import Attempt, Status
from engine_ops.kube.events import EventRecorder
from engine_ops.kube.target import Target


def announce(events: EventRecorder, target: Target, attempt: Attempt, status: Status) -> None:
    """Record an Event where a status has something to notice. A first success is none: it would cost as much again."""
    now_ready = statuses.find(status, statuses.READY) or {}
    before = statuses.find(attempt.previous, statuses.READY)
    ready = now_ready.get("status") == "True"
    if ready and now_ready["reason"] == Reason.SOLVED and (before is None or before["status"] == "True"):
        return
    if now_ready["reason"] == Reason.SUSPENDED:
        return
    type_: Literal["Normal", "Warning"] = "Normal" if now_ready["reason"] == Reason.SOLVED else "Warning"
    events.record(target, type_, now_ready["reason"], now_ready["message"])
