"""The history as the REST API reads it: as it was at one moment, on any thread, while others record."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from engine_ops.history.collector import WorkloadCollector
from engine_ops.history.formats.parquet import MissingParquetError, parquet_pieces
from engine_ops.history.selection import Selection
from engine_ops.history.training import training_format
from engine_ops.server.workload_points import PointFilter


@dataclasses.dataclass(frozen=True, slots=True)
class SelectedPoints:
    """A `engine_ops.server.workload_points.Selection`.

    Parameters
    ----------
    points
        Of blocks that change no more.
    """

    points: Selection

    def __len__(self) -> int:
        return len(self.points)

    def json_lines(self) -> Iterator[bytes]:
        """See `engine_ops.server.workload_points.Selection`; some hundred points are in memory at a time."""
        return self.points.json_lines()

    def statistics(self) -> Mapping[str, Any]:
        """See `engine_ops.server.workload_points.Selection`."""
        return self.points.statistics()

    def training_format(self) -> Mapping[str, Any]:
        """Return columns with names and units; see `engine_ops.history.training.training_format`."""
        return training_format(self.points.points())

    def parquet(self) -> Iterator[bytes]:
        """See `engine_ops.server.workload_points.Selection`."""
        try:
            return parquet_pieces(self.points.points())
        except MissingParquetError as error:
            raise ModuleNotFoundError(str(error), name="pyarrow") from error


async def select(collector: WorkloadCollector, chosen: PointFilter) -> SelectedPoints:
    """Return points as they are now. To be called on the collector's loop; it looks through them on another thread.

    Raises
    ------
    ValueError
        If the limit is negative.
    """
    blocks = [block.frozen() for block in collector.blocks]
    hidden = max(0, sum(map(len, blocks)) - collector.capacity)

    def look() -> Selection:
        return Selection.of(
            blocks,
            hidden,
            type=chosen.request_type,
            start=chosen.from_ms,
            end=chosen.to_ms,
            newest=chosen.limit,
            namespaces=chosen.namespaces,
        )

    return SelectedPoints(await asyncio.to_thread(look))


def namespaces_of(collector: WorkloadCollector) -> frozenset[str]:
    """Return the namespaces that there are points of. No point is looked at."""
    names = {name for block in collector.blocks for name in block.namespace_codes}
    return frozenset(names - {""})
