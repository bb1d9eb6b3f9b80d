"""Statuses as the operator writes them, each with its story, and how it is to be read by those who wait for it."""

from __future__ import annotations

import copy
import dataclasses
import datetime
from typing import Any

from engine_ops.api import status as statuses
from engine_ops.api.faults import Fault, InvalidDataError
from engine_ops.api.reasons import Reason
from engine_ops.api.status import Attempt, Solution
from engine_ops.controllers import plugin_status
from engine_ops.plugins.snapshot import PluginSnapshot

START = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
LATER = START + datetime.timedelta(seconds=90)
NEW = {"observedGeneration": -1}
"""What the API server itself puts into an object without a status: the default of the definition."""

Status = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Story:
    """An object at one moment.

    Parameters
    ----------
    name
        What has become of it, for people; unique among those of its kind.
    kind
        Of the object.
    generation
        The object's own.
    status
        As it was written last; None where the object has no field of that name.
    argo, kstatus
        The health, and the status, that it is to be read as.
    kubectl
        Whether ``kubectl wait --for=condition=Ready`` ends.
    spec
        That the API server takes.
    """

    name: str
    kind: str
    generation: int
    status: Status | None
    argo: str
    kstatus: str
    kubectl: bool
    spec: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}"

    @property
    def object(self) -> dict[str, Any]:
        """The whole object, JSON values; another one each time."""
        return copy.deepcopy(as_object(self.kind, self.spec, self.status, self.generation))


def as_object(kind: str, spec: dict[str, Any], status: Status | None, generation: int) -> dict[str, Any]:
    """Make an object of a status, as the API server gives it out."""
    made = {
        "apiVersion": "engineops.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": "x", "namespace": "default", "generation": generation},
        "spec": spec,
    }
    return made if status is None else {**made, "status": status}


SOLVED = Solution(
    result={"nodeCount": 2},
    reason=Reason.SOLVED,
    message="packed 6 items onto 2 nodes",
    metrics={"durationMs": 12, "score": 1.0},
    solved_by={"name": "balanced", "algorithm": "balanced", "version": "1"},
)
PARTIAL = dataclasses.replace(SOLVED, reason=Reason.UNPLACEABLE, message="item gpu fits nowhere")
REQUEST_SPEC: dict[str, Any] = {
    "type": "resource",
    "data": {"items": [{"id": "web", "cpu": "500m", "memory": "1Gi"}], "nodeCapacity": {"cpu": 4, "memory": "16Gi"}},
}
PLUGIN_SPEC: dict[str, Any] = {
    "source": {"entryPoint": "engine_ops.ml.examples.simple_predictor:SimplePredictorPlugin"}
}


def attempt(previous: Status | None = None, generation: int = 1, run: int = 1) -> Attempt:
    """Begin a solve of an object, by default its first."""
    return Attempt(previous or NEW, generation, run, START)


def _request(
    name: str, generation: int, status: Status | None, argo: str, kstatus: str, kubectl: bool, **spec: Any
) -> Story:
    return Story(name, "OptimizationRequest", generation, status, argo, kstatus, kubectl, {**REQUEST_SPEC, **spec})


def _requests() -> tuple[Story, ...]:
    answered = statuses.answered(attempt(), SOLVED, LATER)
    partial = statuses.answered(attempt(), PARTIAL, LATER)
    cut_off = statuses.answered(attempt(), dataclasses.replace(SOLVED, cut_off="spec.timeoutSeconds is over"), LATER)
    progress = {"objective": 3.0, "lowerBound": 2.0, "gap": 0.5}
    why = "no enabled plugin takes type ml-driven"
    return (
        _request("new", 1, NEW, "Progressing", "InProgress", False),
        _request("being solved", 1, statuses.solving(attempt(), progress, LATER), "Progressing", "InProgress", False),
        _request(
            "waiting", 1, statuses.waiting(attempt(), Reason.NO_PLUGIN, why, LATER), "Progressing", "InProgress", False
        ),
        _request("answered", 1, answered, "Healthy", "Current", True),
        _request("answered, the search was cut off", 1, cut_off, "Healthy", "Current", True),
        _request("answered in part", 1, partial, "Degraded", "Failed", False),
        _request(
            "the spec must change",
            1,
            statuses.stalled(attempt(), Reason.INVALID_DATA, "spec.data.items: must not be empty", LATER),
            "Degraded",
            "Failed",
            False,
        ),
        _request("changed after the answer", 2, answered, "Progressing", "InProgress", False),
        _request("changed after it stalled", 2, partial, "Progressing", "InProgress", False),
        _request(
            "changed, and waiting anew",
            2,
            statuses.waiting(attempt(answered, 2), Reason.DATA_NOT_FOUND, "ConfigMap usage is not there", LATER),
            "Progressing",
            "InProgress",
            False,
        ),
        _request("suspended", 1, statuses.suspended(attempt(), LATER), "Suspended", "InProgress", False, suspend=True),
        _request(
            "suspended after its answer",
            2,
            statuses.suspended(attempt(answered, 2), LATER),
            "Suspended",
            "InProgress",
            False,
            suspend=True,
        ),
        _request("resumed", 3, statuses.suspended(attempt(answered, 2), LATER), "Progressing", "InProgress", False),
        _request(
            "standing, its answer is being renewed",
            1,
            statuses.solving(attempt(answered, run=2), progress, LATER),
            "Healthy",
            "InProgress",
            True,
            intervalSeconds=60,
        ),
        _request(
            "standing, being solved again after a partial answer",
            1,
            statuses.solving(attempt(partial, run=2), None, LATER),
            "Progressing",
            "InProgress",
            False,
            intervalSeconds=60,
        ),
        _request(
            "standing, its data is gone",
            1,
            statuses.waiting(attempt(answered, run=2), Reason.DATA_NOT_FOUND, "ConfigMap usage is not there", LATER),
            "Progressing",
            "InProgress",
            False,
            intervalSeconds=60,
        ),
    )


def snapshot(state: Reason = Reason.RUNNING, **fields: Any) -> PluginSnapshot:
    """Return a plugin that stands so."""
    return PluginSnapshot(name="p", enabled=state is not Reason.DISABLED, state=state, message="so it is", **fields)


def _plugin(
    name: str, generation: int, status: Status | None, argo: str, kstatus: str, kubectl: bool, **spec: Any
) -> Story:
    return Story(name, "OptimizerPlugin", generation, status, argo, kstatus, kubectl, {**PLUGIN_SPEC, **spec})


def _plugins() -> tuple[Story, ...]:
    def stands(state: Reason, **fields: Any) -> Status:
        return plugin_status.status_of(snapshot(state, **fields), NEW, 1, LATER)

    wrong = plugin_status.invalid(InvalidDataError([Fault("spec.priority", "must be a number")]), NEW, 1, LATER)
    few = (Reason.NOT_ENOUGH_DATA, "3 of 10 points")
    open_breaker = stands(Reason.CRASH_LOOPING, degraded="it crashed 5 times")
    return (
        _plugin("new", 1, NEW, "Progressing", "InProgress", False, enabled=True),
        _plugin("starting", 1, stands(Reason.STARTING), "Progressing", "InProgress", False, enabled=True),
        _plugin("answering as before", 1, stands(Reason.UPDATING), "Progressing", "InProgress", False, enabled=True),
        _plugin("running", 1, stands(Reason.RUNNING), "Healthy", "Current", True, enabled=True),
        _plugin(
            "running, without a model yet",
            1,
            stands(Reason.RUNNING, trained=few),
            "Healthy",
            "Current",
            True,
            enabled=True,
        ),
        _plugin("disabled", 1, stands(Reason.DISABLED), "Healthy", "Current", True, enabled=False),
        _plugin("its class cannot be loaded", 1, stands(Reason.LOAD_FAILED), "Progressing", "InProgress", False),
        _plugin(
            "its process or Service is away", 1, stands(Reason.PLUGIN_UNAVAILABLE), "Progressing", "InProgress", False
        ),
        _plugin("left out after crashes", 1, open_breaker, "Progressing", "InProgress", False, enabled=True),
        _plugin(
            "its settings are rejected", 1, stands(Reason.INVALID_CONFIG), "Degraded", "Failed", False, enabled=True
        ),
        _plugin("its spec is wrong", 1, wrong, "Degraded", "Failed", False),
        _plugin("changed while it ran", 2, stands(Reason.RUNNING), "Progressing", "InProgress", False, enabled=True),
    )


STORIES = (*_requests(), *_plugins())
