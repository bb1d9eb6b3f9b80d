"""A history that ends with the process."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import ClassVar

from engine_ops.history.store import Blob, BlobStore, ConflictError, StoreRefusedError


class MemoryStore(BlobStore):
    """Blobs in a dictionary: for the library, and for tests."""

    max_blob_bytes: ClassVar[int] = 1 << 20

    def __init__(self) -> None:
        self.blobs: dict[str, Blob] = {}
        self._versions = itertools.count(1)

    async def list(self, *, contents: bool = True) -> list[Blob]:
        """See `BlobStore.list`."""
        blobs = [self.blobs[name] for name in sorted(self.blobs)]
        if contents:
            return blobs
        return [Blob(blob.name, blob.version, None, blob.labels, blob.sealed) for blob in blobs]

    async def read(self, name: str) -> Blob | None:
        """See `BlobStore.read`."""
        return self.blobs.get(name)

    async def create(self, name: str, content: bytes, labels: Mapping[str, str], *, sealed: bool = False) -> str:
        """See `BlobStore.create`."""
        if name in self.blobs:
            raise ConflictError(f"{name} is there already")
        return self._put(name, content, labels, sealed)

    async def replace(self, name: str, content: bytes, labels: Mapping[str, str], version: str) -> str:
        """See `BlobStore.replace`."""
        blob = self.blobs.get(name)
        if blob is None or blob.version != version:
            raise ConflictError(f"{name} is not at version {version}")
        if blob.sealed:
            raise StoreRefusedError(f"{name} is sealed")
        return self._put(name, content, labels, sealed=False)

    async def delete(self, name: str, version: str | None = None) -> None:
        """See `BlobStore.delete`."""
        blob = self.blobs.get(name)
        if blob is not None and version is not None and blob.version != version:
            raise ConflictError(f"{name} is not at version {version}")
        self.blobs.pop(name, None)

    def _put(self, name: str, content: bytes, labels: Mapping[str, str], sealed: bool) -> str:
        version = str(next(self._versions))
        self.blobs[name] = Blob(name, version, bytes(content), dict(labels), sealed)
        return version
