"""The whole application on stand-ins, for the tests of `/api/v1/optimize`."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from server_stand_in import (
    HttpClient,
    HttpReply,
    StandInEngine,
    StandIns,
    leaving_no_tasks,
)
from virtual_time import run_in_virtual_time

from engine_ops.server.app import create_app
from engine_ops.server.optimizer import Optimizer
from engine_ops.server.services import ApiLimits

URL = "/api/v1/optimize"
ASK: dict[str, Any] = {"id": "a", "type": "resource", "data": {"items": []}}
FAST = ApiLimits(requests_per_second=1e9, burst=10**9)


@dataclasses.dataclass
class Api:
    """The application on stand-ins, and two users of it."""

    stand_ins: StandIns
    optimizer: Optimizer
    ada: HttpClient
    bob: HttpClient

    @property
    def engine(self) -> StandInEngine:
        return self.stand_ins.engine

    def hold(self, workers: int = 2) -> StandInEngine:
        """Have questions wait."""
        self.engine.held = True
        self.engine.workers = workers
        return self.engine

    async def ask(self, **changes: Any) -> HttpReply:
        return await self.ada.post(URL, json=ASK | changes)

    async def ask_later(self, request_id: str = "a", **headers: str) -> HttpReply:
        return await self.ada.post(URL, json=ASK | {"id": request_id}, prefer="respond-async", **headers)

    def state(self) -> tuple[int, int]:
        """How many places are taken, and how many jobs run."""
        return self.optimizer.in_flight.taken, self.optimizer.jobs.numbers()["running"]


@contextlib.asynccontextmanager
async def serving(**limits: Any) -> AsyncIterator[Api]:
    stand_ins = StandIns(limits=dataclasses.replace(FAST, **limits))
    stand_ins.access.add("a", "system:serviceaccount:shop:ada")
    stand_ins.access.add("b", "system:serviceaccount:shop:bob")
    app = create_app(stand_ins.services(), version="1")
    async with leaving_no_tasks():
        yield Api(stand_ins, app.state.optimizer, HttpClient(app, "a"), HttpClient(app, "b"))


def run(body: Callable[[Api], Coroutine[Any, Any, None]], **limits: Any) -> None:
    async def main() -> None:
        async with serving(**limits) as api:
            await body(api)

    asyncio.run(main())


def run_in_no_time(body: Callable[[Api], Coroutine[Any, Any, None]]) -> None:
    """Run where no time passes as long as there is something to do: what a limit is for is always in time."""

    async def main() -> None:
        async with serving() as api:
            await body(api)

    run_in_virtual_time(main())


def fields(reply: HttpReply) -> dict[str, str]:
    assert reply.headers["content-type"] == "application/problem+json"
    return {error["field"]: error["detail"] for error in reply.json().get("errors", [])}


def kind(reply: HttpReply) -> str:
    problem = reply.json()
    assert problem["status"] == reply.status
    return str(problem["type"]).rpartition(":")[2]
