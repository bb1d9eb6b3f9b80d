"""Some points of a `HistoryView`: checked when they arrive, decoded when they are read."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from engine_ops.history.block import point_of, unpacked_point, unsqueezed
from engine_ops.history.chunk import Frame, decode_chunk
from engine_ops.history.runs import Run
from engine_ops.ml.data_point import WorkloadDataPoint

MAX_PACKED: Final = 500
"""Points that come one by one are put together to so many."""


class DamagedHistoryError(ValueError):
    """What came of the history is not what the other side sent, or no history at all; the message says where."""


class Part:
    """The points of a run, and of later ones where they come one by one.

    Parameters
    ----------
    run
        As it came.

    Raises
    ------
    DamagedHistoryError
        If its columns do not fit together. What is compressed is not looked at before it is read.
    """

    def __init__(self, run: Run) -> None:
        count = len(run.successes)
        self._timestamps = _column("timestamps", run.timestamps, "<i8", count)
        self._durations = _column("durations", run.durations, "<f8", count)
        self._successes = _column("successes", run.successes, "u1", count)
        self._kinds = _named("types", run.types, run.type_names, count)
        self._namespaces = _named("namespaces", run.namespaces, run.namespace_names, count) if run.chunk else []
        self._body = run
        self._packed = list(run.packed)
        self._skip = run.skip
        forms = bool(run.chunk) + bool(run.squeezed) + bool(run.packed)
        if forms != 1 or (run.packed and (len(run.packed) != count or run.skip)):
            raise DamagedHistoryError(f"a run of {count} points has their values in {forms} forms")
        if not 0 <= run.skip < count:
            raise DamagedHistoryError(f"{run.skip} of {count} points of a run are to be skipped")
        self.kept: list[WorkloadDataPoint] = []
        """Points that were decoded and are kept, the oldest ones of the part."""
        self.was_read = False

    def __len__(self) -> int:
        return len(self._successes) - self._skip

    @property
    def is_packed(self) -> bool:
        """Whether one point can be decoded without the others."""
        return bool(self._packed)

    def extend(self, newer: Part) -> bool:
        """Add the points of another part, which come after these; False where the two are not to be one."""
        if not self._packed or not newer._packed or len(self) + len(newer) > MAX_PACKED:
            return False
        self._timestamps = np.concatenate((self._timestamps, newer._timestamps))
        self._durations = np.concatenate((self._durations, newer._durations))
        self._successes = np.concatenate((self._successes, newer._successes))
        self._kinds += newer._kinds
        self._packed += newer._packed
        return True

    def decode(self, first: int, last: int) -> list[WorkloadDataPoint]:
        """Return the points of some rows, of those that were kept the very same.

        Raises
        ------
        DamagedHistoryError
            If the bytes hold no points.
        """
        points = self.kept[first:last]
        first += len(points)
        if first >= last:
            return points
        rows = range(first + self._skip, last + self._skip)
        try:
            return points + self._decoded(rows)
        except MemoryError:
            raise
        except Exception as error:
            raise DamagedHistoryError(f"the history cannot be read: {type(error).__name__}: {error}") from error

    def _decoded(self, rows: range) -> list[WorkloadDataPoint]:
        timestamps = self._timestamps[rows.start : rows.stop].tolist()
        durations = self._durations[rows.start : rows.stop].tolist()
        successes = self._successes[rows.start : rows.stop].astype(np.bool_).tolist()
        facts = zip(timestamps, self._kinds[rows.start : rows.stop], durations, successes, strict=True)
        if self._body.chunk:
            frame = Frame(self._timestamps, self._durations, self._namespaces)
            contents = decode_chunk(self._body.chunk, frame)[rows.start : rows.stop]
            return [point_of(*each, content) for each, content in zip(facts, contents, strict=True)]
        packed = (self._packed or self._unsqueezed())[rows.start : rows.stop]
        return [unpacked_point(*each, body) for each, body in zip(facts, packed, strict=True)]

    def _unsqueezed(self) -> list[bytes]:
        packed = unsqueezed(self._body.squeezed)
        if len(packed) != len(self._successes):
            raise ValueError(f"{len(packed)} points are {len(self._successes)}")
        return packed


def _column(name: str, content: bytes, kind: str, count: int) -> npt.NDArray[Any]:
    dtype = np.dtype(kind)
    if len(content) != count * dtype.itemsize:
        raise DamagedHistoryError(f"{name} of {count} points are {len(content)} bytes")
    return np.frombuffer(content, dtype)


def _named(name: str, content: bytes, names: tuple[str, ...], count: int) -> list[str]:
    codes = _column(name, content, "<u2", count).tolist()
    if max(codes, default=0) >= len(names):
        raise DamagedHistoryError(f"one of {name} has no name")
    return [names[code] for code in codes]
