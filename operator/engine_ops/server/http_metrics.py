"""Counts HTTP requests, by the route that takes them."""

from __future__ import annotations

import time
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine_ops.server.bounded_label import OTHER
from engine_ops.server.metrics import NONE, Metrics
from engine_ops.server.metrics_snapshot import ApiNumbers
from engine_ops.server.optimizer import Optimizer

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_EVENTS: Final = b"text/event-stream"


class HttpMetrics:
    """An ASGI application around another: the outermost, so that what others refuse is counted too.

    Parameters
    ----------
    app
        The application. Its middlewares must pass on the very scope that they get: the route is found in it.
    metrics
        Where it is counted.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status, events = time.perf_counter(), 500, False

        async def watched(message: Message) -> None:
            nonlocal status, events
            if message["type"] == "http.response.start":
                status = message["status"]
                events = any(
                    name.lower() == b"content-type" and value.startswith(_EVENTS)
                    for name, value in message.get("headers", ())
                )
            await send(message)

        self._metrics.http_in_flight.inc()
        try:
            await self._app(scope, receive, watched)
        finally:
            self._metrics.http_in_flight.dec()
            method = scope["method"] if scope["method"] in _METHODS else OTHER
            route = getattr(scope.get("route"), "path", None) or NONE
            self._metrics.http_requests.labels(method, route, status).inc()
            if status == 429:
                self._metrics.http_rate_limited.inc()
            if not events:
                self._metrics.http_seconds.labels(method, route).observe(time.perf_counter() - began)


def measured(app: ASGIApp, metrics: Metrics) -> ASGIApp:
    """Return an application with all its metrics; those of its `Optimizer`, where ``app.state`` has one, among them."""
    optimizer = getattr(getattr(app, "state", None), "optimizer", None)
    if isinstance(optimizer, Optimizer):
        metrics.collect_api_from(lambda: _numbers_of(optimizer))
    return HttpMetrics(app, metrics)


def _numbers_of(optimizer: Optimizer) -> ApiNumbers:
    cache = optimizer.cache.stats()
    return ApiNumbers(
        solves_in_flight=optimizer.in_flight.taken,
        cache_hits=cache["hits"],
        cache_misses=cache["misses"],
        cache_evictions=cache["evictions"],
        cache_entries=cache["entries"],
        cache_bytes=cache["bytes"],
    )
