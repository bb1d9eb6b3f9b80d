"""What must not wait has a connection of its own."""

from __future__ import annotations

import asyncio
from pathlib import Path

from aiohttp import web
from fake_api_server import FakeNodes, serving

from engine_ops.kube.connection import MAX_CONNECTIONS
from engine_ops.kube.lease import Lease

DEADLINE_SECONDS = 60.0


def test_a_lease_is_renewed_while_every_connection_is_busy(tmp_path: Path) -> None:
    asyncio.run(_renewed_while_busy(tmp_path))


async def _renewed_while_busy(directory: Path) -> None:
    nodes, busy, free = FakeNodes(), asyncio.Event(), asyncio.Event()
    lease = {"metadata": {"name": "l", "resourceVersion": "1"}, "spec": {"holderIdentity": "me"}}
    hanging = 0

    async def hang(request: web.Request, response: web.StreamResponse) -> None:
        nonlocal hanging
        hanging += 1
        if hanging == MAX_CONNECTIONS:
            busy.set()
        await free.wait()

    async def handle(request: web.Request) -> web.Response:
        if request.method == "PUT":
            lease.update(await request.json())
        return web.json_response(lease)

    def routes(app: web.Application) -> None:
        app.router.add_route("*", "/apis/coordination.k8s.io/v1/namespaces/n/leases/l", handle)

    nodes.streams = [hang] * (2 * MAX_CONNECTIONS)
    async with serving(directory, nodes, routes=routes) as connection, asyncio.timeout(DEADLINE_SECONDS):
        apart = connection.apart()
        watch = {"watch": "1", "resourceVersion": "1"}
        asked = [
            asyncio.create_task(connection.request("GET", "/api/v1/nodes", params=watch))
            for _ in range(2 * MAX_CONNECTIONS)
        ]
        try:
            await busy.wait()
            await Lease(apart, "n", "l", "me").acquire()
            assert not any(task.done() for task in asked)
            assert "renewTime" in lease["spec"]
        finally:
            free.set()
            await asyncio.gather(*asked)
            await apart.close()
