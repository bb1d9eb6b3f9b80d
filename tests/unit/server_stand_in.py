"""A stand-in for what the REST API works with, in memory and programmable, and a client that needs no socket."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

from engine_ops.api.plugin_change import PluginChange
from engine_ops.api.reasons import Reason
from engine_ops.engine.request import SolvedBy
from engine_ops.server.backend import PluginInfo
from engine_ops.server.callers import Caller, Right, Unauthenticated
from engine_ops.server.plugin_changes import PluginNotFound
from engine_ops.server.questions import Improvement, Question, Reply
from engine_ops.server.services import ApiLimits, Services
from engine_ops.server.stop_signal import StopSignal
from engine_ops.server.workload_points import PointFilter

DEADLINE_SECONDS = 60.0
"""For whatever a test waits for."""


def solved(question: Question) -> Reply:
    """Return a good reply, which has the question's data in its result."""
    return Reply(
        success=True,
        reason=Reason.SOLVED,
        message="everything is placed",
        duration_ms=7,
        result=b'{"data":' + question.data + b"}",
        score=0.75,
        solved_by=SolvedBy(algorithm="ffd", version="1"),
        cacheable=True,
    )


def best_so_far(question: Question) -> Reply:
    """Return the reply of a search that was stopped."""
    return dataclasses.replace(solved(question), reason=Reason.BEST_SO_FAR, cut_off="it was stopped", cacheable=False)


@dataclasses.dataclass(eq=False)
class Asked:
    """A question that the engine is at.

    Parameters
    ----------
    question
        The question.
    stop
        As `Engine.answer` got it.
    on_improvement
        The same.
    """

    question: Question
    stop: StopSignal
    on_improvement: Callable[[Improvement], None]
    reply: asyncio.Future[Reply] = dataclasses.field(default_factory=lambda: asyncio.get_running_loop().create_future())
    cancelled: bool = False
    ended: bool = False

    def improve(self, objective: float, lower_bound: float | None = None, gap: float | None = None) -> None:
        """Find a better answer."""
        self.on_improvement(Improvement(objective, lower_bound, gap))

    def answer(self, reply: Reply | None = None) -> None:
        """End with a reply, by default a good one."""
        self.reply.set_result(reply or solved(self.question))

    def fail(self, error: Exception) -> None:
        """End with an exception."""
        self.reply.set_exception(error)


class StandInEngine:
    """An engine that answers as it is told.

    Parameters
    ----------
    workers
        See `Engine`.

    Attributes
    ----------
    reply
        Makes the replies of questions that are not held.
    held
        While true, questions wait for the test to `Asked.answer` them.
    heeds_stop
        Whether a held question ends with `best_so_far` when it is stopped.
    asked
        All questions that came, in order.
    lineups
        What `lineup` returns, by request type; the empty string for others.
    named, points, healthy
        What `plugins`, `history` (None: none is kept) and `health` are about.
    """

    def __init__(self, workers: int = 2) -> None:
        self.workers = workers
        self.reply: Callable[[Question], Reply] = solved
        self.held = False
        self.heeds_stop = True
        self.asked: list[Asked] = []
        self.lineups: dict[str, str] = {}
        self.named: dict[str, PluginInfo] = {}
        self.points: list[dict[str, Any]] | None = []
        self.healthy: dict[str, Any] = {"requestsUnderWay": 0}

    def lineup(self, request_type: str, plugin: str | None) -> str:
        return self.lineups.get(request_type, "")

    async def answer(
        self, question: Question, *, on_improvement: Callable[[Improvement], None], stop: StopSignal
    ) -> Reply:
        asked = Asked(question, stop, on_improvement)
        self.asked.append(asked)
        try:
            if not self.held:
                return self.reply(question)
            stopping = asyncio.get_running_loop().create_future()
            waited = {asked.reply, stopping} if self.heeds_stop else {asked.reply}
            with stop.calling(lambda: stopping.set_result(None)):
                await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            return asked.reply.result() if asked.reply.done() else best_so_far(question)
        except asyncio.CancelledError:
            asked.cancelled = True
            raise
        finally:
            asked.ended = True

    async def plugins(self) -> Sequence[PluginInfo]:
        return [self.named[name] for name in sorted(self.named)]

    async def plugin(self, name: str) -> PluginInfo | None:
        return self.named.get(name)

    async def history_namespaces(self) -> frozenset[str]:
        return frozenset(point["namespace"] for point in self.points or () if "namespace" in point)

    async def history(self, chosen: PointFilter) -> StandInSelection | None:
        if self.points is None:
            return None
        points = [
            point
            for point in self.points
            if (chosen.namespaces is None or point.get("namespace") in chosen.namespaces)
            and (chosen.request_type is None or point.get("type") == chosen.request_type)
            and (chosen.from_ms is None or point["timestamp"] >= chosen.from_ms)
            and (chosen.to_ms is None or point["timestamp"] <= chosen.to_ms)
        ]
        return StandInSelection(points if chosen.limit is None else points[len(points) - chosen.limit :])

    async def health(self) -> Mapping[str, Any]:
        return self.healthy


class StandInSelection:
    """Points of a list."""

    def __init__(self, points: Sequence[dict[str, Any]]) -> None:
        self._points = points

    def __len__(self) -> int:
        return len(self._points)

    def json_lines(self) -> Iterator[bytes]:
        for start in range(0, len(self._points), 100):
            yield b"".join(msgspec.json.encode(point) + b"\n" for point in self._points[start : start + 100])

    def statistics(self) -> Mapping[str, Any]:
        return {"total_points": len(self._points)}

    def training_format(self) -> Mapping[str, Any]:
        return {"features": [[point["timestamp"]] for point in self._points], "labels": [1.0] * len(self._points)}

    def parquet(self) -> Iterator[bytes]:
        yield b"PAR1"
        yield b"PAR1"


class StandInAccess:
    """Knows tokens, and rights by user; without tokens everybody is the user of this machine."""

    def __init__(self, *, open_: bool = False) -> None:
        self.open = open_
        self.tokens: dict[str, Caller] = {}
        self.rights: dict[str, Callable[[Right], bool]] = {}
        self.failure: Exception | None = None

    def add(self, token: str, username: str, rights: Callable[[Right], bool] = lambda _: True) -> Caller:
        """Let a user in, with all rights unless told otherwise."""
        self.tokens[token] = Caller(username, token=token)
        self.rights[username] = rights
        return self.tokens[token]

    async def authenticate(self, token: str | None) -> Caller:
        if self.failure is not None:
            raise self.failure
        if self.open:
            return Caller("local")
        if token is None or token not in self.tokens:
            raise Unauthenticated("the token is missing" if token is None else "the token is not good")
        return self.tokens[token]

    async def allowed(self, caller: Caller, right: Right) -> bool:
        if self.failure is not None:
            raise self.failure
        return self.open or self.rights[caller.username](right)


class StandInSwitch:
    """Changes the plugins of a `StandInEngine`, or refuses as it is told."""

    def __init__(self, engine: StandInEngine) -> None:
        self.engine = engine
        self.refusal: Exception | None = None
        self.changes: list[tuple[Caller, str, PluginChange, bool]] = []

    async def change(self, caller: Caller, name: str, change: PluginChange, *, force: bool) -> None:
        if self.refusal is not None and not force:
            raise self.refusal
        if name not in self.engine.named:
            raise PluginNotFound(name)
        self.changes.append((caller, name, change, force))
        changed = {key: value for key, value in dataclasses.asdict(change).items() if value is not None}
        self.engine.named[name] = dataclasses.replace(self.engine.named[name], **changed)


@dataclasses.dataclass
class StandIns:
    """All of them."""

    engine: StandInEngine = dataclasses.field(default_factory=StandInEngine)
    access: StandInAccess = dataclasses.field(default_factory=StandInAccess)
    limits: ApiLimits = dataclasses.field(default_factory=ApiLimits)

    def __post_init__(self) -> None:
        self.switch = StandInSwitch(self.engine)

    def services(self) -> Services:
        return Services(engine=self.engine, access=self.access, switch=self.switch, limits=self.limits)


@dataclasses.dataclass(frozen=True)
class HttpReply:
    """A whole reply."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Exchange:
    """One request to an ASGI application, and its reply as it comes.

    Parameters
    ----------
    app
        The application.
    scope
        Of the request.
    body
        Sent in pieces.
    """

    def __init__(self, app: Any, scope: dict[str, Any], body: Sequence[bytes]) -> None:
        self._app = app
        self._scope = scope
        self._pieces = list(body) or [b""]
        self._gone = asyncio.Event()
        self._changed = asyncio.Event()
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.body = b""
        self.complete = False
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            await self._app(self._scope, self._receive, self._send)
        finally:
            self._changed.set()

    async def _receive(self) -> dict[str, Any]:
        if self._pieces:
            piece = self._pieces.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(self._pieces)}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode().lower(): value.decode() for name, value in message["headers"]}
        else:
            self.body += message.get("body", b"")
            if not message.get("more_body"):
                self.complete = True
                self._gone.set()
        self._changed.set()

    def disconnect(self) -> None:
        """Go away, as a client does."""
        self._gone.set()

    async def until(self, condition: Callable[[Exchange], bool]) -> None:
        """Wait until something holds; the application's exception is raised where it ends with one."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not condition(self):
                if self.task.done():
                    self.task.result()
                    assert condition(self), f"the reply has ended: {self.status} {self.body[-300:]!r}"
                self._changed.clear()
                if not condition(self):
                    await self._changed.wait()

    async def reply(self) -> HttpReply:
        """Wait for the end."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            await self.task
        assert self.status is not None
        return HttpReply(self.status, self.headers, self.body)


class HttpClient:
    """Talks to an ASGI application in this process.

    Parameters
    ----------
    app
        The application.
    token
        Sent with each request; None for none.
    """

    def __init__(self, app: Any, token: str | None = None) -> None:
        self.app = app
        self.token = token

    def start(
        self, method: str, url: str, *, json: Any = None, body: bytes | Sequence[bytes] | None = None, **headers: str
    ) -> Exchange:
        """Send a request. Headers are given with ``_`` for ``-``."""
        split = urlsplit(url)
        sent = {"host": "localhost:3000"}
        if json is not None:
            body = msgspec.json.encode(json)
            sent["content-type"] = "application/json"
        if self.token is not None:
            sent["authorization"] = f"Bearer {self.token}"
        sent |= {name.lower().replace("_", "-"): value for name, value in headers.items()}
        pieces = [body] if isinstance(body, bytes) else list(body or ())
        if pieces and not isinstance(body, list):
            sent.setdefault("content-length", str(sum(map(len, pieces))))
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(split.path),
            "raw_path": split.path.encode(),
            "query_string": split.query.encode(),
            "root_path": "",
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in sent.items()],
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 3000),
            "state": {},
        }
        return Exchange(self.app, scope, pieces)

    async def request(self, method: str, url: str, **more: Any) -> HttpReply:
        """Send a request and wait for the reply."""
        return await self.start(method, url, **more).reply()

    async def get(self, url: str, **more: Any) -> HttpReply:
        return await self.request("GET", url, **more)

    async def post(self, url: str, **more: Any) -> HttpReply:
        return await self.request("POST", url, **more)

    async def delete(self, url: str, **more: Any) -> HttpReply:
        return await self.request("DELETE", url, **more)

    async def patch(self, url: str, **more: Any) -> HttpReply:
        return await self.request("PATCH", url, **more)


async def until(condition: Callable[[], bool]) -> None:
    """Let the other tasks run until something holds."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():  # noqa: ASYNC110 - what is waited for is plain state of objects
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def leaving_no_tasks() -> AsyncIterator[None]:
    """Check that the body leaves no task behind."""
    before = asyncio.all_tasks()
    yield
    await until(lambda: asyncio.all_tasks() <= before)
