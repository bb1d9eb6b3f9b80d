"""Requests are counted where the reconcile loop has done with them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from metrics_scrapes import Scrape, moves, scraped
from msgspec import structs
from test_reconciler import Edges, body, settle

from engine_ops.api.reasons import Reason
from engine_ops.controllers import agenda
from engine_ops.controllers import reconciler as reconciling
from engine_ops.controllers.metrics_source import MetricsSource
from engine_ops.controllers.view import RequestView
from engine_ops.kube.errors import ApiError, UnavailableError
from engine_ops.server.metrics import Metrics
from engine_ops.workers.errors import WorkerDiedError, WorkerTimeoutError
from engine_ops.workers.messages import Failed, Solved

SOLVED = Solved(
    result=b"{}",
    size_bytes=2,
    duration_ms=1,
    reason=Reason.SOLVED,
    message="m",
    algorithm="best-fit",
    version="1",
    gap=0.02,
)


PARTIAL = structs.replace(SOLVED, reason=Reason.UNPLACEABLE)


def answering(outcome: Any, *, spec: dict[str, Any] | None = None, times: int = 1) -> Scrape:
    """Reconcile a request whose worker says this, and scrape."""
    metrics = Metrics()

    async def main() -> None:
        edges = Edges()

        async def answer(task: object, **_: object) -> Any:
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        edges.run = answer  # type: ignore[method-assign]
        edges.current = body(spec=spec)
        reconciler = edges.reconciler(measured=metrics)
        async with asyncio.timeout(60):
            reconciler.observe(RequestView.of(body(spec=spec)))
            await settle(lambda: len(edges.statuses) >= times)
            await settle(lambda: all(entry.task is None for entry in reconciler._agenda._entries.values()))
            await reconciler.close()

    asyncio.run(main())
    return scraped(metrics)


@moves("requests_total", "gap_ratio", "solve_duration_seconds", "reconcile_duration_seconds")
def test_an_answer_is_counted_with_its_solver_its_gap_and_its_times() -> None:
    shown = answering(SOLVED)
    assert shown("requests_total", type="resource", outcome="answered", solver="best-fit") == 1
    assert shown("gap_ratio_count", type="resource") == 1
    assert shown("gap_ratio_bucket", type="resource", le="0.01") == 0
    assert shown("gap_ratio_bucket", type="resource", le="0.02") == 1
    assert shown("solve_duration_seconds_count", type="resource") == 1
    assert shown("reconcile_duration_seconds_count") == 1
    assert shown("reconcile_failures_total") == 0


@moves("requests_unanswered_total")
@pytest.mark.parametrize(
    ("outcome", "labels", "reason"),
    [
        (PARTIAL, {"outcome": "stalled", "solver": "best-fit"}, "Unplaceable"),
        (Failed(Reason.INVALID_DATA, "m"), {"outcome": "stalled", "solver": "none"}, "InvalidData"),
        (Failed(Reason.NOT_ENOUGH_DATA, "m", waiting=True), {"outcome": "waiting", "solver": "none"}, "NotEnoughData"),
        (WorkerDiedError("oom"), {"outcome": "waiting", "solver": "none"}, "WorkerDied"),
        (WorkerTimeoutError(1.0), {"outcome": "stalled", "solver": "none"}, "TimedOut"),
    ],
)
def test_what_is_not_answered_is_counted_with_its_reason(outcome: Any, labels: dict[str, str], reason: str) -> None:
    shown = answering(outcome)
    assert shown("requests_total", type="resource", **labels) == 1
    assert shown("requests_unanswered_total", reason=reason) == 1


def test_a_spec_that_is_wrong_is_counted_under_other() -> None:
    shown = answering(SOLVED, spec={"type": "x" * 500})
    assert shown("requests_total", type="other", outcome="stalled", solver="none") == 1
    assert shown("requests_unanswered_total", reason="InvalidSpec") == 1


@moves("reconcile_failures_total")
@pytest.mark.parametrize("error", [RuntimeError("a defect"), UnavailableError("down"), ApiError(500, {})])
def test_a_pass_that_an_outage_or_a_defect_ends_is_counted(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(agenda, "FIRST_RETRY_SECONDS", 0.001)
    metrics = Metrics()

    async def main() -> None:
        edges, tries = Edges(), 0

        def write(status: dict[str, Any]) -> Any:
            nonlocal tries
            tries += 1
            if tries == 1:
                raise error
            return reconciling.Written.DONE

        edges.on_write = write
        reconciler = edges.reconciler(measured=metrics)
        async with asyncio.timeout(60):
            reconciler.observe(RequestView.of(body()))
            await settle(lambda: len(edges.statuses) >= 2)
            await reconciler.close()

    asyncio.run(main())
    shown = scraped(metrics)
    assert shown("reconcile_failures_total") == 1
    assert shown("requests_total", type="resource", outcome="answered", solver="a") == 1, "counted when it is written"


@moves("requests_under_way", "queue_depth")
def test_what_waits_for_its_turn_is_shown() -> None:
    metrics = Metrics()

    async def main() -> None:
        edges, going = Edges(), asyncio.Event()

        async def hold(task: object, **_: object) -> Solved:
            await going.wait()
            return SOLVED

        edges.run = hold  # type: ignore[method-assign]
        reconciler = edges.reconciler(measured=metrics)
        turns = reconciling.TURNS_PER_WORKER
        for index in range(turns + 3):
            request = body()
            request["metadata"] = {**request["metadata"], "name": f"r{index}", "uid": f"u{index}"}
            reconciler.observe(RequestView.of(request))
        source = MetricsSource(reconciler=reconciler)
        async with asyncio.timeout(60):
            await settle(lambda: reconciler.queued == 3)
            shown = scraped(metrics, source)
            assert shown("queue_depth", queue="turn") == 3
            assert shown("requests_under_way") == turns + 3
            going.set()
            await settle(lambda: len(edges.statuses) == turns + 3)
            assert scraped(metrics, source)("queue_depth", queue="turn") == 0
            await reconciler.close()
        assert scraped(metrics, source)("requests_under_way") == 0

    asyncio.run(main())
