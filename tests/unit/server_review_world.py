"""The whole API on stand-ins, and callers that stop in the middle."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import threading
import tracemalloc
from collections.abc import Callable, Coroutine
from typing import Any

from server_stand_in import DEADLINE_SECONDS, Exchange, HttpClient, StandIns, solved, until

from engine_ops.server.app import create_app
from engine_ops.server.questions import Question, Reply
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
