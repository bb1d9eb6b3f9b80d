"""What a caller is told at the end, by the cache, of faults, and in a stream that goes on."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import pytest
from server_review_world import (
    ASK,
    URL,
    run,
)
from server_stand_in import HttpClient, StandIns, until

from engine_ops.api.reasons import Reason
from engine_ops.server import optimize
from engine_ops.server.callers import AccessUnavailable
from engine_ops.server.events import EventStream
from engine_ops.server.questions import Reply


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
                await until(asked.stop.is_set)
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
