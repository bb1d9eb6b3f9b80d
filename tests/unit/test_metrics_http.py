"""HTTP requests are counted by the route that takes them, in the application that serves them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from metrics_scrapes import moves, scraped
from server_stand_in import Exchange, HttpClient, StandInAccess, StandInEngine, StandIns
from test_reconciler import settle

from engine_ops.server.app import create_app
from engine_ops.server.http_metrics import measured
from engine_ops.server.metrics import Metrics
from engine_ops.server.services import ApiLimits

TOKEN = "token-of-ada"
PACKING = {"items": [{"id": "a", "cpu": 1, "memory": 1}], "nodeCapacity": {"cpu": 4, "memory": 8}}
OPTIMIZE = "/api/v1/optimize?namespace=n"


def question(name: str, **data: Any) -> dict[str, Any]:
    return {"id": name, "type": "resource", "data": {**PACKING, **data}}


def check(test: Callable[[StandInEngine, HttpClient, Metrics], Awaitable[None]], **limits: Any) -> None:
    """Run a test with the application, measured."""

    async def main() -> None:
        these = StandIns(StandInEngine(), StandInAccess(), ApiLimits(**limits))
        these.access.add(TOKEN, "ada")
        metrics = Metrics()
        app = measured(create_app(these.services(), version="1.2.3"), metrics)
        async with asyncio.timeout(60):
            await test(these.engine, HttpClient(app, TOKEN), metrics)

    asyncio.run(main())


@moves("http_requests_total", "http_request_duration_seconds")
def test_requests_are_counted_by_the_template_of_their_route() -> None:
    async def test(engine: StandInEngine, client: HttpClient, metrics: Metrics) -> None:
        for name in ("one", "two"):
            assert (await client.get(f"/api/v1/plugins/{name}")).status == 404
        assert (await client.get("/api/v1/plugins")).status == 200
        shown = scraped(metrics)
        labels = {"method": "GET", "route": "/api/v1/plugins/{name}"}
        assert shown("http_requests_total", **labels, code="404") == 2
        assert shown("http_request_duration_seconds_count", **labels) == 2
        assert shown("http_requests_total", method="GET", route="/api/v1/plugins", code="200") == 1

    check(test)


def test_no_caller_can_make_series_without_end() -> None:
    async def test(engine: StandInEngine, client: HttpClient, metrics: Metrics) -> None:
        client.token = "wrong"
        for index in range(20):
            await client.request(f"BREW{index}", f"/coffee/{index}")
        client.token = TOKEN
        for index in range(20):
            await client.request(f"BREW{index}", f"/coffee/{index}")
        shown = scraped(metrics)
        assert shown("http_requests_total", method="other", route="none", code="401") == 20
        assert shown("http_requests_total", method="other", route="none", code="404") == 20

    check(test)


@moves("http_requests_in_flight", "http_solves_in_flight")
def test_what_is_in_flight_is_shown_until_it_has_landed() -> None:
    async def test(engine: StandInEngine, client: HttpClient, metrics: Metrics) -> None:
        engine.held = True
        asking = client.start("POST", OPTIMIZE, json=question("a"))
        await settle(lambda: bool(engine.asked))
        shown = scraped(metrics)
        assert (shown("http_requests_in_flight"), shown("http_solves_in_flight")) == (1, 1)
        engine.asked[0].answer()
        assert (await asking.reply()).status == 200
        shown = scraped(metrics)
        assert (shown("http_requests_in_flight"), shown("http_solves_in_flight")) == (0, 0)

    check(test)


def test_an_event_stream_has_no_latency() -> None:
    async def test(engine: StandInEngine, client: HttpClient, metrics: Metrics) -> None:
        engine.held = True
        accepted = await client.post(OPTIMIZE, json=question("a"), prefer="respond-async")
        assert accepted.status == 202

        def begun(exchange: Exchange) -> bool:
            return exchange.status is not None

        stream = client.start("GET", "/api/v1/optimize/a/events")
        await stream.until(begun)
        await settle(lambda: bool(engine.asked))
        engine.asked[0].answer()
        await stream.reply()
        shown = scraped(metrics)
        labels = {"method": "GET", "route": "/api/v1/optimize/{id}/events"}
        counted = shown("http_requests_total", **labels, code="200")
        assert counted == 1
        assert shown("http_request_duration_seconds_count", **labels) is None

    check(test)


@moves("http_rate_limited_total")
def test_callers_who_ask_too_often_are_counted() -> None:
    async def test(engine: StandInEngine, client: HttpClient, metrics: Metrics) -> None:
        codes = [(await client.get("/api/v1/plugins")).status for _ in range(4)]
        assert codes[0] == 200
        assert scraped(metrics)("http_rate_limited_total") == codes.count(429) > 0

    check(test, requests_per_second=0.001, burst=2)


@moves(
    "http_cache_hits_total",
    "http_cache_misses_total",
    "http_cache_evictions_total",
    "http_cache_entries",
    "http_cache_bytes",
)
def test_the_result_cache_is_counted() -> None:
    async def test(engine: StandInEngine, client: HttpClient, metrics: Metrics) -> None:
        for name in ("a", "b", "c"):
            await client.post(OPTIMIZE, json=question(name))
        shown = scraped(metrics)
        assert (shown("http_cache_misses_total"), shown("http_cache_hits_total")) == (1, 2)
        assert (shown("http_cache_entries"), shown("http_cache_evictions_total")) == (1, 0)
        size = shown("http_cache_bytes")
        assert size is not None
        assert size > 0
        await client.post(OPTIMIZE, json=question("d", nodeCapacity={"cpu": 5, "memory": 8}))
        shown = scraped(metrics)
        assert (shown("http_cache_entries"), shown("http_cache_evictions_total")) == (1, 1)

    check(test, cache_entries=1)
