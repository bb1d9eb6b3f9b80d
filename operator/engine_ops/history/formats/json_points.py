"""Data points as JSON: an array, an object that holds one, or one point a line."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from engine_ops.history.formats.faults import FieldError, FormatError, OnFault, refuse
from engine_ops.history.formats.json_stream import ArrayStream
from engine_ops.history.formats.source import Source
from engine_ops.history.limits import CutCounts, pack
from engine_ops.ml.data_point import WorkloadDataPoint

ARRAY_KEYS: Final = ("data", "dataPoints", "data_points", "points")
"""Keys under which an object may hold its points."""

_SHOWN: Final = 200


def read_json(source: Source, on_fault: OnFault = refuse) -> Iterator[WorkloadDataPoint]:
    """Yield the points of an array, or of the array in an object's ``data``, as ``WorkloadDataset.save`` writes it.

    Parameters
    ----------
    source
        The file.
    on_fault
        Told of each element that is no point.

    Raises
    ------
    FormatError
        If it is no JSON: from there on nothing can be read.
    """
    source.head()
    with source.open() as file:
        stream = ArrayStream(file, (frozenset(ARRAY_KEYS),))
        try:
            for line, value in stream:
                point = _checked(value, source, line, on_fault)
                if point is not None:
                    yield point
        except FieldError as error:
            raise FormatError(source.fault(error.why, stream.line, error.field)) from error


def read_jsonl(source: Source, on_fault: OnFault = refuse) -> Iterator[WorkloadDataPoint]:
    """Yield the point of each line. Parameters and errors as `read_json`; a line that is no JSON is one fault."""
    for number, text in source.lines(on_fault):
        try:
            value = json.loads(text)
        except ValueError as error:
            why = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            on_fault(source.fault(f"is no JSON: {why[:_SHOWN]}", number))
            continue
        except RecursionError:
            on_fault(source.fault("is nested too deeply", number))
            continue
        point = _checked(value, source, number, on_fault)
        if point is not None:
            yield point


def point_of(value: Any) -> WorkloadDataPoint:
    """Return the point that a JSON value is; ``null`` as a duration or an amount is NaN.

    Raises
    ------
    FieldError
        If it is none.
    """
    if not isinstance(value, Mapping):
        raise FieldError("", f"a point must be an object, not {_kind(value)}")
    data = dict(value)
    if data.get("duration", 0) is None:
        data["duration"] = math.nan
    for name in ("resourceUsage", "resource_usage"):
        usage = data.get(name)
        if isinstance(usage, Mapping) and None in usage.values():
            data[name] = {key: math.nan if amount is None else amount for key, amount in usage.items()}
    try:
        point = WorkloadDataPoint.from_dict(data)
        pack(point, CutCounts())  # what the history could not hold is told with its line, before anything is written
    except (TypeError, ValueError) as error:
        raise FieldError("", str(error)[:_SHOWN]) from error
    return point


def write_jsonl(points: Iterable[WorkloadDataPoint], write: Callable[[bytes], object]) -> int:
    """Write one point a line and return how many. Numbers that JSON has not are written as `encode` says."""
    count = 0
    for point in points:
        write(encode(point) + b"\n")
        count += 1
    return count


def write_json(points: Iterable[WorkloadDataPoint], write: Callable[[bytes], object]) -> int:
    """Write an array, a line for each point, and return how many. `WorkloadDataset.load` reads it too."""
    count = 0
    for point in points:
        write((b"[\n" if count == 0 else b",\n") + encode(point))
        count += 1
    write(b"[]\n" if count == 0 else b"\n]\n")
    return count


def encode(point: WorkloadDataPoint) -> bytes:
    """Return a point as one line of JSON without its end; NaN and infinities as Python's json writes and reads them."""
    return json.dumps(point.to_dict(), ensure_ascii=True, separators=(",", ":")).encode()


def _checked(value: Any, source: Source, line: int, on_fault: OnFault) -> WorkloadDataPoint | None:
    try:
        return point_of(value)
    except FieldError as error:
        on_fault(source.fault(error.why, line, error.field))
        return None


def _kind(value: Any) -> str:
    names: dict[type, str] = {list: "an array", str: "a string", bool: "a bool", type(None): "null"}
    return names.get(type(value), "a number")
