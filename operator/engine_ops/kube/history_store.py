"""The history as ConfigMaps of one namespace; see `engine_ops.history.store.BlobStore`."""

from __future__ import annotations

import base64
import datetime
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import msgspec

from engine_ops.api.base import GROUP
from engine_ops.history.store import (
    Blob,
    BlobStore,
    ConflictError,
    StoreError,
    StoreRefusedError,
    StoreUnavailableError,
)
from engine_ops.kube.connection import METADATA_LIST, METADATA_ONLY, Connection
from engine_ops.kube.errors import ApiError, ConnectError, UnavailableError
from engine_ops.kube.paths import config_map_path

KEY = "points"
"""Of ``binaryData``."""
MANAGED_BY, MANAGER = "app.kubernetes.io/managed-by", "engine-ops"
COMPONENT, HISTORY = "app.kubernetes.io/component", "history"
SELECTOR = f"{MANAGED_BY}={MANAGER},{COMPONENT}={HISTORY},{GROUP}/history"
PAGE_SIZE = 200
"""ConfigMaps in one answer; an ordinary history has some 25, so that one LIST has them all."""
_LIST_TRIES = 3

_T = TypeVar("_T")


class _ManagedFields(msgspec.Struct):
    time: datetime.datetime | None = None


class _Metadata(msgspec.Struct, rename="camel"):
    name: str
    resource_version: str
    labels: dict[str, str] | None = None
    managed_fields: list[_ManagedFields] | None = None


class _ConfigMap(msgspec.Struct, rename="camel"):
    metadata: _Metadata
    # msgspec decodes base64 itself; the API server stores none that is broken.
    binary_data: dict[str, bytes] | None = None
    immutable: bool | None = None


class _ListMetadata(msgspec.Struct, rename="camel"):
    continue_: str = msgspec.field(default="", name="continue")


class _ConfigMapList(msgspec.Struct, rename="camel"):
    metadata: _ListMetadata
    items: list[_ConfigMap] | None = None


class ConfigMapStore(BlobStore):
    """Blobs as ConfigMaps with one binary key.

    Parameters
    ----------
    connection
        To the API server.
    namespace
        The operator's own. Its role needs get, list, create, update and delete of ConfigMaps there.
    """

    max_blob_bytes: ClassVar[int] = 1 << 20

    def __init__(self, connection: Connection, namespace: str) -> None:
        self._connection = connection
        self.namespace = namespace

    async def list(self, *, contents: bool = True) -> list[Blob]:
        """See `BlobStore.list`."""
        for _ in range(_LIST_TRIES):
            try:
                maps = await self._pages(METADATA_LIST if not contents else None)
            except _ExpiredError:  # between two pages: what was read so far is not of one instant any more
                continue
            return sorted(map(_blob, maps), key=lambda blob: blob.name)
        raise StoreUnavailableError("the API server forgot the list of ConfigMaps while it was read")

    async def read(self, name: str) -> Blob | None:
        """See `BlobStore.read`."""
        try:
            answer = await self._send("GET", name)
        except _MissingError:
            return None
        return _blob(_decode(answer, _ConfigMap))

    async def create(self, name: str, content: bytes, labels: Mapping[str, str], *, sealed: bool = False) -> str:
        """See `BlobStore.create`."""
        body = _body(name, content, labels)
        if sealed:
            body["immutable"] = True
        return _version(await self._send("POST", "", body))

    async def replace(self, name: str, content: bytes, labels: Mapping[str, str], version: str) -> str:
        """See `BlobStore.replace`."""
        body = _body(name, content, labels)
        body["metadata"]["resourceVersion"] = version
        try:
            return _version(await self._send("PUT", name, body))
        except _MissingError as error:
            raise ConflictError(str(error)) from error

    async def delete(self, name: str, version: str | None = None) -> None:
        """See `BlobStore.delete`."""
        body: dict[str, object] = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if version is not None:
            body["preconditions"] = {"resourceVersion": version}
        try:
            await self._send("DELETE", name, body)
        except _MissingError:
            return

    async def _pages(self, accept: str | None) -> Sequence[_ConfigMap]:
        maps: list[_ConfigMap] = []
        params = {"labelSelector": SELECTOR, "limit": str(PAGE_SIZE)}
        while True:
            page = _decode(await self._send("GET", "", params=params, accept=accept), _ConfigMapList)
            maps.extend(page.items or ())
            if not page.metadata.continue_:
                return maps
            params["continue"] = page.metadata.continue_

    async def _send(
        self,
        method: str,
        name: str,
        body: Mapping[str, object] | None = None,
        *,
        params: Mapping[str, str] | None = None,
        accept: str | None = None,
    ) -> bytes:
        # The answer to a write would repeat all that was sent.
        chosen = accept or (METADATA_ONLY if body is not None else "application/json")
        try:
            return await self._connection.request(
                method,
                config_map_path(self.namespace, name),
                body=None if body is None else msgspec.json.encode(body),
                accept=chosen,
                params=params,
            )
        except (UnavailableError, ConnectError) as error:
            raise StoreUnavailableError(str(error)) from error
        except ApiError as error:
            raise _translate(error, f"{method} ConfigMap {self.namespace}/{name}".rstrip("/")) from error


class _MissingError(StoreRefusedError):
    """There is no such ConfigMap; for a POST, no such namespace."""


class _ExpiredError(StoreUnavailableError):
    """The continue token of a list is too old."""


def _translate(error: ApiError, what: str) -> StoreError:
    message = f"{what}: {error}"
    wait = error.retry_after_seconds
    if error.status == 404:
        return _MissingError(message)
    if error.status == 410:
        return _ExpiredError(message)
    if error.status == 409:
        if error.details.get("kind") == "resourcequotas":  # the count was being changed: not a conflict over ours
            return StoreUnavailableError(message, retry_after_seconds=wait)
        return ConflictError(message)
    # etcd without room is a 500 to the API server, though trying again does not help before somebody makes room.
    full = "database space exceeded" in error.message
    if error.retriable and not error.too_large_to_store and not full:
        return StoreUnavailableError(message, retry_after_seconds=wait)
    return StoreRefusedError(message, retry_after_seconds=wait)


def _body(name: str, content: bytes, labels: Mapping[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": {MANAGED_BY: MANAGER, COMPONENT: HISTORY, **labels}},
        "binaryData": {KEY: base64.b64encode(content).decode()},
    }


def _blob(item: _ConfigMap) -> Blob:
    times = [entry.time for entry in item.metadata.managed_fields or () if entry.time is not None]
    return Blob(
        name=item.metadata.name,
        version=item.metadata.resource_version,
        content=(item.binary_data or {}).get(KEY),
        labels=item.metadata.labels or {},
        sealed=bool(item.immutable),
        written_ms=round(max(times).timestamp() * 1000) if times else None,
    )


def _version(answer: bytes) -> str:
    return _decode(answer, _ConfigMap).metadata.resource_version


def _decode(answer: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(answer, type=kind)
    except msgspec.DecodeError as error:
        raise StoreUnavailableError(f"the API server's answer is no ConfigMap: {error}") from error
