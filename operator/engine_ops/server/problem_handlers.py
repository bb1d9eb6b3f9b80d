"""What becomes of errors: each ends as problem details, whoever raised it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import Any, Final

from fastapi.exceptions import RequestValidationError
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine_ops.api.faults import Fault, InvalidDataError, format_path, is_no_object
from engine_ops.server.bridge import EngineGone
from engine_ops.server.callers import AccessUnavailable
from engine_ops.server.problems import TITLES, ProblemError

logger = logging.getLogger(__name__)

RETRY_AFTER_SECONDS: Final = 5
"""For what passes: an engine that restarts, an API server that cannot be reached."""

MAX_ERRORS: Final = 50
"""So many fields are named; a body of nothing but faults makes no answer as long as itself."""

MAX_PATH_LENGTH: Final = 300


class Problems:
    """ASGI middleware around everything: answers what is raised, and says to browsers and caches what they need.

    Parameters
    ----------
    app
        What it stands around.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on. Nothing is raised before an answer has begun."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def send_on(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(scope=message)
                headers.setdefault("X-Content-Type-Options", "nosniff")
                # Whatever is said is for this caller: no cache on the way may give it to another one.
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            await self._app(scope, receive, send_on)
        except ClientDisconnect:
            return  # there is nobody to answer
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if begun or (task is not None and task.cancelling()):
                raise
            # It was not this request that was cancelled but what it waited for: the engine's loop is ending.
            await _unavailable("The engine is ending. Try again.").response()(scope, receive, send_on)
        except Exception as error:
            if begun:
                raise  # the connection is cut, so that nobody takes half an answer for the whole
            await problem_of(error, f"{scope['method']} {scope['path']}").response()(scope, receive, send_on)


def problem_of(error: Exception, request: str) -> ProblemError:
    """Return what a caller is told of an error. One that is not foreseen is logged, and told nothing of.

    Parameters
    ----------
    error
        Whatever was raised.
    request
        Method and path, for the log.
    """
    match error:
        case ProblemError():
            return error
        case EngineGone():
            return _unavailable("The engine is ending. Try again.")
        case AccessUnavailable():
            return _unavailable(f"It cannot be known who may do this: {error}. Try again.")
        case _:
            logger.error("a defect: %.300s failed", request, exc_info=error)
            return ProblemError("internal", "This is a defect of the operator; its log says more.")


async def answer_problem(request: Request, error: Exception) -> Response:
    """Answer an error that a route foresaw; an exception handler for `ProblemError` and its like."""
    return problem_of(error, f"{request.method} {request.url.path}").response()


async def answer_invalid(request: Request, error: Exception) -> Response:
    """Answer what the framework found wrong with parameters or a body; an exception handler."""
    del request
    if not isinstance(error, RequestValidationError):
        raise error
    return invalid(error.errors()).response()


def invalid(found: Sequence[Any]) -> ProblemError:
    """Return a problem of what pydantic found, as its ``errors()`` say.

    Parameters
    ----------
    found
        With locations that begin with where it was found: ``query``, ``path``, ``header`` or ``body``.
    """
    if any(item["type"] == "json_invalid" for item in found):
        return ProblemError("malformed", "The body is not JSON.")
    kinds = {"query": "query parameter ", "path": "part of the path ", "header": "header "}
    errors, told = [], []
    for item in found[:MAX_ERRORS]:
        where = item["loc"][0]
        errors.append((_path(item["loc"][1:]), _sentence(item)))
        told.append(Fault(f"{kinds.get(where, '')}{errors[-1][0] or where}", errors[-1][1]))
    return ProblemError("invalid", f"{InvalidDataError(told).summary()}.", errors=errors)


class NoRoute:
    """Answers what the framework itself refuses; an exception handler for its `HTTPException`.

    Parameters
    ----------
    routes
        All that there are.
    """

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        self._routes = tuple(route for route in routes if isinstance(route, Route))

    async def __call__(self, request: Request, error: Exception) -> Response:
        """Return the answer."""
        if not isinstance(error, HTTPException):
            raise error
        path: str = request.scope["path"]
        if error.status_code == 405:
            # The framework names the methods of the first route only that has this path.
            methods = {
                method for route in self._routes if route.path_regex.match(path) for method in route.methods or ()
            }
            allowed = ", ".join(sorted(methods))
            return ProblemError(
                "method-not-allowed", f"This path takes {allowed}.", headers={"Allow": allowed}
            ).response()
        if error.status_code == 404:
            return ProblemError("not-found", "There is nothing at this path; GET / says what there is.").response()
        kind = next((kind for kind, (status, _) in TITLES.items() if status == error.status_code), "malformed")
        return ProblemError(kind, f"{error.detail}.", headers=error.headers).response()


def _unavailable(detail: str) -> ProblemError:
    return ProblemError("unavailable", detail, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})


def _path(location: Iterable[str | int]) -> str:
    path = format_path(location)
    return path if len(path) <= MAX_PATH_LENGTH else f"{path[:MAX_PATH_LENGTH]}..."


def _sentence(item: Any) -> str:
    if item["type"] == "extra_forbidden":
        return "there is no such parameter" if item["loc"][0] == "query" else "unknown field"
    if item["type"] == "missing":
        return "required, but absent"
    if is_no_object(item):
        return "must be an object"
    message: str = item["msg"]
    return message.removeprefix("Value error, ")
