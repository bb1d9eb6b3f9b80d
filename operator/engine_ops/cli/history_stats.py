"""What `engine-ops history stats` says: how many, how well, how long, and whether the store is sound."""

from __future__ import annotations

import collections
import datetime
import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np

from engine_ops.cli.history_picture import format_duration
from engine_ops.cli.history_series import UNKNOWN, format_share, outcome_of
from engine_ops.cli.history_view import HistoryView
from engine_ops.cli.printing import format_table, safe
from engine_ops.history.block_columns import Columns

MAX_NAMED: Final = 5


def statistics(view: HistoryView, **filters: Any) -> dict[str, Any]:
    """Return everything that is shown, as JSON values; durations are null where none is known.

    Parameters
    ----------
    view
        The history.
    filters
        Those of `WorkloadCollector.select`: which points are counted.
    """
    columns = view.select(**filters).columns
    count = len(columns.timestamps)
    failures, unknown, unknown_by_type = _reasons(view, filters)
    by_type = {}
    for code, name in enumerate(columns.type_names):
        rows = columns.types == code
        if rows.any():
            by_type[name] = _summary(columns, rows, unknown_by_type[name])
    whole = _summary(columns, np.ones(count, dtype=bool), unknown.total())
    return {
        **whole,
        "startMs": int(columns.timestamps.min()) if count else None,
        "endMs": int(columns.timestamps.max()) if count else None,
        "byType": dict(sorted(by_type.items())),
        "failures": dict(failures.most_common()),
        "unknownReasons": dict(unknown.most_common()),
        "store": view.to_dict(),
    }


def format_statistics(found: Mapping[str, Any], view: HistoryView) -> str:
    """Return the statistics as a table, and below it the state of the store in sentences."""
    summaries = list(found["byType"].items())
    if len(summaries) > 1:
        summaries.append(("all", found))
    columns = ["TYPE", "POINTS", "SUCCESS", "FAILED", "UNKNOWN", "AVG", "P50", "P95"]
    if not found["unknown"]:
        columns.remove("UNKNOWN")
    text = ""
    if summaries:
        cells = [_cells(name, summary) for name, summary in summaries]
        text = format_table(columns, [[row[column] for column in columns] for row in cells]) + "\n"
    text += "".join(f"{safe(line)}\n" for line in _sentences(found, view))
    return text


def _summary(columns: Columns, rows: Any, unknown: int) -> dict[str, Any]:
    durations = columns.durations[rows]
    known = durations[np.isfinite(durations)]
    count, succeeded = len(durations), int(columns.successes[rows].sum())
    p50, p95 = np.percentile(known, [50, 95]).tolist() if len(known) else (None, None)
    return {
        "count": count,
        "succeeded": succeeded,
        "failed": count - succeeded - unknown,
        "unknown": unknown,
        # Of those whose outcome is known.
        "successRate": succeeded / (count - unknown) if count > unknown else None,
        "withDuration": len(known),
        "avgDurationMs": float(known.mean()) if len(known) else None,
        "p50DurationMs": p50,
        "p95DurationMs": p95,
    }


_Counts = collections.Counter[str]


def _reasons(view: HistoryView, filters: Mapping[str, Any]) -> tuple[_Counts, _Counts, _Counts]:
    """Count why points failed, why outcomes are unknown, and the unknown ones by type; no columns hold these."""
    failures, unknown, unknown_by_type = _Counts(), _Counts(), _Counts()
    for point in view.failures(**filters):
        outcome = outcome_of(point)
        reason = str(outcome.get("reason") or "no reason given")
        if outcome.get("state") == UNKNOWN:
            unknown[reason] += 1
            unknown_by_type[point.request_type] += 1
        else:
            failures[reason] += 1
    return failures, unknown, unknown_by_type


def _cells(name: str, summary: Mapping[str, Any]) -> dict[str, str]:
    cells = {
        "TYPE": name,
        "POINTS": f"{summary['count']:,}",
        "SUCCESS": format_share(summary["successRate"]),
        "FAILED": f"{summary['failed']:,}",
        "UNKNOWN": f"{summary['unknown']:,}",
    }
    for column, key in (("AVG", "avgDurationMs"), ("P50", "p50DurationMs"), ("P95", "p95DurationMs")):
        duration = summary[key]
        cells[column] = "" if duration is None else format_duration(duration)
    return cells


def _named(reasons: Mapping[str, int]) -> str:
    named = [f"{reason} ({number:,})" for reason, number in list(reasons.items())[:MAX_NAMED]]
    more = len(reasons) - MAX_NAMED
    return ", ".join(named) + (f" and {_counted(more, 'more reason')}" if more > 0 else "")


def _sentences(found: Mapping[str, Any], view: HistoryView) -> Iterator[str]:
    count = found["count"]
    if count:
        yield f"{_counted(count, 'point')} from {moment(found['startMs'])} to {moment(found['endMs'])}"
    else:
        yield "no points"
    if found["failures"]:
        yield f"failures: {_named(found['failures'])}"
    if found["unknownReasons"]:
        yield f"outcome unknown: {_named(found['unknownReasons'])}"
    written = "" if view.written_ms is None else f", last written {moment(view.written_ms)}"
    yield f"{view.where}: {_counted(view.segments, 'segment')}, {_size(view.stored_bytes)}{written}"
    yield f"{_counted(view.open_points, 'point')} waiting for an outcome"
    for name, why in view.damaged.items():
        yield f"damaged: {name}: {why}"
    if view.set_aside:
        yield f"damaged and set aside: {', '.join(view.set_aside[:MAX_NAMED])}"
    if view.missing:
        numbers = ", ".join(map(str, view.missing[:MAX_NAMED]))
        yield f"missing: {_counted(len(view.missing), 'segment')} ({numbers})"
    if view.future:
        yield f"not read: {view.future}"
    for condition in view.conditions:
        if condition.get("status") == "False":
            yield f"the operator says: {condition.get('reason')}: {condition.get('message')}"


def moment(at_ms: float) -> str:
    """Return a moment as text, to the second."""
    if not math.isfinite(at_ms):
        return "unknown"
    try:
        return datetime.datetime.fromtimestamp(at_ms / 1000, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return f"{at_ms:.0f} ms"


def _size(amount: int) -> str:
    return f"{amount / 2**20:,.1f} MiB" if amount >= 2**20 else f"{amount / 2**10:,.1f} KiB"


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
