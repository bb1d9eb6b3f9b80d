"""What the operator counts of itself, where somebody can read it."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING, Self

from engine_ops.controllers.measuring import UNMEASURED, Measured

if TYPE_CHECKING:
    from engine_ops.controllers.metrics_source import MetricsSource
    from engine_ops.controllers.parts import Parts
    from engine_ops.kube.connection import Connection
    from engine_ops.kube.lease import Lease
    from engine_ops.server.metrics import Metrics


@dataclasses.dataclass(frozen=True, slots=True)
class Observed:
    """Metrics and what they are read from, or nothing where there is no port to read them at.

    Parameters
    ----------
    metrics
        None for none.
    source
        Reads numbers on the engine's loop when somebody scrapes.
    """

    metrics: Metrics | None = None
    source: MetricsSource | None = None

    @classmethod
    def where(cls, there_is_a_port: bool) -> Self:
        """Return metrics if there is a port. To be called on the engine's loop."""
        if not there_is_a_port:
            return cls()
        from engine_ops.controllers.metrics_source import MetricsSource
        from engine_ops.server.metrics import Metrics, on_loop

        metrics, source = Metrics(), MetricsSource()
        metrics.collect_from(on_loop(asyncio.get_running_loop(), source.read))
        return cls(metrics, source)

    @property
    def measured(self) -> Measured:
        """Who counts what becomes of requests."""
        return UNMEASURED if self.metrics is None else self.metrics

    def count_calls(self, connection: Connection) -> None:
        """Have the calls of a connection counted, and of those that are made from it."""
        if self.metrics is not None:
            connection.on_call = self.metrics.kube_call

    def read_from(self, lease: Lease, parts: Parts) -> None:
        """Have the parts read when somebody scrapes."""
        source = self.source
        if source is None:
            return
        source.lease = lease
        source.pool, source.cache, source.reconciler = parts.pool, parts.cache, parts.reconciler
        if parts.plugins is not None:
            source.plugins = parts.plugins.manager
        if parts.history is not None:
            log = parts.history.log
            source.history = lambda: log.health
