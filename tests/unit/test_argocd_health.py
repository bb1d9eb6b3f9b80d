"""manifests/argocd/ in Lua 5.1, over every status that the operator writes, beside the others who read it."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from lupa.lua51 import LuaError

from engine_ops.api import status as statuses
from engine_ops.api.faults import Fault, InvalidDataError
from engine_ops.api.optimizationrequest import OptimizationRequestStatus
from engine_ops.api.optimizerplugin import OptimizerPluginStatus
from engine_ops.api.reasons import WAITING, Reason
from engine_ops.controllers import plugin_status
from status_readers import ARGOCD, HEALTH, argo_health, kstatus_of, kubectl_waits_no_longer, script_of
from status_stories import (
    LATER,
    NEW,
    PARTIAL,
    PLUGIN_SPEC,
    REQUEST_SPEC,
    SOLVED,
    STORIES,
    Status,
    Story,
    as_object,
    attempt,
    snapshot,
)

KINDS = ("OptimizationRequest", "OptimizerPlugin")
SCRIPTS = {kind: script_of(kind) for kind in KINDS}
KEY = "resource.customizations.health.engineops.dev_"
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=200)
PLUGIN_STATES = (
    Reason.RUNNING, Reason.DISABLED, Reason.STARTING, Reason.INVALID_CONFIG, Reason.LOAD_FAILED,
    Reason.PLUGIN_UNAVAILABLE, Reason.CRASH_LOOPING, Reason.UPDATING,
)  # fmt: skip
TRAININGS = (
    Reason.TRAINED, Reason.SHADOW, Reason.NOT_ENOUGH_DATA, Reason.TRAINING, Reason.TRAINING_FAILED, Reason.NO_MODEL,
)  # fmt: skip


def health_of(judged: dict[str, Any]) -> dict[str, Any]:
    return argo_health(SCRIPTS[judged["kind"]], judged)


@pytest.mark.parametrize("story", STORIES, ids=str)
def test_each_story_is_read_as_it_is_meant(story: Story) -> None:
    model = OptimizationRequestStatus if story.kind == "OptimizationRequest" else OptimizerPluginStatus
    model.model_validate(story.status)
    found = health_of(story.object)
    assert found["status"] == story.argo
    assert found["message"]
    assert kstatus_of(story.object) == story.kstatus
    assert kubectl_waits_no_longer(story.object) is story.kubectl


def test_the_stories_have_each_health_and_names_of_their_own() -> None:
    assert {story.argo for story in STORIES} == {"Healthy", "Progressing", "Degraded", "Suspended"}
    assert len({str(story) for story in STORIES}) == len(STORIES)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", [None, {}, NEW, {"observedGeneration": -1, "conditions": []}], ids=str)
def test_an_object_that_the_operator_has_not_seen_is_progressing(kind: str, status: Status | None) -> None:
    found = health_of(as_object(kind, {}, status, 1))
    assert found == {"status": "Progressing", "message": "the operator has not written a status yet"}


@pytest.mark.parametrize("story", STORIES, ids=str)
def test_an_object_that_is_being_deleted_is_progressing(story: Story) -> None:
    deleting = story.object
    deleting["metadata"]["deletionTimestamp"] = "2026-01-02T03:04:05Z"
    assert health_of(deleting)["status"] == "Progressing"
    assert kstatus_of(deleting) == "Terminating"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("OptimizationRequest: waiting", "NoPlugin: no enabled plugin takes type ml-driven"),
        ("OptimizationRequest: changed, and waiting anew", "DataNotFound: ConfigMap usage is not there"),
        ("OptimizationRequest: changed after the answer", "generation 2 is not answered yet"),
        ("OptimizationRequest: answered in part", "Unplaceable: item gpu fits nowhere"),
        ("OptimizationRequest: standing, its answer is being renewed", "Solved: packed 6 items onto 2 nodes"),
        ("OptimizerPlugin: running, without a model yet", "Running: so it is; NotEnoughData: 3 of 10 points"),
        ("OptimizerPlugin: changed while it ran", "generation 2 is not in use yet"),
    ],
)
def test_the_message_says_why(name: str, message: str) -> None:
    (story,) = (story for story in STORIES if str(story) == name)
    assert health_of(story.object)["message"] == message


def test_the_config_map_holds_the_scripts_word_for_word() -> None:
    (config_map,) = yaml.safe_load_all((ARGOCD / "argocd-cm.yaml").read_text(encoding="utf-8"))
    assert config_map["metadata"]["name"] == "argocd-cm"
    assert config_map["metadata"]["labels"]["app.kubernetes.io/part-of"] == "argocd"  # without it Argo CD overlooks it
    assert config_map["data"] == {f"{KEY}{kind}": SCRIPTS[kind] for kind in KINDS}
    assert {f"{kind.lower()}.lua" for kind in KINDS} == {path.name for path in ARGOCD.glob("*.lua")}


def test_scripts_run_with_what_argo_cd_gives_them_and_no_more() -> None:
    nothing = as_object("OptimizationRequest", {}, None, 1)
    for code in ('string.upper("x")', '("x"):upper()', "math.floor(1)", "io.write('x')", "debug.traceback()"):
        with pytest.raises(LuaError):
            argo_health(f"local x = {code}; return {{}}", nothing)
    assert argo_health("return {n = table.getn({1, 2})}", nothing) == {"n": 2}


solutions = st.builds(
    lambda solution, message, cut_off: SOLVED.__class__(
        **{**{name: getattr(solution, name) for name in solution.__slots__}, "message": message, "cut_off": cut_off}
    ),
    st.sampled_from([SOLVED, PARTIAL]),
    TEXTS,
    st.none() | TEXTS,
)


@st.composite
def request_statuses(draw: st.DrawFn) -> tuple[Status, int]:
    """Draw what becomes of a request: generations, runs and ends in any order, each status made of the one before."""
    status, generation = NEW, 1
    for _ in range(draw(st.integers(0, 6))):
        generation += draw(st.integers(0, 1))
        now = attempt(status, generation, draw(st.integers(1, 3)))
        match draw(st.sampled_from(("answered", "stalled", "suspended", "waiting", "solving"))):
            case "answered":
                status = statuses.answered(now, draw(solutions), LATER)
            case "stalled":
                reason = draw(st.sampled_from((Reason.INVALID_SPEC, Reason.INVALID_DATA, Reason.TIMED_OUT)))
                status = statuses.stalled(now, reason, draw(TEXTS), LATER)
            case "suspended":
                status = statuses.suspended(now, LATER)
            case "waiting":
                status = statuses.waiting(now, draw(st.sampled_from(sorted(WAITING))), draw(TEXTS), LATER)
            case _:
                status = statuses.solving(now, draw(st.none() | st.just({"objective": 3.0})), LATER)
    return status, generation + draw(st.integers(0, 1))


@st.composite
def plugin_statuses(draw: st.DrawFn) -> tuple[Status, int]:
    status, generation = NEW, 1
    for _ in range(draw(st.integers(0, 4))):
        generation += draw(st.integers(0, 1))
        if draw(st.booleans()):
            fields: dict[str, Any] = {
                "trained": draw(st.none() | st.tuples(st.sampled_from(TRAININGS), TEXTS)),
                "is_trained": draw(st.booleans()),
                "degraded": draw(st.none() | TEXTS),
                "version": draw(TEXTS),
            }
            standing = snapshot(draw(st.sampled_from(PLUGIN_STATES)), **fields)
            status = plugin_status.status_of(standing, status, draw(st.integers(-1, generation)), LATER)
        else:
            wrong = InvalidDataError([Fault("spec", draw(TEXTS))])
            status = plugin_status.invalid(wrong, status, generation, LATER)
    return status, generation + draw(st.integers(0, 1))


def is_read_as_others_read_it(judged: dict[str, Any]) -> None:
    """Assert what docs/gitops.md says: as kstatus does but for two cases; Healthy where kubectl waits no longer."""
    found, ready = health_of(judged), statuses.find(judged.get("status") or {}, "Ready")
    assert set(found) == {"status", "message"}
    assert found["status"] in HEALTH
    assert found["message"]
    assert (found["status"] == "Healthy") is kubectl_waits_no_longer(judged)
    as_kstatus = {"Current": "Healthy", "InProgress": "Progressing", "Failed": "Degraded"}[kstatus_of(judged)]
    if found["status"] != as_kstatus:
        assert as_kstatus == "Progressing"
        assert ready is not None
        renewed = found["status"] == "Healthy" and statuses.is_true(judged["status"], "Reconciling")
        suspended = found["status"] == "Suspended" and ready["reason"] == "Suspended"
        assert judged["kind"] == "OptimizationRequest"
        assert renewed or suspended


@settings(max_examples=300)
@given(written=request_statuses())
def test_whatever_becomes_of_a_request_it_is_read_as_others_read_it(written: tuple[Status, int]) -> None:
    is_read_as_others_read_it(as_object("OptimizationRequest", REQUEST_SPEC, *written))


@settings(max_examples=300)
@given(written=plugin_statuses())
def test_whatever_becomes_of_a_plugin_it_is_read_as_others_read_it(written: tuple[Status, int]) -> None:
    is_read_as_others_read_it(as_object("OptimizerPlugin", PLUGIN_SPEC, *written))
