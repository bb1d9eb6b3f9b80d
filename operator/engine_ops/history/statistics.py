"""Statistics of columns, the same as the SDK's data set gives."""

from __future__ import annotations

from typing import Any

from engine_ops.history.block import Columns
from engine_ops.ml.statistics import statistics


def column_statistics(columns: Columns) -> dict[str, Any]:
    """Return what `WorkloadDataset.get_statistics` returns of the points of these columns."""
    return statistics(columns)
