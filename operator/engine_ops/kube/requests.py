"""Reading and, where its own spec asks for it, deleting OptimizationRequests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from engine_ops.kube.connection import METADATA_ONLY, Connection
from engine_ops.kube.errors import ApiError
from engine_ops.kube.paths import request_path
from engine_ops.kube.status_writer import Target


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
            body = await self._connection.get(request_path(target.namespace, target.name))
        except ApiError as error:
            if error.status == 404:
                return None
            raise
        return body if body["metadata"]["uid"] == target.uid else None

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
                request_path(target.namespace, target.name),
                body=msgspec.json.encode(options),
                accept=METADATA_ONLY,
            )
        except ApiError as error:
            if error.status != 404:
                raise
