"""Trained models as ConfigMaps of the operator's namespace; see `engine_ops.plugins.model_store.ModelStore`.

One ConfigMap for each state, ``engine-ops-model-<plugin>-<first 12 of its digest>``, which nobody can change once it
is made, and one for everything else, ``engine-ops-plugin-<plugin>``. States are written before the one that names them,
and are deleted after it no longer does: a crash leaves a state too many, never one too few.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import hashlib
import logging
import re
import zlib
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec

from engine_ops.api.base import GROUP
from engine_ops.kube.connection import METADATA_LIST, METADATA_ONLY, Connection
from engine_ops.kube.errors import ApiError, ConnectError, UnavailableError
from engine_ops.kube.model_names import index_name, label_value, model_name
from engine_ops.kube.paths import PLUGIN, collection_path, config_map_path
from engine_ops.plugins.messages import MAX_STATE_BYTES
from engine_ops.plugins.model_store import ModelStore, ModelStoreError, SavedModels

logger = logging.getLogger(__name__)

MAX_CONTENT_BYTES: Final = 700 * 1024
"""Of a compressed state: as base64 it is below the 1 MiB that a ConfigMap holds, with room for its metadata."""
PAGE_SIZE: Final = 50

KEY: Final = "content"
MANAGED_BY, MANAGER = "app.kubernetes.io/managed-by", "engine-ops"
COMPONENT, MODELS = "app.kubernetes.io/component", "plugin-models"
PLUGIN_LABEL: Final = f"{GROUP}/plugin"
"""The plugin's name, cut if it is long; the annotation of the same name has the whole of it."""
DIGEST_ANNOTATION: Final = f"{GROUP}/digest"
SELECTOR: Final = f"{MANAGED_BY}={MANAGER},{COMPONENT}={MODELS}"

_LIST_TRIES: Final = 3
_T = TypeVar("_T")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


class _Metadata(msgspec.Struct, rename="camel"):
    name: str
    resource_version: str = ""
    annotations: dict[str, str] | None = None


class _ConfigMap(msgspec.Struct, rename="camel"):
    metadata: _Metadata
    # msgspec decodes base64 itself; the API server stores none that is broken.
    binary_data: dict[str, bytes] | None = None

    @property
    def content(self) -> bytes:
        return (self.binary_data or {}).get(KEY, b"")

    def annotation(self, name: str) -> str:
        return (self.metadata.annotations or {}).get(name, "")


class _ListMetadata(msgspec.Struct, rename="camel"):
    continue_: str = msgspec.field(default="", name="continue")


class _Named(msgspec.Struct):
    metadata: _Metadata


class _NamedList(msgspec.Struct):
    metadata: _ListMetadata
    items: list[_Named] | None = None


class _ConfigMapList(msgspec.Struct):
    metadata: _ListMetadata
    items: list[_ConfigMap] | None = None


@dataclasses.dataclass(slots=True)
class _Kept:
    """What is known of a plugin's ConfigMaps.

    Parameters
    ----------
    version
        The resourceVersion of the index; empty where there is none.
    head
        A hash of its content.
    states
        The digest of each state by the name of its ConfigMap; empty for one that holds none.
    """

    version: str = ""
    head: bytes = b""
    states: dict[str, str] = dataclasses.field(default_factory=dict)


class ConfigMapModelStore:
    """Models in ConfigMaps, and those that are too large for one in another store, if there is one.

    Without the other store a model over 700 KiB (compressed) is not kept. What is known of it is, so that it counts as
    a model without a saved form, and is trained again after a restart; `save` tells so.

    Parameters
    ----------
    connection
        To the API server.
    namespace
        The operator's own. Its role needs get, list, create, update and delete of ConfigMaps there.
    large
        For states that are too large, such as a `engine_ops.plugins.model_store.DirectoryModelStore`.
    """

    def __init__(self, connection: Connection, namespace: str, large: ModelStore | None = None) -> None:
        self._connection = connection
        self._namespace = namespace
        self._large = large
        self._kept: dict[str, _Kept] = {}
        self._too_large: set[str] = set()
        """Digests: a save that is tried again does not compress them again."""

    async def load(self, plugin: str) -> SavedModels:
        """See `ModelStore.load`. What cannot be read, or is somebody else's, is left out with a warning."""
        kept, head, states = _Kept(), b"", {}
        index = index_name(plugin)
        for item in await self._list(plugin):
            name = item.metadata.name
            if item.annotation(PLUGIN_LABEL) != plugin:
                logger.warning("ConfigMap %s/%s: left alone: it is not of plugin %s", self._namespace, name, plugin)
            elif name == index:
                kept.version, head = item.metadata.resource_version, item.content
                kept.head = _fingerprint(head)
            else:
                digest = item.annotation(DIGEST_ANNOTATION)
                kept.states[name] = digest
                state = await asyncio.to_thread(_unpack, item.content, digest)
                if state is None or name != model_name(plugin, digest):
                    logger.warning("ConfigMap %s/%s: left out: it holds no model", self._namespace, name)
                    kept.states[name] = ""  # made anew when it is saved again
                else:
                    states[digest] = state
        self._kept[plugin] = kept
        if not kept.version:
            return SavedModels()
        try:
            saved = SavedModels.of(head, states)
        except ValueError as error:
            logger.warning("ConfigMap %s/%s: the models are forgotten: %s", self._namespace, index, error)
            return SavedModels()
        if self._large is not None and any(record.digest not in saved.states for record in saved.records):
            beside = (await self._large.load(plugin)).states
            saved = dataclasses.replace(saved, states={**_of_records(saved, beside), **saved.states})
        return saved

    async def save(self, plugin: str, models: SavedModels) -> None:
        """See `ModelStore.save`; what is kept of a model that is too large, the class says.

        Raises
        ------
        ModelStoreError
            Also where a model is too large: everything else is kept then.
        """
        head = models.head()
        if len(head) > MAX_CONTENT_BYTES:
            raise ModelStoreError(f"what is known of the models takes {len(head)} bytes, more than a ConfigMap holds")
        if plugin not in self._kept:
            await self.load(plugin)
        kept = self._kept[plugin]
        large: dict[str, bytes] = {}
        wanted: set[str] = set()
        for digest, state in models.states.items():
            name = model_name(plugin, digest)
            wanted.add(name)
            if kept.states.get(name) != digest and not await self._keep_state(plugin, kept, name, digest, state):
                large[digest] = state
        if self._large is not None:
            await _keep_large(self._large, plugin, models, large)
        if kept.head != _fingerprint(head):
            await self._keep_head(plugin, kept, head)
        for name in [name for name in kept.states if name not in wanted]:
            await self._delete(name)
            del kept.states[name]
        self._too_large &= set(models.states)
        if large and self._large is None:
            raise ModelStoreError(
                f"model {', '.join(digest[:19] for digest in large)} takes more than the "
                f"{MAX_CONTENT_BYTES // 1024} KiB that a ConfigMap holds; --plugin-state-dir keeps such models"
            )

    async def forget(self, plugin: str) -> None:
        """See `ModelStore.forget`."""
        # The index first: without it the states are nothing.
        found = [item for item in await self._list(plugin, contents=False) if item.annotation(PLUGIN_LABEL) == plugin]
        for item in sorted(found, key=lambda item: item.metadata.name != index_name(plugin)):
            await self._delete(item.metadata.name)
        self._kept.pop(plugin, None)
        if self._large is not None:
            await self._large.forget(plugin)

    async def sweep(self) -> None:
        """Forget the models of plugins that are no more: they may have gone while no operator ran.

        Raises
        ------
        ModelStoreError
            If the API server does not tell, or does not delete.
        """
        kept = {item.annotation(PLUGIN_LABEL) for item in await self._list(None, contents=False)} - {""}
        # Asked after the list: a plugin that is made in between is among them.
        for plugin in sorted(kept - await self._plugins() if kept else ()):
            logger.info("OptimizerPlugin %s: gone, and its models with it", plugin)
            await self.forget(plugin)

    async def _keep_state(self, plugin: str, kept: _Kept, name: str, digest: str, state: bytes) -> bool:
        """Make the ConfigMap of a state; return whether it fits."""
        if digest in self._too_large:
            return False
        content = await asyncio.to_thread(zlib.compress, state)
        if len(content) > MAX_CONTENT_BYTES:
            self._too_large.add(digest)
            return False
        body = _body(name, plugin, content)
        body["metadata"]["annotations"][DIGEST_ANNOTATION] = digest
        body["immutable"] = True
        try:
            await self._send("POST", "", body)
        except ModelStoreError as error:
            if not _is(error, 409):
                raise
            await self._check_owner(name, plugin)
            await self._delete(name)  # the rest of a write whose answer was lost, or of one that went wrong
            await self._send("POST", "", body)
        kept.states[name] = digest
        return True

    async def _keep_head(self, plugin: str, kept: _Kept, head: bytes) -> None:
        """Write the index, if it is still as it was read last."""
        name = index_name(plugin)
        body = _body(name, plugin, head)
        try:
            if kept.version:
                body["metadata"]["resourceVersion"] = kept.version
                answer = await self._send("PUT", name, body)
            else:
                answer = await self._send("POST", "", body)
        except ModelStoreError as error:
            if _is(error, 404) or _is(error, 409):
                # Changed by another, or by a write of ours whose answer was lost: what is there is looked at before the
                # next attempt writes over it.
                del self._kept[plugin]
                await self._check_owner(name, plugin)
            raise
        kept.version, kept.head = _decode(answer, _Named).metadata.resource_version, _fingerprint(head)

    async def _check_owner(self, name: str, plugin: str) -> None:
        try:
            found = _decode(await self._send("GET", name, accept=METADATA_ONLY), _ConfigMap)
        except ModelStoreError as error:
            if _is(error, 404):
                return
            raise
        if found.annotation(PLUGIN_LABEL) != plugin:
            raise ModelStoreError(f"ConfigMap {self._namespace}/{name} is in the way: it is not of plugin {plugin}")

    async def _delete(self, name: str) -> None:
        try:
            await self._send("DELETE", name, {"apiVersion": "v1", "kind": "DeleteOptions"})
        except ModelStoreError as error:
            if not _is(error, 404):
                raise

    async def _list(self, plugin: str | None, *, contents: bool = True) -> list[_ConfigMap]:
        selector = SELECTOR if plugin is None else f"{SELECTOR},{PLUGIN_LABEL}={label_value(plugin)}"
        for _ in range(_LIST_TRIES):
            found: list[_ConfigMap] = []
            params = {"labelSelector": selector, "limit": str(PAGE_SIZE)}
            try:
                while True:
                    accept = "application/json" if contents else METADATA_LIST
                    page = _decode(await self._send("GET", "", params=params, accept=accept), _ConfigMapList)
                    found += page.items or ()
                    if not page.metadata.continue_:
                        return found
                    params["continue"] = page.metadata.continue_
            except ModelStoreError as error:
                if not _is(error, 410):
                    raise
        raise ModelStoreError("the API server forgot the list of ConfigMaps while it was read")

    async def _plugins(self) -> set[str]:
        names: set[str] = set()
        params = {"limit": "500"}
        while True:
            answer = await self._request("GET", collection_path(PLUGIN), None, METADATA_LIST, params)
            page = _decode(answer, _NamedList)
            names |= {item.metadata.name for item in page.items or ()}
            if not page.metadata.continue_:
                return names
            params["continue"] = page.metadata.continue_

    async def _send(
        self,
        method: str,
        name: str,
        body: Mapping[str, object] | None = None,
        *,
        params: Mapping[str, str] | None = None,
        accept: str = METADATA_ONLY,
    ) -> bytes:
        return await self._request(method, config_map_path(self._namespace, name), body, accept, params)

    async def _request(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None,
        accept: str,
        params: Mapping[str, str] | None,
    ) -> bytes:
        encoded = None if body is None else msgspec.json.encode(body)
        try:
            return await self._connection.request(method, path, body=encoded, accept=accept, params=params)
        except (ApiError, UnavailableError, ConnectError) as error:
            raise ModelStoreError(f"{method} {path}: {error}") from error


def _fingerprint(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def _body(name: str, plugin: str, content: bytes) -> dict[str, Any]:
    labels = {MANAGED_BY: MANAGER, COMPONENT: MODELS, PLUGIN_LABEL: label_value(plugin)}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": labels, "annotations": {PLUGIN_LABEL: plugin}},
        "binaryData": {KEY: base64.b64encode(content).decode()},
    }


def _unpack(content: bytes, digest: str) -> bytes | None:
    """Return the state, or None if it is not the one that the digest names."""
    try:
        unpack = zlib.decompressobj()
        state = unpack.decompress(content, MAX_STATE_BYTES)
    except zlib.error:
        return None
    whole = unpack.eof and not unpack.unused_data
    if _DIGEST.fullmatch(digest):
        return state if whole and hashlib.sha256(state).hexdigest() == digest.partition(":")[2] else None
    return state if whole and digest else None


async def _keep_large(store: ModelStore, plugin: str, models: SavedModels, large: Mapping[str, bytes]) -> None:
    if large:
        await store.save(plugin, dataclasses.replace(models, states=large))
    else:
        await store.forget(plugin)


def _of_records(saved: SavedModels, states: Mapping[str, bytes]) -> dict[str, bytes]:
    known = {record.digest for record in saved.records}
    return {digest: state for digest, state in states.items() if digest in known}


def _is(error: ModelStoreError, status: int) -> bool:
    return isinstance(error.__cause__, ApiError) and error.__cause__.status == status


def _decode(answer: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(answer, type=kind)
    except msgspec.DecodeError as error:
        raise ModelStoreError(f"the API server's answer cannot be read: {error}") from error
