"""The history as it is kept, read without changing anything."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from engine_ops.history.block import MAX_BLOCK_POINTS, Block
from engine_ops.history.block_columns import Columns
from engine_ops.history.driving import run_sync
from engine_ops.history.file_store import FileStore
from engine_ops.history.merging import merge
from engine_ops.history.reading import survey
from engine_ops.history.selection import Selection
from engine_ops.history.store import BlobStore
from engine_ops.ml.data_point import WorkloadDataPoint

if TYPE_CHECKING:
    from engine_ops.kube.connection import Connection


@dataclasses.dataclass(slots=True)
class HistoryView:
    """All closed points that could be read, and what could not be.

    Parameters
    ----------
    where
        In words: a directory, or a namespace of a cluster.
    blocks
        Oldest first.
    segments
        How many blobs hold closed points, the head among them.
    stored_bytes
        Of all blobs of closed and open points together.
    open_points
        How many wait for their outcome.
    written_ms
        When something of it was written last; None where the store does not tell.
    flushed_ms
        The watermark, which follows the last write by half a minute or more: every point made up to it was written, and
        none is taken up again from a request's status. None where nobody said.
    damaged
        Name and fault of each blob that cannot be read.
    set_aside
        Names of damaged blobs that the operator has put aside.
    missing
        Sequence numbers of segments that should be there.
    future
        What a later version wrote; empty if there is nothing.
    conditions
        What the operator says of itself, with type, status, reason and message; empty for a directory.
    """

    where: str
    blocks: list[Block] = dataclasses.field(default_factory=list)
    segments: int = 0
    stored_bytes: int = 0
    open_points: int = 0
    written_ms: int | None = None
    flushed_ms: int | None = None
    damaged: dict[str, str] = dataclasses.field(default_factory=dict)
    set_aside: list[str] = dataclasses.field(default_factory=list)
    missing: list[int] = dataclasses.field(default_factory=list)
    future: str = ""
    conditions: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    @property
    def is_there(self) -> bool:
        """Whether there is any history at all."""
        return bool(self.segments or self.damaged or self.open_points or self.future or self.set_aside)

    def select(self, **filters: Any) -> Selection:
        """Return points; the filters are those of `WorkloadCollector.select`."""
        return Selection.of(self.blocks, 0, **filters)

    def failures(self, **filters: Any) -> Iterator[WorkloadDataPoint]:
        """Yield the points without success; the filters are those of `select`."""
        for block in self.blocks:
            yield from block.points(_failed(block.columns(), **filters))

    def to_dict(self) -> dict[str, Any]:
        """Return the state of the store as JSON values."""
        return {
            "where": self.where,
            "segments": self.segments,
            "storedBytes": self.stored_bytes,
            "openPoints": self.open_points,
            "writtenMs": self.written_ms,
            "flushedMs": self.flushed_ms,
            "damaged": [{"name": name, "message": why} for name, why in self.damaged.items()],
            "setAside": self.set_aside,
            "missingSegments": self.missing,
            "futureFormat": self.future,
            "conditions": self.conditions,
        }


def read_directory(directory: Path) -> HistoryView:
    """Read the history of a directory.

    Raises
    ------
    StoreError
        If the directory cannot be read.
    """
    return run_sync(_read(FileStore(directory), str(directory)))


async def read_cluster(connection: Connection, namespace: str) -> HistoryView:
    """Read the history of a cluster, and what its operator says of itself; only lists and reads ConfigMaps.

    Raises
    ------
    StoreError
        If that is refused or does not work.
    """
    from engine_ops.kube.errors import ApiError, UnavailableError
    from engine_ops.kube.history_store import ConfigMapStore
    from engine_ops.kube.operator_status import read_status

    view = await _read(ConfigMapStore(connection, namespace), f"namespace {namespace}")
    # The history can be shown without.
    with contextlib.suppress(ApiError, UnavailableError):
        view.conditions = (await read_status(connection, namespace)).conditions
    return view


async def _read(store: BlobStore, where: str) -> HistoryView:
    found = await survey(store, {})
    parts = [found.segments[sequence] for sequence in sorted(found.segments)]
    blocks = [part.block for part in parts]
    if found.head is not None:
        parts.append(found.head)
        if any(sequence >= found.head.header.sequence for sequence in found.segments):
            # Between two writes: points of the head are in a segment too.
            merged = merge(found, (), (), block_points=MAX_BLOCK_POINTS)
            blocks = [*merged.sealed, *merged.open]
        else:
            blocks.append(found.head.block)
    return HistoryView(
        where,
        blocks=[block for block in blocks if len(block)],
        segments=len(parts),
        stored_bytes=sum(part.size_bytes for part in parts) + found.open_bytes,
        open_points=len(found.waiting),
        written_ms=found.written_ms,
        flushed_ms=found.watermark or None,
        damaged={blob.name: why for blob, why in found.damaged},
        set_aside=list(found.set_aside),
        missing=list(found.missing),
        future=found.future,
    )


def _failed(
    columns: Columns,
    type: str | None = None,  # noqa: A002 - the name of the field
    namespace: str | None = None,
    start: int | None = None,
    end: int | None = None,
) -> npt.NDArray[np.intp]:
    mask = columns.successes == 0
    for wanted, names, codes in (
        (type, columns.type_names, columns.types),
        (namespace, columns.namespace_names, columns.namespaces),
    ):
        if wanted is not None:
            mask &= codes == names.index(wanted) if wanted in names else False
    if start is not None:
        mask &= columns.timestamps >= start
    if end is not None:
        mask &= columns.timestamps <= end
    return np.flatnonzero(mask)
