"""Which format a file has, and its reader."""

from __future__ import annotations

import collections
import dataclasses
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from engine_ops.history.formats.faults import FormatError, OnFault
from engine_ops.history.formats.source import Source
from engine_ops.history.formats.windows import DAY_MS
from engine_ops.ml.data_point import WorkloadDataPoint

JSON, JSONL, PARQUET, SWF, USAGE_CSV, PROMETHEUS = "json", "jsonl", "parquet", "swf", "csv", "prometheus"
FORMATS: Final = (JSON, JSONL, PARQUET, SWF, USAGE_CSV, PROMETHEUS)

_MATRIX: Final = re.compile(r'"resultType"\s*:|"result"\s*:\s*\[')
_NUMBERS: Final = re.compile(r"\s*(-?[\d.]+\s+){17}-?[\d.]+\s*")


def detect(source: Source) -> str:
    """Return the format of a file, told by its first bytes.

    Raises
    ------
    FormatError
        If it cannot be read, or is none that is known.
    """
    head = source.head()
    if head.startswith(b"PAR1"):
        return PARQUET
    if b"\0" in head:
        raise FormatError(source.fault("is binary, and no Parquet"))
    text = head.decode(errors="replace").lstrip()
    first = text.split("\n", 1)[0].strip()
    if text.startswith("["):
        return JSON
    if text.startswith("{"):
        return _kind_of_object(text, first)
    if text.startswith(";") or _NUMBERS.fullmatch(first):
        return SWF
    if any(mark in first for mark in ",;\t"):
        return USAGE_CSV
    raise FormatError(source.fault(f"is in no format that is known; name it with --format ({', '.join(FORMATS)})", 1))


@dataclasses.dataclass(frozen=True, slots=True)
class Reading:
    """How files are read.

    Parameters
    ----------
    format
        One of `FORMATS`, or ``auto``.
    window_ms
        Of usage.
    capacity
        The file of the machines that a usage CSV is about.
    cpu, memory
        Answers of Prometheus that measure these.
    request_type
        Of the points of formats that have none.
    """

    format: str = "auto"
    window_ms: int = DAY_MS
    capacity: Source | None = None
    cpu: Sequence[Source] = ()
    memory: Sequence[Source] = ()
    request_type: str | None = None

    def check(self, sources: Sequence[Source], on_fault: OnFault) -> None:
        """Tell of everything that `points` would; cheaper than that for a job log."""
        rest = []
        for source in sources:
            try:
                if (detect(source) if self.format == "auto" else self.format) == SWF:
                    from engine_ops.history.formats.swf import check_swf

                    check_swf(source, on_fault)
                else:
                    rest.append(source)
            except FormatError as error:
                on_fault(error.fault)
        collections.deque(self.points(rest, on_fault), maxlen=0)

    def points(self, sources: Sequence[Source], on_fault: OnFault) -> Iterator[WorkloadDataPoint]:
        """Yield the points of all files, one file after the other; those of Prometheus together, at the end.

        Where a file, or the rest of it, cannot be read, ``on_fault`` is told, and the next one is read.
        """
        from engine_ops.history.formats.prometheus import Metric, read_prometheus

        metrics = [Metric(source, "cpu") for source in self.cpu] + [Metric(source, "memory") for source in self.memory]
        for source in sources:
            try:
                kind = detect(source) if self.format == "auto" else self.format
                if kind == PROMETHEUS:
                    metrics.append(Metric(source))
                else:
                    yield from self._read(kind, source, on_fault)
            except FormatError as error:
                on_fault(error.fault)
        if metrics:
            try:
                yield from read_prometheus(metrics, on_fault, window_ms=self.window_ms, request_type=self.request_type)
            except FormatError as error:
                on_fault(error.fault)

    def _read(self, kind: str, source: Source, on_fault: OnFault) -> Iterator[WorkloadDataPoint]:
        if kind in (JSON, JSONL):
            from engine_ops.history.formats import json_points

            return (json_points.read_json if kind == JSON else json_points.read_jsonl)(source, on_fault)
        if kind == PARQUET:
            from engine_ops.history.formats.parquet import read_parquet

            return read_parquet(source, on_fault)
        if kind == SWF:
            from engine_ops.history.formats.swf import read_swf

            return read_swf(source, on_fault, request_type=self.request_type)
        from engine_ops.history.formats.usage_csv import read_machines, read_usage_csv

        machines = None if self.capacity is None else read_machines(self.capacity)
        return read_usage_csv(
            source, on_fault, window_ms=self.window_ms, machines=machines, request_type=self.request_type
        )


def _kind_of_object(text: str, first: str) -> str:
    from engine_ops.history.formats.json_points import ARRAY_KEYS

    try:
        value = json.loads(first)
    except ValueError:
        value = None
    if isinstance(value, Mapping) and value.get("status") == "error":
        return PROMETHEUS  # no points, but its reader says what is wrong
    if isinstance(value, Mapping) and ("timestamp" in value or not value.keys() & set(ARRAY_KEYS)):
        return JSONL
    return PROMETHEUS if _MATRIX.search(text) else JSON
