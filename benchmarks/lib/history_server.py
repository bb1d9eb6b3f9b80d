"""The REST API over a history alone, on a port of this machine, and a client in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from engine_ops import __version__
from engine_ops.controllers.direct_history import SelectedPoints, namespaces_of, select
from engine_ops.history.log import HistoryLog
from engine_ops.server.address import parse_address
from engine_ops.server.api_listener import api_listener
from engine_ops.server.backend import Engine
from engine_ops.server.bridge import BridgedEngine
from engine_ops.server.local_access import LocalAccess
from engine_ops.server.plugin_changes import PluginSwitch
from engine_ops.server.services import ApiLimits, Services
from engine_ops.server.thread import ServerThread
from engine_ops.server.workload_points import PointFilter

EXPORT = "/api/v1/plugins/workload-data/export"


class _Exported:
    """As much of an engine as an export asks for."""

    workers = 1

    def __init__(self, log: HistoryLog) -> None:
        self._log = log

    async def history_namespaces(self) -> frozenset[str]:
        return namespaces_of(self._log.collector)

    async def history(self, chosen: PointFilter) -> SelectedPoints:
        return await select(self._log.collector, chosen)

    async def health(self) -> Mapping[str, Any]:
        return {}


@contextlib.asynccontextmanager
async def serving(log: HistoryLog) -> AsyncIterator[tuple[str, int]]:
    """Serve a history as `engine-ops serve` does, and yield host and port."""
    engine: Engine = BridgedEngine(_Exported(log), asyncio.get_running_loop())  # type: ignore[arg-type]
    switch: PluginSwitch = None  # type: ignore[assignment]  # nobody changes a plugin

    async def services(_: contextlib.AsyncExitStack) -> Services:
        return Services(engine=engine, access=LocalAccess(), switch=switch, limits=ApiLimits(requests_per_second=0))

    defects: list[BaseException] = []
    listener = api_listener(parse_address("http://127.0.0.1:0", "--api"), services, version=__version__)
    thread = ServerThread({"api": listener}, on_defect=defects.append)
    await asyncio.to_thread(thread.start)
    try:
        yield "127.0.0.1", int(thread.address("api").rpartition(":")[2])
    finally:
        await thread.aclose(1.0)
    if defects:
        raise defects[0]


def fetch(host: str, port: int, path: str) -> tuple[float, int, int]:
    """Return the milliseconds from the connection to the last byte of an answer, its bytes, and its line breaks.

    Raises
    ------
    RuntimeError
        If it is no 200.
    """
    started = time.perf_counter()
    with contextlib.closing(http.client.HTTPConnection(host, port, timeout=60)) as connection:
        connection.request("GET", path)
        response = connection.getresponse()
        size = breaks = 0
        while piece := response.read1(2**18):
            size += len(piece)
            breaks += piece.count(b"\n")
        spent_ms = (time.perf_counter() - started) * 1e3
        if response.status != http.HTTPStatus.OK:
            raise RuntimeError(f"{path}: {response.status}")
    return spent_ms, size, breaks
