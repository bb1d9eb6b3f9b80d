"""What to do with a request: a function of the object and the clock alone, so that a restart changes nothing."""

from __future__ import annotations

import dataclasses
import datetime

from pydantic import ValidationError

from engine_ops.api.faults import InvalidDataError, faults_of
from engine_ops.api.optimizationrequest import OptimizationRequestSpec
from engine_ops.api.reasons import Reason
from engine_ops.api.status import READY, STALLED, find, is_true, parse_timestamp
from engine_ops.controllers.view import RequestView


@dataclasses.dataclass(frozen=True, slots=True)
class Nothing:
    """There is nothing to do until the object changes."""


@dataclasses.dataclass(frozen=True, slots=True)
class Solve:
    """Answer it now; ``run`` counts the solves of this generation from 1."""

    run: int
    spec: OptimizationRequestSpec


@dataclasses.dataclass(frozen=True, slots=True)
class Reject:
    """The spec is wrong; ``message`` names the field."""

    message: str


@dataclasses.dataclass(frozen=True, slots=True)
class Suspend:
    """Say in its status that it is suspended."""


@dataclasses.dataclass(frozen=True, slots=True)
class Delete:
    """Its time to live is over."""


@dataclasses.dataclass(frozen=True, slots=True)
class Later:
    """Look again at ``at``."""

    at: datetime.datetime


Decision = Nothing | Solve | Reject | Suspend | Delete | Later


def decide(view: RequestView, now: datetime.datetime) -> Decision:
    """Decide what to do with a request.

    Parameters
    ----------
    view
        The object.
    now
        The time, UTC.
    """
    if view.deleting:
        return Nothing()
    try:
        spec = OptimizationRequestSpec.model_validate(view.spec)
    except ValidationError as error:
        message = InvalidDataError(faults_of(error, root="spec")).summary()
        return Nothing() if view.answers_its_spec else Reject(message)
    if spec.suspend:
        return Nothing() if _says_suspended(view) else Suspend()
    if not view.answers_its_spec:
        return Solve(1, spec)
    return _after_the_answer(view, spec, now)


def _after_the_answer(view: RequestView, spec: OptimizationRequestSpec, now: datetime.datetime) -> Decision:
    completed = view.status.get("completionTime")
    if completed is None:
        return Nothing()
    finished = parse_timestamp(completed)
    if spec.interval_seconds is not None:
        if is_true(view.status, STALLED) and spec.data_from is None:
            return Nothing()  # the same inline data would stall again
        due = finished + datetime.timedelta(seconds=spec.interval_seconds)
        return Solve(view.status.get("run", 0) + 1, spec) if due <= now else Later(due)
    if spec.ttl_seconds_after_finished is not None:
        due = finished + datetime.timedelta(seconds=spec.ttl_seconds_after_finished)
        return Delete() if due <= now else Later(due)
    return Nothing()


def _says_suspended(view: RequestView) -> bool:
    ready = find(view.status, READY)
    return view.answers_its_spec and ready is not None and ready.get("reason") == Reason.SUSPENDED
