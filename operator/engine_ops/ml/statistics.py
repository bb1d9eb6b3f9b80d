"""Statistics of many points, from columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from engine_ops.ml.data_point import WorkloadDataPoint

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class Columns(Protocol):
    """Points as columns: arrays of one length."""

    @property
    def timestamps(self) -> npt.NDArray[Any]:
        """Epoch milliseconds."""
        ...

    @property
    def durations(self) -> npt.NDArray[np.float64]:
        """Milliseconds; NaN where one is not known."""
        ...

    @property
    def successes(self) -> npt.NDArray[Any]:
        """0 or 1."""
        ...

    @property
    def types(self) -> npt.NDArray[Any]:
        """Positions in ``type_names``."""
        ...

    @property
    def type_names(self) -> Sequence[str]:
        """The request types."""
        ...


class PointColumns(NamedTuple):
    """`Columns` of points that are at hand."""

    timestamps: npt.NDArray[Any]
    durations: npt.NDArray[np.float64]
    successes: npt.NDArray[Any]
    types: npt.NDArray[Any]
    type_names: tuple[str, ...]


def columns_of(points: Iterable[WorkloadDataPoint]) -> PointColumns:
    """Return the columns that statistics need of points."""
    import numpy as np

    kept = list(points)
    codes: dict[str, int] = {}
    return PointColumns(
        np.array([point.timestamp for point in kept], dtype=np.int64),
        np.array([point.duration for point in kept], dtype=np.float64),
        np.array([point.success for point in kept], dtype=np.uint8),
        np.array([codes.setdefault(point.request_type, len(codes)) for point in kept], dtype=np.intp),
        tuple(codes),
    )


def statistics(columns: Columns) -> dict[str, Any]:
    """Return what `WorkloadDataset.get_statistics` returns, from columns.

    Returns
    -------
    dict
        JSON values; see `WorkloadDataset.get_statistics`.
    """
    import numpy as np

    total = len(columns.timestamps)
    known = ~np.isnan(columns.durations)
    durations = columns.durations[known]
    p50 = p95 = average = None
    if len(durations):
        # An infinite duration makes figures infinite, or NaN where it is interpolated: no reason to warn.
        with np.errstate(invalid="ignore", over="ignore"):
            p50, p95 = (float(value) for value in np.quantile(durations, (0.5, 0.95)))
            average = float(durations.mean())
    return {
        "total_requests": total,
        "success_rate": float(columns.successes.mean()) if total else None,
        "avg_duration": average,
        "p50_duration": p50,
        "p95_duration": p95,
        "time_span_ms": int(columns.timestamps.max()) - int(columns.timestamps.min()) if total else 0,
        "by_type": _by_type(columns, known),
    }


def _by_type(columns: Columns, known: npt.NDArray[np.bool_]) -> dict[str, dict[str, Any]]:
    import numpy as np

    size = len(columns.type_names)
    if not size:
        return {}
    counts = np.bincount(columns.types, minlength=size)
    successes = np.bincount(columns.types, weights=columns.successes, minlength=size)
    timed = np.bincount(columns.types[known], minlength=size)
    spent = np.bincount(columns.types[known], weights=columns.durations[known], minlength=size)
    return {
        name: {
            "count": int(counts[code]),
            "success_rate": float(successes[code] / counts[code]),
            "avg_duration": float(spent[code] / timed[code]) if timed[code] else None,
        }
        for code, name in sorted(enumerate(columns.type_names), key=lambda entry: entry[1])
        if counts[code]
    }
