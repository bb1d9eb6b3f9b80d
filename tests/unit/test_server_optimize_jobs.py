"""Asynchronous requests through the whole application, and what becomes of all of them when the process ends."""

from __future__ import annotations

import asyncio

import pytest
from server_optimize_world import ASK, URL, Api, fields, kind, run, run_in_no_time
from server_stand_in import (
    best_so_far,
    until,
)

from engine_ops.server import optimizer as optimizer_module

# Jobs


def test_a_job_from_beginning_to_end() -> None:
    async def body(api: Api) -> None:
        engine = api.hold()
        accepted = await api.ask_later("ö ?#%2F")
        link = accepted.headers["location"]
        assert link == f"{URL}/%C3%B6%20%3F%23%252F"
        assert accepted.headers["preference-applied"] == "respond-async"
        assert accepted.json() == {
            "requestId": "ö ?#%2F",
            "status": "running",
            "links": {"self": link, "events": f"{link}/events"},
        }
        early = api.ada.start("GET", f"{link}/events")
        await until(lambda: len(engine.asked) == 1)
        engine.asked[0].improve(12, 10, 0.2)
        await early.until(lambda now: b"event: improvement" in now.body)
        assert (await api.ada.get(link)).json() == accepted.json() | {
            "progress": {"objective": 12.0, "lowerBound": 10.0, "gap": 0.2}
        }
        engine.asked[0].improve(11, 10, 0.1)
        engine.asked[0].answer()
        first = (await early.reply()).body
        assert first.count(b"event: improvement") == 2
        assert first.count(b"event: answer") == 1
        late = (await api.ada.get(f"{link}/events")).body
        assert late == first
        last_id = late.decode().rpartition("id: ")[2].partition("\n")[0]
        assert (await api.ada.get(f"{link}/events", last_event_id=last_id)).status == 204
        done = (await api.ada.get(link)).json()
        assert done["status"] == "done"
        assert done["response"]["requestId"] == "ö ?#%2F"
        assert (await api.ada.delete(link)).json() == done
        assert api.state() == (0, 0)

    run(body)


@pytest.mark.parametrize("request_id", ["a/b", "/", ".", ".."])
def test_an_id_that_no_url_can_hold_is_refused_for_a_job_only(request_id: str) -> None:
    async def body(api: Api) -> None:
        reply = await api.ask_later(request_id)
        assert reply.status == 422
        assert list(fields(reply)) == ["id"]
        assert (await api.ask(id=request_id)).json()["requestId"] == request_id

    run(body)


def test_an_id_that_runs_is_refused_and_one_that_has_ended_is_not() -> None:
    async def body(api: Api) -> None:
        engine = api.hold()
        assert (await api.ask_later()).status == 202
        again = await api.ask_later()
        assert (again.status, kind(again)) == (409, "conflict")
        await until(lambda: len(engine.asked) == 1)
        assert api.state() == (1, 1)
        engine.asked[0].answer()
        await until(lambda: api.state() == (0, 0))
        hit = await api.ask_later()
        assert hit.json()["status"] == "done"
        fresh = await api.ask_later(cache_control="no-cache")
        assert fresh.json()["status"] == "running"
        assert (await api.ask_later()).status == 409  # though the cache has its answer
        await until(lambda: len(engine.asked) == 2)
        engine.asked[1].answer()
        await until(lambda: api.state() == (0, 0))

    run(body)


def test_cancelling_keeps_the_best_so_far() -> None:
    async def body(api: Api) -> None:
        engine = api.hold()
        await api.ask_later()
        reading = api.ada.start("GET", f"{URL}/a/events")
        await until(lambda: len(engine.asked) == 1)
        engine.asked[0].improve(12)
        deleting = [api.ada.start("DELETE", f"{URL}/a") for _ in range(3)]
        replies = [await exchange.reply() for exchange in deleting]
        assert {reply.status for reply in replies} == {200}
        assert len({reply.body for reply in replies}) == 1
        job = replies[0].json()
        assert job["status"] == "cancelled"
        assert job["response"]["success"] is True
        assert job["response"]["cutOff"] == "it was stopped"
        assert (await api.ada.get(f"{URL}/a")).json() == job
        events = (await reading.reply()).body
        assert events.count(b"event: improvement") == 1
        assert events.count(b"event: answer") == 1
        assert not engine.asked[0].cancelled
        assert len(api.optimizer.cache) == 0
        assert api.state() == (0, 0)

    run(body)


def test_cancelling_in_the_moment_of_the_end_changes_no_answer() -> None:
    async def body(api: Api) -> None:
        engine = api.hold()
        statuses = set()
        for steps in range(12):
            await api.ask_later(f"job-{steps}", cache_control="no-store")
            await until(lambda count=steps + 1: len(engine.asked) == count)  # type: ignore[misc]
            deleting = api.ada.start("DELETE", f"{URL}/job-{steps}")
            for _ in range(steps):
                await asyncio.sleep(0)
            if not engine.asked[-1].ended and not engine.asked[-1].stop.is_set():
                engine.asked[-1].answer()
            told = (await deleting.reply()).json()
            assert told == (await api.ada.get(f"{URL}/job-{steps}")).json()
            complete = "cutOff" not in told["response"]
            assert told["status"] == ("done" if complete else "cancelled")
            statuses.add(told["status"])
        assert statuses == {"done", "cancelled"}
        assert api.state() == (0, 0)

    run(body)


def test_an_engine_that_does_not_stop_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizer_module, "STOP_SECONDS", 0.0)

    async def body(api: Api) -> None:
        engine = api.hold()
        engine.heeds_stop = False
        await api.ask_later()
        job = (await api.ada.delete(f"{URL}/a")).json()
        assert job["status"] == "cancelled"
        assert job["response"]["reason"] == "Cancelled"
        assert job["response"]["success"] is False
        assert job["response"]["cutOff"]
        assert api.state() == (0, 0)

    run(body)


def test_a_job_goes_on_without_readers() -> None:
    async def body(api: Api) -> None:
        engine = api.hold()
        await api.ask_later()
        reading = api.ada.start("GET", f"{URL}/a/events")
        await reading.until(lambda now: b"retry" in now.body)
        reading.disconnect()
        await until(reading.task.done)
        engine.heeds_stop = False
        deleting = api.ada.start("DELETE", f"{URL}/a")
        await until(engine.asked[0].stop.is_set)
        deleting.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await deleting.task
        assert api.state() == (1, 1)
        engine.asked[0].answer(best_so_far(engine.asked[0].question))
        await until(lambda: api.state() == (0, 0))
        assert (await api.ada.get(f"{URL}/a")).json()["status"] == "cancelled"

    run(body)


def test_what_is_counted() -> None:
    async def body(api: Api) -> None:
        assert api.optimizer.numbers()["durationMs"] == {"count": 0, "p50": None, "p99": None}
        await api.ask()
        await api.ask()
        numbers = api.optimizer.numbers()
        assert {outcome: count for outcome, count in numbers["requests"].items() if count} == {"solved": 1, "cached": 1}
        assert numbers["inFlight"] == {"now": 0, "most": 6}
        assert numbers["durationMs"]["count"] == 1
        assert numbers["durationMs"]["p99"] >= numbers["durationMs"]["p50"] > 0
        api.engine.workers = 0
        assert api.optimizer.numbers()["inFlight"]["most"] == 1

    run(body, in_flight_per_worker=3)


# The end of the process


def test_draining_lets_go_on_what_ends_by_itself() -> None:
    async def body(api: Api) -> None:
        engine = api.hold()
        exchange = api.ada.start("POST", URL, json=ASK)
        await until(lambda: len(engine.asked) == 1)
        draining = asyncio.create_task(api.optimizer.drain(60))
        await asyncio.sleep(0)
        refused = await api.ask(id="late")
        assert (refused.status, kind(refused)) == (503, "unavailable")
        assert "retry-after" in refused.headers
        assert not engine.asked[0].stop.is_set()
        engine.asked[0].answer()
        assert (await exchange.reply()).status == 200
        await draining

    run(body)


def test_draining_ends_the_rest_with_the_best_so_far() -> None:
    async def body(api: Api) -> None:
        engine = api.hold()
        exchange = api.ada.start("POST", URL, json=ASK)
        await api.ask_later("job")
        reading = api.ada.start("GET", f"{URL}/job/events")
        await until(lambda: len(engine.asked) == 2)
        await api.optimizer.drain(0.05)
        assert (await exchange.reply()).json()["cutOff"] == "it was stopped"
        assert b'"cutOff":"it was stopped"' in (await reading.reply()).body
        assert api.state() == (0, 0)
        await api.optimizer.drain(0)

    run_in_no_time(body)


def test_draining_ends_what_does_not_stop() -> None:
    async def body(api: Api) -> None:
        engine = api.hold()
        engine.heeds_stop = False
        exchange = api.ada.start("POST", URL, json=ASK)
        await api.ask_later("job")
        reading = api.ada.start("GET", f"{URL}/job/events")
        await until(lambda: len(engine.asked) == 2)
        await api.optimizer.drain(0)
        reply = await exchange.reply()
        assert (reply.status, kind(reply)) == (503, "unavailable")
        assert b'"reason":"Interrupted"' in (await reading.reply()).body
        assert api.state() == (0, 0)

    run(body)
