"""What `engine-ops history stats` says: how many, how well, how long, and whether the store is sound."""

from __future__ import annotations

import collections
import datetime
import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np

from engine_ops.cli.history_picture import format_duration
from engine_ops.cli.history_view import HistoryView
from engine_ops.cli.printing import format_table, safe
from engine_ops.history.block import Columns

MAX_FAILURES: Final = 10_000
"""Of so many failures, the newest, the reasons are read: they are not in the columns."""
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
    by_type = {}
    for code, name in enumerate(columns.type_names):
        rows = columns.types == code
        if rows.any():
            by_type[name] = _summary(columns, rows)
    whole = _summary(columns, np.ones(count, dtype=bool))
    return {
        **whole,
        "startMs": int(columns.timestamps.min()) if count else None,
        "endMs": int(columns.timestamps.max()) if count else None,
        "byType": dict(sorted(by_type.items())),
        "failures": dict(_failures(view, filters)),
        "store": view.to_dict(),
    }


def format_statistics(found: Mapping[str, Any], view: HistoryView) -> str:
    """Return the statistics as a table, and below it the state of the store in sentences."""
    rows = [_row(name, summary) for name, summary in found["byType"].items()]
    if len(rows) > 1:
        rows.append(_row("all", found))
    text = ""
    if rows:
        text = format_table(("TYPE", "POINTS", "SUCCESS", "FAILED", "AVG", "P50", "P95"), rows) + "\n"
    text += "".join(f"{safe(line)}\n" for line in _sentences(found, view))
    return text


def _summary(columns: Columns, rows: Any) -> dict[str, Any]:
    durations = columns.durations[rows]
    known = durations[np.isfinite(durations)]
    count, succeeded = len(durations), int(columns.successes[rows].sum())
    p50, p95 = np.percentile(known, [50, 95]).tolist() if len(known) else (None, None)
    return {
        "count": count,
        "succeeded": succeeded,
        "successRate": succeeded / count if count else None,
        "withDuration": len(known),
        "avgDurationMs": float(known.mean()) if len(known) else None,
        "p50DurationMs": p50,
        "p95DurationMs": p95,
    }


def _failures(view: HistoryView, filters: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Count the reasons of failures, the most frequent first."""
    reasons: collections.Counter[str] = collections.Counter()
    for point in view.newest_failures(MAX_FAILURES, **filters):
        outcome = point.metadata.get("outcome")
        reason = (outcome.get("reason") or outcome.get("state")) if isinstance(outcome, Mapping) else None
        reasons[str(reason or "unknown")] += 1
    return reasons.most_common()


def _row(name: str, summary: Mapping[str, Any]) -> tuple[str, ...]:
    durations = [summary[key] for key in ("avgDurationMs", "p50DurationMs", "p95DurationMs")]
    return (
        name,
        f"{summary['count']:,}",
        f"{summary['successRate']:.1%}",
        f"{summary['count'] - summary['succeeded']:,}",
        *("" if duration is None else format_duration(duration) for duration in durations),
    )


def _sentences(found: Mapping[str, Any], view: HistoryView) -> Iterator[str]:
    count = found["count"]
    if count:
        yield f"{_counted(count, 'point')} from {moment(found['startMs'])} to {moment(found['endMs'])}"
    else:
        yield "no points"
    if found["failures"]:
        named = [f"{reason} ({number:,})" for reason, number in list(found["failures"].items())[:MAX_NAMED]]
        more = len(found["failures"]) - MAX_NAMED
        yield f"failures: {', '.join(named)}{f' and {more} more reasons' if more > 0 else ''}"
    flushed = "" if view.flushed_ms is None else f", written up to {moment(view.flushed_ms)}"
    yield f"{view.where}: {_counted(view.segments, 'segment')}, {_size(view.stored_bytes)}{flushed}"
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
