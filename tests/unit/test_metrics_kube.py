"""Calls of the API server are counted, whatever becomes of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from fake_api_server import END_OF_LIST, FakeNodes, line, serving
from metrics_scrapes import moves, scraped
from test_reconciler import settle

from engine_ops.controllers.metrics_source import MetricsSource
from engine_ops.kube.cluster_cache import ClusterCache
from engine_ops.kube.errors import ApiError, UnavailableError
from engine_ops.kube.lease import Lease, LeaseLostError
from engine_ops.server.metrics import Metrics


@moves("kube_calls_total", "kube_call_duration_seconds")
def test_calls_of_the_api_server_are_counted_whatever_becomes_of_them(tmp_path: Path) -> None:
    metrics = Metrics()

    def routes(app: web.Application) -> None:
        async def teapot(request: web.Request) -> web.Response:
            return web.json_response({"message": "no"}, status=418)

        app.router.add_route("*", "/teapot", teapot)

    async def unreachable() -> None:
        async with serving(tmp_path, FakeNodes()) as connection:
            connection.on_call = metrics.kube_call
            apart = connection.apart()
        with pytest.raises(UnavailableError):
            await apart.request("DELETE", "/gone")
        await apart.close()

    async def main() -> None:
        nodes = FakeNodes()
        async with serving(tmp_path, nodes, routes=routes) as connection, asyncio.timeout(60):
            connection.on_call = metrics.kube_call
            await connection.get("/api/v1/nodes")
            apart = connection.apart()
            with pytest.raises(ApiError):
                await apart.request("PATCH", "/teapot", body=b"{}")
            await apart.close()
        await unreachable()

    asyncio.run(main())
    shown = scraped(metrics)
    assert shown("kube_calls_total", verb="get", code="200") == 1
    assert shown("kube_calls_total", verb="patch", code="418") == 1
    assert shown("kube_calls_total", verb="delete", code="none") == 1
    assert shown("kube_call_duration_seconds_count", verb="get") == 1


def none_of(kind: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Serve a resource of which there is nothing, and nothing happens."""

    async def handle(request: web.Request) -> web.StreamResponse:
        if "watch" not in request.query:
            return web.json_response({"kind": f"{kind}List", "metadata": {"resourceVersion": "10"}, "items": []})
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        metadata = {"resourceVersion": "10", "annotations": END_OF_LIST}
        await response.write(line("BOOKMARK", {"kind": kind, "apiVersion": "v1", "metadata": metadata}))
        await asyncio.Event().wait()
        return response

    return handle


@moves(
    "cluster_view_age_seconds",
    "cluster_view_lists_total",
    "cluster_view_events_total",
    "cluster_view_garbage_total",
)
def test_the_view_of_the_cluster_is_shown_while_there_is_one(tmp_path: Path) -> None:
    metrics = Metrics()

    async def main() -> None:
        nodes = FakeNodes()

        def routes(app: web.Application) -> None:
            app.router.add_get("/api/v1/pods", none_of("Pod"))
            app.router.add_get("/api/v1/namespaces", none_of("PartialObjectMetadata"))

        async with serving(tmp_path, nodes, routes=routes) as connection, asyncio.timeout(30):
            connection.on_call = metrics.kube_call
            cache = ClusterCache(connection)
            source = MetricsSource(cache=cache)
            try:
                shown = scraped(metrics, source)
                assert shown("cluster_view_age_seconds") is None
                assert shown("cluster_view_lists_total", resource="nodes") is None
                await cache.snapshot(timeout_seconds=60)
                shown = scraped(metrics, source)
                age = shown("cluster_view_age_seconds")
                assert age is not None
                assert age >= 0
                assert shown("cluster_view_lists_total", resource="nodes") == 1
                assert shown("cluster_view_events_total", resource="nodes") == 0
                calls = shown("kube_calls_total", verb="watch", code="200")
                assert calls is not None
                assert calls >= 3
                nodes.put("a")
                await settle(lambda: cache.counters["nodes"].events > 0)
                nodes.version += 1
                nodes._note("MODIFIED", {"kind": "Node", "metadata": {"resourceVersion": str(nodes.version)}})
                await settle(lambda: cache.counters["nodes"].garbage > 0)
                shown = scraped(metrics, source)
                assert shown("cluster_view_events_total", resource="nodes") == 1
                garbage = shown("cluster_view_garbage_total", resource="nodes")
                assert garbage is not None
                assert garbage >= 1
            finally:
                await cache.close()

    asyncio.run(main())


@moves("lease_held")
def test_whether_the_lease_is_held_is_shown(tmp_path: Path) -> None:
    metrics = Metrics()
    stored: dict[str, Any] = {}
    path = "/apis/coordination.k8s.io/v1/namespaces/n/leases"

    def routes(app: web.Application) -> None:
        async def read(request: web.Request) -> web.Response:
            return web.json_response(stored) if stored else web.json_response({}, status=404)

        async def create(request: web.Request) -> web.Response:
            stored.update(await request.json())
            return web.json_response(stored)

        app.router.add_get(f"{path}/engine-ops", read)
        app.router.add_post(path, create)

    async def main() -> None:
        async with serving(tmp_path, FakeNodes(), routes=routes) as connection, asyncio.timeout(30):
            lease = Lease(connection, "n", "engine-ops", "me")
            source = MetricsSource(lease=lease)
            assert scraped(metrics, source)("lease_held") == 0
            await lease.acquire()
            assert scraped(metrics, source)("lease_held") == 1
            stored["spec"]["holderIdentity"] = "another"
            with pytest.raises(LeaseLostError):
                await lease.hold()
            assert scraped(metrics, source)("lease_held") == 0

    asyncio.run(main())
