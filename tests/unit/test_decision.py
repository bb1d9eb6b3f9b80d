"""What to do with a request depends on the object and the clock alone."""

from __future__ import annotations

import datetime

from hypothesis import given
from hypothesis import strategies as st

from engine_ops.api import status as statuses
from engine_ops.api.reasons import Reason
from engine_ops.api.status import Attempt, Solution
from engine_ops.controllers.decision import Delete, Later, Nothing, Reject, Solve, Suspend, decide
from engine_ops.controllers.view import RequestView

NOW = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
SPEC = {"type": "resource", "data": {"items": []}, "searchSeconds": 1, "timeoutSeconds": 30, "suspend": False}
SOLUTION = Solution({}, Reason.SOLVED, "", {"durationMs": 1}, {"name": "a"})


def view(spec: dict | None = None, status: dict | None = None, generation: int = 1, **metadata: str) -> RequestView:
    identity = {"namespace": "n", "name": "a", "uid": "u", "generation": generation}
    return RequestView.of({"metadata": {**identity, **metadata}, "spec": spec or SPEC, "status": status})


def answered(generation: int = 1, run: int = 1, ago: float = 0, previous: dict | None = None) -> dict:
    then = NOW - datetime.timedelta(seconds=ago)
    return statuses.answered(Attempt(previous or {}, generation, run, then), SOLUTION, then)


def stalled(ago: float = 0) -> dict:
    then = NOW - datetime.timedelta(seconds=ago)
    return statuses.stalled(Attempt({}, 1, 1, then), Reason.INVALID_DATA, "m", then)


def test_a_new_request_is_solved() -> None:
    for status in (None, {}, {"observedGeneration": -1}):
        decision = decide(view(status=status), NOW)
        assert isinstance(decision, Solve)
        assert decision.run == 1


def test_an_answered_request_is_left_alone() -> None:
    assert decide(view(status=answered()), NOW) == Nothing()


def test_a_changed_spec_is_solved_again_from_run_1() -> None:
    decision = decide(view(status=answered(run=7), generation=2), NOW)
    assert isinstance(decision, Solve)
    assert decision.run == 1


def test_a_waiting_request_is_solved_after_a_restart() -> None:
    waiting = statuses.waiting(Attempt({}, 1, 1, NOW), Reason.NO_PLUGIN, "m", NOW)
    assert isinstance(decide(view(status=waiting), NOW), Solve)


def test_an_object_on_its_way_out_is_left_alone() -> None:
    assert decide(view(deletionTimestamp="2026-01-01T00:00:00Z"), NOW) == Nothing()


def test_a_wrong_spec_is_rejected_once_with_the_path() -> None:
    wrong = {**SPEC, "timeoutSeconds": -1}
    decision = decide(view(wrong), NOW)
    assert isinstance(decision, Reject)
    assert "spec.timeoutSeconds" in decision.message
    assert decide(view(wrong, stalled()), NOW) == Nothing()


def test_suspend_is_said_once_and_ends_with_a_solve() -> None:
    suspend = {**SPEC, "suspend": True}
    assert decide(view(suspend), NOW) == Suspend()
    said = statuses.suspended(Attempt({}, 1, 0, NOW), NOW)
    assert decide(view(suspend, said), NOW) == Nothing()
    assert isinstance(decide(view(SPEC, said, generation=2), NOW), Solve)


def test_a_suspended_standing_request_is_not_solved_again() -> None:
    spec = {**SPEC, "suspend": True, "intervalSeconds": 10}
    said = statuses.suspended(Attempt(answered(ago=1000), 1, 1, NOW), NOW)
    assert decide(view(spec, said), NOW) == Nothing()


def test_a_standing_request_comes_due() -> None:
    spec = {**SPEC, "intervalSeconds": 60}
    assert decide(view(spec, answered(ago=59)), NOW) == Later(NOW + datetime.timedelta(seconds=1))
    decision = decide(view(spec, answered(ago=60, run=3)), NOW)
    assert isinstance(decision, Solve)
    assert decision.run == 4


def test_a_standing_request_with_wrong_inline_data_waits_for_a_new_spec() -> None:
    assert decide(view({**SPEC, "intervalSeconds": 60}, stalled(ago=1000)), NOW) == Nothing()


def test_a_standing_request_on_a_config_map_is_solved_again_though_it_stalled() -> None:
    spec = {key: value for key, value in SPEC.items() if key != "data"}
    spec |= {"dataFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}, "intervalSeconds": 60}
    assert isinstance(decide(view(spec, stalled(ago=1000)), NOW), Solve)


def test_a_request_is_deleted_when_its_time_to_live_is_over() -> None:
    spec = {**SPEC, "ttlSecondsAfterFinished": 60}
    assert decide(view(spec, answered(ago=59)), NOW) == Later(NOW + datetime.timedelta(seconds=1))
    assert decide(view(spec, answered(ago=60)), NOW) == Delete()
    assert decide(view(spec, stalled(ago=60)), NOW) == Delete()
    assert isinstance(decide(view(spec, answered(ago=60), generation=2), NOW), Solve), "not before it is answered"


@given(
    generation=st.integers(1, 5),
    observed=st.integers(-1, 5),
    ago=st.integers(0, 10_000),
    interval=st.one_of(st.none(), st.integers(10, 5000)),
    ttl=st.one_of(st.none(), st.integers(0, 5000)),
)
def test_deciding_twice_gives_the_same_and_never_deletes_the_unanswered(
    generation: int, observed: int, ago: int, interval: int | None, ttl: int | None
) -> None:
    spec = {**SPEC}
    if interval is not None:
        spec["intervalSeconds"] = interval
    elif ttl is not None:
        spec["ttlSecondsAfterFinished"] = ttl
    seen = view(spec, {**answered(ago=ago), "observedGeneration": observed}, generation=generation)
    first = decide(seen, NOW)
    assert decide(seen, NOW) == first
    if observed != generation:
        assert isinstance(first, Solve)
    if isinstance(first, Later):
        assert first.at > NOW
