"""Reading and, where its own spec asks for it, deleting OptimizationRequests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec

from engine_ops.kube.connection import METADATA_ONLY, Connection
from engine_ops.kube.errors import ApiError
from engine_ops.kube.paths import requests_path
from engine_ops.kube.target import Target

PAGE_SIZE = 500


class RequestMetadata(msgspec.Struct, rename="camel"):
    """What is needed of an object's metadata."""

    namespace: str
    name: str
    uid: str
    generation: int = 0


class RequestStatus(msgspec.Struct, rename="camel"):
    """What is needed of a status to make history of it."""

    history_points: list[dict[str, Any]] | None = None


class RequestHistory(msgspec.Struct, rename="camel"):
    """An OptimizationRequest, but only what history is made of."""

    metadata: RequestMetadata
    status: RequestStatus | None = None


class _ListMetadata(msgspec.Struct, rename="camel"):
    continue_: str = msgspec.field(default="", name="continue")


class _RequestList(msgspec.Struct):
    metadata: _ListMetadata
    items: list[RequestHistory] = []


_LIST_DECODER = msgspec.json.Decoder(_RequestList)


class Requests:
    """OptimizationRequests at the API server.

    Parameters
    ----------
    connection
        To it.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def get(self, target: Target) -> Mapping[str, Any] | None:
        """Return the object as it is now, or None if it is gone or was made again under its name.

        Raises
        ------
        ApiError, UnavailableError
            As `Connection.request` does.
        """
        try:
            body = await self._connection.get(target.path())
        except ApiError as error:
            if error.status == 404:
                return None
            raise
        return body if body["metadata"]["uid"] == target.uid else None

    async def histories(self, namespaces: Sequence[str]) -> AsyncIterator[RequestHistory]:
        """Yield what the statuses of all requests say for the history, in pages and without anything else of them.

        Parameters
        ----------
        namespaces
            Which; empty for all.

        Raises
        ------
        ApiError, UnavailableError
            As `Connection.request` does.
        """
        for namespace in namespaces or ("",):
            params = {"limit": str(PAGE_SIZE)}
            while True:
                answer = await self._connection.request("GET", requests_path(namespace), params=params)
                page = _LIST_DECODER.decode(answer)
                for item in page.items:
                    yield item
                if not page.metadata.continue_:
                    break
                params["continue"] = page.metadata.continue_

    async def delete(self, target: Target, resource_version: str) -> None:
        """Delete exactly this object, and only if it is still as we saw it.

        Raises
        ------
        ApiError, UnavailableError
            As `get` does; with 409 if it has changed.
        """
        preconditions = {"uid": target.uid, "resourceVersion": resource_version}
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions}
        try:
            await self._connection.request(
                "DELETE",
                target.path(),
                body=msgspec.json.encode(options),
                accept=METADATA_ONLY,
            )
        except ApiError as error:
            if error.status != 404:
                raise
