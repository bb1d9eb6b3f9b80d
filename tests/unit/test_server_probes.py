"""What kubelet and Prometheus ask."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from typing import Any

import pytest
from listening_world import Answer, serving

from engine_ops.server.probes import Unhealthy, probe_app

HEALTH = {"requestsUnderWay": 3, "clusterCacheAgeSeconds": None, "history": {"points": 5}}


def _get(app: Any, path: str, method: bytes = b"GET") -> Answer:
    with serving(app=app) as served:
        return served.ask(method + b" " + path.encode() + b" HTTP/1.1\r\nHost: x\r\n\r\n")


async def _healthy() -> Mapping[str, Any]:
    return HEALTH


def test_health_is_the_numbers_by_part() -> None:
    answer = _get(probe_app(_healthy, lambda: "starting"), "/healthz")
    assert (answer.status, answer.json) == (200, HEALTH)
    assert answer.headers["content-type"] == "application/json"


async def _silent() -> Mapping[str, Any]:
    await asyncio.Event().wait()
    raise AssertionError


async def _dead() -> Mapping[str, Any]:
    raise Unhealthy("the watch of requests has ended")


async def _broken() -> Mapping[str, Any]:
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("health", "reason"),
    [
        (_silent, "the operator's loop did not answer within 0.01 s"),
        (_dead, "the watch of requests has ended"),
        (_broken, "the operator could not say how it is: ZeroDivisionError"),
    ],
)
def test_no_health_is_503_with_the_reason(health: Any, reason: str) -> None:
    answer = _get(probe_app(health, lambda: None, health_seconds=0.01), "/healthz")
    assert (answer.status, answer.json) == (503, {"reason": reason})


def test_ready_only_without_a_reason() -> None:
    reasons: list[str | None] = ["the Lease is held by another", None]
    app = probe_app(_healthy, lambda: reasons.pop(0))
    assert _get(app, "/readyz").json == {"ready": False, "reason": "the Lease is held by another"}
    answer = _get(app, "/readyz")
    assert (answer.status, answer.json) == (200, {"ready": True})


def test_metrics_are_written_off_the_loop() -> None:
    threads: list[str] = []

    def metrics() -> bytes:
        threads.append(threading.current_thread().name)
        return b"engine_ops_up 1\n"

    answer = _get(probe_app(_healthy, lambda: None, metrics), "/metrics")
    assert (answer.status, answer.body) == (200, b"engine_ops_up 1\n")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert threads != ["http"]


def test_there_is_nothing_else() -> None:
    app = probe_app(_healthy, lambda: None)
    assert _get(app, "/metrics").status == 404
    assert _get(app, "/").status == 404
    assert _get(app, "/healthz", b"POST").status == 405
