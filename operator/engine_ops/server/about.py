"""What there is, how it is, and numbers: `/`, `/openapi.json`, `/api/v1/health`, `/api/v1/metrics`, the cache's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from engine_ops.server.about_models import CacheStatistics, Health, Metrics, Root
from engine_ops.server.authentication import describe, require, services_of
from engine_ops.server.backend import Engine
from engine_ops.server.bridge import EngineGone
from engine_ops.server.callers import Right
from engine_ops.server.documented import problems, shown
from engine_ops.server.plugin_models import EXAMPLE, NoQuery
from engine_ops.server.replies import json_reply

HEALTH_SECONDS: Final = 5.0
"""For the engine to answer; after that it is degraded."""

HEALTH_AGE_SECONDS: Final = 1.0
"""So long an answer about health is good: anybody may ask, as often as they like."""

METRICS_PATH: Final = "/api/v1/metrics"
CACHE_PATH: Final = "/api/v1/cache/stats"

LINKS: Final[Mapping[str, str]] = {
    "health": "/api/v1/health",
    "metrics": METRICS_PATH,
    "cache": CACHE_PATH,
    "optimize": "/api/v1/optimize",
    "plugins": "/api/v1/plugins",
    "workloadData": "/api/v1/plugins/workload-data/export",
    "workloadStatistics": "/api/v1/plugins/workload-data/stats",
    "trainingFormat": "/api/v1/plugins/workload-data/training-format",
    "openapi": "/openapi.json",
}

_NONE = Annotated[NoQuery, Query()]


class About:
    """The routes.

    Parameters
    ----------
    version
        Of this program.
    document
        Returns the OpenAPI document.
    numbers
        Returns those of the requests that came here.
    cache
        Returns those of the result cache.
    """

    def __init__(
        self,
        *,
        version: str,
        document: Callable[[], Mapping[str, Any]],
        numbers: Callable[[], Mapping[str, Any]],
        cache: Callable[[], Mapping[str, Any]],
    ) -> None:
        self._version = version
        self._document = document
        self._numbers = numbers
        self._cache = cache
        self._begun = time.monotonic()
        self._health: tuple[float, str | None] | None = None
        self._asking = asyncio.Lock()

    def router(self) -> APIRouter:
        """Return the routes."""
        routes = APIRouter(tags=["about"])
        root = {"name": "engine-ops", "version": "0.1.0", "links": dict(LINKS)}
        health = {"status": "ok", "version": "0.1.0", "uptimeSeconds": 86_400}
        routes.add_api_route(
            "/",
            self._root,
            operation_id="getRoot",
            summary="What there is",
            description="Needs a token, and no right.",
            responses={200: shown("Where everything is.", root, Root), **problems("invalid")},
        )
        routes.add_api_route("/openapi.json", self._openapi, include_in_schema=False)
        routes.add_api_route(
            LINKS["health"],
            self._show_health,
            operation_id="getHealth",
            summary="Whether the engine answers",
            description="Needs no token.",
            responses={
                200: shown("Whether it does.", health, Health),
                **problems("invalid", "too-many-requests", always=False),
            },
        )
        routes.add_api_route(
            METRICS_PATH,
            self._metrics,
            operation_id="getMetrics",
            summary="Numbers",
            description=f"Needs the right to {describe(_right(METRICS_PATH))}.",
            responses={200: shown("Since the start.", _METRICS_EXAMPLE, Metrics), **problems("invalid")},
        )
        routes.add_api_route(
            CACHE_PATH,
            self._cache_statistics,
            operation_id="getCacheStatistics",
            summary="Numbers of the result cache",
            description=f"Needs the right to {describe(_right(CACHE_PATH))}.",
            responses={200: shown("Since the start.", _CACHE_EXAMPLE, CacheStatistics), **problems("invalid")},
        )
        return routes

    async def _root(self, query: _NONE) -> Response:
        del query
        return json_reply({"name": "engine-ops", "version": self._version, "links": LINKS})

    async def _openapi(self) -> Response:
        return json_reply(self._document())

    async def _show_health(self, request: Request, query: _NONE) -> Response:
        del query
        async with self._asking:
            now = time.monotonic()
            if self._health is None or now - self._health[0] > HEALTH_AGE_SECONDS:
                why = await _why_degraded(services_of(request).engine)
                self._health = time.monotonic(), why
            why = self._health[1]
        said: dict[str, Any] = {"status": "ok" if why is None else "degraded", "version": self._version}
        if why is not None:
            said["reason"] = why
        return json_reply({**said, "uptimeSeconds": int(time.monotonic() - self._begun)})

    async def _metrics(self, request: Request, query: _NONE) -> Response:
        del query
        await require(request, _right(METRICS_PATH))
        engine = services_of(request).engine
        plugins = {plugin.name: plugin.status for plugin in await engine.plugins()}
        health = {name: part for name, part in (await engine.health()).items() if name != "plugins"}
        return json_reply({**self._numbers(), "cache": self._cache(), "plugins": plugins, "engine": health})

    async def _cache_statistics(self, request: Request, query: _NONE) -> Response:
        del query
        await require(request, _right(CACHE_PATH))
        return json_reply(self._cache())


def _right(path: str) -> Right:
    return Right("get", path=path)


async def _why_degraded(engine: Engine) -> str | None:
    """Return what keeps the engine from answering, in words that anybody may read; None if nothing does."""
    try:
        async with asyncio.timeout(HEALTH_SECONDS):
            await engine.health()
    except TimeoutError:
        return f"the engine did not answer within {HEALTH_SECONDS:.0f} s"
    except EngineGone:
        return "the engine is ending"
    return None


_CACHE_EXAMPLE: Final = {
    "hits": 40,
    "misses": 10,
    "hitRatio": 0.8,
    "bypasses": 0,
    "entries": 10,
    "maxEntries": 1000,
    "bytes": 12_000,
    "maxBytes": 33_554_432,
    "stores": 10,
    "evictions": 0,
    "tooLarge": 0,
}
_METRICS_EXAMPLE: Final = {
    "requests": {
        "cached": 40,
        "solved": 9,
        "unsolved": 1,
        "invalid": 2,
        "cancelled": 0,
        "abandoned": 0,
        "failed": 0,
        "refused": 0,
    },
    "inFlight": {"now": 0, "most": 4},
    "durationMs": {"count": 10, "p50": 4.1, "p99": 12.5},
    "jobs": {"running": 0, "kept": 0, "keptBytes": 0},
    "cache": _CACHE_EXAMPLE,
    "plugins": {EXAMPLE.name: EXAMPLE.status},
    "engine": {"requestsUnderWay": 0},
}
