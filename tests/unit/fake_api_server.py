"""A small API server over real sockets whose answers a test writes: lists, streams, refusals, broken lines."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from aiohttp import web

from engine_ops.kube.connection import Connection

END_OF_LIST = {"k8s.io/initial-events-end": "true"}
Handler = Callable[[web.Request, web.StreamResponse], Awaitable[None]]


def node(name: str, version: int, **labels: str) -> dict:
    return {
        "kind": "Node",
        "apiVersion": "v1",
        "metadata": {"name": name, "resourceVersion": str(version), "labels": labels},
        "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"}},
    }


def line(kind: str, obj: dict) -> bytes:
    return json.dumps({"type": kind, "object": obj}).encode() + b"\n"


def bookmark(version: int, *, end: bool = False) -> bytes:
    metadata = {"resourceVersion": str(version), "annotations": END_OF_LIST if end else {}}
    return line("BOOKMARK", {"kind": "Node", "apiVersion": "v1", "metadata": metadata})


def error_line(code: int, reason: str, message: str = "so it is") -> bytes:
    return line("ERROR", {"kind": "Status", "apiVersion": "v1", "code": code, "reason": reason, "message": message})


class FakeNodes:
    """Serves ``/api/v1/nodes`` as a server does, as long as a test says nothing else.

    Attributes
    ----------
    history : list
        Each change as (version, type, object).
    lists, watches : list of dict
        The parameters of the requests that have come.
    refusals : list
        (what, status, message): requests of this sort (list, watch, stream-list) are refused; removed by the test.
    streams : list
        What is done instead with the next watches, first come first served; see `Handler`.
    late_seconds : float
        How long a stream waits before it sends changes.
    lets_go : asyncio.Event
        Streams send changes only while it is set, as it is at first.
    silent : bool
        Streams that are open are not told of changes; those that are opened later are.
    page_size : int or None
        Of lists.
    """

    def __init__(self) -> None:
        self.history: list[tuple[int, str, dict]] = []
        self.version = 10
        self.lists: list[dict[str, str]] = []
        self.asked: list[int] = []
        self.watches: list[dict[str, str]] = []
        self.tokens: list[str] = []
        self.refusals: list[tuple[str, int, str]] = []
        self.streams: list[Handler] = []
        self.items: dict[str, dict] = {}
        self.late_seconds = 0.0
        self.lets_go = asyncio.Event()
        self.lets_go.set()
        self.silent = False
        self.page_size: int | None = None
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def put(self, name: str, **labels: str) -> int:
        self.version += 1
        kind = "MODIFIED" if name in self.items else "ADDED"
        self.items[name] = node(name, self.version, **labels)
        self._note(kind, self.items[name])
        return self.version

    def delete(self, name: str) -> None:
        self.version += 1
        gone = self.items.pop(name)
        self._note("DELETED", {**gone, "metadata": {**gone["metadata"], "resourceVersion": str(self.version)}})

    def _note(self, kind: str, obj: dict) -> None:
        self.history.append((self.version, kind, obj))
        if self.silent:
            return
        self._changed.set()
        self._changed = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        query = dict(request.query)
        self.tokens.append(request.headers.get("Authorization", ""))
        watch, stream_list = "watch" in query, "sendInitialEvents" in query
        if watch:
            self.watches.append(query)
        elif query.get("limit") == "1":
            self.asked.append(self.version)
        else:
            self.lists.append(query)
        sorts = ("any", "watch" if watch else "list", "stream-list" if stream_list else "")
        for sort, status, message in self.refusals:
            if sort in sorts:
                body = {"kind": "Status", "code": status, "message": message, "reason": "Because"}
                return web.json_response(body, status=status)
        if not watch:
            return self._list(query)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        handler = self.streams.pop(0) if self.streams else self.serve
        with contextlib.suppress(ConnectionError):
            await handler(request, response)
        return response

    def _list(self, query: dict[str, str]) -> web.Response:
        items = [self.items[name] for name in sorted(self.items)]
        metadata: dict[str, str] = {"resourceVersion": str(self.version)}
        if self.page_size is not None and query.get("limit") != "1":
            begin = int(query.get("continue", "0"))
            end = begin + self.page_size
            if end < len(items):
                metadata["continue"] = str(end)
            items = items[begin:end]
        return web.json_response({"kind": "NodeList", "metadata": metadata, "items": items})

    async def serve(self, request: web.Request, response: web.StreamResponse) -> None:
        """Do what a server does."""
        if "sendInitialEvents" in request.query:
            await self.send_list(response)
            since = self.version
        else:
            since = int(request.query["resourceVersion"])
        await self.send_changes(response, since)

    async def send_list(self, response: web.StreamResponse) -> None:
        version = self.version
        for name in sorted(self.items):
            await response.write(line("ADDED", self.items[name]))
        await response.write(bookmark(version, end=True))

    async def send_changes(self, response: web.StreamResponse, since: int) -> None:
        while True:
            changed = self._changed
            if self.late_seconds:
                await asyncio.sleep(self.late_seconds)
            await self.lets_go.wait()
            for version, kind, obj in list(self.history):
                if version > since:
                    await response.write(line(kind, obj))
                    since = version
            await changed.wait()


@contextlib.asynccontextmanager
async def serving(
    directory: Path,
    nodes: FakeNodes,
    token: str = "first",  # noqa: S107
    routes: Callable[[web.Application], None] = lambda _: None,
) -> AsyncIterator[Connection]:
    """Serve, and give an open connection that uses the kubeconfig ``directory/config``; ``routes`` adds paths."""
    app = web.Application()
    app.router.add_get("/api/v1/nodes", nodes.handle)
    routes(app)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    write_kubeconfig(directory / "config", f"http://127.0.0.1:{port}", token)
    connection = await Connection.open(str(directory / "config"))
    try:
        yield connection
    finally:
        await connection.close()
        await runner.cleanup()


def write_kubeconfig(path: Path, server: str, token: str) -> None:
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "c",
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [{"name": "c", "cluster": {"server": server}}],
                "users": [{"name": "u", "user": {"token": token}}],
            }
        )
    )
