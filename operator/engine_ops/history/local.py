"""A history without Kubernetes: in memory or in a directory, for synchronous code on any thread."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Final

from engine_ops.history.collector import WorkloadCollector
from engine_ops.history.driving import run_sync
from engine_ops.history.file_store import FileStore
from engine_ops.history.log import HistoryLog
from engine_ops.history.memory_store import MemoryStore
from engine_ops.ml.data_point import WorkloadDataPoint

FLUSH_SECONDS: Final = 3.0


class LocalHistory:
    """Records points and, where there is a directory, writes them: at most every three seconds, and at `flush`.

    Parameters
    ----------
    directory
        Where the points outlive the process; None for memory alone.
    capacity
        The newest so many points are kept.

    Raises
    ------
    StoreError
        If the directory cannot be used.
    """

    def __init__(self, directory: str | os.PathLike[str] | None, *, capacity: int) -> None:
        self._durable = directory is not None
        store = MemoryStore() if directory is None else FileStore(Path(directory))
        self._log = HistoryLog(store, capacity=capacity)
        self._lock = threading.Lock()
        self._flushed = time.monotonic()
        run_sync(self._log.load())

    @property
    def collector(self) -> WorkloadCollector:
        """The points."""
        return self._log.collector

    def record(self, point: WorkloadDataPoint) -> None:
        """Add a point.

        Raises
        ------
        ValueError
            If it holds what is no JSON value.
        """
        with self._lock:
            self._log.record(point, self._log.stamp())
        if self._durable and time.monotonic() - self._flushed >= FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what is not written yet.

        Raises
        ------
        StoreError
            If the directory cannot be written; nothing is lost, and it may be tried again.
        """
        with self._lock:
            self._flushed = time.monotonic()
            run_sync(self._log.flush())
