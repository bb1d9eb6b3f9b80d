"""The floor: a bare watch, and one guarded status patch a request. No framework, no solving, no rights checked.

It lists and watches OptimizationRequests of all namespaces and writes a constant answer with the JSON patch that the
operator uses, over at most 16 connections. Takes KUBECONFIG; prints ``ready`` when it serves; ends on SIGTERM.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import ssl
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import uvloop
import yaml
from answer import status

RESOURCE = "/apis/engineops.dev/v1alpha1/optimizationrequests"
CONNECTIONS = 16
CHUNK_BYTES = 1 << 18


def read_kubeconfig(path: Path) -> tuple[str, ssl.SSLContext]:
    """Return the server and the TLS context of a kubeconfig with an embedded client certificate."""
    document = yaml.safe_load(path.read_text())
    cluster, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    context = ssl.create_default_context(cadata=authority)
    with tempfile.NamedTemporaryFile() as pair:
        for part in ("client-certificate-data", "client-key-data"):
            pair.write(base64.b64decode(user[part]) + b"\n")
        pair.flush()
        context.load_cert_chain(pair.name)
    return cluster["server"], context


class BareWatch:
    """Answers every request that has no answer to its generation yet."""

    def __init__(self, session: aiohttp.ClientSession, server: str) -> None:
        self._session = session
        self._server = server
        self._connections = asyncio.Semaphore(CONNECTIONS)
        self._writes: dict[str, asyncio.Task[None]] = {}

    async def serve(self) -> None:
        """List, then watch; list again where the watch has lost its place."""
        version = await self._list()
        print("ready", flush=True)
        while True:
            async for event in self._events(version):
                if event["type"] == "ERROR":
                    version = await self._list()
                    break
                version = event["object"]["metadata"]["resourceVersion"]
                if event["type"] in ("ADDED", "MODIFIED"):
                    self._observe(event["object"])

    async def _list(self) -> str:
        async with self._session.get(self._server + RESOURCE) as response:
            listing = json.loads(await response.read())
        for body in listing["items"]:
            self._observe(body)
        version: str = listing["metadata"]["resourceVersion"]
        return version

    async def _events(self, version: str) -> AsyncIterator[dict[str, Any]]:
        parameters = {"watch": "1", "resourceVersion": version, "timeoutSeconds": "300", "allowWatchBookmarks": "true"}
        async with self._session.get(self._server + RESOURCE, params=parameters) as response:
            rest = b""
            async for chunk in response.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    yield json.loads(line)

    def _observe(self, body: dict[str, Any]) -> None:
        metadata = body["metadata"]
        answered = body.get("status", {}).get("observedGeneration", -1)
        if answered == metadata["generation"] or metadata["uid"] in self._writes:
            return
        task = asyncio.create_task(self._answer(metadata))
        self._writes[metadata["uid"]] = task

    async def _answer(self, metadata: dict[str, Any]) -> None:
        patch = [
            {"op": "test", "path": "/metadata/uid", "value": metadata["uid"]},
            {"op": "test", "path": "/metadata/generation", "value": metadata["generation"]},
            {"op": "add", "path": "/status", "value": status(metadata["generation"])},
        ]
        url = (
            f"{self._server}/apis/engineops.dev/v1alpha1/namespaces/{metadata['namespace']}"
            f"/optimizationrequests/{metadata['name']}/status"
        )
        headers = {
            "Content-Type": "application/json-patch+json",
            "Accept": "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
        }
        async with self._connections, self._session.patch(url, data=json.dumps(patch), headers=headers) as response:
            await response.read()
            if response.status >= 400:
                print(f"{metadata['name']}: {response.status}", flush=True)
        del self._writes[metadata["uid"]]


async def main() -> None:
    server, context = read_kubeconfig(Path(os.environ["KUBECONFIG"]))
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=context),
        timeout=aiohttp.ClientTimeout(total=None),
        read_bufsize=CHUNK_BYTES,
    ) as session:
        serving = asyncio.create_task(BareWatch(session, server).serve())
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, serving.cancel)
        await asyncio.wait([serving])
        if not serving.cancelled():
            serving.result()


if __name__ == "__main__":
    uvloop.run(main())
