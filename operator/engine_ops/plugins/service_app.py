"""The web application around a plugin: what `engine_ops.plugins.openapi` describes."""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import msgspec
from aiohttp import web

from engine_ops.plugins.messages import Broken, Opened, Replied, Trained
from engine_ops.plugins.openapi import document
from engine_ops.plugins.served_plugin import FeedError, ServedPlugin
from engine_ops.plugins.service_client import THREAD_BYTES
from engine_ops.plugins.service_messages import (
    JSON_TYPE,
    MAX_BODY_BYTES,
    MAX_TRAIN_BODY_BYTES,
    PROBLEM_TYPE,
    FieldFault,
    Health,
    History,
    HistoryKept,
    Optimize,
    Problem,
    Training,
    Validate,
    of_wire_point,
)
from engine_ops.plugins.service_translation import ask_of, done_of, info_of, reply_of
from engine_ops.plugins.service_worker import ServiceWorker, WorkerBusyError

logger = logging.getLogger(__name__)

RETRY_AFTER_SECONDS: Final = 1
OPENING_SECONDS: Final = 3.0
"""That a request waits for the plugin to be initialised; then it is told to come later."""

CLOSING_SECONDS: Final = 5.0
"""For the plugin to shut down."""

T = TypeVar("T")

_PIECE_BYTES: Final = 64 * 1024
_AT: Final = re.compile(r"^(?P<message>.*) - at `(?:key in )?\$?\.?(?P<path>[^`]*)`$")


class ProblemError(Exception):
    """Ends the handling of a request with an error.

    Parameters
    ----------
    status
        The HTTP status.
    detail
        One sentence for people.
    stage, errors
        See `Problem`.
    headers
        Further headers of the reply.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        stage: str | None = None,
        errors: tuple[tuple[str, str], ...] = (),
        headers: dict[str, str] | None = None,
    ) -> None:
        self.status = status
        self.stage = stage
        self.detail = detail
        self.errors = errors
        self.headers = headers or {}
        super().__init__(detail)

    def response(self) -> web.Response:
        """Return the reply."""
        title = web_title(self.status)
        body: dict[str, Any] = {"type": "about:blank", "title": title, "status": self.status, "detail": self.detail}
        if self.stage is not None:
            body["stage"] = self.stage
        if self.errors:
            body["errors"] = [FieldFault(path=path, message=message) for path, message in self.errors]
        # What is sent is what the interface says can be sent.
        problem = msgspec.convert(msgspec.to_builtins(body), Problem)
        return web.Response(
            body=msgspec.json.encode(problem), status=self.status, content_type=PROBLEM_TYPE, headers=self.headers
        )


class ServiceApp:
    """Handlers of all paths, on the event loop; the plugin's code runs in the worker's thread.

    Parameters
    ----------
    plugin
        A plugin, or its class.
    config
        JSON of an object: the settings to begin with.
    stuck_after_seconds
        ``/healthz`` answers 503 when a call takes longer.
    """

    def __init__(self, plugin: ServedPlugin, config: bytes, *, stuck_after_seconds: float) -> None:
        self._plugin = plugin
        self._config = config
        self._stuck_after_seconds = stuck_after_seconds
        self._worker = ServiceWorker()
        self._opening: asyncio.Task[None] | None = None
        self._training = 0

    def application(self) -> web.Application:
        """Return the application."""
        app = web.Application(middlewares=[_problems], client_max_size=0)
        app.add_routes(
            [
                web.get("/info", self._info),
                web.get("/healthz", self._healthz),
                web.get("/openapi.json", self._openapi),
                web.post("/validate", self._validate),
                web.post("/optimize", self._optimize),
                web.post("/history", self._history),
                web.post("/train", self._train),
            ]
        )
        app.on_startup.append(self._start)
        app.on_cleanup.append(self._stop)
        return app

    async def _start(self, _app: web.Application) -> None:
        self._opening = asyncio.create_task(self._open())

    async def _open(self) -> None:
        try:
            answer = await self._worker.run(lambda: self._plugin.open(self._config))
        except Exception:
            logger.exception("the plugin could not be opened")
            return
        if isinstance(answer, Broken):
            logger.warning("the plugin waits for its settings: %s", answer.message)

    async def _stop(self, _app: web.Application) -> None:
        try:
            async with asyncio.timeout(CLOSING_SECONDS):
                await self._worker.run(self._plugin.close)
        except (TimeoutError, WorkerBusyError):
            logger.warning("the plugin did not shut down within %g s", CLOSING_SECONDS)
        self._worker.close()
        if self._opening is not None:
            self._opening.cancel()

    async def _info(self, _request: web.Request) -> web.Response:
        await self._until_opened()
        return self._of_opened(self._plugin.info())

    async def _healthz(self, _request: web.Request) -> web.Response:
        busy_seconds = self._worker.busy_seconds
        if busy_seconds > self._stuck_after_seconds:
            raise ProblemError(503, f"the plugin has been at one call for {busy_seconds:.0f} s")
        return _json(
            Health(
                ok=True,
                instance=self._plugin.instance,
                waiting=self._worker.waiting,
                busy_seconds=round(busy_seconds, 3),
            )
        )

    async def _openapi(self, _request: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode(document()), content_type=JSON_TYPE)

    async def _validate(self, request: web.Request) -> web.Response:
        asked = await _read(request, Validate, MAX_BODY_BYTES)
        config = msgspec.json.encode(asked.config, order="deterministic")
        try:
            state = base64.b64decode(asked.state, validate=True)
        except (binascii.Error, ValueError) as error:
            raise ProblemError(422, "state is no base64", errors=(("state", str(error)),)) from error
        return self._of_opened(await self._run(lambda: self._plugin.open(config, state)))

    async def _optimize(self, request: web.Request) -> web.Response:
        asked = await _read(request, Optimize, MAX_BODY_BYTES)
        await self._until_opened()
        if self._training:
            raise _later("its model is being trained")
        ask = ask_of(asked)

        def answer() -> tuple[Replied, str]:
            # Both at one time: other settings may be next.
            return self._plugin.ask(ask), self._plugin.instance

        return _json(reply_of(*await self._run(answer)))

    async def _history(self, request: web.Request) -> web.Response:
        asked = await _read(request, History, MAX_BODY_BYTES)
        await self._until_opened()

        def take() -> tuple[int, str]:
            points = [_point(number, point) for number, point in enumerate(asked.points)]
            kept = self._plugin.take(asked.feed, points, reset=asked.reset, size=asked.size)
            return kept, self._plugin.instance

        try:
            kept, instance = await self._run(take)
        except FeedError:
            raise ProblemError(409, "the points before these are not here: send all of them, with reset") from None
        except ValueError as error:
            raise ProblemError(422, str(error), errors=(("points", str(error)),)) from error
        return _json(HistoryKept(points=kept, instance=instance))

    async def _train(self, request: web.Request) -> web.Response:
        asked = await _read(request, Training, MAX_TRAIN_BODY_BYTES)
        await self._until_opened()
        replay = None if asked.replay is None else ask_of(asked.replay)

        def train() -> Trained | Broken:
            given = asked.points
            points = None if given is None else [_point(number, point) for number, point in enumerate(given)]
            return self._plugin.train(points, replay)

        self._training += 1
        try:
            answer = await self._run(train)
        finally:
            self._training -= 1
        if isinstance(answer, Broken):
            raise _broken(answer)
        return _json(done_of(answer))

    async def _until_opened(self) -> None:
        if self._opening is not None and not self._opening.done():
            await asyncio.wait([self._opening], timeout=OPENING_SECONDS)
            if not self._opening.done():
                raise _later("the plugin is being initialised")

    def _of_opened(self, answer: Opened | Broken) -> web.Response:
        if isinstance(answer, Broken):
            raise _broken(answer)
        return _json(info_of(answer, self._plugin.instance))

    async def _run(self, function: Callable[[], T]) -> T:
        try:
            return await self._worker.run(function)
        except WorkerBusyError:
            raise _later("too many requests wait already") from None


def web_title(status: int) -> str:
    """Return what an HTTP status is called."""
    import http

    return http.HTTPStatus(status).phrase


@web.middleware
async def _problems(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except ProblemError as error:
        return error.response()
    except web.HTTPException as error:
        allowed = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        return ProblemError(error.status, error.reason, headers=allowed).response()
    except Exception:
        logger.exception("%s %s failed", request.method, request.path)
        return ProblemError(500, "a fault of the service, see its log").response()


async def _read(request: web.Request, kind: type[T], limit_bytes: int) -> T:
    """Read a body, no more of it than is allowed, and decode it."""
    if request.content_type != JSON_TYPE:
        raise ProblemError(415, f"the body must be {JSON_TYPE}, not {request.content_type}")
    if (request.content_length or 0) > limit_bytes:
        raise _too_large(limit_bytes)
    body = bytearray()
    async for piece in request.content.iter_chunked(_PIECE_BYTES):
        body += piece
        if len(body) > limit_bytes:
            raise _too_large(limit_bytes)
    try:
        if len(body) > THREAD_BYTES:
            return await asyncio.to_thread(msgspec.json.decode, body, type=kind)
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        found = _AT.match(str(error))
        fault = (found["path"], found["message"]) if found else ("", str(error))
        raise ProblemError(422, str(error), errors=(fault,)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProblemError(400, f"the body is no JSON: {error}") from error


def _point(number: int, point: Any) -> Any:
    try:
        return of_wire_point(point)
    except (TypeError, ValueError) as error:
        raise ValueError(f"points[{number}]: {error}") from error


def _json(value: msgspec.Struct) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type=JSON_TYPE)


def _later(detail: str) -> ProblemError:
    return ProblemError(503, detail, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})


def _too_large(limit_bytes: int) -> ProblemError:
    return ProblemError(413, f"the body is longer than {limit_bytes} bytes", headers={"Connection": "close"})


def _broken(broken: Broken) -> ProblemError:
    return ProblemError(422, broken.message, stage=broken.stage, errors=broken.faults)
