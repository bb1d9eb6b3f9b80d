"""Points of the history, as the REST API reads them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Protocol


@dataclasses.dataclass(frozen=True, slots=True)
class PointFilter:
    """Which points of the history.

    Parameters
    ----------
    namespaces
        Those whose points may be seen; None for all, those of no namespace too.
    request_type
        None for all.
    from_ms, to_ms
        Of `timestamp`: milliseconds since the epoch, both ends included; None for no end.
    limit
        The newest so many; None for all.
    """

    namespaces: frozenset[str] | None = None
    request_type: str | None = None
    from_ms: int | None = None
    to_ms: int | None = None
    limit: int | None = None


class Selection(Protocol):
    """Points of the history as they were at one moment. Can be read on any thread, while others are recorded."""

    def __len__(self) -> int:
        """How many points."""

    def json_lines(self) -> Iterator[bytes]:
        """Return the points, some at a time, as JSON lines (each piece ends with a newline)."""

    def statistics(self) -> Mapping[str, Any]:
        """Return what `engine_ops.ml.WorkloadDataset.get_statistics` does."""

    def training_format(self) -> Mapping[str, Any]:
        """Return features and labels, by name; see `engine_ops.ml.WorkloadDataset`."""

    def parquet(self) -> Iterator[bytes]:
        """Return a Parquet file, in pieces.

        Raises
        ------
        ModuleNotFoundError
            If pyarrow is not installed.
        """
