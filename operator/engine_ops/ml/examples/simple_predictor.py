"""Historical averages, by request type."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from engine_ops.ml.examples.by_type import ByTypeModel, ByTypePlugin, Sample, Summary
from engine_ops.ml.plugin_interface import PluginMetadata

_HALF_CONFIDENT: Final = 10


class SimplePredictorModel(ByTypeModel):
    """Predicts the mean success rate, duration and usage of a type's requests.

    Durations and resources grow in proportion to the request's ``workload_size``, where it has one. The confidence that
    it claims grows with the number of samples n, as n / (n + 10): it says how much was seen, not how well it fits.

    Parameters
    ----------
    model_id
        Identifies the model.
    baseline_workload_size
        The ``workload_size`` of the averages; None for the mean of the history's, or 100 where the history has none.
    """

    def __init__(self, model_id: str = "simple-predictor", *, baseline_workload_size: float | None = None) -> None:
        super().__init__(model_id, baseline_workload_size=baseline_workload_size)

    def _summary(self, samples: Sequence[Sample]) -> Summary:
        keys = sorted({key for sample in samples for key in sample.values})
        values = {key: _mean([sample.values[key] for sample in samples if key in sample.values]) for key in keys}
        sizes = [sample.size for sample in samples if sample.size is not None]
        return Summary(len(samples), _mean(sizes) if sizes else None, values, {})

    def _confidence(self, summary: Summary) -> float:
        return summary.samples / (summary.samples + _HALF_CONFIDENT)


class SimplePredictorPlugin(ByTypePlugin):
    """A plugin of `SimplePredictorModel`, for every type.

    Parameters
    ----------
    model
        Another model of the kind, such as a trained one.
    """

    def __init__(self, model: SimplePredictorModel | None = None) -> None:
        metadata = PluginMetadata("simple-predictor", "1.0.0", "Predicts historical averages, by request type")
        super().__init__(metadata, model if model is not None else SimplePredictorModel())


def _mean(values: Sequence[float]) -> float:
    # Divided before they are added: the sum of large values is infinite.
    return math.fsum(value / len(values) for value in values)
