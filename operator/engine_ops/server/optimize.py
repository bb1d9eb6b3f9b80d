"""`/api/v1/optimize`: questions and their answers, at once or later."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final
from urllib.parse import quote

import msgspec
from fastapi import APIRouter, Path, Request
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from engine_ops.api.optimizationrequest import PLURAL
from engine_ops.server.answers import response_of
from engine_ops.server.authentication import caller_of, namespace_of, require, still_permits
from engine_ops.server.body_limit import taken as body_taken
from engine_ops.server.callers import Right
from engine_ops.server.documented import problems, shown, taken
from engine_ops.server.events import MEDIA_TYPE as EVENTS
from engine_ops.server.events import EventStream, position_in, until_gone
from engine_ops.server.jobs import Ended, Job
from engine_ops.server.optimize_models import (
    ACCEPTED_EXAMPLE,
    JOB_EXAMPLE,
    MAX_ID_LENGTH,
    PROGRESS_EXAMPLE,
    REQUEST_EXAMPLE,
    RESPONSE_EXAMPLE,
    OptimizeJob,
    OptimizeRequest,
    OptimizeResponse,
)
from engine_ops.server.optimizer import Optimizer
from engine_ops.server.problems import ProblemError
from engine_ops.server.question_reading import LONG_BYTES, ReadQuestion, read_question
from engine_ops.server.request_body import read_body

PATH: Final = "/api/v1/optimize"

_HIT: Final = {"Cache-Status": "engine-ops; hit"}
_MISS: Final = {"Cache-Status": "engine-ops; fwd=miss"}
_BYPASS: Final = {"Cache-Status": "engine-ops; fwd=request"}
_OFF: Final[dict[str, str]] = {}

_ID = Annotated[
    str, Path(alias="id", description="The request's id.", max_length=MAX_ID_LENGTH, examples=[REQUEST_EXAMPLE["id"]])
]
_NAMESPACE: Final[dict[str, Any]] = {
    "name": "namespace",
    "in": "query",
    "required": False,
    "description": "Where the request counts; without it a ServiceAccount's own namespace.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 63, "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"},
    "example": "shop",
}
_PREFER: Final[dict[str, Any]] = {
    "name": "Prefer",
    "in": "header",
    "required": False,
    "description": "`respond-async` (RFC 7240): answer 202 at once, and the question later.",
    "schema": {"type": "string"},
    "example": "respond-async",
}
_CACHE_CONTROL: Final[dict[str, Any]] = {
    "name": "Cache-Control",
    "in": "header",
    "required": False,
    "description": "`no-cache`: take no answer of the result cache. `no-store`: nor keep this one there.",
    "schema": {"type": "string"},
    "example": "no-cache",
}
_LAST_EVENT_ID: Final[dict[str, Any]] = {
    "name": "Last-Event-ID",
    "in": "header",
    "required": False,
    "description": "The id of the last event that the reader has; browsers send it by themselves.",
    "schema": {"type": "string"},
}


_CACHE_STATUS: Final[dict[str, Any]] = {
    "description": "Whether the answer is of the result cache (RFC 9211); absent where there is none.",
    "schema": {"type": "string"},
    "example": _HIT["Cache-Status"],
}
_LOCATION: Final[dict[str, Any]] = {
    "description": "Where the request is.",
    "schema": {"type": "string"},
    "example": f"{PATH}/web-tier",
}

_RIGHT: Final = "Needs the right to create optimizationrequests in the namespace."


def router(optimizer: Optimizer) -> APIRouter:
    """Return the routes, with their full paths.

    Parameters
    ----------
    optimizer
        Answers.
    """
    handlers = _Handlers(optimizer)
    routes = APIRouter(tags=["optimize"])
    routes.add_api_route(
        PATH,
        handlers.post,
        methods=["POST"],
        operation_id="optimize",
        summary="Ask a question",
        description="Answers 200 where the question could be read, also if `success` is false: what was asked for "
        "cannot be had (`reason` Unplaceable, TimedOut), or not yet (NotEnoughData, NoPlugin). "
        f"With `Prefer: respond-async` it answers 202, and the question later. {_RIGHT}",
        response_class=JSONResponse,
        response_model=None,
        responses={
            200: shown("The answer, or why there is none.", RESPONSE_EXAMPLE, OptimizeResponse)
            | {"headers": {"Cache-Status": _CACHE_STATUS}},
            202: shown("The request is being answered, or has been from the cache.", ACCEPTED_EXAMPLE, OptimizeJob)
            | {"headers": {"Location": _LOCATION, "Cache-Status": _CACHE_STATUS}},
            **problems(
                "malformed",
                "namespace-missing",
                "conflict",
                "too-large",
                "unsupported-media-type",
                "invalid",
                "timeout",
                "busy",
            ),
        },
        openapi_extra=taken(OptimizeRequest, REQUEST_EXAMPLE) | {"parameters": [_NAMESPACE, _PREFER, _CACHE_CONTROL]},
    )
    routes.add_api_route(
        PATH + "/{id}",
        handlers.get,
        methods=["GET"],
        operation_id="getOptimizeJob",
        summary="See how far an asynchronous request is",
        description=f"Of the caller's own. {_RIGHT}",
        response_class=JSONResponse,
        response_model=None,
        responses={
            200: shown("Its status, the best so far, and the response once it has ended.", JOB_EXAMPLE, OptimizeJob),
            **problems("not-found", "invalid"),
        },
    )
    routes.add_api_route(
        PATH + "/{id}",
        handlers.delete,
        methods=["DELETE"],
        operation_id="cancelOptimizeJob",
        summary="Cancel an asynchronous request, and get its best answer so far",
        description="What has ended stays as it is. The response can be fetched as before. "
        f"Of the caller's own. {_RIGHT}",
        response_class=JSONResponse,
        response_model=None,
        responses={
            200: shown(
                "The request as it ended.",
                JOB_EXAMPLE | {"status": "cancelled", "response": RESPONSE_EXAMPLE | {"cutOff": "it was cancelled"}},
                OptimizeJob,
            ),
            **problems("not-found", "invalid"),
        },
    )
    routes.add_api_route(
        PATH + "/{id}/events",
        handlers.events,
        methods=["GET"],
        operation_id="readOptimizeEvents",
        summary="Follow an asynchronous request",
        description="Server-sent events: `improvement` (objective, lowerBound, gap) for each better answer, from the "
        f"first one on, and `answer` (the response), after which the stream ends. Of the caller's own. {_RIGHT}",
        response_class=Response,
        response_model=None,
        responses={
            200: {
                "description": "The events.",
                "content": {EVENTS: {"schema": {"type": "string"}, "example": _events_example()}},
            },
            204: {"description": "The reader has everything, as its Last-Event-ID says."},
            **problems("not-found", "invalid"),
        },
        openapi_extra={"parameters": [_LAST_EVENT_ID]},
    )
    return routes


class _Handlers:
    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._reading_long = asyncio.Semaphore(1)

    async def post(self, request: Request) -> Response:
        caller = caller_of(request)
        _check_query(request, {"namespace"})
        namespace = await namespace_of(request, caller)
        await require(request, _right(namespace))
        later = _says(request, "prefer", "respond-async")
        read = await self._read(await _body(request, self._optimizer.limits.body_bytes), namespace, caller.username)
        if later:
            _check_addressable(read.question.id)
        tail, key, headers = self._look_up(request, read)
        if later:
            job = self._optimizer.start_kept(read, key) if tail is None else self._optimizer.keep_cached(read, tail)
            extra = {"Location": _link(job), "Preference-Applied": "respond-async"}
            return _json(_job(job), 202, headers | extra)
        if tail is None:
            job = self._optimizer.start(read, key)
            body_taken(request.scope)  # what is being answered has a bound of its own
            ended = await self._wait(request, job)
            if ended.problem is not None:
                raise ended.problem
            tail = ended.tail
        return _json(response_of(read.question.id, tail, read.warnings), 200, headers)

    async def get(self, request: Request, request_id: _ID) -> Response:
        return _json(_job(await self._own(request, request_id)))

    async def delete(self, request: Request, request_id: _ID) -> Response:
        job = await self._own(request, request_id)
        await self._optimizer.cancel(job)
        return _json(_job(job))

    async def events(self, request: Request, request_id: _ID) -> Response:
        job = await self._own(request, request_id)
        position = position_in(job, request.headers.get("last-event-id"))
        if position is None:
            return Response(status_code=204)  # which ends the attempts of a browser to come back
        return EventStream(job, position, permitted=lambda: still_permits(request, _right(job.namespace)))

    async def _read(self, body: bytes, namespace: str, username: str) -> ReadQuestion:
        """Read a question; a long one on another thread, one after another: what others ask is not to wait for it."""
        if len(body) <= LONG_BYTES:
            return read_question(body, namespace=namespace, username=username)
        async with self._reading_long:
            return await asyncio.to_thread(read_question, body, namespace=namespace, username=username)

    def _look_up(self, request: Request, read: ReadQuestion) -> tuple[bytes | None, bytes | None, dict[str, str]]:
        """Return the tail of a cached answer, the key to put an answer under, and headers that tell which it was."""
        optimizer = self._optimizer
        if not optimizer.cache.enabled:
            return None, None, _OFF
        key = optimizer.key_of(read)
        if "cache-control" in request.headers:
            if _says(request, "cache-control", "no-store"):
                optimizer.cache.bypass()
                return None, None, _BYPASS
            if _says(request, "cache-control", "no-cache"):
                optimizer.cache.bypass()
                return None, key, _BYPASS
        tail = optimizer.cached(key)
        return tail, key, _MISS if tail is None else _HIT

    async def _wait(self, request: Request, job: Job) -> Ended:
        """Wait for a job's end; end its work when the caller goes away, or is sent away.

        Raises
        ------
        ClientDisconnect
            If the caller has gone.
        """
        optimizer = self._optimizer
        leaving = asyncio.create_task(until_gone(request.receive))

        def leave(task: asyncio.Task[None]) -> None:
            if not task.cancelled():
                task.exception()
                optimizer.give_up(job)

        leaving.add_done_callback(leave)
        try:
            ended = await job.finished()
        finally:
            optimizer.give_up(job)
            gone = not leaving.cancel()
        if gone:
            raise ClientDisconnect
        return ended

    async def _own(self, request: Request, request_id: str) -> Job:
        _check_query(request, set())
        job = self._optimizer.jobs.get(caller_of(request).username, request_id)
        await require(request, _right(job.namespace))
        return job


def _right(namespace: str) -> Right:
    return Right("create", PLURAL, namespace=namespace)


def _check_query(request: Request, known: set[str]) -> None:
    if request.scope["query_string"]:
        errors = [(name[:80], "unknown parameter") for name in request.query_params if name not in known]
        if errors:
            raise ProblemError("invalid", "There is no such query parameter.", errors=errors[:10])


def _check_addressable(request_id: str) -> None:
    if "/" in request_id or request_id in {".", ".."}:
        sentence = "must hold no / and be no . or .. where Prefer is respond-async: it stands in a URL"
        raise ProblemError("invalid", f"id: {sentence}.", errors=[("id", sentence)])


def _says(request: Request, header: str, word: str) -> bool:
    """Whether a header that lists words, with parameters or without, has one of them."""
    return any(
        part.partition(";")[0].strip().lower() == word
        for value in request.headers.getlist(header)
        for part in value.split(",")
    )


async def _body(request: Request, limit_bytes: int) -> bytes:
    """Read the body.

    A form's type, or none, would let any page of a browser send questions to a machine without tokens.

    Raises
    ------
    ProblemError
        413 if it is too long, 415 if it is not said to be JSON.
    ClientDisconnect
        If the caller has gone.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" and not (
        media_type.startswith("application/") and media_type.endswith("+json")
    ):
        raise ProblemError("unsupported-media-type", "The body must be JSON: Content-Type: application/json.")
    return await read_body(request, limit_bytes)


def _link(job: Job) -> str:
    return f"{PATH}/{quote(job.id, safe='')}"


def _job(job: Job) -> bytes:
    link = _link(job)
    head = {"requestId": job.id, "status": job.status, "links": {"self": link, "events": f"{link}/events"}}
    body = msgspec.json.encode(head)[:-1]
    if job.progress is not None:
        body += b',"progress":' + job.progress
    if job.response is not None:
        body += b',"response":' + job.response
    return body + b"}"


def _json(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status, headers, "application/json")


def _events_example() -> str:
    progress = msgspec.json.encode(PROGRESS_EXAMPLE).decode()
    answer = msgspec.json.encode(RESPONSE_EXAMPLE).decode()
    return f"event: improvement\nid: 1f0c-1\ndata: {progress}\n\nevent: answer\nid: 1f0c-answer\ndata: {answer}\n\n"
