"""ConfigMaps: reading data, and keeping results that are too large for a status."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import msgspec

from engine_ops.api.base import API_VERSION, GROUP
from engine_ops.api.faults import WaitingError
from engine_ops.api.reasons import Reason
from engine_ops.kube.connection import APPLY_PATCH, METADATA_ONLY, Connection
from engine_ops.kube.errors import ApiError, UnavailableError, to_waiting
from engine_ops.kube.paths import config_map_path
from engine_ops.kube.target import Target

FIELD_MANAGER = "engine-ops"
RESULT_KEY = "result.json.gz"


class ConfigMaps:
    """Reads and writes ConfigMaps for requests.

    Parameters
    ----------
    connection
        To the API server.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def read_key(self, namespace: str, name: str, key: str) -> bytes:
        """Read one key, of ``data`` or of ``binaryData``.

        Raises
        ------
        WaitingError
            If the ConfigMap or the key is not there, or may not be read; or the API server does not answer.
        """
        where = f"ConfigMap {namespace}/{name}"
        try:
            content = await self._connection.get(config_map_path(namespace, name))
        except (ApiError, UnavailableError) as error:
            raise to_waiting(error, where) from error
        text = (content.get("data") or {}).get(key)
        if text is not None:
            return str(text).encode()
        binary = (content.get("binaryData") or {}).get(key)
        if binary is not None:
            return base64.b64decode(binary)
        there = sorted({*(content.get("data") or {}), *(content.get("binaryData") or {})})
        listed = ", ".join(there[:10]) or "none"
        raise WaitingError(Reason.DATA_NOT_FOUND, f"{where} has no key {key!r}; it has: {listed}")

    async def write_result(self, target: Target, run: int, compressed: bytes) -> Mapping[str, Any]:
        """Keep a compressed result in a ConfigMap that the request owns.

        Returns
        -------
        Mapping
            What goes to ``status.resultRef``.

        Raises
        ------
        ApiError, UnavailableError
            As `Connection.request` does.
        """
        name = result_name(target.name, target.uid)
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": name,
                "labels": {"app.kubernetes.io/managed-by": FIELD_MANAGER},
                "annotations": {f"{GROUP}/generation": str(target.generation), f"{GROUP}/run": str(run)},
                "ownerReferences": [
                    {
                        "apiVersion": API_VERSION,
                        "kind": "OptimizationRequest",
                        "name": target.name,
                        "uid": target.uid,
                        "controller": True,
                    }
                ],
            },
            "binaryData": {RESULT_KEY: base64.b64encode(compressed).decode()},
        }
        await self._connection.request(
            "PATCH",
            config_map_path(target.namespace, name),
            body=msgspec.json.encode(body),
            content_type=APPLY_PATCH,
            accept=METADATA_ONLY,
            params={"fieldManager": FIELD_MANAGER},
        )
        return {"name": name, "key": RESULT_KEY, "compression": "gzip"}

    async def delete_result(self, target: Target) -> None:
        """Delete the result ConfigMap of a request, if there is one and it is ours. Raises as `write_result` does."""
        path = config_map_path(target.namespace, result_name(target.name, target.uid))
        try:
            await self._connection.request("DELETE", path, accept=METADATA_ONLY)
        except ApiError as error:
            if error.status != 404:
                raise


def result_name(name: str, uid: str) -> str:
    """Return the name of a request's result ConfigMap: the uid in it keeps it apart from every other object."""
    return f"{name[:200].rstrip('-.')}-result-{uid}"
