"""Jobs: one end each, and what is kept of those that have ended."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from server_stand_in import until

from engine_ops.server.jobs import MAX_IMPROVEMENTS, Ended, Job, Jobs
from engine_ops.server.problems import ProblemError
from engine_ops.server.questions import Improvement

TAIL = b'{"success":true}'


def job(name: str = "a", username: str = "ada", size: int = 0) -> Job:
    made = Job(name, namespace="shop", username=username)
    made.tail = b'{"x":"' + b"x" * size + b'"}'  # type: ignore[attr-defined] # for `finish`
    return made


def finish(jobs: Jobs, ended: Job) -> None:
    ended.end(Ended("done", ended.tail))  # type: ignore[attr-defined]
    jobs.settle(ended)


def improvement(objective: float) -> Improvement:
    return Improvement(objective, 1.0, None)


def objectives(of: Job, after: int = 0) -> list[float]:
    return [json.loads(progress)["objective"] for _, progress in of.improvements(after)]


def kept(jobs: Jobs, username: str, name: str) -> bool:
    try:
        return jobs.get(username, name).username == username
    except ProblemError as error:
        return error.status != 404


def make(**limits: Any) -> Jobs:
    return Jobs(**({"max_kept": 3, "max_bytes": 10**6, "seconds": 60.0} | limits))


def test_only_the_first_end_counts_and_later_improvements_are_dropped() -> None:
    one = job()
    one.improve(improvement(3.0))
    one.end(Ended("done", TAIL))
    one.end(Ended("cancelled", b'{"success":false}'))
    one.improve(improvement(2.0))
    assert one.status == "done"
    assert one.response == b'{"requestId":"a","success":true}'
    assert objectives(one) == [3.0]


def test_of_many_improvements_the_newest_are_kept_with_their_numbers() -> None:
    one = job()
    for number in range(1, MAX_IMPROVEMENTS + 11):
        one.improve(improvement(float(number)))
    assert [number for number, _ in one.improvements(0)] == list(range(11, MAX_IMPROVEMENTS + 11))
    assert objectives(one, MAX_IMPROVEMENTS + 8) == [MAX_IMPROVEMENTS + 9.0, MAX_IMPROVEMENTS + 10.0]
    assert objectives(one, MAX_IMPROVEMENTS + 10) == []


def test_all_who_wait_are_told_the_end() -> None:
    async def main() -> None:
        one = job()
        waiting = [asyncio.create_task(one.finished()) for _ in range(3)]
        given_up = asyncio.create_task(one.finished())
        await asyncio.sleep(0)
        given_up.cancel()
        one.improve(improvement(1.0))
        await until(given_up.done)
        assert not any(task.done() for task in waiting)
        one.end(Ended("done", TAIL))
        assert [ended.tail for ended in await asyncio.gather(*waiting)] == [TAIL] * 3
        assert (await one.finished()).tail == TAIL
        assert not one._waiters

    asyncio.run(main())


def test_a_running_id_is_taken_and_one_that_has_ended_is_not() -> None:
    jobs, first = make(), job()
    jobs.add(first)
    with pytest.raises(ProblemError) as refused:
        jobs.add(job())
    assert refused.value.status == 409
    jobs.add(job(username="bob"))  # another user's ids are their own
    finish(jobs, first)
    second = job()
    jobs.add(second)
    assert jobs.get("ada", "a") is second
    finish(jobs, second)
    assert jobs.get("ada", "a") is second
    assert jobs.numbers() == {"running": 1, "kept": 1, "keptBytes": second.size_bytes}


def test_a_job_that_was_replaced_does_not_come_back() -> None:
    jobs, first = make(), job()
    jobs.add(first)
    finish(jobs, first)
    second = job()
    jobs.add(second)
    jobs.settle(first)
    assert jobs.get("ada", "a") is second


def test_another_users_job_is_not_found() -> None:
    jobs = make()
    jobs.add(job())
    with pytest.raises(ProblemError) as refused:
        jobs.get("bob", "a")
    assert refused.value.status == 404


def test_what_has_ended_is_forgotten_after_its_time() -> None:
    now = 0.0
    jobs = make(clock=lambda: now)
    running, ended = job("running"), job("ended")
    jobs.add(running)
    jobs.add(ended)
    finish(jobs, ended)
    now = 59.9
    assert kept(jobs, "ada", "ended")
    now = 60.0
    assert not kept(jobs, "ada", "ended")
    assert kept(jobs, "ada", "running")
    assert jobs.numbers()["keptBytes"] == 0


def test_nobody_pushes_out_what_others_have_not_fetched() -> None:
    jobs = make(max_kept=4)
    for number in range(20):
        if number == 2:
            victim = job("hers", "victim")
            jobs.add(victim)
            finish(jobs, victim)
        flood = job(f"f{number}", "flood")
        jobs.add(flood)
        finish(jobs, flood)
    assert kept(jobs, "victim", "hers")
    assert [number for number in range(20) if kept(jobs, "flood", f"f{number}")] == [17, 18, 19]


def test_the_newest_stays_however_large_it_is() -> None:
    jobs = make(max_bytes=2_000)
    for username in ("ada", "bob"):
        huge = job("huge", username, size=5_000)
        jobs.add(huge)
        finish(jobs, huge)
    assert not kept(jobs, "ada", "huge")
    assert kept(jobs, "bob", "huge")


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["add", "end"]), st.sampled_from("abc"), st.sampled_from("xyz"), st.integers(0, 3000)
        ),
        max_size=60,
    ),
    max_kept=st.integers(1, 4),
    max_bytes=st.integers(0, 9000),
)
def test_what_is_kept_stays_within_bounds_and_what_runs_is_never_lost(
    steps: list[tuple[str, str, str, int]], max_kept: int, max_bytes: int
) -> None:
    jobs = make(max_kept=max_kept, max_bytes=max_bytes)
    running: dict[tuple[str, str], Job] = {}
    for step, username, name, size in steps:
        here = (username, name)
        if step == "add" and here not in running:
            running[here] = job(name, username, size)
            jobs.add(running[here])
        elif step == "end" and here in running:
            ended = running.pop(here)
            finish(jobs, ended)
            assert jobs.get(username, name) is ended
        numbers = jobs.numbers()
        found = [
            jobs.get(username, name)
            for username in "abc"
            for name in "xyz"
            if (username, name) not in running and kept(jobs, username, name)
        ]
        assert all(jobs.get(*there) is one for there, one in running.items())
        assert numbers["running"] == len(running)
        assert numbers["kept"] == len(found) <= max_kept
        assert numbers["keptBytes"] == sum(one.size_bytes for one in found)
        assert numbers["keptBytes"] <= max_bytes or numbers["kept"] == 1
