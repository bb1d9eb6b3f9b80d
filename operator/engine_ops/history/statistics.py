"""Statistics of columns, the same as the SDK's data set gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from engine_ops.history.block import Columns


def column_statistics(columns: Columns) -> dict[str, Any]:
    """Return what `WorkloadDataset.get_statistics` returns of the points of these columns."""
    known = columns.durations[~np.isnan(columns.durations)]
    count = len(columns.timestamps)
    by_type = {}
    for code, name in enumerate(columns.type_names):
        rows = columns.types == code
        by_type[name] = _summary(columns.durations[rows], columns.successes[rows])
    p50, p95 = np.percentile(known, [50, 95]) if len(known) else (0.0, 0.0)
    total = _summary(columns.durations, columns.successes)
    return {
        "total_requests": count,
        "success_rate": total["success_rate"],
        "avg_duration": total["avg_duration"],
        "p50_duration": float(p50),
        "p95_duration": float(p95),
        "time_span_ms": int(columns.timestamps.max() - columns.timestamps.min()) if count else 0,
        "by_type": by_type,
    }


def _summary(durations: npt.NDArray[np.float64], successes: npt.NDArray[np.uint8]) -> dict[str, Any]:
    known = durations[~np.isnan(durations)]
    return {
        "count": len(durations),
        "success_rate": float(successes.mean()) if len(durations) else 0.0,
        "avg_duration": float(known.mean()) if len(known) else 0.0,
    }
