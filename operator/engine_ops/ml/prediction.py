"""What a model answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(init=False)
class PredictionResult:
    """A prediction, and what the model says of it.

    Parameters
    ----------
    prediction
        What is predicted, as JSON values. Keys with a meaning of their own, which are scored against what really
        happened: ``expected_duration`` (ms), ``success_rate`` (0 to 1) and ``recommended_resources`` (amount by
        resource, in the units of ``WorkloadDataPoint.resource_usage``).
    confidence
        0 to 1, as the model claims it; None where it claims nothing. How often the model is right is measured apart
        from it.
    model_id
        The model's identifier, `BaseMLModel.model_id`.
    metadata
        Anything else, as JSON values; an empty dictionary where it is None.
    """

    prediction: Any
    confidence: float | None
    model_id: str
    metadata: dict[str, Any]

    def __init__(
        self,
        prediction: Any,
        confidence: float | None,
        model_id: str,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self.prediction = prediction
        self.confidence = confidence
        self.model_id = model_id
        self.metadata = dict(metadata) if metadata is not None else {}

    def to_dict(self) -> dict[str, Any]:
        """Return it with the keys ``prediction``, ``confidence``, ``model_id`` and ``metadata``."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
