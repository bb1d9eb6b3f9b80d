"""The circuit breaker."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from engine_ops.plugins.breaker import BreakerPolicy, BreakerState, CircuitBreaker, Permit

POLICY = BreakerPolicy(crashes=3, first_wait_seconds=2, longest_wait_seconds=5)


def leave(breaker: CircuitBreaker, now: float) -> Permit:
    permit = breaker.begin(now)
    assert permit is not None
    return permit


def opened(now: float = 0) -> CircuitBreaker:
    breaker = CircuitBreaker(POLICY)
    for _ in range(POLICY.crashes):
        breaker.crashed(leave(breaker, now), now, "died")
    return breaker


def test_five_crashes_in_a_row_open_it() -> None:
    breaker = CircuitBreaker()
    for crash in range(5):
        assert breaker.state is BreakerState.CLOSED
        assert breaker.crashes == crash
        breaker.crashed(leave(breaker, 10), 10, f"died {crash}")
    assert breaker.state is BreakerState.OPEN
    assert (breaker.retry_at, breaker.last_error) == (12, "died 4")
    assert breaker.begin(11.9) is None


def test_a_success_between_crashes_begins_the_count_anew() -> None:
    breaker = CircuitBreaker(POLICY)
    for _ in range(10):
        breaker.crashed(leave(breaker, 0), 0, "died")
        breaker.crashed(leave(breaker, 0), 0, "died")
        breaker.succeeded(leave(breaker, 0))
    assert (breaker.state, breaker.crashes, breaker.last_error) == (BreakerState.CLOSED, 0, "")


def test_one_call_tries_it_after_the_wait() -> None:
    breaker = opened()
    trial = leave(breaker, 2)
    assert breaker.state is BreakerState.HALF_OPEN
    assert breaker.begin(1000) is None
    breaker.succeeded(trial)
    assert breaker.state is BreakerState.CLOSED
    assert breaker.retry_at is None


def test_waits_double_up_to_the_longest_and_begin_anew_after_a_success() -> None:
    breaker = opened()
    now, waits = 0.0, []
    for _ in range(4):
        assert breaker.retry_at is not None
        waits.append(breaker.retry_at - now)
        now = breaker.retry_at
        breaker.crashed(leave(breaker, now), now, "died")
    assert waits == [2, 4, 5, 5]
    assert breaker.retry_at is not None
    breaker.succeeded(leave(breaker, breaker.retry_at))
    for _ in range(POLICY.crashes):
        breaker.crashed(leave(breaker, 100), 100, "died")
    assert breaker.retry_at == 102


def test_calls_that_began_before_it_opened_are_no_news() -> None:
    breaker = CircuitBreaker(POLICY)
    late = [leave(breaker, 0) for _ in range(3)]
    for _ in range(POLICY.crashes):
        breaker.crashed(leave(breaker, 0), 0, "died")
    breaker.succeeded(late[0])
    assert breaker.state is BreakerState.OPEN
    leave(breaker, 2)
    breaker.crashed(late[1], 2, "killed")
    breaker.abandoned(late[2])
    assert breaker.state is BreakerState.HALF_OPEN
    assert breaker.last_error == "died"


def test_an_abandoned_trial_can_be_made_again() -> None:
    breaker = opened()
    breaker.abandoned(leave(breaker, 2))
    assert breaker.state is BreakerState.OPEN
    leave(breaker, 2)


def test_a_reset_forgets() -> None:
    breaker = opened()
    trial = leave(breaker, 2)
    breaker.reset()
    breaker.crashed(trial, 2, "died")
    assert (breaker.state, breaker.crashes) == (BreakerState.CLOSED, 0)


@pytest.mark.parametrize("fields", [{"crashes": 0}, {"first_wait_seconds": 0}, {"longest_wait_seconds": 1}])
def test_a_policy_out_of_range_is_an_error(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        BreakerPolicy(**fields)  # type: ignore[arg-type]


class Machine(RuleBasedStateMachine):
    """Any calls in any order: one trial at most, never stuck, never asked in the wait."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = CircuitBreaker(POLICY)
        self.now = 0.0
        self.calls: list[Permit] = []
        self.trial: Permit | None = None

    @rule(seconds=st.floats(0, 10))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def begin(self) -> None:
        before, retry_at = self.breaker.state, self.breaker.retry_at
        permit = self.breaker.begin(self.now)
        if before is BreakerState.CLOSED:
            assert permit is not None
        if before is BreakerState.HALF_OPEN:
            assert permit is None
        if before is BreakerState.OPEN:
            assert (permit is not None) == (retry_at is not None and self.now >= retry_at)
            self.trial = permit
        if permit is not None:
            self.calls.append(permit)

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), how=st.sampled_from(("succeeded", "crashed", "abandoned")))
    def end(self, data: st.DataObject, how: str) -> None:
        permit = self.calls.pop(data.draw(st.integers(0, len(self.calls) - 1)))
        match how:
            case "crashed":
                self.breaker.crashed(permit, self.now, "died")
            case "succeeded":
                self.breaker.succeeded(permit)
            case _:
                self.breaker.abandoned(permit)
        if permit is self.trial:
            self.trial = None
            assert self.breaker.state is (BreakerState.CLOSED if how == "succeeded" else BreakerState.OPEN)

    @invariant()
    def is_never_stuck(self) -> None:
        assert (self.breaker.state is BreakerState.HALF_OPEN) == (self.trial is not None)
        retry_at = self.breaker.retry_at
        assert (self.breaker.state is BreakerState.OPEN) == (retry_at is not None)
        assert retry_at is None or retry_at <= self.now + POLICY.longest_wait_seconds


Machine.TestCase.settings = settings(max_examples=60, stateful_step_count=30)
TestBreaker = Machine.TestCase
