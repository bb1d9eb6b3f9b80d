"""Some points of the ring, as they were when they were selected."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from engine_ops.history.block import Block
from engine_ops.history.block_columns import Columns
from engine_ops.history.export import block_lines
from engine_ops.ml.data_point import WorkloadDataPoint
from engine_ops.ml.statistics import statistics

Rows = npt.NDArray[np.intp]


class Selection:
    """Rows of blocks, oldest first."""

    def __init__(self, parts: Sequence[tuple[Block, Rows]]) -> None:
        self._parts = tuple(parts)

    @classmethod
    def of(
        cls,
        blocks: Sequence[Block],
        hidden: int,
        type: str | None = None,  # noqa: A002 - the name of the field
        namespace: str | None = None,
        start: int | None = None,
        end: int | None = None,
        newest: int | None = None,
        *,
        namespaces: Container[str] | None = None,
    ) -> Selection:
        """Select from blocks without their first ``hidden`` points; the filters are `WorkloadCollector.select`'s.

        Beside them, ``namespaces`` are the only ones whose points are wanted; None for all, and those of no namespace.

        Raises
        ------
        ValueError
            If ``newest`` is negative.
        """
        if newest is not None and newest < 0:
            raise ValueError(f"newest must not be negative, is {newest}")
        parts = []
        for block in blocks:
            skip = min(hidden, len(block))
            hidden -= skip
            if len(block) > skip:
                rows = _matching(block.columns(), skip, type, namespace, start, end, namespaces)
                if len(rows):
                    parts.append((block, rows))
        return cls(parts if newest is None else _last(parts, newest))

    def __len__(self) -> int:
        return sum(len(rows) for _, rows in self._parts)

    def points(self) -> Iterator[WorkloadDataPoint]:
        """Yield the points, oldest first; a few thousand are in memory at a time."""
        for block, rows in self._parts:
            yield from block.points(None if len(rows) == len(block) else rows)

    def json_lines(self) -> Iterator[bytes]:
        """Yield what `WorkloadDataPoint.to_dict` returns of the points as JSON lines, in pieces of some hundred."""
        for block, rows in self._parts:
            yield from block_lines(block, None if len(rows) == len(block) else rows)

    def __iter__(self) -> Iterator[WorkloadDataPoint]:
        return self.points()

    @property
    def columns(self) -> Columns:
        """The columns of the points, of all blocks together."""
        type_codes: dict[str, int] = {}
        namespace_codes: dict[str, int] = {"": 0}
        parts = [(block.columns(), rows) for block, rows in self._parts]
        types = [_recoded(part.types[rows], part.type_names, type_codes) for part, rows in parts]
        namespaces = [_recoded(part.namespaces[rows], part.namespace_names, namespace_codes) for part, rows in parts]
        return Columns(
            _joined([part.timestamps[rows] for part, rows in parts], np.int64),
            _joined([part.durations[rows] for part, rows in parts], np.float64),
            _joined([part.successes[rows] for part, rows in parts], np.uint8),
            _joined(types, np.uint32),
            _joined(namespaces, np.uint32),
            tuple(type_codes),
            tuple(namespace_codes),
        )

    def statistics(self) -> dict[str, Any]:
        """Return what `WorkloadDataset.get_statistics` returns of the same points."""
        return statistics(self.columns)


def _matching(
    columns: Columns,
    skip: int,
    kind: str | None,
    namespace: str | None,
    start: int | None,
    end: int | None,
    namespaces: Container[str] | None,
) -> Rows:
    masks = []
    if kind is not None:
        if kind not in columns.type_names:
            return np.empty(0, dtype=np.intp)
        masks.append(columns.types == columns.type_names.index(kind))
    if namespace is not None:
        if not namespace or namespace not in columns.namespace_names:
            return np.empty(0, dtype=np.intp)
        masks.append(columns.namespaces == columns.namespace_names.index(namespace))
    if namespaces is not None:
        wanted = np.array([bool(name) and name in namespaces for name in columns.namespace_names], dtype=np.bool_)
        masks.append(wanted[columns.namespaces])
    if start is not None:
        masks.append(columns.timestamps >= start)
    if end is not None:
        masks.append(columns.timestamps <= end)
    if not masks:
        return np.arange(skip, len(columns.timestamps))
    mask = masks[0]
    for other in masks[1:]:
        mask = mask & other
    rows = np.flatnonzero(mask)
    return rows[rows >= skip] if skip else rows


def _last(parts: list[tuple[Block, Rows]], newest: int) -> list[tuple[Block, Rows]]:
    kept = []
    for block, rows in reversed(parts):
        if newest <= 0:
            break
        kept.append((block, rows[-newest:]))
        newest -= len(rows)
    return kept[::-1]


def _recoded(codes: npt.NDArray[Any], names: tuple[str, ...], table: dict[str, int]) -> npt.NDArray[np.uint32]:
    """Codes of one block in the codes of all; only names that occur get one."""
    used = np.unique(codes)
    new = np.zeros(len(names), dtype=np.uint32)
    for code in used.tolist():
        new[code] = table.setdefault(names[code], len(table))
    recoded: npt.NDArray[np.uint32] = new[codes]
    return recoded


def _joined(parts: list[npt.NDArray[Any]], kind: Any) -> npt.NDArray[Any]:
    return np.concatenate(parts) if parts else np.empty(0, dtype=kind)
