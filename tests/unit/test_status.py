"""Statuses: what each outcome looks like, and what survives from the one before."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine_ops.api import status as statuses
from engine_ops.api.optimizationrequest import OptimizationRequestStatus
from engine_ops.api.reasons import Reason
from engine_ops.api.status import Attempt, Solution

START = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
LATER = START + datetime.timedelta(seconds=90)
SOLUTION = Solution(
    result={"nodeCount": 2},
    reason=Reason.SOLVED,
    message="packed 6 items",
    metrics={"durationMs": 12, "score": 1.0},
    solved_by={"name": "balanced", "algorithm": "balanced", "version": "1"},
)


def attempt(previous: dict | None = None, generation: int = 1, run: int = 1) -> Attempt:
    return Attempt(previous or {"observedGeneration": -1}, generation, run, START)


def test_an_answer_is_ready_and_nothing_else() -> None:
    status = statuses.answered(attempt(), SOLUTION, LATER)
    assert [(c["type"], c["status"], c["reason"]) for c in status["conditions"]] == [("Ready", "True", "Solved")]
    assert status["observedGeneration"] == 1
    assert status["startTime"] == "2026-01-02T03:04:05Z"
    assert status["completionTime"] == "2026-01-02T03:05:35Z"
    assert status["result"] == {"nodeCount": 2}


def test_a_partial_answer_is_stalled_and_keeps_its_result() -> None:
    partial = Solution(**{**_fields(SOLUTION), "reason": Reason.UNPLACEABLE, "message": "big fits nowhere"})
    status = statuses.answered(attempt(), partial, LATER)
    assert statuses.is_true(status, "Stalled")
    assert not statuses.is_true(status, "Ready")
    assert status["result"] == {"nodeCount": 2}


def test_a_cut_off_answer_says_so() -> None:
    cut = Solution(**{**_fields(SOLUTION), "cut_off": "the worker died"})
    ready = statuses.find(statuses.answered(attempt(), cut, LATER), "Ready")
    assert ready is not None
    assert (ready["status"], ready["reason"]) == ("True", "BestSoFar")
    assert "the worker died" in ready["message"]


def test_a_stalled_request_drops_the_answer_to_its_old_spec() -> None:
    before = statuses.answered(attempt(), SOLUTION, LATER)
    status = statuses.stalled(attempt(before, generation=2), Reason.INVALID_DATA, "spec.data.items: empty", LATER)
    assert "result" not in status
    assert status["observedGeneration"] == 2
    assert statuses.is_true(status, "Stalled")


@pytest.mark.parametrize("reason", [Reason.DATA_NOT_FOUND, Reason.NO_PLUGIN, Reason.WORKER_DIED])
def test_waiting_is_not_failing(reason: Reason) -> None:
    status = statuses.waiting(attempt(), reason, "not there yet", LATER)
    assert status["observedGeneration"] == -1, "only a final write advances it"
    assert statuses.is_true(status, "Reconciling")
    assert not statuses.is_true(status, "Stalled")


def test_suspending_keeps_the_last_answer() -> None:
    before = statuses.answered(attempt(), SOLUTION, LATER)
    status = statuses.suspended(attempt(before, generation=2), LATER)
    assert status["result"] == before["result"]
    assert status["observedGeneration"] == 2
    ready = statuses.find(status, "Ready")
    assert ready is not None
    assert ready["reason"] == "Suspended"


def test_a_standing_request_stays_ready_while_it_is_solved_again() -> None:
    before = statuses.answered(attempt(), SOLUTION, LATER)
    status = statuses.solving(attempt(before, run=2), {"objective": 3, "lowerBound": 2, "gap": 0.5}, LATER)
    assert statuses.is_true(status, "Ready")
    assert statuses.is_true(status, "Reconciling")
    assert status["run"] == 1, "the run is counted when it is answered"
    assert "gap 50.0 %" in status["conditions"][1]["message"]


def test_progress_is_gone_with_the_answer() -> None:
    during = statuses.solving(attempt(), {"objective": 3}, START)
    assert during["progress"] == {"objective": 3}
    after = statuses.answered(attempt(during), SOLUTION, LATER)
    assert "progress" not in after
    assert not statuses.is_true(after, "Reconciling")


def test_the_transition_time_moves_only_when_the_status_flips() -> None:
    first = statuses.waiting(attempt(), Reason.NO_PLUGIN, "a", START)
    second = statuses.waiting(attempt(first), Reason.DATA_NOT_FOUND, "b", LATER)
    third = statuses.answered(attempt(second), SOLUTION, LATER)
    times = [statuses.find(status, "Ready")["lastTransitionTime"] for status in (first, second, third)]
    assert times == ["2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z", "2026-01-02T03:05:35Z"]


def test_messages_are_cut() -> None:
    status = statuses.stalled(attempt(), Reason.INVALID_DATA, "x" * 100_000, LATER)
    assert len(status["conditions"][0]["message"]) == statuses.MAX_MESSAGE


@given(
    outcomes=st.lists(
        st.sampled_from(["answered", "partial", "stalled", "waiting", "solving", "suspended"]), max_size=8
    )
)
def test_every_history_of_statuses_fits_the_schema(outcomes: list[str]) -> None:
    status: dict = {"observedGeneration": -1}
    for generation, outcome in enumerate(outcomes, start=1):
        step = attempt(status, generation=generation)
        match outcome:
            case "answered":
                status = statuses.answered(step, SOLUTION, LATER)
            case "partial":
                partial = Solution(**{**_fields(SOLUTION), "reason": Reason.UNPLACEABLE})
                status = statuses.answered(step, partial, LATER)
            case "stalled":
                status = statuses.stalled(step, Reason.INVALID_SPEC, "spec", LATER)
            case "waiting":
                status = statuses.waiting(step, Reason.NO_PLUGIN, "none", LATER)
            case "solving":
                status = statuses.solving(step, {"objective": 1.0}, LATER)
            case "suspended":
                status = statuses.suspended(step, LATER)
        OptimizationRequestStatus.model_validate(status)
        types = [condition["type"] for condition in status["conditions"]]
        assert types.count("Ready") == 1
        assert len(types) == len(set(types))
        assert not (statuses.is_true(status, "Stalled") and statuses.is_true(status, "Reconciling"))


def _fields(solution: Solution) -> dict:
    return {name: getattr(solution, name) for name in Solution.__slots__}
