"""Server-sent events: nothing lost and nothing twice, whenever a reader comes and however often it comes back."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from server_stand_in import Exchange, leaving_no_tasks, until

from engine_ops.server.events import EventStream, events_of, position_in
from engine_ops.server.jobs import MAX_IMPROVEMENTS, Ended, Job
from engine_ops.server.questions import Improvement

TAIL = b'{"success":true}'


@dataclasses.dataclass(frozen=True)
class Event:
    kind: str
    id: str
    data: Any


def parse(stream: bytes) -> list[Event]:
    """Read events as a browser does."""
    events = []
    for block in stream.decode().split("\n\n")[:-1]:
        fields: dict[str, str] = {}
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            fields[name] = f"{fields[name]}\n{value}" if name in fields else value
        if "data" in fields:
            events.append(Event(fields["event"], fields["id"], json.loads(fields["data"])))
    return events


def new_job() -> Job:
    return Job("a", namespace="shop", username="ada")


def improve(job: Job, number: int) -> None:
    job.improve(Improvement(float(number), None, None))


def seen(events: list[Event]) -> list[Any]:
    return [event.data["objective"] if event.kind == "improvement" else event.kind for event in events]


async def read(job: Job, last_event_id: str | None = None, *, count: int | None = None) -> list[Event]:
    """Read to the end, or so many events."""
    position = position_in(job, last_event_id)
    assert position is not None
    events: list[Event] = []
    async for piece in events_of(job, position):
        events += parse(piece)
        if count is not None and len(events) >= count:
            break
    return events


def exchange(job: Job, position: int = 0, **more: float) -> Exchange:
    return Exchange(EventStream(job, position, **more), {"type": "http"}, [])


@given(seed=st.integers(0, 2**32), improvements=st.integers(0, 12), readers=st.integers(1, 4))
def test_every_reader_gets_everything_once_in_order(seed: int, improvements: int, readers: int) -> None:
    chance = random.Random(seed)

    async def pause() -> None:
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)

    async def solve(job: Job) -> None:
        for number in range(improvements):
            improve(job, number)
            await pause()
        job.end(Ended("done", TAIL))

    async def follow(job: Job) -> list[Event]:
        """Read with a connection that breaks now and then."""
        await pause()
        events: list[Event] = []
        while not events or events[-1].kind != "answer":
            last = events[-1].id if events else None
            events += await read(job, last, count=chance.choice([1, 2, None]))
            await pause()
        assert position_in(job, events[-1].id) is None
        return events

    async def main() -> None:
        job = new_job()
        following = [asyncio.create_task(follow(job)) for _ in range(readers)]
        await solve(job)
        for events in await asyncio.gather(*following):
            assert seen(events) == [*range(improvements), "answer"]
            assert len({event.id for event in events}) == len(events)
            assert events[-1].data == {"requestId": "a", "success": True}

    asyncio.run(main())


def test_a_reader_who_comes_after_the_end_gets_everything() -> None:
    job = new_job()
    improve(job, 1)
    job.end(Ended("cancelled", TAIL))
    assert seen(asyncio.run(read(job))) == [1.0, "answer"]


def test_a_slow_reader_goes_on_with_what_is_kept() -> None:
    async def main() -> None:
        job = new_job()
        improve(job, 1)
        stream = events_of(job, 0)
        await anext(stream)
        events = parse(await anext(stream))
        for number in range(2, MAX_IMPROVEMENTS + 4):
            improve(job, number)
        job.end(Ended("done", TAIL))
        async for piece in stream:
            events += parse(piece)
        assert seen(events) == [1.0, *range(4, MAX_IMPROVEMENTS + 4), "answer"]

    asyncio.run(main())


@pytest.mark.parametrize(
    "last", [None, "", "2", "another-2", "-", "x" * 1000, "{run}-", "{run}-x", "{run}-²", "{run}--1"]
)
def test_an_id_of_something_else_begins_anew(last: str | None) -> None:
    job = new_job()
    improve(job, 1)
    assert position_in(job, last and last.replace("{run}", job.run)) == 0


def test_a_position_is_never_beyond_what_has_been_found() -> None:
    job = new_job()
    improve(job, 1)
    assert position_in(job, f"{job.run}-7") == 1
    assert position_in(job, f"{job.run}-{'9' * 5000}") == 0
    assert position_in(job, f"{job.run}-answer") is None


def test_what_a_reader_is_about_to_get_stays_though_newer_ones_push_it_out() -> None:
    async def main() -> None:
        job = new_job()
        for number in range(1, MAX_IMPROVEMENTS + 1):
            improve(job, number)
        stream = events_of(job, 0)
        events = [event for _ in range(3) for event in parse(await anext(stream))]
        for number in range(MAX_IMPROVEMENTS + 1, MAX_IMPROVEMENTS + 5):
            improve(job, number)
        job.end(Ended("done", TAIL))
        async for piece in stream:
            events += parse(piece)
        assert seen(events) == [*range(1, MAX_IMPROVEMENTS + 5), "answer"]
        assert [event.id.partition("-")[2] for event in events[:-1]] == [str(n) for n in range(1, MAX_IMPROVEMENTS + 5)]

    asyncio.run(main())


def test_numbers_that_json_lacks_are_null_and_line_breaks_are_kept() -> None:
    job = new_job()
    job.improve(Improvement(float("inf"), float("nan"), None))
    job.end(Ended("done", b'{"result":{\n"text":"a\\nb"\r\n}}'))
    improvement, answer = asyncio.run(read(job))
    assert improvement.data == {"objective": None, "lowerBound": None, "gap": None}
    assert answer.data == {"requestId": "a", "result": {"text": "a\nb"}}


def test_silence_is_filled_with_comments() -> None:
    async def main() -> None:
        job = new_job()
        async with leaving_no_tasks():
            reading = exchange(job, keep_alive_seconds=0.0)
            await reading.until(lambda now: now.body.count(b"\n: still") >= 2)
            assert reading.headers["content-type"].startswith("text/event-stream")
            assert "content-length" not in reading.headers
            improve(job, 1)
            job.end(Ended("done", TAIL))
            reply = await reading.reply()
        assert seen(parse(reply.body)) == [1.0, "answer"]

    asyncio.run(main())


def test_a_reader_who_goes_leaves_nothing_behind() -> None:
    async def main() -> None:
        job = new_job()
        async with leaving_no_tasks():
            reading = exchange(job)
            await reading.until(lambda now: b"retry" in now.body)
            await until(lambda: bool(job._waiters))
            reading.disconnect()
            await reading.reply()
            assert not job._waiters
        assert job.ended is None

    asyncio.run(main())


def test_a_stream_that_is_cancelled_ends() -> None:
    async def main() -> None:
        job = new_job()
        async with leaving_no_tasks():
            reading = exchange(job)
            await until(lambda: bool(job._waiters))
            reading.task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading.task

    asyncio.run(main())
