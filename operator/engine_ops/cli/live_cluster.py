"""A cluster from its API server, read once with the user's own rights. Importing it loads the Kubernetes client."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, Final, TypeVar

import msgspec

from engine_ops.api.cluster_source import WorkloadSource
from engine_ops.api.faults import WaitingError
from engine_ops.api.reasons import Reason
from engine_ops.cli.cluster_dump import RESOURCES
from engine_ops.cli.printing import report
from engine_ops.engine.cluster.decode import RecordDecoder, UndecodableObjectError
from engine_ops.engine.cluster.records import ClusterSnapshot, PodRecord, snapshot_of
from engine_ops.kube.connection import Connection, context_names, is_there
from engine_ops.kube.errors import ApiError, ConnectError, UnavailableError

PAGE_SIZE: Final = 1000
"""Objects in one answer of the API server, so that neither side holds a large cluster at once."""

_DEFAULT_KUBECONFIG: Final = "~/.kube/config"
_Record = TypeVar("_Record")


class _ListMeta(msgspec.Struct):
    continue_: str = msgspec.field(name="continue", default="")


class _Page(msgspec.Struct):
    metadata: _ListMeta
    items: list[msgspec.Raw] | None = None


_PAGE: Final = msgspec.json.Decoder(_Page)


class LiveReader:
    """Reads a cluster when it is first asked for; see `engine_ops.cli.cluster_question.ClusterReader`.

    Parameters
    ----------
    connection
        To its API server.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._listing: asyncio.Task[ClusterSnapshot] | None = None

    @property
    def moment(self) -> str:
        """Which moment's cluster it is."""
        return "The cluster is as it is now, not as it was when the answer was made."

    async def snapshot(self) -> ClusterSnapshot:
        """Return all nodes and pods, listed once."""
        if self._listing is None:
            self._listing = asyncio.create_task(self._list_all())
        return await asyncio.shield(self._listing)

    async def workload(self, namespace: str, source: WorkloadSource) -> Mapping[str, Any]:
        """Return a workload."""
        where = f"{source.kind} {namespace}/{source.name}"
        path = f"/apis/{source.api_version}/namespaces/{namespace}/{RESOURCES[source.kind]}/{source.name}"
        with _told_as_waiting(where):
            return {**await self._connection.get(path), "kind": source.kind, "apiVersion": source.api_version}

    async def _list_all(self) -> ClusterSnapshot:
        decoder = RecordDecoder()
        nodes = await self._list("nodes", decoder.node)
        pods: list[PodRecord | None] = await self._list("pods", decoder.pod)
        try:
            namespaces = dict(await self._list("namespaces", decoder.namespace))
        except WaitingError as error:
            if error.reason != Reason.FORBIDDEN:
                raise
            # Only rules that look at the labels of namespaces need them.
            report(f"{error.message}: labels of namespaces are taken to be none but kubernetes.io/metadata.name")
            namespaces = {}
        running = [pod for pod in pods if pod is not None]
        for pod in running:
            name = pod.kind.namespace
            namespaces.setdefault(name, {"kubernetes.io/metadata.name": name})
        return snapshot_of(nodes, running, namespaces)

    async def _list(self, resource: str, decode: Callable[[msgspec.Raw], _Record]) -> list[_Record]:
        """Return the records of all objects of a kind.

        Raises
        ------
        WaitingError
            With Forbidden if the user may not list them, else SourceUnavailable.
        """
        with _told_as_waiting(f"{resource} of all namespaces" if resource == "pods" else resource):
            try:
                return [decode(raw) async for raw in self._pages(resource, PAGE_SIZE)]
            except ApiError as error:
                if error.status != 410:
                    raise
                # The pages took so long that the server has forgotten their moment: all in one has none to forget.
                return [decode(raw) async for raw in self._pages(resource, 0)]

    async def _pages(self, resource: str, limit: int) -> AsyncIterator[msgspec.Raw]:
        params = {"limit": str(limit)} if limit else {}
        while True:
            page = _PAGE.decode(await self._connection.request("GET", f"/api/v1/{resource}", params=params))
            for raw in page.items or ():
                yield raw
            if not page.metadata.continue_:
                return
            params["continue"] = page.metadata.continue_


@contextlib.asynccontextmanager
async def connect(kubeconfig: str | None, context: str | None) -> AsyncIterator[Connection]:
    """Open a connection with a kubeconfig, and with one of its contexts.

    Parameters
    ----------
    kubeconfig
        A file; None for the usual places.
    context
        A context's name; None for the current one.

    Raises
    ------
    ConnectError
        If there are no credentials, or no such context.
    """
    with _chosen(kubeconfig, context) as source:
        connection = await Connection.open(source)
        try:
            yield connection
        finally:
            await connection.close()


@contextlib.contextmanager
def _chosen(kubeconfig: str | None, context: str | None) -> Iterator[str | None]:
    """Yield a kubeconfig whose current context is the wanted one.

    A file with nothing else stands first and last: of several, kubectl takes the current context of the first, and the
    Kubernetes client that of the last.

    Raises
    ------
    ConnectError
        If there is no such context.
    """
    if context is None:
        yield kubeconfig
        return
    rest = kubeconfig or os.environ.get("KUBECONFIG") or os.path.expanduser(_DEFAULT_KUBECONFIG)  # noqa: PTH111
    if not is_there(rest):
        yield rest  # which opening it says
        return
    names = context_names(rest)
    if names and context not in names:
        raise ConnectError(f"no credentials from {rest}: there is no context {context}; there are: {', '.join(names)}")
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump({"apiVersion": "v1", "kind": "Config", "current-context": context}, file)
        file.flush()
        yield os.pathsep.join((file.name, rest, file.name))


@contextlib.contextmanager
def _told_as_waiting(what: str) -> Iterator[None]:
    try:
        yield
    except ApiError as error:
        if error.status == 403:
            raise WaitingError(Reason.FORBIDDEN, f"you may not read {what} ({error.message})") from error
        if error.status == 404:
            raise WaitingError(Reason.DATA_NOT_FOUND, f"{what} is not there") from error
        raise WaitingError(Reason.SOURCE_UNAVAILABLE, f"{what}: {error.message}") from error
    except (UnavailableError, UndecodableObjectError, msgspec.MsgspecError) as error:
        raise WaitingError(Reason.SOURCE_UNAVAILABLE, f"{what}: {error}") from error
