"""A plugin with a model: how long a job will run."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any, ClassVar

import pydantic
from engine_ops.ml import (
    BaseMLModel,
    MLPluginInterface,
    PluginMetadata,
    PredictionResult,
    WorkloadDataPoint,
    WorkloadDataset,
)


class LastTwoModel(BaseMLModel):
    """Predicts the mean of the run times of the user's last two jobs.

    Hard to beat for its size: Tsafrir, Etsion and Feitelson, "Backfilling using system-generated predictions rather
    than user runtime estimates", IEEE Transactions on Parallel and Distributed Systems 18(6), 2007.
    """

    def __init__(self) -> None:
        super().__init__("last-two")
        self.factor = 1.0
        self._durations_ms: dict[str, list[float]] = {}

    def train(self, data: list[WorkloadDataPoint]) -> None:
        """Remember each user's last two successful jobs."""
        if not self.validate_training_data(data, "duration"):
            raise ValueError("at least 10 data points with a duration are needed")
        durations_ms: dict[str, list[float]] = {}
        # The history also has requests that are about no job: their durations are those of their answers.
        dataset = WorkloadDataset(data)
        jobs = [dataset.data_points[index] for index in dataset.labelled("duration")]
        for point in sorted(jobs, key=lambda point: point.timestamp):
            user = point.metadata.get("request", {}).get("user")
            if user is not None and point.success:
                durations_ms[user] = [*durations_ms.get(user, []), point.duration][-2:]
        if not durations_ms:
            raise ValueError("no data point tells its user: requests need a field user")
        self._durations_ms = durations_ms
        self.is_trained = True
        self.training_metadata = {"users": len(durations_ms), "samples": len(data)}

    def predict(self, input_data: dict[str, Any]) -> PredictionResult:
        """Predict ``expected_duration``, in milliseconds; for a user unknown so far, the median over all users."""
        if not self.is_trained:
            raise RuntimeError("the model is not trained")
        known = self._durations_ms.get(input_data.get("user", ""))
        if known is None:
            expected_ms = statistics.median(statistics.fmean(each) for each in self._durations_ms.values())
        else:
            expected_ms = statistics.fmean(known)
        return PredictionResult({"expected_duration": self.factor * expected_ms}, None, self.model_id)

    def save(self) -> dict[str, Any]:
        """Return the state: JSON values."""
        return {"durations_ms": self._durations_ms, "training_metadata": self.training_metadata}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take the state over."""
        if "durations_ms" not in state:
            raise ValueError("this is no state of LastTwoModel: it has no durations_ms")
        self._durations_ms = {user: list(each) for user, each in state["durations_ms"].items()}
        self.training_metadata = dict(state["training_metadata"])
        self.is_trained = True


class LastTwoSettings(pydantic.BaseModel):
    """What stands under ``config``."""

    model_config = pydantic.ConfigDict(extra="forbid")

    factor: float = pydantic.Field(default=1.0, gt=0, le=100)
    """The prediction is multiplied by this: above 1 for who would rather wait than be late."""


class LastTwoPlugin(MLPluginInterface):
    """Tells how long a job will run."""

    config_schema: ClassVar[type[pydantic.BaseModel] | None] = LastTwoSettings

    def __init__(self) -> None:
        metadata = PluginMetadata(
            name="last-two",
            version="1.0.0",
            description="Run times from the user's last two jobs",
            author="The Engine-Ops developers",
            supported_types=["ml-driven"],
        )
        self.last_two = LastTwoModel()
        super().__init__(metadata, self.last_two)

    def init(self, config: Mapping[str, Any] | None = None) -> None:
        """Take the settings over."""
        super().init(config)
        self.last_two.factor = self.config["factor"]
