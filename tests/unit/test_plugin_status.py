"""What a plugin's status says, for each way in which it can stand."""

from __future__ import annotations

import datetime
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine_ops.api.faults import Fault, InvalidDataError
from engine_ops.api.optimizerplugin import OptimizerPluginStatus
from engine_ops.api.reasons import Reason
from engine_ops.controllers.plugin_status import at_once, invalid, status_of
from engine_ops.plugins.instance import LastError
from engine_ops.plugins.snapshot import CandidateInfo, Counts, ModelInfo, PluginSnapshot

THEN = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
NOW = THEN + datetime.timedelta(hours=1)
MODEL = ModelInfo("m", "sha256:" + "ab" * 32, THEN, 12)


def snapshot(state: Reason = Reason.RUNNING, **fields: Any) -> PluginSnapshot:
    return PluginSnapshot(name="p", enabled=state is not Reason.DISABLED, state=state, message="so it is", **fields)


def status(found: PluginSnapshot, previous: dict | None = None, generation: int = 3) -> dict[str, Any]:
    made = status_of(found, previous or {}, generation, NOW)
    OptimizerPluginStatus.model_validate(made)  # the API server would refuse what this refuses
    return made


def conditions(found: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {entry["type"]: (entry["status"], entry["reason"]) for entry in found["conditions"]}


def kstatus(found: dict[str, Any], generation: int) -> str:
    """Read a status as sigs.k8s.io/cli-utils/pkg/kstatus does: the generation, then the conditions in their order."""
    if found["observedGeneration"] != generation:
        return "InProgress"
    for entry in found["conditions"]:
        if entry["status"] == "True" and entry["type"] in ("Reconciling", "Stalled"):
            return "InProgress" if entry["type"] == "Reconciling" else "Failed"
    ready = conditions(found).get("Ready", ("True", ""))
    return "Current" if ready[0] == "True" else "InProgress"


@pytest.mark.parametrize(
    ("state", "ready", "others", "read"),
    [
        (Reason.RUNNING, "True", set(), "Current"),
        (Reason.DISABLED, "True", set(), "Current"),
        (Reason.STARTING, "False", {"Reconciling"}, "InProgress"),
        (Reason.UPDATING, "False", {"Reconciling"}, "InProgress"),
        (Reason.LOAD_FAILED, "False", {"Reconciling"}, "InProgress"),
        (Reason.PLUGIN_UNAVAILABLE, "False", {"Reconciling"}, "InProgress"),
        (Reason.CRASH_LOOPING, "False", {"Reconciling"}, "InProgress"),
        (Reason.INVALID_CONFIG, "False", {"Stalled"}, "Failed"),
    ],
)
def test_each_state_is_read_as_it_is_meant(state: Reason, ready: str, others: set[str], read: str) -> None:
    found = status(snapshot(state))
    assert conditions(found) == {"Ready": (ready, state), **dict.fromkeys(others, ("True", state))}
    assert kstatus(found, 3) == read


def test_waiting_for_history_holds_up_no_roll_out() -> None:
    found = status(snapshot(trained=(Reason.NOT_ENOUGH_DATA, "3 of 10 points")))
    assert conditions(found) == {"Ready": ("True", "Running"), "Trained": ("False", "NotEnoughData")}
    assert kstatus(found, 3) == "Current"


def test_a_fault_of_the_settings_names_its_field() -> None:
    found = status(snapshot(Reason.INVALID_CONFIG, faults=(("config.scale", "must be above 0"),)))
    assert {entry["message"] for entry in found["conditions"]} == {"spec.config.scale: must be above 0"}


def test_old_faults_of_a_plugin_that_is_disabled_are_not_told() -> None:
    found = status(snapshot(Reason.DISABLED, faults=(("config.scale", "must be above 0"),)))
    assert [entry["message"] for entry in found["conditions"]] == ["so it is"]


def test_a_wrong_spec_stalls_and_names_its_field() -> None:
    found = invalid(InvalidDataError([Fault("spec.priority", "must be a number")]), {}, 3, NOW)
    OptimizerPluginStatus.model_validate(found)
    assert kstatus(found, 3) == "Failed"
    assert {entry["message"] for entry in found["conditions"]} == {"spec.priority: must be a number"}


def test_a_breaker_that_is_open_is_degraded() -> None:
    found = status(snapshot(Reason.CRASH_LOOPING, degraded="it crashed 5 times"))
    assert conditions(found)["Degraded"] == ("True", "CrashLooping")
    assert "Degraded" not in conditions(status(snapshot()))


@pytest.mark.parametrize(
    ("reason", "is_trained"), [(Reason.TRAINED, True), (Reason.SHADOW, True), (Reason.TRAINING, True),
                               (Reason.TRAINING, False), (Reason.TRAINING_FAILED, False), (Reason.NO_MODEL, False)]
)  # fmt: skip
def test_trained_is_told_as_the_plugin_stands(reason: Reason, is_trained: bool) -> None:
    found = status(snapshot(trained=(reason, "m"), is_trained=is_trained))
    assert conditions(found)["Trained"] == (str(is_trained), reason)


def test_a_model_that_cannot_be_kept_is_told() -> None:
    found = status(snapshot(trained=(Reason.TRAINED, "trained"), is_trained=True, storing="too large"))
    (trained,) = (entry for entry in found["conditions"] if entry["type"] == "Trained")
    assert trained["message"] == "trained; it will be trained again after a restart: too large"


def test_the_time_of_a_condition_moves_when_its_status_flips_and_only_then() -> None:
    def since(found: dict[str, Any]) -> str:
        return next(entry["lastTransitionTime"] for entry in found["conditions"] if entry["type"] == "Ready")

    first = status_of(snapshot(), {}, 1, THEN)
    same = status(snapshot(Reason.DISABLED), first)
    assert since(same) == since(first) == "2026-01-02T03:04:05Z"
    assert since(status(snapshot(Reason.STARTING), first)) == "2026-01-02T04:04:05Z"


def test_a_plugin_that_starts_again_is_trained_all_the_while() -> None:
    first = status_of(snapshot(trained=(Reason.TRAINED, "on 12"), is_trained=True, model=MODEL), {}, 1, THEN)
    (trained,) = (entry for entry in first["conditions"] if entry["type"] == "Trained")
    starting = status(snapshot(Reason.STARTING), first)
    assert starting["conditions"][-1] == trained
    assert starting["model"] == first["model"]
    assert "model" not in status(snapshot(Reason.INVALID_CONFIG), first)
    again = status(snapshot(trained=(Reason.TRAINED, "on 12"), is_trained=True), starting)
    assert again["conditions"][-1]["lastTransitionTime"] == trained["lastTransitionTime"]
    assert "Trained" not in conditions(status(snapshot(Reason.INVALID_CONFIG), first))
    assert "Trained" not in conditions(status(snapshot(Reason.STARTING)))


def test_a_model_of_the_spec_before_is_not_told_as_one_of_the_new_spec() -> None:
    """Or `kubectl wait --for=condition=Trained` after a change would end with the model of before."""

    def trained(found: dict[str, Any]) -> tuple[str, int]:
        (one,) = (entry for entry in found["conditions"] if entry["type"] == "Trained")
        return one["status"], one["observedGeneration"]

    stands = {"trained": (Reason.TRAINED, "on 12"), "is_trained": True, "model": MODEL}
    first = status_of(snapshot(**stands), {}, 2, THEN)
    assert trained(first) == ("True", 2)
    for state in (Reason.UPDATING, Reason.DISABLED, Reason.PLUGIN_UNAVAILABLE, Reason.CRASH_LOOPING):
        behind = status(snapshot(state, is_behind=True, **stands), first)
        assert trained(behind) == ("True", 2)
        assert behind["model"] == first["model"]
        assert {one["observedGeneration"] for one in behind["conditions"] if one["type"] != "Trained"} == {3}
        assert trained(status(snapshot(state, is_behind=True, **stands), behind, generation=4)) == ("True", 2)
    assert trained(status(snapshot(Reason.UPDATING, is_behind=True, **stands))) == ("True", 2), "never told before"
    assert trained(status(snapshot(**stands), behind)) == ("True", 3)


def test_every_number_has_its_place() -> None:
    found = status(
        snapshot(
            version="1.2", description="d", types=("resource",), config_schema=b'{"type":"object"}',
            model=MODEL, candidate=CandidateInfo(MODEL, 7, "better so far"),
            skill=-0.0001, skill_key="expected_duration", outcomes=40, loss=0.12345, baseline_loss=0.5, drift=True,
            confidence=0.7777, claimed_confidence=1.0, counts=Counts(9, 4, 1, 2, 2, 6), p50_ms=1.4, p99_ms=9.6,
            last_error=LastError("it raised", THEN),
        )
    )  # fmt: skip
    model = {"id": "m", "trainedAt": "2026-01-02T03:04:05Z", "samples": 12, "digest": MODEL.digest[:19]}
    del found["conditions"]
    assert found == {
        "observedGeneration": 3,
        "version": "1.2",
        "description": "d",
        "types": ["resource"],
        "configSchema": {"type": "object"},
        "model": model,
        "candidate": {**model, "outcomes": 7, "message": "better so far"},
        "skill": "0.000",
        "score": {"key": "expected_duration", "outcomes": 40, "drift": True, "loss": 0.1235, "baselineLoss": 0.5},
        "confidence": 0.778,
        "claimedConfidence": 1.0,
        "counts": {"requests": 9, "answers": 4, "failures": 1, "declined": 2, "leftOut": 2, "fallbacks": 6},
        "latency": {"p50Ms": 1, "p99Ms": 10},
        "lastError": "2026-01-02T03:04:05Z it raised",
    }


def test_numbers_that_grow_are_not_told_at_once_and_conditions_are() -> None:
    quiet = status(snapshot(counts=Counts(1), p50_ms=1.0, skill=0.1, model=MODEL))
    assert at_once(quiet) == at_once(status(snapshot(counts=Counts(9), p50_ms=7.0, skill=0.3, model=MODEL)))
    assert at_once(quiet) != at_once(status(snapshot(Reason.STARTING, model=MODEL)))
    assert at_once(quiet) != at_once(status(snapshot(model=None)))
    assert at_once(quiet) != at_once(status(snapshot(model=MODEL), generation=4))


anything = st.floats(allow_nan=True, allow_infinity=True)


@given(
    text=st.text(max_size=5000),
    skill=anything | st.sampled_from(["Unscored", "Unproven"]) | st.none(),
    number=anything | st.none(),
    schema=st.binary(max_size=20) | st.just(json.dumps({"x": "y" * 70_000}).encode()),
)
def test_whatever_a_plugin_says_of_itself_makes_a_status_that_is_valid(
    text: str, skill: Any, number: float | None, schema: bytes
) -> None:
    found = status(
        snapshot(
            version=text, description=text, types=(text,) * 20, config_schema=schema, degraded=text, storing=text,
            trained=(Reason.TRAINED, text), faults=((text, text),), model=ModelInfo(text, text, THEN, 1),
            candidate=CandidateInfo(ModelInfo(text, text, THEN, 1), 1, text), skill=skill, skill_key=text,
            loss=number, baseline_loss=number, confidence=number, claimed_confidence=number,
            last_error=LastError(text, THEN),
        )
    )  # fmt: skip
    assert len(msgspec.json.encode(found)) < 200_000
