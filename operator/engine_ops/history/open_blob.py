"""The blob of open points: what is in it, and when it is to be written."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from engine_ops.history import names
from engine_ops.history.codec import FORMAT
from engine_ops.history.open_points import OpenPoint, encode_open_points
from engine_ops.history.reading import Survey
from engine_ops.history.stamps import Stamps
from engine_ops.history.store import BlobStore

TOUCH_SECONDS = 60.0
"""Changed states of open points are written at most so often, unless there is a new open point."""
MAX_STALE = 64
"""So many closed points may still be among the open ones in the store; reading leaves them out."""


class OpenBlob:
    """Where the open points are stored. For `engine_ops.history.writing.LogWriter` only.

    A point that is closed stays in the blob until the head has it: it is in the store at every instant.

    Parameters
    ----------
    store, open_points, stamps
        The log's.
    writer
        Put into the header.
    """

    def __init__(self, store: BlobStore, open_points: dict[bytes, OpenPoint], stamps: Stamps, writer: str) -> None:
        self._store = store
        self._open = open_points
        self._stamps = stamps
        self._writer = writer
        self.version: str | None = None
        self.size_bytes = 0
        self.dirty = False
        self.touched = False
        self._written_at = time.monotonic()
        # Points in the stored blob that are closed in memory, and not in the head yet.
        self._closing: dict[bytes, OpenPoint] = {}
        self._stored: set[bytes] = set()
        # Of these, the closed ones that have left the ring: nothing else says that they are closed.
        self._gone: set[bytes] = set()
        self._stale = 0

    @property
    def closing(self) -> tuple[bytes, ...]:
        """The keys of closed points that the next head brings into the store."""
        return tuple(self._closing)

    def closed(self, key: bytes, opened: OpenPoint) -> None:
        """Take note that an open point was closed; it is in the collector."""
        if key in self._stored:
            self._closing[key] = opened

    def settled(self, keys: Iterable[bytes]) -> None:
        """Take note that the head has these closed points."""
        for key in keys:
            if self._closing.pop(key, None) is not None:
                self._stale += 1

    def dropped(self, keys: Iterable[bytes | None]) -> None:
        """Take note that points left the ring: those that are among the open ones in the store must leave them too."""
        for key in self._stored.intersection(keys):
            self._closing.pop(key, None)
            self._gone.add(key)
            self.dirty = True

    def wants_write(self, *, leaving: bool) -> bool:
        """Whether it is to be written now; ``leaving`` says whether segments are about to be deleted."""
        # An open point whose closed one left the ring would come back to life.
        if self.dirty or self._stale >= MAX_STALE or (leaving and self._stale > 0):
            return True
        return self.touched and time.monotonic() - self._written_at >= TOUCH_SECONDS

    def found(self, found: Survey, is_closed: Callable[[bytes], bool], is_stale: Callable[[bytes], bool]) -> None:
        """Put what the store holds and what we hold together.

        Parameters
        ----------
        found
            What the store holds.
        is_closed
            Whether the collector has a point of this key.
        is_stale
            Whether a point of ours was flushed and has left the ring.
        """
        self.version, self.size_bytes = found.open_version, found.open_bytes
        self._stored = set(found.open_points)
        self._closing = {key: one for key, one in self._closing.items() if key in self._stored}
        self._gone &= self._stored
        self.dirty |= bool(self._gone)
        for key in [*self._open]:
            if is_closed(key) or (key not in self._stored and is_stale(key)):
                del self._open[key]
                self._stamps.forget([key])
            elif key not in self._stored:
                self.dirty = True
        self._stale = 0
        for key, opened in found.open_points.items():
            if not is_closed(key) and key not in self._gone:
                self._open.setdefault(key, opened)
            elif key not in self._closing:
                self._stale += 1
        self._stamps.forget([key for key in self._stamps.unflushed if key in self._open and key in self._stored])

    def content(self) -> tuple[bytes, Mapping[bytes, OpenPoint]]:
        """Return what is to be written, encoded and as it is."""
        points = {**self._closing, **self._open}
        return encode_open_points(points.values(), self._writer), points

    async def write(self, content: bytes, points: Mapping[bytes, OpenPoint]) -> None:
        """Write what `content` returned.

        Raises
        ------
        engine_ops.history.store.StoreError
            If it is not known to be written.
        """
        opened = [key for key in self._open if key in points]
        self.dirty = self.touched = False
        self._stored |= points.keys()  # at once: one of them may be closed while this is on its way
        labels = {names.WHAT: "open", names.FORMAT_LABEL: str(FORMAT), names.COUNT: str(len(points))}
        try:
            self.version = await put(self._store, names.OPEN, content, labels, self.version)
        except BaseException:
            self.dirty = True
            raise
        self.size_bytes, self._written_at, self._stale = len(content), time.monotonic(), 0
        self._stored = set(points)
        self._gone &= self._stored
        self._stamps.forget(opened)


async def put(store: BlobStore, name: str, content: bytes, labels: dict[str, str], version: str | None) -> str:
    """Make a blob, or replace the one of a version, and return its new version."""
    if version is None:
        return await store.create(name, content, labels)
    return await store.replace(name, content, labels, version)
