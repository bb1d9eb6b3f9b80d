"""The metrics of plugins, as they come out of their snapshots."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from engine_ops.api.reasons import Reason
from engine_ops.plugins.snapshot import Counts, PluginSnapshot
from engine_ops.server.bounded_label import OTHER, BoundedLabel
from engine_ops.server.metric_families import Family, Metric, Reading, Sample, Samples

_OUTCOMES: Final = ("answered", "failed", "declined", "left_out")


def _each(read: Callable[[PluginSnapshot], float | None]) -> Callable[[Reading], Samples]:
    def samples(reading: Reading) -> Iterator[Sample]:
        for plugin in reading.snapshot.plugins if reading.snapshot is not None else ():
            number = read(plugin)
            if number is not None:
                yield (plugin.name,), float(number)

    return samples


def _trainings(reading: Reading) -> Iterator[Sample]:
    for plugin in reading.snapshot.plugins if reading.snapshot is not None else ():
        yield (plugin.name, "trained"), plugin.trainings.trained
        yield (plugin.name, "failed"), plugin.trainings.failed


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _skill(plugin: PluginSnapshot) -> float | None:
    return plugin.skill if isinstance(plugin.skill, float) else None


PLUGIN: Final = ("plugin",)

PLUGIN_METRICS: Final[tuple[Metric, ...]] = (
    Metric("plugin_enabled", "gauge", "Whether its spec says so.", _each(lambda plugin: plugin.enabled), PLUGIN),
    Metric(
        "plugin_ready",
        "gauge",
        "Whether the plugin can be asked.",
        _each(lambda plugin: plugin.state in (Reason.RUNNING, Reason.UPDATING)),
        PLUGIN,
    ),
    Metric(
        "plugin_breaker_open",
        "gauge",
        "Whether the plugin is left out for a while, after crashes in a row.",
        _each(lambda plugin: plugin.degraded is not None),
        PLUGIN,
    ),
    Metric(
        "plugin_fallbacks",
        "counter",
        "Requests that came to the plugin and that somebody else has answered.",
        _each(lambda plugin: plugin.counts.fallbacks),
        PLUGIN,
    ),
    Metric(
        "plugin_latency_p50_seconds",
        "gauge",
        "Median of the time that its last answers took; absent before the first.",
        _each(lambda plugin: _seconds(plugin.p50_ms)),
        PLUGIN,
    ),
    Metric(
        "plugin_latency_p99_seconds",
        "gauge",
        "99th percentile of the time that its last answers took; absent before the first.",
        _each(lambda plugin: _seconds(plugin.p99_ms)),
        PLUGIN,
    ),
    Metric(
        "plugin_skill",
        "gauge",
        "1 - loss of the model / loss of the baseline, of the model that answers, else of the one in shadow.",
        _each(_skill),
        PLUGIN,
    ),
    Metric(
        "plugin_coverage_ratio",
        "gauge",
        "Share of the model's last scored predictions within the tolerance; absent below 30 of them.",
        _each(lambda plugin: plugin.confidence),
        PLUGIN,
    ),
    Metric(
        "plugin_drifted",
        "gauge",
        "Whether the loss of the model that answers has grown since it was promoted.",
        _each(lambda plugin: plugin.drift),
        PLUGIN,
    ),
    Metric(
        "plugin_model_trained_timestamp_seconds",
        "gauge",
        "When the model that answers was trained, in seconds since the epoch; absent where none does.",
        _each(lambda plugin: None if plugin.model is None else plugin.model.trained_at.timestamp()),
        PLUGIN,
    ),
    Metric("plugin_trainings", "counter", "Trainings that have ended, by result.", _trainings, ("plugin", "result")),
    Metric(
        "plugin_training_seconds",
        "counter",
        "How long its trainings took together.",
        _each(lambda plugin: plugin.trainings.seconds),
        PLUGIN,
    ),
)


class PluginFamilies:
    """Makes the metrics of plugins. Beyond a number of plugins, counts are added up as ``other``, and gauges left out.

    Parameters
    ----------
    name_of
        What a plugin is called in labels.
    """

    def __init__(self, name_of: BoundedLabel) -> None:
        self._name_of = name_of
        self._shown: dict[str, Counts] = {}

    def families(self, reading: Reading) -> Iterator[Family]:
        """Return the metrics at one scrape."""
        plugins = reading.snapshot.plugins if reading.snapshot is not None else ()
        requests = Metric(
            "plugin_requests",
            "counter",
            "Requests that came to the plugin, by what came of asking it.",
            lambda _: self._requests(plugins),
            ("plugin", "outcome"),
        )
        for metric in (requests, *PLUGIN_METRICS):
            yield metric.family(self._bounded(metric, metric.read(reading)))
        self._shown = {plugin.name: self._shown[plugin.name] for plugin in plugins}

    def _requests(self, plugins: Iterable[PluginSnapshot]) -> Iterator[Sample]:
        for plugin in plugins:
            counts = self._never_less(plugin.name, plugin.counts)
            numbers = (counts.answers, counts.failures, counts.declined, counts.left_out)
            for outcome, number in zip(_OUTCOMES, numbers, strict=True):
                yield (plugin.name, outcome), number

    def _never_less(self, name: str, counts: Counts) -> Counts:
        """Return counts that can be shown as counters.

        An answer that turns out to be of no use is taken from the answers and counted as a failure; to Prometheus a
        counter that falls was reset, and has grown by all that it shows.
        """
        before = self._shown.get(name)
        if before is not None and counts.requests >= before.requests and counts.answers < before.answers:
            counts = Counts(
                counts.requests, before.answers, counts.failures, counts.declined, counts.left_out, counts.fallbacks
            )
        self._shown[name] = counts
        return counts

    def _bounded(self, metric: Metric, samples: Samples) -> list[Sample]:
        added: dict[tuple[str, ...], float] = {}
        for (plugin, *others), number in samples:
            name = self._name_of(plugin)
            if name == OTHER and metric.kind == "gauge":
                continue
            labels = (name, *others)
            added[labels] = added.get(labels, 0.0) + number
        return list(added.items())
