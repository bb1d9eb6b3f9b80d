"""The operator's metrics for Prometheus, in a registry of their own. docs/metrics.md has each with its meaning.

What happens is counted where it happens: `Metrics` is what the lower rooms tell (the reconcile loop as
`engine_ops.controllers.measuring.Measured`, connections as `engine_ops.kube.connection.OnCall`). What is so at a
moment is read when somebody scrapes, on the engine's loop.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    exposition,
)
from prometheus_client.core import Metric as Exposed
from prometheus_client.registry import Collector

from engine_ops.api.reasons import Reason
from engine_ops.engine.solvers import TYPES
from engine_ops.server.bounded_label import OTHER, BoundedLabel
from engine_ops.server.bridge import EngineGone
from engine_ops.server.metric_families import METRICS, Reading
from engine_ops.server.metrics_snapshot import ApiNumbers, MetricsSnapshot
from engine_ops.server.plugin_metrics import PluginFamilies

logger = logging.getLogger(__name__)

CONTENT_TYPE: Final = exposition.CONTENT_TYPE_PLAIN_0_0_4
MAX_PLUGINS: Final = 50
"""So many plugins are told apart in labels."""
MAX_ALGORITHMS: Final = 50
"""The built-in algorithms are fewer; a bound all the same."""
READ_SECONDS: Final = 3.0
"""The engine's loop has so long to answer a scrape; Prometheus itself gives up after 10."""

NONE: Final = "none"
_NO_READING: Final = Reading(None, None, None)
_TYPES: Final = frozenset(TYPES)
_REASONS: Final = frozenset(reason.value for reason in Reason)

_LATENCY_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SOLVE_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)
_GAP_BUCKETS: Final = (0.0, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


class Metrics:
    """What is counted, and what is read when somebody scrapes.

    All of it may be called on any thread.

    Attributes
    ----------
    registry : CollectorRegistry
        All of it.
    """

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter that nobody reads
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        plugin_label = BoundedLabel(MAX_PLUGINS)
        self._plugin_label = plugin_label
        self._algorithm_label = BoundedLabel(MAX_ALGORITHMS)
        self._requests = Counter(
            "engine_ops_requests",
            "Tries to answer a request, by type, outcome, and the plugin or algorithm whose the answer is.",
            ("type", "outcome", "solver"),
            registry=self.registry,
        )
        self._unanswered = Counter(
            "engine_ops_requests_unanswered",
            "Tries to answer a request that have left it stalled or waiting, by reason.",
            ("reason",),
            registry=self.registry,
        )
        self._gap = Histogram(
            "engine_ops_gap_ratio",
            "(objective - lower bound) / lower bound of answers that have both.",
            ("type",),
            buckets=_GAP_BUCKETS,
            registry=self.registry,
        )
        self._solves = Histogram(
            "engine_ops_solve_duration_seconds",
            "Time to find an answer or to find that there is none, plugins and the workers' queue included.",
            ("type",),
            buckets=_SOLVE_BUCKETS,
            registry=self.registry,
        )
        self._reconciles = Histogram(
            "engine_ops_reconcile_duration_seconds",
            "Time of one pass over one request, from the decision to the status that is written.",
            buckets=_SOLVE_BUCKETS,
            registry=self.registry,
        )
        self._reconcile_failures = Counter(
            "engine_ops_reconcile_failures",
            "Passes over a request that an outage or a defect has ended; they are tried again.",
            registry=self.registry,
        )
        self._kube_calls = Counter(
            "engine_ops_kube_calls",
            "Calls of the API server, by verb and status code.",
            ("verb", "code"),
            registry=self.registry,
        )
        self._kube_call_seconds = Histogram(
            "engine_ops_kube_call_duration_seconds",
            "Time until the API server has answered; of a watch, until it has begun.",
            ("verb",),
            buckets=_LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.http_requests = Counter(
            "engine_ops_http_requests",
            "Requests to the REST API, by method, route and status code.",
            ("method", "route", "code"),
            registry=self.registry,
        )
        self.http_seconds = Histogram(
            "engine_ops_http_request_duration_seconds",
            "Time until the response was sent; event streams are left out.",
            ("method", "route"),
            buckets=_LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.http_in_flight = Gauge(
            "engine_ops_http_requests_in_flight", "Requests to the REST API under way.", registry=self.registry
        )
        self.http_rate_limited = Counter(
            "engine_ops_http_rate_limited",
            "Requests to the REST API that were refused because their caller asks too often.",
            registry=self.registry,
        )
        self._reading = _NO_READING
        self._scraping = threading.Lock()
        self._read: Callable[[], MetricsSnapshot] | None = None
        self._read_api: Callable[[], ApiNumbers] | None = None
        self.registry.register(_Readings(lambda: self._reading, PluginFamilies(plugin_label)))

    def request_ended(
        self,
        request_type: str,
        outcome: str,
        reason: str,
        *,
        algorithm: str | None,
        plugin: str | None,
        gap: float | None,
    ) -> None:
        """See `engine_ops.controllers.measuring.Measured`."""
        known_type = request_type if request_type in _TYPES else OTHER
        if plugin is not None:
            solver = self._plugin_label(plugin)
        else:
            solver = NONE if algorithm is None else self._algorithm_label(algorithm)
        self._requests.labels(known_type, outcome, solver).inc()
        if outcome != "answered":
            self._unanswered.labels(reason if reason in _REASONS else OTHER).inc()
        if gap is not None:
            self._gap.labels(known_type).observe(gap)

    def solved(self, request_type: str, seconds: float) -> None:
        """See `engine_ops.controllers.measuring.Measured`."""
        self._solves.labels(request_type if request_type in _TYPES else OTHER).observe(seconds)

    def reconciled(self, seconds: float, *, failed: bool) -> None:
        """See `engine_ops.controllers.measuring.Measured`."""
        self._reconciles.observe(seconds)
        if failed:
            self._reconcile_failures.inc()

    def kube_call(self, verb: str, status: int | None, seconds: float) -> None:
        """See `engine_ops.kube.connection.OnCall`."""
        self._kube_calls.labels(verb, NONE if status is None else status).inc()
        self._kube_call_seconds.labels(verb).observe(seconds)

    def collect_from(self, read: Callable[[], MetricsSnapshot]) -> None:
        """Read the engine's numbers with this at each `scrape`, on the thread that scrapes; see `on_loop`."""
        self._read = read

    def collect_api_from(self, read: Callable[[], ApiNumbers]) -> None:
        """Read the REST API's numbers with this at each `scrape`, on the thread that scrapes."""
        self._read_api = read

    def scrape(self) -> bytes:
        """Read what is so now, and return everything as text. It is answered though the engine is not.

        It waits for the engine's loop, so it must not be called on an event loop.
        """
        began, snapshot, delay_seconds = time.perf_counter(), None, None
        if self._read is not None:
            try:
                snapshot = self._read()
                delay_seconds = time.perf_counter() - began
            except EngineGone:
                pass  # the last scrapes of a process that ends
            except TimeoutError:
                logger.warning("the engine's event loop has not answered a scrape within %g s", READ_SECONDS)
            except Exception:
                logger.exception("the engine's numbers cannot be read")
        return self.text(snapshot, delay_seconds)

    async def scrape_aside(self) -> bytes:
        """Do what `scrape` does on another thread, for whoever has an event loop to keep going."""
        return await asyncio.to_thread(self.scrape)

    def text(self, snapshot: MetricsSnapshot | None = None, delay_seconds: float | None = None) -> bytes:
        """Return everything in Prometheus' text format; see `CONTENT_TYPE`.

        Parameters
        ----------
        snapshot
            Of the engine; None where it cannot be had.
        delay_seconds
            How long it took to get.
        """
        api = None if self._read_api is None else self._read_api()
        with self._scraping:
            self._reading = Reading(snapshot, api, delay_seconds)
            try:
                return exposition.generate_latest(self.registry)
            finally:
                self._reading = _NO_READING  # nobody else is to take it for the present


class _Readings(Collector):
    """The metrics that are read at a scrape."""

    def __init__(self, reading: Callable[[], Reading], plugins: PluginFamilies) -> None:
        self._reading = reading
        self._plugins = plugins

    def collect(self) -> Iterator[Exposed]:
        reading = self._reading()
        for metric in METRICS:
            yield metric.family(metric.read(reading))
        yield from self._plugins.families(reading)

    def describe(self) -> Iterator[Exposed]:
        """Return all of them without samples: how the registry finds names that come twice."""
        return self.collect()


def on_loop(
    loop: asyncio.AbstractEventLoop, read: Callable[[], Coroutine[Any, Any, MetricsSnapshot]]
) -> Callable[[], MetricsSnapshot]:
    """Return a function that runs ``read`` on a loop, for `Metrics.collect_from`. To be called on any other thread.

    The function raises `EngineGone` where the loop has ended, and `TimeoutError` where it does not answer within
    `READ_SECONDS`.
    """

    def read_there() -> MetricsSnapshot:
        work = read()
        try:
            future = asyncio.run_coroutine_threadsafe(work, loop)
        except RuntimeError as error:
            work.close()
            raise EngineGone("the engine has ended") from error
        try:
            return future.result(READ_SECONDS)
        except TimeoutError:
            future.cancel()
            raise
        except concurrent.futures.CancelledError as error:
            raise EngineGone("the engine is ending") from error

    return read_there
