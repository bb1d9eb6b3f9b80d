"""What one caller cannot take from the others: time of the loop, memory, places, the right to be looked at."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import json
import threading
import tracemalloc
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from server_stand_in import DEADLINE_SECONDS, Exchange, HttpClient, StandIns, StandInSelection, solved, until

from engine_ops.api.reasons import Reason
from engine_ops.server import optimize
from engine_ops.server.app import create_app
from engine_ops.server.backend import AccessUnavailable, Question, Reply
from engine_ops.server.events import EventStream
from engine_ops.server.nesting import is_too_deep
from engine_ops.server.plugins import MAX_PATCH_BYTES
from engine_ops.server.problems import ProblemError
from engine_ops.server.question_reading import LONG_BYTES, read_question
from engine_ops.server.services import ApiLimits

URL = "/api/v1/optimize"
MIB = 2**20
JSON = {"content_type": "application/json"}
ASK: dict[str, Any] = {"id": "a", "type": "resource", "data": {}}


def run(body: Callable[[StandIns, Any], Coroutine[Any, Any, None]], **limits: Any) -> None:
    stand_ins = StandIns(limits=ApiLimits(**limits))
    stand_ins.access.add("a", "system:serviceaccount:shop:ada")
    stand_ins.access.add("b", "system:serviceaccount:shop:bob")

    async def main() -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            await body(stand_ins, create_app(stand_ins.services(), version="1"))

    asyncio.run(main())


def peak_bytes(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


BRACKETS = b"[" + b"[]," * (MIB // 3) + b"[]]"


class TestLongBodies:
    @pytest.mark.parametrize(
        ("body", "field"),
        [
            pytest.param(b'{"id":"","type":"resource","data":{"a":%s}}' % BRACKETS, "id", id="id"),
            pytest.param(b'{"id":"a","type":"x","data":{"a":%s}}' % BRACKETS, "type", id="type"),
            pytest.param(b'{"id":"a","type":"resource","data":%s}' % BRACKETS, "data", id="data"),
            pytest.param(b'{"id":%s,"type":"resource","data":{}}' % BRACKETS, "id", id="no id"),
            pytest.param(b'{"id":"%s","type":"resource","data":{}}' % (b"x" * MIB), "id", id="long id"),
            pytest.param(b'{"type":"resource","data":{"a":%s}}' % BRACKETS, "id", id="absent"),
            pytest.param(b'{"id":"a","type":"resource","data":{},"no":%s}' % BRACKETS, "no", id="unknown"),
            pytest.param(
                b'{"id":"a","type":"resource","data":{},%s}' % b",".join(b'"k%d":1' % n for n in range(10**5)),
                "k0",
                id="many unknown",
            ),
            pytest.param(
                b'{"id":"a","type":"resource","searchSeconds":%s,"data":{"a":%s}}' % (b"31", BRACKETS),
                "searchSeconds",
                id="seconds",
            ),
        ],
    )
    def test_what_is_wrong_with_one_is_found_without_making_it_objects(self, body: bytes, field: str) -> None:
        assert len(body) > LONG_BYTES
        found: list[ProblemError] = []

        def read() -> None:
            with pytest.raises(ProblemError) as problem:
                read_question(body, namespace="shop", username="ada")
            found.append(problem.value)

        # As objects it would take 20 times as much, and seconds in which nothing else runs.
        assert peak_bytes(read) < 6 * len(body)
        assert found[0].status == 422
        assert field in [path for path, _ in found[0].errors]
        assert len(found[0].response().body) < 10_000

    @pytest.mark.parametrize("body", [b"[" + BRACKETS, b'{"id":3%s}' % (b" " * MIB), b'{"id":%s}' % (b"1" * MIB)])
    def test_what_is_no_json_or_no_question(self, body: bytes) -> None:
        with pytest.raises(ProblemError) as problem:
            read_question(body, namespace="shop", username="ada")
        assert problem.value.status in {400, 422}

    def test_no_object_is_no_question(self) -> None:
        with pytest.raises(ProblemError, match="must be an object") as problem:
            read_question(BRACKETS, namespace="shop", username="ada")
        assert problem.value.status == 422

    def test_its_depth_is_found_in_little_memory(self) -> None:
        assert peak_bytes(lambda: is_too_deep(BRACKETS)) < 4 * len(BRACKETS)

    def test_brackets_are_counted_across_pieces(self) -> None:
        flat = b"[]," * 200_000
        text = b"[" * 50 + flat + b"[" * 50 + flat + b"[]" + flat + b"]" * 100
        assert is_too_deep(text, 100)
        assert not is_too_deep(text, 101)

    def test_others_are_answered_while_one_is_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        reading, go_on = threading.Event(), threading.Event()

        def slowly(body: bytes, **whose: str) -> Any:
            if len(body) > LONG_BYTES:
                reading.set()
                assert go_on.wait(DEADLINE_SECONDS)
            return read_question(body, **whose)

        monkeypatch.setattr(optimize, "read_question", slowly)

        async def body(_stand_ins: StandIns, app: Any) -> None:
            long = json.dumps(ASK | {"data": {"a": "x" * LONG_BYTES}}).encode()
            one = asyncio.create_task(HttpClient(app, "a").post(URL, body=long, **JSON))
            try:
                await asyncio.to_thread(reading.wait, DEADLINE_SECONDS)
                assert (await HttpClient(app, "b").post(URL, json=ASK)).status == 200
                assert not one.done()
            finally:
                go_on.set()
            assert (await one).status == 200

        run(body)

    @pytest.mark.parametrize("padding", [MAX_PATCH_BYTES, 8 * MIB])
    def test_no_plugin_is_changed_by_one(self, padding: int) -> None:
        async def body(stand_ins: StandIns, app: Any) -> None:
            change = {"config": {"a": "x" * padding}}
            reply = await HttpClient(app, "a").patch("/api/v1/plugins/oracle", json=change)
            assert reply.status == 413
            assert not stand_ins.switch.changes

        run(body)

    def test_of_a_change_with_thousands_of_unknown_fields_some_are_named(self) -> None:
        async def body(_stand_ins: StandIns, app: Any) -> None:
            change = {f"k{number}": 1 for number in range(50_000)} | {"priority": "x"}
            reply = await HttpClient(app, "a").patch("/api/v1/plugins/oracle", json=change)
            assert reply.status == 422
            errors = {error["field"] for error in reply.json()["errors"]}
            assert {"priority", "k0"} <= errors
            assert len(errors) <= 50

        run(body)


def scope_of(token: str, method: str, path: str) -> dict[str, Any]:
    headers = {"host": "localhost", "authorization": f"Bearer {token}", "content-type": "application/json"}
    return {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 50000),
    }


class Uploading(Exchange):
    """A body that stops coming before its end, until told to go on."""

    def __init__(self, app: Any, token: str, body: bytes, path: str = URL, method: str = "POST") -> None:
        self.go_on = asyncio.Event()
        self.read_bytes = 0
        self._size = len(body)
        super().__init__(
            app,
            scope_of(token, method, path),
            [body[start : start + MIB // 4] for start in range(0, len(body), MIB // 4)],
        )

    async def _receive(self) -> dict[str, Any]:
        if len(self._pieces) == 1:
            self._changed.set()
            await self.go_on.wait()
        message = await super()._receive()
        self.read_bytes += len(message.get("body", b""))
        return message

    async def stalled(self) -> None:
        """Wait until all but the last piece has been read, or it has been answered."""
        await self.until(lambda self: len(self._pieces) == 1 or self.complete)


def question_of(size_bytes: int) -> bytes:
    return json.dumps(ASK | {"data": {"a": "x" * size_bytes}}).encode()


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


class Busy:
    """Notes how many threads are in it at once."""

    def __init__(self) -> None:
        self.most = self.now = self.times = 0
        self._lock = threading.Lock()
        self.go_on = threading.Event()

    def work(self) -> None:
        with self._lock:
            self.now += 1
            self.times += 1
            self.most = max(self.most, self.now)
        assert self.go_on.wait(DEADLINE_SECONDS)
        with self._lock:
            self.now -= 1


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


class Reading(Exchange):
    """A client that takes so many pieces of an answer, and then none until told to go on."""

    def __init__(self, app: Any, token: str, path: str, pieces: int = 1) -> None:
        self.go_on = asyncio.Event()
        self.sizes: list[int] = []
        self._takes = pieces
        super().__init__(app, scope_of(token, "GET", path), [])

    async def _send(self, message: dict[str, Any]) -> None:
        await super()._send(message)
        if message["type"] == "http.response.body":
            self.sizes.append(len(message.get("body", b"")))
            if len(self.sizes) >= self._takes:
                await self.go_on.wait()


TEXT = "x" * (3 * MIB)


def long_answer(question: Question) -> Reply:
    return dataclasses.replace(solved(question), result=b'{"a":\r\n"%s"\n}' % TEXT.encode())


def is_whole(response: Any) -> bool:
    """Not compared where pytest would look for the difference of two such texts."""
    return bool(response["result"]["a"] == TEXT)


async def asked_for_a_long_answer(stand_ins: StandIns, app: Any) -> HttpClient:
    stand_ins.engine.reply = long_answer
    client = HttpClient(app, "a")
    assert (await client.post(URL, json=ASK, prefer="respond-async")).status == 202
    await until(lambda: stand_ins.engine.asked[0].ended)
    return client


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


class TestTheEnd:
    def test_who_has_no_answer_yet_is_told_to_ask_again(self) -> None:
        """It was 200 with reason TimedOut, which nobody asks again."""

        async def body(stand_ins: StandIns, app: Any) -> None:
            stand_ins.engine.held = True
            stand_ins.engine.heeds_stop = False
            client = HttpClient(app, "a")
            waiting = client.start("POST", URL, json=ASK)
            assert (await client.post(URL, json=ASK | {"id": "later"}, prefer="respond-async")).status == 202
            reader = client.start("GET", f"{URL}/later/events")
            await until(lambda: len(stand_ins.engine.asked) == 2)
            draining = asyncio.create_task(app.state.optimizer.drain(0.02))
            for asked in stand_ins.engine.asked:
                await asked.stop.wait()
                asked.answer(Reply(False, Reason.TIMED_OUT, "it was stopped before", 5, waiting=True))
            await draining
            reply = await waiting.reply()
            assert (reply.status, reply.headers["retry-after"]) == (503, "5")
            assert b'"reason":"Interrupted"' in (await reader.reply()).body

        run(body)


class TestTheCache:
    def test_what_plugins_were_asked_for_is_not_kept_for_ever(self) -> None:
        """Plugins see the time: a forecast for nine in the morning was given for a week."""

        async def body(stand_ins: StandIns, app: Any) -> None:
            now = [1000.0]
            app.state.optimizer.cache._clock = lambda: now[0]
            stand_ins.engine.lineups = {"ml-driven": "trees/1"}
            client = HttpClient(app, "a")
            said: list[str] = []
            for later in (0, 59, 2, 10**7):
                now[0] += later
                for request_type in ("ml-driven", "resource"):
                    reply = await client.post(URL, json=ASK | {"type": request_type})
                    said.append(reply.headers["cache-status"].removeprefix("engine-ops; "))
            assert said[::2] == ["fwd=miss", "hit", "fwd=miss", "fwd=miss"]
            assert said[1::2] == ["fwd=miss", "hit", "hit", "hit"]

        run(body)


class TestWhatIsSaid:
    def test_all_faults_of_a_change_stand_in_the_sentence_too(self) -> None:
        async def body(_stand_ins: StandIns, app: Any) -> None:
            change = {"priority": "x", "config": [], "no": 1}
            reply = await HttpClient(app, "a").patch("/api/v1/plugins/oracle", json=change)
            detail = reply.json()["detail"]
            assert "config: must be an object" in detail
            assert "priority: " in detail
            assert "no: unknown field" in detail

        run(body)

    def test_which_plugin_there_is_not(self) -> None:
        async def body(_stand_ins: StandIns, app: Any) -> None:
            client = HttpClient(app, "a")
            assert "'oracel'" in (await client.get("/api/v1/plugins/oracel")).json()["detail"]
            assert r"'a\r\nb'" in (await client.get("/api/v1/plugins/a%0D%0Ab")).json()["detail"]
            assert len((await client.get("/api/v1/plugins/" + "a" * 9000)).body) < 1000

        run(body)

    def test_plugins_are_told_of_once(self) -> None:
        async def body(stand_ins: StandIns, app: Any) -> None:
            stand_ins.engine.healthy = {"requestsUnderWay": 0, "plugins": {"oracle": {}}}
            said = (await HttpClient(app, "a").get("/api/v1/metrics")).json()
            assert said["engine"] == {"requestsUnderWay": 0}

        run(body)


class TestStreams:
    @pytest.mark.parametrize("loses", ["token", "right", "nothing", "nothing, though it cannot be asked"])
    def test_a_reader_who_is_let_in_no_more_is_cut_off(self, loses: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """An open stream went on for as long as the search did, an hour perhaps."""
        monkeypatch.setattr(optimize, "EventStream", functools.partial(EventStream, keep_alive_seconds=0.01))

        async def body(stand_ins: StandIns, app: Any) -> None:
            stand_ins.engine.held = True
            client = HttpClient(app, "a")
            assert (await client.post(URL, json=ASK, prefer="respond-async")).status == 202
            reader = client.start("GET", f"{URL}/a/events")
            await reader.until(lambda reader: b"still at it" in reader.body)
            match loses:
                case "token":
                    del stand_ins.access.tokens["a"]
                case "right":
                    stand_ins.access.rights["system:serviceaccount:shop:ada"] = lambda _: False
                case "nothing, though it cannot be asked":
                    stand_ins.access.failure = AccessUnavailable("gone")
            if loses.startswith("nothing"):
                had = len(reader.body)
                await reader.until(lambda reader: len(reader.body) > had + 100)
                stand_ins.engine.asked[0].answer()
                assert b"event: answer" in (await reader.reply()).body
            else:
                assert b"event: answer" not in (await reader.reply()).body
                stand_ins.engine.asked[0].answer()

        run(body)
