"""What tests of metrics share: a scrape that can be asked, and who has moved which metric."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from prometheus_client.parser import text_string_to_metric_families

from engine_ops.controllers.metrics_source import MetricsSource
from engine_ops.history.driving import run_sync
from engine_ops.server.metrics import Metrics

MOVED: set[str] = set()
"""What some test has said that it moves."""

TestT = TypeVar("TestT", bound=Callable[..., None])


def moves(*names: str) -> Callable[[TestT], TestT]:
    """Say which metrics a test moves, without ``engine_ops_``."""
    MOVED.update(f"engine_ops_{name}" for name in names)
    return lambda test: test


class Scrape:
    """What a scrape shows."""

    def __init__(self, text: bytes) -> None:
        self._samples = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text.decode())
            for sample in family.samples
        }

    def __call__(self, name: str, **labels: str) -> float | None:
        """A sample; None where there is none."""
        return self._samples.get((f"engine_ops_{name}", tuple(sorted(labels.items()))))


def scraped(metrics: Metrics, source: MetricsSource | None = None) -> Scrape:
    """Scrape, with the numbers of the engine if there is one. The source waits for nothing: any loop may run."""
    return Scrape(metrics.text(None if source is None else run_sync(source.read())))
