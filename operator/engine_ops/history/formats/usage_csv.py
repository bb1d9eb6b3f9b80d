"""Samples of usage as CSV: who, when, how much cpu and memory.

Source of the second form: GWA-T-12 Bitbrains, http://gwa.ewi.tudelft.nl/datasets/gwa-t-12-bitbrains.
"""

from __future__ import annotations

import array
import csv
import dataclasses
import datetime
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from engine_ops.history.formats.faults import FieldError, FormatError, OnFault, refuse, shown
from engine_ops.history.formats.source import Source
from engine_ops.history.formats.windows import DAY_MS, summarise, window_point, window_start
from engine_ops.ml.data_point import WorkloadDataPoint

CONTAINER: Final = "main"
"""What stands for all that ran under one id in ``metadata.containers``."""

_ALIASES: Final = {
    "id": ("id", "workload", "name", "pod", "vm"),
    "timestamp": ("timestamp", "time", "timestamp [ms]"),
    "namespace": ("namespace",),
    "cpu": ("cpu", "cpu_cores", "cpucores"),
    "memory": ("memory", "memory_bytes", "memorybytes"),
    "cpu_mhz": ("cpu_usage", "cpu_mhz", "cpu usage [mhz]"),
    "memory_kib": ("memory_usage", "memory_kb", "memory usage [kb]"),
}
_MILLISECONDS_FROM: Final = 10**11
"""A time of 100,000,000,000 seconds is in the year 5138; as milliseconds it is in 1973."""
_LAST: Final = 10**14
_KIB: Final = 1024.0


@dataclasses.dataclass(frozen=True, slots=True)
class Machine:
    """What a virtual machine has.

    Parameters
    ----------
    cores
        How many.
    megahertz
        Of all of them together.
    memory_bytes
        None where it is not known.
    """

    cores: float
    megahertz: float
    memory_bytes: float | None


class _Window:
    __slots__ = ("samples", "start")

    def __init__(self, start: int) -> None:
        self.start = start
        self.samples: dict[str, array.array[float]] = {}


def read_machines(source: Source) -> dict[str, Machine]:
    """Return the machines of a capacity file: columns id, cpu_count, cpu_capacity (MHz), mem_capacity (KiB).

    Raises
    ------
    FormatError
        If it cannot be read, or a row of it.
    """
    machines: dict[str, Machine] = {}
    rows = _rows(source, refuse)
    _, header = next(rows, (0, []))
    names = {name.strip().lower(): at for at, name in enumerate(header)}
    missing = [name for name in ("id", "cpu_count", "cpu_capacity") if name not in names]
    if missing:
        raise FormatError(source.fault(f"has no column {missing[0]}; it has: {', '.join(header)}", 1))
    for number, row in rows:
        try:
            if len(row) != len(header):
                raise FieldError("", f"has {len(row)} columns; the header has {len(header)}")
            cores, megahertz = (_amount(name, row[names[name]]) for name in ("cpu_count", "cpu_capacity"))
            if not cores or not megahertz:
                raise FieldError("cpu_capacity", "and cpu_count must be above 0")
            memory = row[names["mem_capacity"]].strip() if "mem_capacity" in names else ""
            memory_bytes = _amount("mem_capacity", memory) * _KIB if memory else None
        except FieldError as error:
            raise FormatError(source.fault(error.why, number, error.field)) from error
        machines[row[names["id"]].strip()] = Machine(cores, megahertz, memory_bytes)
    return machines


def read_usage_csv(
    source: Source,
    on_fault: OnFault = refuse,
    *,
    window_ms: int = DAY_MS,
    machines: Mapping[str, Machine] | None = None,
    request_type: str | None = None,
) -> Iterator[WorkloadDataPoint]:
    """Yield a point for each id and window of time.

    The header names the columns: id, timestamp (epoch seconds or milliseconds, or ISO 8601), cpu (cores) and memory
    (bytes), one of which may be missing, and namespace if there is one. Or, as Bitbrains has it: cpu_usage (MHz) and
    memory_usage (KiB), with the machines' capacity to turn MHz into cores.
    The samples of an id must be in the order of its windows: only one window of each is held.

    Parameters
    ----------
    source
        The file.
    on_fault
        Told of each row that cannot be read.
    window_ms
        How long a window is.
    machines
        By id; see `read_machines`.
    request_type
        Instead of ``observed-usage``.

    Raises
    ------
    FormatError
        If the file cannot be read, or does not have these columns.
    """
    rows = _rows(source, on_fault)
    number, header = next(rows, (1, []))
    columns = _columns(source, number, header, machines)
    open_windows: dict[tuple[str, str], _Window] = {}
    for number, row in rows:
        try:
            if len(row) != len(header):
                raise FieldError("", f"has {len(row)} columns; the header has {len(header)}")
            key, timestamp_ms, amounts = _sample(row, columns, machines)
            start = window_start(timestamp_ms, window_ms)
            window = open_windows.get(key)
            if window is not None and start < window.start:
                raise FieldError(
                    "timestamp", f"is before the window of the last sample of {shown(key[1])}; sort by id and time"
                )
        except FieldError as error:
            on_fault(source.fault(error.why, number, error.field))
            continue
        if window is None or start > window.start:
            if window is not None:
                yield _point(key, window, window_ms, machines, request_type)
            window = open_windows[key] = _Window(start)
        for resource, amount in amounts.items():
            window.samples.setdefault(resource, array.array("d")).append(amount)
    for key, window in sorted(open_windows.items(), key=lambda item: (item[1].start, item[0])):
        yield _point(key, window, window_ms, machines, request_type)


def _rows(source: Source, on_fault: OnFault) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows and the lines they end at; the header says what divides columns."""
    at = 0
    delimiter: str | None = None

    def texts() -> Iterator[str]:
        nonlocal at, delimiter
        for number, text in source.lines(on_fault):
            at = number
            if delimiter is None:
                delimiter = max(",;\t", key=text.count)
            yield text + "\n"

    lines = texts()
    first = next(lines, None)
    if first is None:
        return
    yield at, _parse(first, delimiter or ",")
    reader = csv.reader(lines, delimiter=delimiter or ",", skipinitialspace=True)
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            on_fault(source.fault(str(error), at))
            continue
        yield at, row


def _parse(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))
    except csv.Error:
        return [line]


def _columns(
    source: Source, number: int, header: Sequence[str], machines: Mapping[str, Machine] | None
) -> dict[str, int]:
    names = [name.strip().lower() for name in header]
    columns = {
        column: names.index(alias)
        for column, aliases in reversed(_ALIASES.items())
        for alias in reversed(aliases)
        if alias in names
    }
    listed = ", ".join(shown(name) for name in header[:10]) or "none"
    for needed in ("id", "timestamp"):
        if needed not in columns:
            raise FormatError(source.fault(f"has no column {needed}; its columns are: {listed}", number))
    if not columns.keys() & {"cpu", "memory", "cpu_mhz", "memory_kib"}:
        raise FormatError(source.fault(f"has no column cpu or memory; its columns are: {listed}", number))
    if "cpu_mhz" in columns and "cpu" not in columns and not machines:
        why = f"{header[columns['cpu_mhz']]} is in MHz: --capacity must name the file of the machines' capacities"
        raise FormatError(source.fault(why, number))
    return columns


def _sample(
    row: Sequence[str], columns: Mapping[str, int], machines: Mapping[str, Machine] | None
) -> tuple[tuple[str, str], int, dict[str, float]]:
    name = row[columns["id"]].strip()
    if not name:
        raise FieldError("id", "is empty")
    namespace = row[columns["namespace"]].strip() if "namespace" in columns else ""
    if "/" in name and "namespace" not in columns:
        namespace, _, name = name.partition("/")
    timestamp_ms = _time(row[columns["timestamp"]].strip())
    amounts = {}
    for column, resource in (("cpu", "cpu"), ("memory", "memory"), ("cpu_mhz", "cpu"), ("memory_kib", "memory")):
        text = row[columns[column]].strip() if column in columns else ""
        if not text or resource in amounts:
            continue
        amount = _amount(column if column in ("cpu", "memory") else f"{resource} usage", text)
        if column == "cpu_mhz":
            machine = (machines or {}).get(name)
            if machine is None:
                raise FieldError("id", f"{shown(name)} has no row in the file of capacities")
            amount *= machine.cores / machine.megahertz
        elif column == "memory_kib":
            amount *= _KIB
        amounts[resource] = amount
    if not amounts:
        raise FieldError("", "has neither cpu nor memory")
    return (namespace, name), timestamp_ms, amounts


def _time(text: str) -> int:
    try:
        value = float(text)
    except ValueError:
        return _iso_time(text)
    if not math.isfinite(value):
        raise FieldError("timestamp", f"is no finite number: {shown(text)}")
    if not 0 <= value < _LAST:
        raise FieldError("timestamp", f"is {text[:20]}; it must be epoch seconds or milliseconds")
    return round(value) if value >= _MILLISECONDS_FROM else round(value * 1000)


def _iso_time(text: str) -> int:
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise FieldError("timestamp", f"is neither a number nor an ISO 8601 time: {shown(text)}") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return round(moment.timestamp() * 1000)


def _amount(field: str, text: str) -> float:
    try:
        amount = float(text)
    except ValueError:
        raise FieldError(field, f"is no number: {shown(text)}") from None
    if not math.isfinite(amount):
        raise FieldError(field, f"is no finite number: {shown(text)}")
    if amount < 0:
        raise FieldError(field, f"is {text[:20]}; usage cannot be below 0")
    return amount


def _point(
    key: tuple[str, str],
    window: _Window,
    window_ms: int,
    machines: Mapping[str, Machine] | None,
    request_type: str | None,
) -> WorkloadDataPoint:
    namespace, name = key
    summaries = {resource: summarise(samples) for resource, samples in window.samples.items()}
    machine = (machines or {}).get(name)
    workload = {"kind": "Workload" if machine is None else "Machine", "name": name}
    if namespace:
        workload["namespace"] = namespace
    requested: dict[str, Any] = {}
    if machine is not None:
        requested["cpu"] = machine.cores
        if machine.memory_bytes is not None:
            requested["memory"] = machine.memory_bytes
    return window_point(
        window.start,
        window_ms,
        workload=workload,
        usage={resource: summary["peak"] for resource, summary in summaries.items()},
        containers={CONTAINER: summaries},
        samples=max(len(samples) for samples in window.samples.values()),
        requested=requested,
        request_type=request_type,
    )
