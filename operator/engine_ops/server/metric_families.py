"""The metrics that are read at a scrape: their names, what they say, and how they come out of a snapshot."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, Literal

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from engine_ops import __version__
from engine_ops.server.metrics_snapshot import ApiNumbers, MetricsSnapshot

PREFIX: Final = "engine_ops_"

Sample = tuple[tuple[str, ...], float]
Samples = Iterable[Sample]
Family = GaugeMetricFamily | CounterMetricFamily


@dataclasses.dataclass(frozen=True, slots=True)
class Reading:
    """What is known at one scrape.

    Parameters
    ----------
    snapshot
        Of the engine; None where its loop did not answer.
    api
        Of the REST API; None where there is none.
    delay_seconds
        How long the engine's loop took to answer; None where it did not.
    """

    snapshot: MetricsSnapshot | None
    api: ApiNumbers | None
    delay_seconds: float | None


@dataclasses.dataclass(frozen=True, slots=True)
class Metric:
    """A metric that is read at a scrape.

    Parameters
    ----------
    name
        Without the prefix, and for a counter without ``_total``.
    kind
        Of Prometheus.
    help
        One line.
    read
        Returns its samples; none where there is nothing to say.
    labels
        Their names.
    """

    name: str
    kind: Literal["gauge", "counter"]
    help: str
    read: Callable[[Reading], Samples]
    labels: tuple[str, ...] = ()

    def family(self, samples: Samples) -> Family:
        """Return the metric with some samples."""
        kind = CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily
        made: Family = kind(PREFIX + self.name, self.help, labels=self.labels)
        for values, number in samples:
            made.add_metric(values, number)
        return made


def one(number: float | None) -> Samples:
    """Return one sample without labels; none of None."""
    return () if number is None else (((), float(number)),)


def _engine(read: Callable[[MetricsSnapshot], Samples]) -> Callable[[Reading], Samples]:
    return lambda reading: () if reading.snapshot is None else read(reading.snapshot)


def _of_workers(field: str) -> Callable[[Reading], Samples]:
    return _engine(lambda snapshot: () if snapshot.workers is None else one(getattr(snapshot.workers, field)))


def _of_history(field: str) -> Callable[[Reading], Samples]:
    return _engine(lambda snapshot: () if snapshot.history is None else one(_size(getattr(snapshot.history, field))))


def _of_watches(field: str) -> Callable[[Reading], Samples]:
    return _engine(
        lambda snapshot: [((resource,), getattr(numbers, field)) for resource, numbers in snapshot.watches.items()]
    )


def _of_api(field: str) -> Callable[[Reading], Samples]:
    return lambda reading: () if reading.api is None else one(getattr(reading.api, field))


def _size(value: object) -> float:
    return len(value) if isinstance(value, tuple) else float(value)  # type: ignore[arg-type]  # a number otherwise


def _queues(snapshot: MetricsSnapshot) -> Iterator[Sample]:
    if snapshot.under_way is not None:
        yield ("turn",), snapshot.queued
    if snapshot.workers is not None:
        yield ("worker",), snapshot.workers.queued


def _ended(snapshot: MetricsSnapshot) -> Samples:
    ended: Mapping[str, int] = {} if snapshot.workers is None else snapshot.workers.ended
    return [((reason,), count) for reason, count in ended.items()]


def _flushed(snapshot: MetricsSnapshot) -> Samples:
    history = snapshot.history
    return one(None if history is None or history.flushed_at_ms is None else history.flushed_at_ms / 1000)


def _writable(snapshot: MetricsSnapshot) -> Samples:
    history = snapshot.history
    return one(None if history is None else history.loaded and not history.refused and not history.future)


METRICS: Final[tuple[Metric, ...]] = (
    Metric(
        "build_info",
        "gauge",
        "1, with the version in its labels.",
        lambda _: [((__version__, platform.python_version()), 1)],
        ("version", "python"),
    ),
    Metric(
        "loop_responds",
        "gauge",
        "Whether the engine's event loop has answered this scrape.",
        lambda reading: one(reading.delay_seconds is not None),
    ),
    Metric(
        "loop_delay_seconds",
        "gauge",
        "How long the engine's event loop took to answer this scrape.",
        lambda reading: one(reading.delay_seconds),
    ),
    Metric(
        "lease_held",
        "gauge",
        "Whether this operator holds the Lease, and serves.",
        _engine(lambda snapshot: one(snapshot.lease_held)),
    ),
    Metric(
        "requests_under_way",
        "gauge",
        "Requests that are being solved, are queued, wait to be tried again, or are timed.",
        _engine(lambda snapshot: one(snapshot.under_way)),
    ),
    Metric(
        "queue_depth",
        "gauge",
        "Requests that wait for their turn, and tasks that wait for a worker.",
        _engine(_queues),
        ("queue",),
    ),
    Metric("workers", "gauge", "Worker processes that there should be.", _of_workers("size")),
    Metric("workers_busy", "gauge", "Worker processes that are at a task.", _of_workers("busy")),
    Metric("workers_started", "counter", "Worker processes that were started.", _of_workers("started")),
    Metric("workers_ended", "counter", "Worker processes that have ended, by reason.", _engine(_ended), ("reason",)),
    Metric(
        "cluster_view_age_seconds",
        "gauge",
        "Since the view of nodes and pods was last known to be current; absent while nobody asks for it.",
        _engine(lambda snapshot: one(snapshot.view_age_seconds)),
    ),
    Metric(
        "cluster_view_lists",
        "counter",
        "Complete lists of the watch of a resource: the first, and each time it had to begin anew.",
        _of_watches("lists"),
        ("resource",),
    ),
    Metric(
        "cluster_view_events", "counter", "Changes that the watch has applied.", _of_watches("events"), ("resource",)
    ),
    Metric(
        "cluster_view_garbage",
        "counter",
        "Times that something came over the watch which could not be read.",
        _of_watches("garbage"),
        ("resource",),
    ),
    Metric("history_loaded", "gauge", "Whether the history was read.", _of_history("loaded")),
    Metric("history_writable", "gauge", "Whether the history's store takes what is written.", _engine(_writable)),
    Metric("history_points", "gauge", "Data points in the history.", _of_history("points")),
    Metric("history_open_points", "gauge", "Data points that wait for their outcome.", _of_history("open_points")),
    Metric("history_unflushed_points", "gauge", "Data points that are not written yet.", _of_history("unflushed")),
    Metric("history_segments", "gauge", "Sealed segments of the history.", _of_history("segments")),
    Metric("history_stored_bytes", "gauge", "Size of the history in its store.", _of_history("stored_bytes")),
    Metric("history_damaged_segments", "gauge", "Segments that cannot be read.", _of_history("damaged")),
    Metric("history_missing_segments", "gauge", "Segments that are not there.", _of_history("missing")),
    Metric(
        "history_last_flush_timestamp_seconds",
        "gauge",
        "When the history was last written, in seconds since the epoch; absent before the first time.",
        _engine(_flushed),
    ),
    Metric("history_conflicts", "counter", "Writes that somebody else was faster with.", _of_history("conflicts")),
    Metric(
        "history_pushed_out_points",
        "counter",
        "Open data points that were closed without their outcome, for want of room.",
        _of_history("pushed_out"),
    ),
    Metric(
        "history_lost_points",
        "counter",
        "Data points that left the full history before they were written.",
        _of_history("dropped_unflushed"),
    ),
    Metric(
        "http_solves_in_flight",
        "gauge",
        "Questions of the REST API that are being answered.",
        _of_api("solves_in_flight"),
    ),
    Metric("http_cache_hits", "counter", "Answers that came from the result cache.", _of_api("cache_hits")),
    Metric("http_cache_misses", "counter", "Looks into the result cache in vain.", _of_api("cache_misses")),
    Metric("http_cache_evictions", "counter", "Answers that left the full result cache.", _of_api("cache_evictions")),
    Metric("http_cache_entries", "gauge", "Answers in the result cache.", _of_api("cache_entries")),
    Metric("http_cache_bytes", "gauge", "Size of the answers in the result cache.", _of_api("cache_bytes")),
)
"""All but those of plugins, which are in `engine_ops.server.plugin_metrics`."""
