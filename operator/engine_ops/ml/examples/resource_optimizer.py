"""Typical usage, by request type: medians, which a few wild values do not move."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from engine_ops.ml.examples.by_type import ByTypeModel, ByTypePlugin, Sample, Summary
from engine_ops.ml.plugin_interface import PluginMetadata
from engine_ops.ml.scoring import DURATION, RESOURCES, SUCCESS, median

_HALF_CONFIDENT: Final = 10


class ResourceOptimizerModel(ByTypeModel):
    """Recommends what requests of a type typically used, for a workload of the request's ``workload_size``.

    Where most points have a ``workload_size``, each value is brought to the typical size before the median is taken, in
    proportion: a history of small and large workloads then says what one unit of size needs. Success is a mean, for a
    median of successes and failures is no rate.

    The confidence that it claims is n / (n + 10) for n samples, divided by 1 + the largest relative spread of a
    resource: the median absolute deviation over the median (Hampel, The Influence Curve and Its Role in Robust
    Estimation, 1974).

    Parameters
    ----------
    model_id
        Identifies the model.
    baseline_workload_size
        The ``workload_size`` of the medians; None for the median of the history's, or 100 where the history has none.
    """

    def __init__(self, model_id: str = "resource-optimizer", *, baseline_workload_size: float | None = None) -> None:
        super().__init__(model_id, baseline_workload_size=baseline_workload_size)

    def _summary(self, samples: Sequence[Sample]) -> Summary:
        sized = [sample for sample in samples if sample.size is not None]
        typical = median([sample.size for sample in sized if sample.size is not None]) if sized else None
        # One without a size, among many with one, cannot be brought to the typical size.
        is_sized = 2 * len(sized) > len(samples)
        values, spreads = {}, {}
        for key in sorted({key for sample in samples for key in sample.values}):
            if key == SUCCESS:
                known = [sample.values[key] for sample in samples if key in sample.values]
                values[key] = math.fsum(known) / len(known)
                continue
            found = [_typical(sample, key, typical if is_sized else None) for sample in samples]
            present = [value for value in found if value is not None and math.isfinite(value)]
            if present:
                values[key] = median(present)
                spreads[key] = _spread(present, values[key])
        return Summary(len(samples), typical, values, spreads)

    def _confidence(self, summary: Summary) -> float:
        of_resources = [spread for key, spread in summary.spreads.items() if key.startswith(f"{RESOURCES}.")]
        spread = max(of_resources or [summary.spreads.get(DURATION, 0.0)])
        return summary.samples / (summary.samples + _HALF_CONFIDENT) / (1 + spread)


class ResourceOptimizerPlugin(ByTypePlugin):
    """A plugin of `ResourceOptimizerModel`, for ``resource`` and ``ml-driven`` requests.

    Parameters
    ----------
    model
        Another model of the kind, such as a trained one.
    """

    def __init__(self, model: ResourceOptimizerModel | None = None) -> None:
        metadata = PluginMetadata(
            "resource-optimizer",
            "1.0.0",
            "Recommends what requests of a type typically used",
            supported_types=["resource", "ml-driven"],
        )
        super().__init__(metadata, model if model is not None else ResourceOptimizerModel())


def _typical(sample: Sample, key: str, size: float | None) -> float | None:
    value = sample.values.get(key)
    if size is None or value is None:
        return value
    return None if sample.size is None else value / sample.size * size


def _spread(values: Sequence[float], middle: float) -> float:
    if middle == 0:
        return 0.0 if not any(values) else 1.0
    spread = median([abs(value - middle) for value in values]) / middle
    return spread if math.isfinite(spread) else 1.0
