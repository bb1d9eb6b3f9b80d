"""What the operator exposes, as its registry has it."""

from __future__ import annotations

import functools
from typing import NamedTuple

from prometheus_client.metrics import MetricWrapperBase

from engine_ops.server.metrics import Metrics


class Exposed(NamedTuple):
    kind: str
    labels: tuple[str, ...]
    help: str


@functools.cache
def exposed() -> dict[str, Exposed]:
    """Every metric of our own by its name in queries."""
    registry = Metrics().registry
    found = {}
    for collector in registry._collector_to_names:
        families = collector.describe() if hasattr(collector, "describe") else []
        for family in families:
            if not family.name.startswith("engine_ops_"):
                continue
            name = family.name + ("_total" if family.type == "counter" else "")
            labels = collector._labelnames if isinstance(collector, MetricWrapperBase) else family._labelnames
            found[name] = Exposed(family.type, tuple(labels), family.documentation)
    return found
