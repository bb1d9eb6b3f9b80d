"""`/api/v1/optimize` with the engine on the loop of another thread, as it is in the operator."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import threading
from collections.abc import AsyncIterator

from server_optimize_world import ASK, FAST, URL
from server_stand_in import DEADLINE_SECONDS, HttpClient, StandIns, until

from engine_ops.server.app import create_app
from engine_ops.server.bridge import BridgedEngine


@contextlib.asynccontextmanager
async def bridged() -> AsyncIterator[tuple[StandIns, asyncio.AbstractEventLoop, HttpClient]]:
    stand_ins = StandIns(limits=FAST)
    stand_ins.access.add("a", "system:serviceaccount:shop:ada")
    stand_ins.engine.held = True
    there = asyncio.new_event_loop()
    thread = threading.Thread(target=there.run_forever)
    thread.start()
    try:
        services = dataclasses.replace(stand_ins.services(), engine=BridgedEngine(stand_ins.engine, there))
        app = create_app(services, version="1")
        yield stand_ins, there, HttpClient(app, "a")
        await until(lambda: app.state.optimizer.in_flight.taken == 0)
    finally:
        there.call_soon_threadsafe(there.stop)
        thread.join(DEADLINE_SECONDS)
        there.close()


def test_every_improvement_comes_before_the_answer() -> None:
    async def main() -> None:
        async with bridged() as (stand_ins, there, ada):
            asked = stand_ins.engine.asked
            for count in range(1, 21):
                name = f"job-{count}"
                accepted = await ada.post(
                    URL, json=ASK | {"id": name}, prefer="respond-async", cache_control="no-store"
                )
                assert accepted.status == 202
                reading = ada.start("GET", f"{URL}/{name}/events")
                await until(lambda expected=count: len(asked) == expected)  # type: ignore[misc]
                for number in range(5):
                    there.call_soon_threadsafe(asked[-1].improve, number)
                there.call_soon_threadsafe(asked[-1].answer)
                body = (await reading.reply()).body
                assert body.count(b"event: improvement") == 5
                assert body.count(b"event: answer") == 1

    asyncio.run(main())


def test_going_away_and_cancelling_reach_the_engine() -> None:
    async def main() -> None:
        async with bridged() as (stand_ins, _, ada):
            asked = stand_ins.engine.asked
            exchange = ada.start("POST", URL, json=ASK)
            await until(lambda: len(asked) == 1)
            exchange.disconnect()
            await until(lambda: asked[0].cancelled)
            await ada.post(URL, json=ASK, prefer="respond-async")
            await until(lambda: len(asked) == 2)
            job = (await ada.delete(f"{URL}/a")).json()
            assert job["status"] == "cancelled"
            assert job["response"]["cutOff"] == "it was stopped"
            assert not asked[1].cancelled

    asyncio.run(main())
