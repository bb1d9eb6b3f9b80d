"""Thousands of objects written to an API server in seconds: many requests at once over one session."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

import aiohttp
import msgspec

from engine_ops.devcluster import DevCluster
from lib.load_client import METADATA_ONLY

CONNECTIONS = 32
JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
ATTEMPTS = 5
BUSY = (429, 500, 503, 504)


class BulkError(RuntimeError):
    """The API server refused an object, or something did not come about in time."""


class Bulk:
    """Writes and lists objects as administrator. Make one with `open`."""

    def __init__(self, session: aiohttp.ClientSession, server: str) -> None:
        self._session = session
        self._server = server

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, cluster: DevCluster) -> AsyncIterator[Bulk]:
        """Open the session."""
        context = ssl.create_default_context(cafile=str(cluster.ca_file))
        context.load_cert_chain(cluster.admin.certificate, cluster.admin.key)
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS, ssl=context, keepalive_timeout=60),
            timeout=aiohttp.ClientTimeout(total=120),
            read_bufsize=1 << 20,
        ) as session:
            yield cls(session, cluster.server)

    async def create(self, writes: Iterable[tuple[str, bytes]]) -> float:
        """Create objects, each a collection's path and JSON, beginning with the first; return the seconds it took.

        Raises
        ------
        BulkError
            If one is refused.
        """
        return await self._write("POST", writes, JSON)

    async def patch(self, writes: Iterable[tuple[str, bytes]]) -> float:
        """Apply merge patches, each an object's path and JSON; return the seconds it took.

        Raises
        ------
        BulkError
            If one is refused.
        """
        return await self._write("PATCH", writes, MERGE_PATCH)

    async def delete(self, path: str) -> None:
        """Delete an object at once, without a grace period."""
        await self._send("DELETE", path, b'{"gracePeriodSeconds": 0}', JSON)

    async def names(self, path: str, params: Mapping[str, str]) -> list[str]:
        """Return the names of the objects that a list shows, of which nothing else is sent."""
        headers = {"Accept": "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"}
        document = await self.read(path, params, headers)
        return [item["metadata"]["name"] for item in document["items"] or ()]

    async def read(self, path: str, params: Mapping[str, str] = {}, headers: Mapping[str, str] = {}) -> Any:
        """Return what a path shows."""
        async with self._session.get(self._server + path, params=params, headers=headers) as response:
            content = await response.read()
            if response.status >= 400:
                raise BulkError(f"GET {path}: {response.status} {content[:500].decode(errors='replace')}")
            return msgspec.json.decode(content)

    async def _write(self, method: str, writes: Iterable[tuple[str, bytes]], content_type: str) -> float:
        waiting = iter(writes)
        began = time.perf_counter()

        async def work() -> None:
            for path, body in waiting:
                await self._send(method, path, body, content_type)

        async with asyncio.TaskGroup() as group:
            for _ in range(CONNECTIONS):
                group.create_task(work())
        return time.perf_counter() - began

    async def _send(self, method: str, path: str, body: bytes, content_type: str) -> None:
        headers = {"Content-Type": content_type, "Accept": METADATA_ONLY}
        for attempt in range(1, ATTEMPTS + 1):
            async with self._session.request(method, self._server + path, data=body, headers=headers) as response:
                content = await response.read()
                if response.status < 400:
                    return
            if response.status not in BUSY or attempt == ATTEMPTS:
                raise BulkError(f"{method} {path}: {response.status} {content[:500].decode(errors='replace')}")
            await asyncio.sleep(0.5 * attempt)
