"""Reads the engine's numbers for metrics, on the engine's loop."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

from engine_ops.server.metrics_snapshot import MetricsSnapshot, WatchNumbers, WorkerNumbers

if TYPE_CHECKING:
    from engine_ops.controllers.reconciler import RequestReconciler
    from engine_ops.history.health import HistoryHealth
    from engine_ops.kube.cluster_cache import ClusterCache
    from engine_ops.kube.lease import Lease
    from engine_ops.plugins.manager import PluginManager
    from engine_ops.workers.pool import WorkerPool


@dataclasses.dataclass(slots=True)
class MetricsSource:
    """Where the numbers are. Whatever is there already is read; the others are set as they come into being.

    Parameters
    ----------
    lease, reconciler, pool, cache, plugins
        The parts.
    history
        Returns how the history is.
    """

    lease: Lease | None = None
    reconciler: RequestReconciler | None = None
    pool: WorkerPool | None = None
    cache: ClusterCache | None = None
    plugins: PluginManager | None = None
    history: Callable[[], HistoryHealth] | None = None

    async def read(self) -> MetricsSnapshot:
        """Return the numbers as they are now. It waits for nothing."""
        snapshots = []
        if self.plugins is not None:
            found = (self.plugins.snapshot(name) for name in self.plugins.names())
            snapshots = [snapshot for snapshot in found if snapshot is not None]
        counters = {} if self.cache is None else self.cache.counters
        return MetricsSnapshot(
            lease_held=None if self.lease is None else self.lease.held,
            under_way=None if self.reconciler is None else self.reconciler.under_way,
            queued=0 if self.reconciler is None else self.reconciler.queued,
            workers=None if self.pool is None else _workers(self.pool),
            view_age_seconds=None if self.cache is None else self.cache.age_seconds,
            watches={name: WatchNumbers(each.lists, each.events, each.garbage) for name, each in counters.items()},
            history=None if self.history is None else self.history(),
            plugins=tuple(snapshots),
        )


def _workers(pool: WorkerPool) -> WorkerNumbers:
    processes = pool.processes
    return WorkerNumbers(
        size=processes.size,
        busy=processes.busy,
        queued=processes.queued,
        started=processes.started,
        ended={str(reason): count for reason, count in processes.ended.items()},
    )
