"""A history of real points for the tests of the REST API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from server_stand_in import StandInEngine, StandInSelection

from engine_ops.history.export import json_lines
from engine_ops.history.formats.parquet import parquet_pieces
from engine_ops.history.training import training_format
from engine_ops.ml import WorkloadDataPoint, WorkloadDataset
from engine_ops.server.backend import PluginInfo
from engine_ops.server.workload_points import PointFilter

HOUR_MS = 3_600_000
BEGIN_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z


def point(number: int, namespace: str | None = "shop", request_type: str = "resource") -> WorkloadDataPoint:
    """Return the point of an hour; every fifth failed, of every third it is not known how long it took."""
    metadata: dict[str, Any] = {"name": f"p{number}", "algorithm": "ffd\nü"}
    if namespace is not None:
        metadata["namespace"] = namespace
    duration = float("nan") if number % 3 == 0 else 100.0 * number
    return WorkloadDataPoint(
        BEGIN_MS + number * HOUR_MS, request_type, {"cpu": 1.0 + number}, duration, number % 5 != 0, metadata
    )


class RealSelection(StandInSelection):
    """Points as the operator has them."""

    def __init__(self, points: Sequence[WorkloadDataPoint]) -> None:
        self.points = points

    def __len__(self) -> int:
        return len(self.points)

    def json_lines(self) -> Iterator[bytes]:
        return json_lines(point.to_dict() for point in self.points)

    def statistics(self) -> Mapping[str, Any]:
        return WorkloadDataset(self.points).get_statistics()

    def training_format(self) -> Mapping[str, Any]:
        return training_format(self.points)

    def parquet(self) -> Iterator[bytes]:
        return parquet_pieces(self.points)


class HistoryEngine(StandInEngine):
    """An engine with a history and two plugins.

    Parameters
    ----------
    points
        The history; None where none is kept.
    """

    def __init__(self, points: Sequence[WorkloadDataPoint] | None = ()) -> None:
        super().__init__()
        self.kept = points
        self.filters: list[PointFilter] = []
        for name, priority in (("my-plugin", 10), ("other", -1)):
            self.named[name] = PluginInfo(
                name=name,
                version="1.0.0",
                description="Custom plugin",
                types=("ml-driven",),
                enabled=True,
                priority=priority,
                config={"scale": 1.5},
                status={"state": "Running", "skill": float("nan")},
            )

    async def history_namespaces(self) -> frozenset[str]:
        return frozenset(point.metadata["namespace"] for point in self.kept or () if "namespace" in point.metadata)

    async def history(self, chosen: PointFilter) -> RealSelection | None:
        self.filters.append(chosen)
        if self.kept is None:
            return None
        points = [
            point
            for point in self.kept
            if (chosen.namespaces is None or point.metadata.get("namespace") in chosen.namespaces)
            and (chosen.request_type is None or point.request_type == chosen.request_type)
            and (chosen.from_ms is None or point.timestamp >= chosen.from_ms)
            and (chosen.to_ms is None or point.timestamp <= chosen.to_ms)
        ]
        return RealSelection(points if chosen.limit is None else points[-chosen.limit :])


def two_namespaces() -> list[WorkloadDataPoint]:
    """Return 20 points of two namespaces in turn, and one of none."""
    points = [point(number, ("shop", "bank")[number % 2], "resource") for number in range(20)]
    return [*points, point(20, None, "scheduling")]
