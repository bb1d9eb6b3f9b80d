"""Services of plugins for tests: a real one around a plugin, and one that sends what it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from aiohttp import web
from test_workers_pool import run, until

from engine_ops.api.optimizerplugin import PluginLimits, PluginService
from engine_ops.history.collector import WorkloadCollector
from engine_ops.history.feed import HistoryFeed
from engine_ops.ml import WorkloadDataPoint
from engine_ops.plugins.messages import Ask
from engine_ops.plugins.service_instance import ServiceInstance
from engine_ops.plugins.serving import application

__all__ = ["run", "until"]  # for who takes the services

INFO = {"name": "scripted", "version": "1.0", "types": ["ml-driven"], "hasModel": True, "isTrained": False}
REPLY = {"success": True, "result": {"expected_duration": 7.0}, "confidence": 0.5}


@contextlib.asynccontextmanager
async def serving(plugin: Any, port: int = 0, **options: Any) -> AsyncIterator[int]:
    """Serve a plugin on a loopback port, which is yielded."""
    runner = web.AppRunner(application(plugin, **options), handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port, reuse_address=True).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def response(status: int, body: bytes | str | dict[str, Any], *headers: str, kind: str = "application/json") -> bytes:
    content = json.dumps(body).encode() if isinstance(body, dict) else body.encode() if isinstance(body, str) else body
    head = [f"HTTP/1.1 {status} Whatever", f"Content-Type: {kind}", f"Content-Length: {len(content)}", *headers]
    return "\r\n".join([*head, "", ""]).encode() + content


Script = bytes | Callable[[dict[str, Any]], bytes | Awaitable[bytes]]


class Scripted:
    """Sends the bytes that are in `script` for a path, and remembers what it got."""

    def __init__(self) -> None:
        self.port = 0
        self.got: list[tuple[str, dict[str, Any]]] = []
        self.headers: list[dict[str, str]] = []
        self.script: dict[str, Script] = {
            "/info": response(200, INFO),
            "/validate": response(200, INFO),
            "/healthz": response(200, {"ok": True}),
            "/history": response(200, {"points": 0}),
            "/optimize": response(200, REPLY),
            "/train": response(200, {"modelId": "m", "samples": 3, "isTrained": True}),
        }

    def paths(self) -> list[str]:
        return [path for path, _ in self.got]

    def bodies(self, path: str) -> list[dict[str, Any]]:
        return [body for each, body in self.got if each == path]

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self.port
        finally:
            server.close()
            for writer in list(self._writers):
                writer.transport.abort()

    _writers: set[asyncio.StreamWriter] = set()  # noqa: RUF012 - all connections of a test's servers

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *rest = head.decode().rstrip().split("\r\n")
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in rest)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                path, asked = first.split()[1], json.loads(body) if body else {}
                self.got.append((path, asked))
                self.headers.append(headers)
                script = self.script.get(path, response(404, {"title": "Not Found"}))
                sent = script if isinstance(script, bytes) else script(asked)
                writer.write(await sent if inspect.isawaitable(sent) else sent)
                await writer.drain()
                if b"Connection: close" in (sent if isinstance(sent, bytes) else b"") or not sent:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


def instance_at(port: int, *, timeout_seconds: int = 60, config: dict[str, Any] | None = None, **options: Any) -> Any:
    def resolve(service: PluginService) -> str:
        assert (service.name, service.namespace) == ("plugin", "team")
        return f"http://127.0.0.1:{port}"

    return ServiceInstance(
        "scripted",
        PluginService(name="plugin", namespace="team"),
        limits=PluginLimits(timeout_seconds=timeout_seconds),
        config=json.dumps(config or {}).encode(),
        resolve=resolve,
        **options,
    )


@contextlib.asynccontextmanager
async def started(port: int, **options: Any) -> AsyncIterator[Any]:
    instance = instance_at(port, **options)
    try:
        await instance.start()
        yield instance
    finally:
        await instance.close()


def ask(data: dict[str, Any] | None = None, **options: Any) -> Ask:
    return Ask("a/b", "ml-driven", json.dumps(data or {"rows": 3}).encode(), **options)


def point(number: int, **metadata: Any) -> WorkloadDataPoint:
    return WorkloadDataPoint(
        1_767_225_600_000 + number, "ml-driven", {"cpu": 1.0}, 10.0 * number, True, {"number": number, **metadata}
    )


def history(*numbers: int, capacity: int = 10_000) -> WorkloadCollector:
    collector = WorkloadCollector(capacity)
    collector.record_many(point(number) for number in numbers)
    return collector


def feed(collector: WorkloadCollector) -> HistoryFeed:
    return HistoryFeed(collector)
