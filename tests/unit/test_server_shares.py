"""What one caller cannot take from the others: memory, connections, turns, the right to be looked at."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from server_review_world import (
    ASK,
    JSON,
    MIB,
    URL,
    Busy,
    Reading,
    Uploading,
    asked_for_a_long_answer,
    is_whole,
    question_of,
    run,
)
from server_stand_in import HttpClient, StandIns, StandInSelection, until


class TestBodiesTogether:
    """100 callers that send 10 MiB each and stop before the end took a gigabyte."""

    def test_one_user_has_room_for_some_and_others_for_theirs(self) -> None:
        async def body(stand_ins: StandIns, app: Any) -> None:
            many = [Uploading(app, "a", question_of(3 * MIB)) for _ in range(20)]
            for one in many:
                await one.stalled()
            held = [one for one in many if not one.complete]
            assert sum(one.read_bytes for one in held) <= 16 * MIB
            assert len(held) >= 3
            for one in many:
                if one.complete:
                    assert one.status == 503
                    assert json.loads(one.body)["type"].endswith(":busy")
                    assert one.headers["retry-after"] == "1"
            # Another user is not concerned, nor is what has no body.
            assert (await HttpClient(app, "b").post(URL, body=question_of(3 * MIB), **JSON)).status == 200
            assert (await HttpClient(app, "a").get("/")).status == 200
            for one in held:
                one.go_on.set()
                assert (await one.reply()).status == 200
            # All of it has been given back.
            assert (await HttpClient(app, "a").post(URL, body=question_of(3 * MIB), **JSON)).status == 200

        run(body, bodies_bytes=32 * MIB)

    def test_all_users_together_have_room_for_so_many(self) -> None:
        async def body(stand_ins: StandIns, app: Any) -> None:
            for number in range(10):
                stand_ins.access.add(f"u{number}", f"system:serviceaccount:shop:u{number}")
            many = [Uploading(app, f"u{number}", question_of(3 * MIB)) for number in range(10)]
            for one in many:
                await one.stalled()
            assert sum(one.read_bytes for one in many if not one.complete) <= 24 * MIB
            assert {one.status for one in many if one.complete} == {503}
            for one in many:
                one.disconnect()
                one.go_on.set()
                await one.task

        run(body, bodies_bytes=24 * MIB)

    def test_what_is_being_answered_takes_none_of_it(self) -> None:
        async def body(stand_ins: StandIns, app: Any) -> None:
            stand_ins.engine.held = True
            client = HttpClient(app, "a")
            exchanges = []
            while len(exchanges) < 4:
                exchanges.append(client.start("POST", URL, body=question_of(3 * MIB), **JSON))
                await until(lambda: len(stand_ins.engine.asked) == len(exchanges))
            later = await client.post(URL, body=question_of(3 * MIB), **JSON)
            assert json.loads(later.body)["detail"].startswith("4 questions are being answered")
            for asked in stand_ins.engine.asked:
                asked.answer()
            assert [(await exchange.reply()).status for exchange in exchanges] == [200] * 4

        run(body, bodies_bytes=20 * MIB)

    def test_who_may_do_nothing_is_bounded_too(self) -> None:
        async def body(_stand_ins: StandIns, app: Any) -> None:
            path = "/api/v1/plugins/oracle"
            many = [Uploading(app, "a", b'{"config":{"a":"' + b"x" * (MIB - 30), path, "PATCH") for _ in range(40)]
            for one in many:
                await one.stalled()
            assert sum(one.read_bytes for one in many if not one.complete) <= 10 * MIB
            assert {one.status for one in many if one.complete} == {503}
            for one in many:
                one.disconnect()
                one.go_on.set()
                await one.task

        run(body, bodies_bytes=20 * MIB)


class TestAtOnce:
    """1,000 readers of events of one user had all connections of the API."""

    def test_one_user_has_so_many_calls_at_once(self) -> None:
        async def body(stand_ins: StandIns, app: Any) -> None:
            stand_ins.engine.held = True
            client = HttpClient(app, "a")
            assert (await client.post(URL, json=ASK, prefer="respond-async")).status == 202
            readers = [client.start("GET", f"{URL}/a/events") for _ in range(5)]
            for reader in readers:
                await reader.until(lambda reader: b"retry" in reader.body)
            refused = await client.get(f"{URL}/a/events")
            assert refused.status == 429
            assert refused.headers["retry-after"] == "1"
            assert "5 of your requests" in refused.json()["detail"]
            assert (await HttpClient(app, "b").get("/")).status == 200
            assert (await HttpClient(app).get("/api/v1/health")).status == 200
            readers[0].disconnect()
            await readers[0].task
            assert (await client.get(f"{URL}/a")).status == 200
            for asked in stand_ins.engine.asked:
                asked.answer()
            for reader in readers[1:]:
                assert b"event: answer" in (await reader.reply()).body

        run(body, requests_at_once=5)


class TestAddresses:
    def test_who_was_let_in_is_not_locked_out_by_others_of_the_same_address(self) -> None:
        async def body(stand_ins: StandIns, app: Any) -> None:
            good, other = HttpClient(app, "a"), HttpClient(app, "b")
            assert (await good.get("/")).status == 200
            for number in range(10):
                await HttpClient(app, f"bad-{number}").get("/")
            assert (await HttpClient(app, "bad").get("/")).status == 429
            assert (await HttpClient(app).get("/api/v1/health")).status == 429
            assert (await good.get("/")).status == 200
            # Nobody is asked about a token that was never seen.
            stand_ins.access.failure = AssertionError("somebody was asked")
            assert (await other.get("/")).status == 429

        run(body, requests_per_second=0.001, burst=5)


class TestLongAnswers:
    """100 readers of an answer of 4.5 MB, or of its events, that read nothing took up to 900 MB."""

    def test_what_nobody_reads_is_bounded(self) -> None:
        async def body(stand_ins: StandIns, app: Any) -> None:
            client = await asked_for_a_long_answer(stand_ins, app)
            readers = [Reading(app, "a", f"{URL}/a", pieces=2) for _ in range(20)]
            for reader in readers:
                await reader.until(lambda reader: len(reader.sizes) >= 2 or reader.task.done())
            open_ = [reader for reader in readers if not reader.task.done()]
            assert len(open_) == 5, "of 16 MiB, the half of what there is"
            assert max(size for reader in readers for size in reader.sizes) <= 2**16
            # Short answers are given all the same, and other users have what is theirs.
            assert (await client.get("/")).status == 200
            assert (await HttpClient(app, "b").post(URL, json=ASK)).status == 200
            for reader in open_:
                reader.go_on.set()
                reply = await reader.reply()
                assert is_whole(reply.json()["response"])
            assert is_whole((await client.get(f"{URL}/a")).json()["response"])

        run(body, answers_bytes=32 * MIB)

    def test_readers_of_events_share_one(self) -> None:
        async def body(stand_ins: StandIns, app: Any) -> None:
            await asked_for_a_long_answer(stand_ins, app)
            tracemalloc.start()
            try:
                readers = [Reading(app, "a", f"{URL}/a/events", pieces=4) for _ in range(20)]
                for reader in readers:
                    await reader.until(lambda reader: len(reader.sizes) >= 4)
                held_bytes, _ = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert held_bytes < 10 * MIB, "each alone would hold three"
            for reader in readers:
                reader.go_on.set()
                answer = (await reader.reply()).body.partition(b"data: ")[2].decode()
                assert is_whole(json.loads(answer))

        run(body)

    def test_who_comes_too_many_is_told_so(self) -> None:
        async def body(stand_ins: StandIns, app: Any) -> None:
            client = await asked_for_a_long_answer(stand_ins, app)
            reader = Reading(app, "a", f"{URL}/a")
            await reader.until(lambda reader: bool(reader.sizes))
            assert reader.status == 200, "one is always given, however long it is"
            refused = await client.get(f"{URL}/a")
            assert refused.status == 503
            assert refused.headers["retry-after"] == "1"
            assert refused.json()["type"].endswith(":busy")
            reader.go_on.set()
            await reader.task
            assert (await client.get(f"{URL}/a")).status == 200

        run(body, answers_bytes=MIB)


class TestHistory:
    """Four tables at once made every caller, and the operator's own loop, wait for half a second now and then."""

    @pytest.mark.parametrize("view", ["stats", "training-format", "export", "export?format=jsonl"])
    def test_one_at_a_time_is_computed(self, view: str, monkeypatch: pytest.MonkeyPatch) -> None:
        busy = Busy()

        def lines(_self: StandInSelection) -> Iterator[bytes]:
            for _ in range(3):
                busy.work()
                yield b"{}\n"

        def table(_self: StandInSelection) -> dict[str, Any]:
            busy.work()
            return {}

        monkeypatch.setattr(StandInSelection, "json_lines", lines)
        monkeypatch.setattr(StandInSelection, "statistics", table)
        monkeypatch.setattr(StandInSelection, "training_format", table)

        async def body(_stand_ins: StandIns, app: Any) -> None:
            client = HttpClient(app, "a")
            asked = [client.start("GET", f"/api/v1/plugins/workload-data/{view}") for _ in range(6)]
            await until(lambda: busy.now == 1)
            assert (await client.get("/")).status == 200
            busy.go_on.set()
            assert [(await one.reply()).status for one in asked] == [200] * 6
            assert busy.most == 1

        run(body)

    def test_nothing_is_computed_for_who_has_gone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        busy = Busy()

        def table(_self: StandInSelection) -> dict[str, Any]:
            busy.work()
            return {}

        monkeypatch.setattr(StandInSelection, "training_format", table)

        async def body(_stand_ins: StandIns, app: Any) -> None:
            client = HttpClient(app, "a")
            asked = [client.start("GET", "/api/v1/plugins/workload-data/training-format") for _ in range(6)]
            await until(lambda: busy.now == 1)
            for one in asked[:5]:
                one.disconnect()
            busy.go_on.set()
            assert (await asked[5].reply()).status == 200
            for one in asked[:5]:
                await one.task
            assert busy.times == 2

        run(body)
