"""`/api/v1/plugins/workload-data`: the history, for those who may read it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from itertools import chain
from typing import Annotated, Any, Final, TypeVar

import msgspec
from fastapi import APIRouter, Query, Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response, StreamingResponse

from engine_ops.api.optimizationrequest import PLURAL
from engine_ops.server.authentication import caller_of, permits, require, services_of
from engine_ops.server.callers import Right
from engine_ops.server.documented import problems, shown
from engine_ops.server.events import until_gone
from engine_ops.server.problems import ProblemError
from engine_ops.server.replies import JSON
from engine_ops.server.workload_models import Export, ExportQuery, PointsQuery, Statistics, TrainingFormat
from engine_ops.server.workload_points import PointFilter, Selection

_T = TypeVar("_T")

MAX_ASKED_AT_ONCE: Final = 16
"""So many namespaces are asked about at the same time."""

JSON_LINES: Final = "application/jsonl"
PARQUET: Final = "application/vnd.apache.parquet"

_POINT: Final = {
    "timestamp": 1_767_225_600_000,
    "requestType": "resource",
    "resourceUsage": {"cpu": 1.5, "memory": 1_073_741_824.0},
    "duration": 92_000.0,
    "success": True,
    "metadata": {"namespace": "shop", "name": "pack", "algorithm": "ffd"},
}
_STATISTICS: Final = {
    "total_requests": 1,
    "success_rate": 1.0,
    "avg_duration": 92_000.0,
    "p50_duration": 92_000.0,
    "p95_duration": 92_000.0,
    "time_span_ms": 0,
    "by_type": {"resource": {"count": 1, "success_rate": 1.0, "avg_duration": 92_000.0}},
}
_TRAINING: Final = {
    "columns": [
        {"name": "duration", "unit": "ms", "description": "How long it took"},
        {"name": "usage.cpu", "unit": "cores", "description": "Peak usage of cpu, as the point's writer meant it"},
    ],
    "count": 1,
    "data": {"duration": [92_000.0], "usage.cpu": [1.5]},
}

_NEEDS: Final = (
    "Needs the right to get optimizationrequests/history: of all namespaces, or of each whose points are to be seen."
)


def router() -> APIRouter:
    """Return the routes. They have to stand before those of `engine_ops.server.plugins`."""
    routes = APIRouter(prefix="/api/v1/plugins/workload-data", tags=["history"])
    handlers = _Handlers()
    routes.add_api_route(
        "/stats",
        handlers.stats,
        operation_id="getWorkloadStatistics",
        summary="Figures on the history",
        description=_NEEDS,
        responses={200: shown("The figures.", _STATISTICS, Statistics), **problems("not-found", "invalid")},
    )
    exported = shown("The points, oldest first.", {"data": [_POINT], "count": 1}, Export)
    line = msgspec.json.encode(_POINT).decode() + "\n"
    exported["content"] |= {
        JSON_LINES: {"schema": {"type": "string"}, "example": line},
        PARQUET: {"schema": {"type": "string", "format": "binary"}},
    }
    routes.add_api_route(
        "/export",
        handlers.export,
        operation_id="exportWorkloadData",
        summary="Points of the history",
        description=_NEEDS,
        responses={200: exported, **problems("not-found", "invalid", "not-installed")},
    )
    routes.add_api_route(
        "/training-format",
        handlers.training_format,
        operation_id="getTrainingFormat",
        summary="The history as a table to train on",
        description=_NEEDS,
        responses={
            200: shown("The table, column by column.", _TRAINING, TrainingFormat),
            **problems("not-found", "invalid"),
        },
    )
    return routes


class _Handlers:
    """The calls. One at a time is computed on another thread, and of one at a time a piece is written.

    Python runs one thread at a time, each for some milliseconds: with many the loops, of the API and of the operator,
    would have to wait for all of them whenever they have something to do.
    """

    def __init__(self) -> None:
        self._computing = asyncio.Semaphore(1)
        self._writing = asyncio.Semaphore(1)

    async def stats(self, request: Request, query: Annotated[PointsQuery, Query()]) -> Response:
        selection = await _select(request, query)
        return await self._computed(request, selection.statistics)

    async def training_format(self, request: Request, query: Annotated[PointsQuery, Query()]) -> Response:
        selection = await _select(request, query)
        return await self._computed(request, selection.training_format)

    async def export(self, request: Request, query: Annotated[ExportQuery, Query()]) -> Response:
        selection = await _select(request, query)
        match query.format:
            case "jsonl":
                return StreamingResponse(self._in_turns(selection.json_lines()), media_type=JSON_LINES)
            case "parquet":
                return await self._parquet(selection)
            case _:
                return StreamingResponse(self._in_turns(_json(selection)), media_type=JSON)

    async def _computed(self, request: Request, compute: Callable[[], Mapping[str, Any]]) -> Response:
        leaving = asyncio.create_task(until_gone(request.receive))
        try:
            async with self._computing:
                if leaving.done():
                    raise ClientDisconnect  # others wait, for what nobody would read
                body = await asyncio.to_thread(lambda: msgspec.json.encode(compute()))
        finally:
            leaving.cancel()
        return Response(body, media_type=JSON)

    async def _parquet(self, selection: Selection) -> Response:
        try:
            pieces = selection.parquet()
            # Whether it can be written is known with the first piece, before the answer begins.
            first = await self._written(lambda: next(pieces, b""))
        except ModuleNotFoundError:
            raise ProblemError(
                "not-installed", "Parquet needs pyarrow, which is not installed here: use format=jsonl."
            ) from None
        headers = {"Content-Disposition": 'attachment; filename="workload-data.parquet"'}
        return StreamingResponse(self._in_turns(chain([first], pieces)), media_type=PARQUET, headers=headers)

    async def _in_turns(self, pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
        while (piece := await self._written(lambda: next(pieces, None))) is not None:
            yield piece

    async def _written(self, write: Callable[[], _T]) -> _T:
        async with self._writing:
            return await asyncio.to_thread(write)


async def _select(request: Request, query: PointsQuery) -> Selection:
    """Return the points that a caller asks for and may see.

    Raises
    ------
    ProblemError
        403 if they may see none, 404 if no history is kept, 422 if the filters exclude each other.
    """
    if query.from_ is not None and query.to is not None and query.from_ > query.to:
        raise ProblemError(
            "invalid",
            "query parameter from: must not be later than to.",
            errors=[("from", "must not be later than to")],
        )
    chosen = PointFilter(
        namespaces=await _readable(request, query.namespace),
        request_type=query.type,
        from_ms=query.from_,
        to_ms=query.to,
        limit=query.limit,
    )
    selection = await services_of(request).engine.history(chosen)
    if selection is None:
        raise ProblemError("not-found", "No history is kept: the operator was started without.")
    return selection


async def _readable(request: Request, namespace: str | None) -> frozenset[str] | None:
    """Return the namespaces whose points are to be seen; None for all.

    Raises
    ------
    ProblemError
        403 if there is none.
    """
    if namespace is not None:
        await require(request, _right(namespace))
        return frozenset({namespace})
    if await permits(request, _right("")):
        return None
    asking = asyncio.Semaphore(MAX_ASKED_AT_ONCE)

    async def may_read(name: str) -> bool:
        async with asking:
            return await permits(request, _right(name))

    known = set(await services_of(request).engine.history_namespaces())
    if own := caller_of(request).namespace:
        known.add(own)  # who may read it there, and is the first to ask, is not to be told that they may not
    names = sorted(known)
    answers = await asyncio.gather(*map(may_read, names))
    readable = frozenset(name for name, may in zip(names, answers, strict=True) if may)
    if not readable:
        await require(request, _right(""))
    return readable


def _right(namespace: str) -> Right:
    return Right("get", PLURAL, "history", namespace=namespace)


def _json(selection: Selection) -> Iterator[bytes]:
    """Yield JSON lines as one object: no line has a line break within."""
    between = b'{"data":['
    for lines in selection.json_lines():
        yield between + lines.removesuffix(b"\n").replace(b"\n", b",\n")
        between = b",\n"
    if between != b",\n":
        yield between
    yield b'],"count":%d}\n' % len(selection)
