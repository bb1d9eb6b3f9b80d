"""What Kubernetes and Prometheus ask of the operator, on a port of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

logger = logging.getLogger(__name__)

HEALTH_SECONDS: Final = 5.0
"""For the engine's loop to answer; kubelet itself waits for as long as the probe says."""

METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Unhealthy(Exception):  # noqa: N818 - a state
    """The operator says that it has to be started anew. The message is the reason."""


def probe_app(
    health: Callable[[], Awaitable[Mapping[str, Any]]],
    ready: Callable[[], str | None],
    metrics: Callable[[], bytes] | None = None,
    *,
    health_seconds: float = HEALTH_SECONDS,
    metrics_type: str = METRICS_TYPE,
) -> ASGIApp:
    """Return the application for ``/healthz``, ``/readyz`` and ``/metrics``.

    Parameters
    ----------
    health
        Asks the engine's loop for numbers about itself, as JSON values by part. Anything that it raises, `Unhealthy`
        among it, and silence are 503.
    ready
        Why the operator does not serve yet, or None.
    metrics
        What Prometheus reads; called on another thread. None for 404.
    health_seconds
        For ``health`` to answer.
    metrics_type
        What ``metrics`` is written in.
    """

    async def healthz(_request: Request) -> Response:
        try:
            async with asyncio.timeout(health_seconds):
                return _json(200, await health())
        except TimeoutError:
            reason = f"the operator's loop did not answer within {health_seconds:g} s"
        except Unhealthy as error:
            reason = str(error)
        except Exception as error:
            logger.exception("the operator could not say how it is")
            reason = f"the operator could not say how it is: {type(error).__name__}"
        return _json(503, {"reason": reason})

    async def readyz(_request: Request) -> Response:
        reason = ready()
        return _json(200, {"ready": True}) if reason is None else _json(503, {"ready": False, "reason": reason})

    async def exposition(_request: Request) -> Response:
        assert metrics is not None  # noqa: S101 - there is no route otherwise
        return Response(await asyncio.to_thread(metrics), media_type=metrics_type)

    routes = [Route("/healthz", healthz), Route("/readyz", readyz)]
    if metrics is not None:
        routes.append(Route("/metrics", exposition))
    return Starlette(routes=routes)


def _json(status: int, value: Mapping[str, Any]) -> Response:
    return Response(
        msgspec.json.encode(value), status, media_type="application/json", headers={"Cache-Control": "no-store"}
    )
