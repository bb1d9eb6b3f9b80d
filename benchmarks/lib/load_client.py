"""The load: creates requests and sees them become Ready by a watch of its own. The same for every system under test."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence

import aiohttp
import msgspec

from engine_ops.devcluster import DevCluster

API = "/apis/engineops.dev/v1alpha1"
METADATA_ONLY = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
CONNECTIONS = 16


class _Condition(msgspec.Struct):
    type: str
    status: str


class SolvedBy(msgspec.Struct, frozen=True):
    """Who answered, of a request's status.

    Parameters
    ----------
    name, plugin, role
        As there; the last two are empty where it is no plugin.
    """

    name: str = ""
    plugin: str = ""
    role: str = ""


class _Status(msgspec.Struct):
    conditions: tuple[_Condition, ...] = ()
    solvedBy: SolvedBy = SolvedBy()  # noqa: N815


class _Metadata(msgspec.Struct):
    name: str = ""
    resourceVersion: str = ""  # noqa: N815


class _Object(msgspec.Struct):
    metadata: _Metadata
    status: _Status | None = None


class _Event(msgspec.Struct):
    type: str
    object: _Object


class _List(msgspec.Struct):
    metadata: _Metadata


class LoadError(RuntimeError):
    """The API server refused a request of the load, or answers did not come in time."""


class LoadClient:
    """Creates requests in one namespace and notes when each becomes Ready. Make one with `open`.

    Attributes
    ----------
    created : dict of str to float
        When each create call began, on the clock of `time.perf_counter`.
    ready : dict of str to float
        When the watch showed Ready=True.
    solved_by : dict of str to SolvedBy
        Who answered, as it was shown then.
    on_ready : callable
        Told of the name of each request that becomes Ready.
    """

    def __init__(self, session: aiohttp.ClientSession, server: str, namespace: str) -> None:
        self._session = session
        self._server = server
        self._url = f"{server}{API}/namespaces/{namespace}/optimizationrequests"
        self.namespace = namespace
        self.created: dict[str, float] = {}
        self.ready: dict[str, float] = {}
        self.solved_by: dict[str, SolvedBy] = {}
        self.on_ready: Callable[[str], None] = _ignore
        self._awaited: set[str] = set()
        self._all_ready = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, cluster: DevCluster, namespace: str) -> AsyncIterator[LoadClient]:
        """Make the namespace, and watch it."""
        context = ssl.create_default_context(cafile=str(cluster.ca_file))
        context.load_cert_chain(cluster.admin.certificate, cluster.admin.key)
        async with aiohttp.ClientSession(
            # One more than is written with: the watch has its own.
            connector=aiohttp.TCPConnector(limit=CONNECTIONS + 1, ssl=context, keepalive_timeout=60),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
            read_bufsize=1 << 20,
        ) as session:
            client = cls(session, cluster.server, namespace)
            await client._make_namespace()
            client._watching = asyncio.create_task(client._watch())
            try:
                yield client
            finally:
                client._watching.cancel()
                await asyncio.wait([client._watching])

    async def create(self, name: str, body: bytes) -> None:
        """Create one request."""
        headers = {"Content-Type": "application/json", "Accept": METADATA_ONLY}
        self._awaited.add(name)
        self._all_ready.clear()
        self.created[name] = time.perf_counter()
        async with self._session.post(self._url, data=body, headers=headers) as response:
            _accepted(f"create {name}", response.status, await response.read())

    async def create_at_rate(self, names: Sequence[str], encode: Callable[[str], bytes], per_second: float) -> None:
        """Create requests at fixed moments, whether or not earlier ones are answered (an open loop)."""
        loop = asyncio.get_running_loop()
        bodies = [encode(name) for name in names]
        began = loop.time()
        async with asyncio.TaskGroup() as group:
            for number, (name, body) in enumerate(zip(names, bodies, strict=True)):
                await asyncio.sleep(began + number / per_second - loop.time())
                group.create_task(self.create(name, body))

    async def create_at_once(self, names: Sequence[str], encode: Callable[[str], bytes]) -> None:
        """Create requests as fast as 16 connections can."""
        waiting = iter([(name, encode(name)) for name in names])

        async def work() -> None:
            for name, body in waiting:
                await self.create(name, body)

        async with asyncio.TaskGroup() as group:
            for _ in range(CONNECTIONS):
                group.create_task(work())

    async def all_ready(self, *, deadline_seconds: float) -> None:
        """Wait until each request that was created is Ready.

        Raises
        ------
        LoadError
            If that takes too long.
        """
        if not self._awaited:
            return
        try:
            async with asyncio.timeout(deadline_seconds):
                await self._all_ready.wait()
        except TimeoutError:
            if self._watching is not None and self._watching.done():
                self._watching.result()
            some = ", ".join(sorted(self._awaited)[:3])
            message = f"{len(self._awaited)} of {len(self.created)} requests are not Ready, such as {some}"
            raise LoadError(message) from None

    async def read(self, name: str) -> bytes:
        """Return one object's JSON as a watch would show it."""
        async with self._session.get(f"{self._url}/{name}") as response:
            return await response.read()

    async def fetch(self, path: str) -> bytes:
        """Return the JSON of anything that the API server has."""
        async with self._session.get(f"{self._server}{path}") as response:
            return _accepted(f"read {path}", response.status, await response.read())

    async def merge_patch(self, path: str, body: bytes) -> None:
        """Patch anything that the API server has."""
        headers = {"Content-Type": "application/merge-patch+json", "Accept": METADATA_ONLY}
        async with self._session.patch(f"{self._server}{path}", data=body, headers=headers) as response:
            _accepted(f"patch {path}", response.status, await response.read())

    async def delete_all(self) -> None:
        """Delete every request of the namespace."""
        headers = {"Accept": METADATA_ONLY}
        async with self._session.delete(self._url, headers=headers) as response:
            await response.read()

    async def _make_namespace(self) -> None:
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}}
        headers = {"Content-Type": "application/json"}
        async with self._session.post(
            f"{self._server}/api/v1/namespaces", data=msgspec.json.encode(body), headers=headers
        ) as response:
            _accepted(f"namespace {self.namespace}", response.status, await response.read())

    async def _watch(self) -> None:
        async with self._session.get(self._url) as response:
            version = msgspec.json.decode(await response.read(), type=_List).metadata.resourceVersion
        decoder = msgspec.json.Decoder(_Event)
        while True:
            parameters = {"watch": "1", "resourceVersion": version, "timeoutSeconds": "3000"}
            async with self._session.get(self._url, params=parameters) as response:
                rest: list[bytes] = []
                async for chunk in response.content.iter_any():
                    *lines, last = chunk.split(b"\n")
                    for line in lines:
                        rest.append(line)
                        event = decoder.decode(b"".join(rest))
                        rest.clear()
                        version = event.object.metadata.resourceVersion
                        self._observe(event)
                    rest.append(last)

    def _observe(self, event: _Event) -> None:
        seen = event.object
        if event.type != "MODIFIED" or seen.status is None or seen.metadata.name in self.ready:
            return
        if any(condition.type == "Ready" and condition.status == "True" for condition in seen.status.conditions):
            self.ready[seen.metadata.name] = time.perf_counter()
            self.solved_by[seen.metadata.name] = seen.status.solvedBy
            self._awaited.discard(seen.metadata.name)
            if not self._awaited:
                self._all_ready.set()
            self.on_ready(seen.metadata.name)


def _accepted(what: str, status: int, answer: bytes) -> bytes:
    if status >= 400:
        raise LoadError(f"{what}: {status} {answer[:500].decode(errors='replace')}")
    return answer


def _ignore(name: str) -> None:
    del name
