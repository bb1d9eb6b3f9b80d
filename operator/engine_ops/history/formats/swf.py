"""Job logs in the Standard Workload Format of the Parallel Workloads Archive.

Source: D. G. Feitelson, "The Standard Workload Format", https://www.cs.huji.ac.il/labs/parallel/workload/swf.html.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any, Final

from engine_ops.history.formats.faults import FieldError, OnFault, refuse, shown
from engine_ops.history.formats.source import Source
from engine_ops.ml.data_point import WorkloadDataPoint

OBSERVED_JOB: Final = "observed-job"
COLUMNS: Final = (
    "job number",
    "submit time",
    "wait time",
    "run time",
    "allocated processors",
    "average cpu time",
    "used memory",
    "requested processors",
    "requested time",
    "requested memory",
    "status",
    "user",
    "group",
    "executable",
    "queue",
    "partition",
    "preceding job",
    "think time",
)

NOT_RECORDED: Final = "NotRecorded"
"""The reason of jobs whose log does not say how they ended."""

_COMMENT: Final = re.compile(r";\s*(UnixStartTime|TimeZone)\s*:\s*(-?\d+)\s*$")
_FAILED, _COMPLETED, _CANCELLED, _UNKNOWN = 0, 1, 5, -1
_PARTIAL: Final = frozenset((2, 3, 4))
"""One burst of a job that was suspended; the job has a row for the whole besides."""
_SUCCEEDED: Final = frozenset((_COMPLETED, _UNKNOWN))
_STATUSES: Final = frozenset((_FAILED, _COMPLETED, _CANCELLED, _UNKNOWN))
_NAMES: Final = (("user", 11), ("group", 12), ("executable", 13), ("queue", 14), ("partition", 15))
_REASONS: Final = {_FAILED: "Failed", _CANCELLED: "Cancelled", _UNKNOWN: NOT_RECORDED}
_MAX_SECONDS: Final = 10**11
"""Some 3,000 years: beyond it a column holds something else."""


def read_swf(
    source: Source, on_fault: OnFault = refuse, *, request_type: str | None = None
) -> Iterator[WorkloadDataPoint]:
    """Yield a point for each job.

    The point's timestamp is the submit time, its duration the run time (NaN where that is not known). A job is a run
    of its executable by its user: ``metadata.workload`` is ``user-<n>/Executable/<m>``, or the user where that is not
    known. Fields that the log does not have (-1) are left out. Processors asked for are those allocated where the log
    has only these: the jobs of such logs are rigid. Rows for single bursts of a suspended job (status 2 to 4) are
    passed over, since the whole job has a row. Where a log does not record how jobs ended (status -1), they count as
    succeeded, with the reason NotRecorded.

    Parameters
    ----------
    source
        The file.
    on_fault
        Told of each row that cannot be read.
    request_type
        Instead of ``observed-job``.

    Raises
    ------
    FormatError
        If the file cannot be read.
    """
    kind = request_type or OBSERVED_JOB
    header: dict[str, int] = {}
    for row in _rows(source, on_fault, header):
        if row[10] not in _PARTIAL:
            yield _point(row, header.get("UnixStartTime", 0), header.get("TimeZone"), kind)


def check_swf(source: Source, on_fault: OnFault) -> None:
    """Tell of each row that `read_swf` could not read, without making points. Raises as it does."""
    for _ in _rows(source, on_fault, {}):
        pass


def _rows(source: Source, on_fault: OnFault, header: dict[str, int]) -> Iterator[list[int | float]]:
    """Yield rows whose columns are as they must be; what the comments say goes into ``header``."""
    for number, line in source.lines(on_fault):
        if line.lstrip().startswith(";"):
            if found := _COMMENT.match(line.strip()):
                header[found[1]] = int(found[2])
            continue
        try:
            row = _numbers(line)
            _check(row)
        except FieldError as error:
            on_fault(source.fault(error.why, number, error.field))
        else:
            yield row


def _numbers(line: str) -> list[int | float]:
    texts = line.split()
    if len(texts) != len(COLUMNS):
        raise FieldError("", f"has {len(texts)} columns; the Standard Workload Format has {len(COLUMNS)}")
    try:
        return [int(text) for text in texts]
    except ValueError:
        return [_number(name, text) for name, text in zip(COLUMNS, texts, strict=True)]


def _number(name: str, text: str) -> int | float:
    try:
        value = float(text)
    except ValueError:
        raise FieldError(name, f"is no number: {shown(text)}") from None
    if not math.isfinite(value):
        raise FieldError(name, f"is no finite number: {shown(text)}")
    return int(value) if value.is_integer() else value


def _point(row: list[int | float], start: int, offset: int | None, kind: str) -> WorkloadDataPoint:
    job, submit, wait, run, allocated, _, used_kib, asked, _, asked_kib, status, user, _, executable, *_ = row
    submitted_ms = round((start + submit) * 1000)
    processors = asked if asked > 0 else allocated
    requested: dict[str, float] = {}
    if processors > 0:
        requested["cpu"] = float(processors)
    if asked_kib > 0:  # of one processor
        requested["memory"] = float(asked_kib * 1024 * max(processors, 1))
    owner = f"user-{user}" if user >= 0 else "unknown"
    runs, name = ("Executable", str(executable)) if executable >= 0 else ("User", owner)
    metadata: dict[str, Any] = {
        "namespace": owner,
        "name": name,
        "job": job,
        "workload": {"namespace": owner, "kind": runs, "name": name},
        "request": _request(row, processors),
        "outcome": _outcome(row, submitted_ms),
    }
    if requested:
        metadata["requested"] = requested
    if allocated > 0:
        metadata["allocated"] = {"cpu": float(allocated)}
    if wait >= 0:
        metadata["waitMs"] = round(wait * 1000)
    if offset is not None:
        metadata["utcOffsetSeconds"] = offset
    usage = {"memory": float(used_kib * 1024 * max(allocated, 1))} if used_kib > 0 else {}
    duration_ms = float(run * 1000) if run >= 0 else math.nan
    return WorkloadDataPoint(submitted_ms, kind, usage, duration_ms, status in _SUCCEEDED, metadata)


def _check(row: list[int | float]) -> None:
    for at, least in ((1, 0), (2, -1), (3, -1)):
        if not least <= row[at] <= _MAX_SECONDS:
            raise FieldError(COLUMNS[at], f"is {row[at]}; a time in seconds cannot be below {least}, nor so long")
    if row[10] not in _STATUSES and row[10] not in _PARTIAL:
        raise FieldError("status", f"is {row[10]}; known are -1 to 5")


def _request(row: list[int | float], processors: float) -> dict[str, Any]:
    """Return what was known when the job was submitted; a user's or a queue's number is a name."""
    request: dict[str, Any] = {name: str(row[at]) for name, at in _NAMES if row[at] >= 0}
    if processors > 0:
        request["processors"] = processors
    if row[8] > 0:
        request["timeSeconds"] = row[8]
    return request


def _outcome(row: list[int | float], submitted_ms: int) -> dict[str, Any]:
    _, _, wait, run, *_ = row
    status = int(row[10])
    outcome: dict[str, Any] = {"of": "import", "state": "succeeded" if status in _SUCCEEDED else "failed"}
    if status != _COMPLETED:
        outcome["reason"] = _REASONS[status]
    outcome["closedAt"] = submitted_ms + round((max(wait, 0) + max(run, 0)) * 1000)
    return outcome
