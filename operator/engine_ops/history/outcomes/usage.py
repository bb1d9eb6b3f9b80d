"""What the containers of a workload used, over all its pods."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from engine_ops.history.outcomes.records import UsageSample
from engine_ops.history.outcomes.sketch import Sketch

MAX_CONTAINERS: Final = 16
"""Containers of a workload that are followed by name; what more there are is counted."""

RESOURCES: Final = ("cpu", "memory")
"""Cores and bytes: what metrics.k8s.io has."""


class Usage:
    """Usage of a workload, as it is sampled.

    Attributes
    ----------
    pod_peak
        By resource: the highest sum over the containers of one pod at one moment.
    samples
        How many moments of one pod were seen.
    left_out
        How many containers of a pod were over `MAX_CONTAINERS`; they count in ``pod_peak``.
    """

    __slots__ = ("_sketches", "left_out", "pod_peak", "samples")

    def __init__(self) -> None:
        self.pod_peak: dict[str, float] = {}
        self.samples = 0
        self.left_out = 0
        self._sketches: dict[str, dict[str, Sketch]] = {}

    def add(self, moment: Iterable[UsageSample]) -> None:
        """Count what the containers of one pod used at one moment."""
        total: dict[str, float] = {}
        left_out = 0
        for sample in moment:
            sketches = self._sketches.get(sample.container)
            if sketches is None:
                if len(self._sketches) < MAX_CONTAINERS:
                    sketches = self._sketches[sample.container] = {name: Sketch() for name in RESOURCES}
                else:
                    left_out += 1
            for name in RESOURCES:
                value = sample.usage.get(name)
                if value is None or not 0 <= value < float("inf"):
                    continue
                total[name] = total.get(name, 0.0) + value
                if sketches is not None:
                    sketches[name].add(value)
        if total:
            self.samples += 1
            self.left_out = max(self.left_out, left_out)
        for name, value in total.items():
            self.pod_peak[name] = max(self.pod_peak.get(name, 0.0), value)

    def peak(self, container: str, resource: str) -> float | None:
        """Return the highest usage of a container at one moment in any pod; None if it was not seen."""
        sketch = self._sketches.get(container, {}).get(resource)
        return sketch.peak if sketch is not None and sketch.count else None

    def summary(self) -> dict[str, dict[str, dict[str, float]]]:
        """Return p50, p95 and peak by container and resource, over all pods and moments."""
        return {
            container: {
                name: {"p50": sketch.quantile(0.5), "p95": sketch.quantile(0.95), "peak": sketch.peak}
                for name, sketch in sketches.items()
                if sketch.count
            }
            for container, sketches in self._sketches.items()
        }

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "n": self.samples,
            "left": self.left_out,
            "peak": self.pod_peak,
            "by": {
                container: {name: sketch.to_json() for name, sketch in sketches.items() if sketch.count}
                for container, sketches in self._sketches.items()
            },
        }

    @classmethod
    def from_json(cls, data: Any) -> Usage:
        """Return what `to_json` gave.

        Raises
        ------
        TypeError, ValueError, KeyError, AttributeError
            If it is something else.
        """
        usage = cls()
        usage.samples, usage.left_out = int(data["n"]), int(data["left"])
        usage.pod_peak = {str(name): float(value) for name, value in data["peak"].items() if name in RESOURCES}
        for container, sketches in list(data["by"].items())[:MAX_CONTAINERS]:
            usage._sketches[container] = {
                name: Sketch.from_json(sketches[name]) if name in sketches else Sketch() for name in RESOURCES
            }
        return usage
