"""Data points as Parquet, with pyarrow (the extra ``parquet``).

Columns: timestamp (int64, epoch milliseconds), requestType, resourceUsage (a map of doubles), duration (double,
milliseconds), success (bool), metadata (JSON as text), and further (JSON as text: keys of a point that are none of
these; null where there are none).
"""

from __future__ import annotations

import datetime
import importlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final

from engine_ops.history.formats.faults import FieldError, FormatError, OnFault, refuse
from engine_ops.history.formats.json_points import point_of
from engine_ops.history.formats.source import Source
from engine_ops.ml.data_point import WorkloadDataPoint

MAGIC: Final = b"PAR1"
INSTALL: Final = "Parquet needs pyarrow: install it with `pip install 'engine-ops[parquet]'`"
BATCH_ROWS: Final = 4096

_NAMES: Final = {
    "timestamp": "timestamp",
    "requestType": "requestType",
    "request_type": "requestType",
    "resourceUsage": "resourceUsage",
    "resource_usage": "resourceUsage",
    "duration": "duration",
    "success": "success",
    "metadata": "metadata",
    "further": "further",
}
_COLUMNS: Final = frozenset(_NAMES.values()) - {"further"}
_NEEDED: Final = ("timestamp", "requestType", "resourceUsage", "duration", "success")


class MissingParquetError(RuntimeError):
    """pyarrow is not installed; the message says how to get it."""


def _pyarrow() -> tuple[Any, Any]:
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise MissingParquetError(INSTALL) from error


def read_parquet(source: Source, on_fault: OnFault = refuse) -> Iterator[WorkloadDataPoint]:
    """Yield the point of each row.

    Parameters
    ----------
    source
        The file.
    on_fault
        Told of each row that is no point; its line is the row's number, from 1.

    Raises
    ------
    FormatError
        If it is no Parquet, or lacks a column.
    MissingParquetError
        If pyarrow is not installed.
    """
    pa, pq = _pyarrow()
    source.head(4)
    number = 0
    try:
        with pq.ParquetFile(source.path) as file:
            there = {name: _NAMES[name] for name in file.schema_arrow.names if name in _NAMES}
            for needed in _NEEDED:
                if needed not in there.values():
                    listed = ", ".join(file.schema_arrow.names[:10])
                    raise FormatError(source.fault(f"has no column {needed}; its columns are: {listed}"))
            for batch in file.iter_batches(BATCH_ROWS, columns=list(there)):
                for row in batch.to_pylist():
                    number += 1
                    try:
                        point = _point({there[name]: value for name, value in row.items()})
                    except FieldError as error:
                        on_fault(source.fault(error.why, number, error.field))
                        continue
                    yield point
    except (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError) as error:
        why = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise FormatError(source.fault(f"is no Parquet that can be read: {why}", number or None)) from error


def write_parquet(points: Iterable[WorkloadDataPoint], path: Path) -> int:
    """Write points as a file and return how many.

    Raises
    ------
    MissingParquetError
        If pyarrow is not installed.
    OSError
        If the file cannot be written.
    """
    pa, pq = _pyarrow()
    return sum(_written(points, path, pa, pq))


def parquet_pieces(points: Iterable[WorkloadDataPoint]) -> Iterator[bytes]:
    """Return a file of points in pieces, each made when it is asked for.

    Raises
    ------
    MissingParquetError
        If pyarrow is not installed; at once.
    """
    pa, pq = _pyarrow()
    sink = _Sink()

    def pieces() -> Iterator[bytes]:
        for _ in _written(points, sink, pa, pq):
            yield sink.take()
        yield sink.take()

    return pieces()


class _Sink(io.RawIOBase):
    """Keeps what is written until it is taken."""

    def __init__(self) -> None:
        super().__init__()
        self._kept = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        with memoryview(data) as view:
            self._kept += view
            return view.nbytes

    def take(self) -> bytes:
        taken = bytes(self._kept)
        self._kept.clear()
        return taken


def _written(points: Iterable[WorkloadDataPoint], where: Path | _Sink, pa: Any, pq: Any) -> Iterator[int]:
    """Write points, and yield how many after each batch."""
    schema = pa.schema(
        [
            pa.field("timestamp", pa.int64(), nullable=False),
            pa.field("requestType", pa.string(), nullable=False),
            pa.field("resourceUsage", pa.map_(pa.string(), pa.float64()), nullable=False),
            pa.field("duration", pa.float64(), nullable=False),
            pa.field("success", pa.bool_(), nullable=False),
            pa.field("metadata", pa.string(), nullable=False),
            pa.field("further", pa.string()),
        ]
    )
    rest = iter(points)
    with pq.ParquetWriter(where, schema, compression="zstd") as writer:
        while rows := [_row(point) for point in islice(rest, BATCH_ROWS)]:
            writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=schema))
            yield len(rows)


def _row(point: WorkloadDataPoint) -> dict[str, Any]:
    data = point.to_dict()
    data["resourceUsage"] = list(data["resourceUsage"].items())
    data["metadata"] = json.dumps(data["metadata"], separators=(",", ":"))
    further = {name: data.pop(name) for name in [*data] if name not in _COLUMNS}
    data["further"] = json.dumps(further, separators=(",", ":")) if further else None
    return data


def _point(row: dict[str, Any]) -> WorkloadDataPoint:
    further = _decoded("further", row.pop("further", None))
    metadata = _decoded("metadata", row.get("metadata"))
    if isinstance(metadata, Mapping) and not isinstance(row.get("metadata"), str | bytes):
        metadata = _present(metadata)
    row["metadata"] = metadata
    usage = row["resourceUsage"]
    if isinstance(usage, Mapping):  # a struct has every name in every row
        usage = {name: amount for name, amount in usage.items() if amount is not None}
    elif isinstance(usage, list):
        try:
            usage = dict(usage)
        except (TypeError, ValueError):
            raise FieldError("resourceUsage", "must be a map or a struct of numbers") from None
    row["resourceUsage"] = {} if usage is None else usage
    if isinstance(row["timestamp"], datetime.datetime):
        row["timestamp"] = _epoch_ms(row["timestamp"])
    return point_of({**further, **row} if isinstance(further, Mapping) else row)


def _decoded(field: str, value: Any) -> Any:
    """Return what a column of JSON holds; anything but text as it is."""
    if not isinstance(value, str | bytes):
        return value
    try:
        return json.loads(value) if value else {}
    except (ValueError, RecursionError) as error:
        raise FieldError(field, f"is no JSON: {str(error)[:100]}") from error


def _epoch_ms(moment: datetime.datetime) -> int:
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return round(moment.timestamp() * 1000)


def _present(value: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the members that a row of a struct does not have."""
    return {
        name: _present(item) if isinstance(item, Mapping) else item for name, item in value.items() if item is not None
    }
