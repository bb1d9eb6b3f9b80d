"""Restarts, OOM kills and failures, each counted once."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine_ops.history.outcomes.records import ContainerStatus, PodRecord
from engine_ops.history.outcomes.terminations import MAX_REMEMBERED, NOT_ITS_FAULT, Terminations

SINCE_MS = 1_000_000


def pod(name: str = "a", *statuses: ContainerStatus, started_ms: int = SINCE_MS, **changes: object) -> PodRecord:
    made = PodRecord(f"uid-{name}", "web", name, {}, None, "Running", "", started_ms, None, (), statuses)
    return dataclasses.replace(made, **changes)


def ended(restarts: int, code: int = 1, at_ms: int = SINCE_MS, *, oom: bool = False) -> ContainerStatus:
    return ContainerStatus("app", restarts, code, "OOMKilled" if oom else "Error", oom, at_ms)


events = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(["restart", "oom", "clean", "delete", "look", "reload"])), max_size=60
)


@given(events)
def test_restarts_are_exact_however_often_it_is_looked_and_reloaded(script: list[tuple[int, str]]) -> None:
    statuses = {number: ContainerStatus("app") for number in range(3)}
    births = dict.fromkeys(range(3), 0)
    counted = Terminations()
    truth = pending = oom = failed = 0
    unseen: dict[int, int] = dict.fromkeys(range(3), 0)
    now_ms = SINCE_MS
    first = True

    def look() -> None:
        nonlocal first, truth
        pods = [pod(f"{number}-{births[number]}", status) for number, status in statuses.items()]
        counted.look(pods, SINCE_MS, first=first)
        first = False
        truth += sum(unseen.values())
        unseen.update(dict.fromkeys(unseen, 0))

    look()
    for number, event in script:
        now_ms += 1000
        status = statuses[number]
        if event in {"restart", "oom", "clean"}:
            code = {"restart": 1, "oom": 137, "clean": 0}[event]
            statuses[number] = ended(status.restarts + 1, code, now_ms, oom=event == "oom")
            unseen[number] += 1
            oom += event == "oom"
            failed += event != "clean"
        elif event == "delete":
            statuses[number] = ContainerStatus("app")
            births[number] += 1
            unseen[number] = 0  # nobody saw them
        elif event == "look":
            look()
        else:
            counted = Terminations.from_json(json.loads(json.dumps(counted.to_json())))
    look()
    assert pending == 0
    assert sum(counted.restarts.values()) == truth
    assert sum(counted.oom_kills.values()) <= oom
    assert sum(counted.failures.values()) <= failed
    again = counted.to_json()
    look()
    assert counted.to_json() == again


def test_what_happened_before_is_not_counted() -> None:
    counted = Terminations()
    old = pod("a", ended(5, at_ms=SINCE_MS - 5000), started_ms=0)
    counted.look([old], SINCE_MS, first=True)
    assert counted.restarts == {}
    counted.look([pod("a", ended(7, at_ms=SINCE_MS + 5000), started_ms=0)], SINCE_MS, first=False)
    assert counted.restarts == {"app": 2}
    assert counted.failures == {"Error(1)": 1}  # the last one; the other was not seen


def test_the_last_restart_before_the_first_look_counts_if_its_time_says_so() -> None:
    counted = Terminations()
    counted.look([pod("a", ended(5, 137, SINCE_MS + 500, oom=True), started_ms=0)], SINCE_MS + 700, first=True)
    assert counted.restarts == {"app": 1}  # in the same second
    assert counted.oom_kills == {"app": 1}


def test_a_pod_that_came_later_counts_from_its_beginning() -> None:
    counted = Terminations()
    counted.look([], SINCE_MS, first=True)
    counted.look([pod("b", ended(3, at_ms=SINCE_MS + 9000), started_ms=SINCE_MS + 1000)], SINCE_MS, first=False)
    assert counted.restarts == {"app": 3}
    assert counted.failed_restarts == 3


def test_clean_restarts_are_no_failures() -> None:
    counted = Terminations()
    counted.look([pod("a", ended(2, 0))], SINCE_MS, first=True)
    assert counted.restarts == {"app": 2}
    assert (counted.failed_restarts, counted.failures, counted.exit_code) == (0, {}, None)


@pytest.mark.parametrize(
    ("reason", "kinds"), [("Evicted", {"Evicted": 1}), *((why, {}) for why in sorted(NOT_ITS_FAULT))]
)
def test_pods_that_failed_as_a_whole(reason: str, kinds: dict[str, int]) -> None:
    for statuses in ((), (ended(0, 143),), (ended(3, 1, SINCE_MS - 5000),)):
        counted = Terminations()
        for _ in range(2):
            counted.look([pod("a", *statuses, phase="Failed", reason=reason)], SINCE_MS, first=False)
        assert counted.failures == kinds


def test_deleted_pods_end_without_failing_but_for_oom_kills() -> None:
    counted = Terminations()
    counted.look(
        [pod("a", ended(0, 143), deleting=True), pod("b", ended(0, 137, oom=True), deleting=True)], 0, first=True
    )
    assert counted.failures == {"OOMKilled(137)": 1}


def test_memory_is_bounded() -> None:
    counted = Terminations()
    crowd = [pod(str(number), ended(1, number % 100 + 1)) for number in range(500)]
    counted.look(crowd, SINCE_MS, first=True)
    counted.look(crowd, SINCE_MS, first=False)
    assert sum(counted.restarts.values()) == MAX_REMEMBERED
    assert len(counted.failures) <= 9
    assert len(json.dumps(counted.to_json())) < 8000


def test_an_oom_kill_before_a_run_that_ended_well_is_counted_once() -> None:
    seen = Terminations()
    ends = (
        ContainerStatus("main", 1, 137, "OOMKilled", oom_killed=True, finished_ms=1_000_000),
        ContainerStatus("main", 1, 0, "Completed", finished_ms=1_009_000),
    )
    pod = PodRecord("u", "n", "p", {}, None, "Succeeded", "", 990_000, 1_009_000, (), ends)
    for first in (True, False, False):
        seen.look([pod], 0, first=first)
    assert (seen.restarts, seen.oom_kills, seen.failures) == ({"main": 1}, {"main": 1}, {"OOMKilled(137)": 1})
    assert seen.exit_code == 137
