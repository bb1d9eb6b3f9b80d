"""What the two example models share: a summary of the history for each request type, and one of all types."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final, NamedTuple, Self

import pydantic

from engine_ops.ml.base_model import MIN_TRAINING_POINTS, BaseMLModel
from engine_ops.ml.data_point import WorkloadDataPoint
from engine_ops.ml.keys import mapping_of
from engine_ops.ml.plugin_interface import MLPluginInterface, PluginMetadata
from engine_ops.ml.prediction import PredictionResult
from engine_ops.ml.scoring import SUCCESS, actual_values, nested

DEFAULT_WORKLOAD_SIZE: Final = 100.0
"""What a ``workload_size`` is compared with where the history knows none."""

_ALL_TYPES: Final = ""
_LEAST: Final = 3
_FORMAT: Final = 1


class Sample(NamedTuple):
    """What one point teaches.

    Parameters
    ----------
    size
        The ``workload_size`` that was asked for; None where there was none.
    values
        Scored key to what happened (`engine_ops.ml.scoring.actual_values`).
    """

    size: float | None
    values: Mapping[str, float]


class Summary(NamedTuple):
    """What is kept of the samples of a type.

    Parameters
    ----------
    samples
        How many there were.
    size
        The ``workload_size`` that the values belong to; None where the history knows none.
    values
        Scored key to its typical value.
    spreads
        Scored key to how far values lie from the typical one, as a fraction of it; may be empty.
    """

    samples: int
    size: float | None
    values: Mapping[str, float]
    spreads: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {**self._asdict(), "values": dict(self.values), "spreads": dict(self.spreads)}

    @classmethod
    def from_dict(cls, place: str, data: Any) -> Self:
        """Make one of what `to_dict` returned.

        Raises
        ------
        ValueError
            If it is no summary; the message names the place.
        """
        if not isinstance(data, Mapping) or set(data) != set(cls._fields):
            raise ValueError(f"{place}: must be an object of {', '.join(cls._fields)}")
        samples, size = data["samples"], data["size"]
        if isinstance(samples, bool) or not isinstance(samples, int) or samples < 1:
            raise ValueError(f"{place}.samples: must be a whole number from 1")
        if size is not None and size_of(size) is None:
            raise ValueError(f"{place}.size: must be a number above 0, or null")
        for name in ("values", "spreads"):
            if not isinstance(data[name], Mapping) or not all(_is_amount(value) for value in data[name].values()):
                raise ValueError(f"{place}.{name}: must be an object of finite numbers from 0")
        return cls(samples, size, dict(data["values"]), dict(data["spreads"]))


class ByTypeModel(BaseMLModel):
    """A model that is one `Summary` for each request type, and one of all types for those with few points.

    Parameters
    ----------
    model_id
        Identifies the model.
    baseline_workload_size
        The ``workload_size`` that is taken for 1 time the typical values; None for the typical one of the history, or
        `DEFAULT_WORKLOAD_SIZE` where the history knows none.

    Raises
    ------
    ValueError
        If the size is no finite number above 0.
    """

    def __init__(self, model_id: str, *, baseline_workload_size: float | None = None) -> None:
        super().__init__(model_id)
        if baseline_workload_size is not None and size_of(baseline_workload_size) is None:
            raise ValueError(f"baseline_workload_size must be a number above 0, is {baseline_workload_size!r}")
        self.baseline_workload_size = baseline_workload_size
        self._summaries: dict[str, Summary] = {}

    def train(self, data: Iterable[WorkloadDataPoint]) -> None:
        """Summarise the outcomes, by type.

        Raises
        ------
        ValueError
            If there are fewer than 10 known outcomes.
        """
        points = list(data)
        if not self.validate_training_data(points):
            raise ValueError(f"at least {MIN_TRAINING_POINTS} sane data points with a known outcome are needed")
        by_type: dict[str, list[Sample]] = {}
        for point in points:
            values = actual_values(point)
            if values:
                sample = Sample(_size_of_point(point), values)
                for name in {point.request_type, _ALL_TYPES}:
                    by_type.setdefault(name, []).append(sample)
        self._summaries = {name: self._summary(samples) for name, samples in by_type.items()}
        self.training_metadata = {
            "training_samples": len(points),
            "samples_by_type": {name: len(samples) for name, samples in sorted(by_type.items()) if name != _ALL_TYPES},
        }
        self.is_trained = True

    def predict(self, input_data: Mapping[str, Any]) -> PredictionResult:
        """Predict from the outcomes of the request's type; of all types where it has fewer than 3, or is not said.

        Parameters
        ----------
        input_data
            ``type`` and ``workload_size``, where they are there; anything else is passed over.

        Returns
        -------
        PredictionResult
            ``success_rate``, ``expected_duration`` (ms) and ``recommended_resources``, those that are known.

        Raises
        ------
        RuntimeError
            If it is not trained.
        ValueError
            If ``workload_size`` is no finite number above 0.
        """
        if not self.is_trained:
            raise RuntimeError(f"model {self.model_id!r} is not trained")
        name = input_data.get("type", _ALL_TYPES)
        summary = self._summaries.get(name) if isinstance(name, str) else None
        basis = name
        if summary is None or summary.samples < _LEAST:
            summary, basis = self._summaries[_ALL_TYPES], _ALL_TYPES
        scale = self._scale(summary, input_data.get("workload_size"))
        metadata = {"samples": summary.samples, "scale": scale, "basis": basis or "all types"}
        values = {key: value if key == SUCCESS else value * scale for key, value in summary.values.items()}
        if not all(math.isfinite(value) for value in values.values()):
            raise ValueError(f"workload_size is too large: {input_data.get('workload_size')!r}")
        return PredictionResult(nested(values), self._confidence(summary), self.model_id, metadata)

    def save(self) -> dict[str, Any] | None:
        """Return what was learned, as JSON values (the baseline, a setting, is not); None before training."""
        if not self.is_trained:
            return None
        return {
            "format": _FORMAT,
            "model": type(self).__name__,
            "summaries": {name: summary.to_dict() for name, summary in sorted(self._summaries.items())},
            "trainingMetadata": dict(self.training_metadata),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over what `save` returned.

        Raises
        ------
        ValueError
            If it is none of this model's states; the message says where, and the model is as before.
        """
        expected = {"format": _FORMAT, "model": type(self).__name__}
        for key, value in expected.items():
            if state.get(key) != value:
                raise ValueError(f"{key}: {value!r} is understood, not {state.get(key)!r}")
        summaries, metadata = state.get("summaries"), state.get("trainingMetadata")
        if not isinstance(summaries, Mapping) or _ALL_TYPES not in summaries:
            raise ValueError("summaries: must be an object that has one of all types")
        if not isinstance(metadata, Mapping):
            raise ValueError("trainingMetadata: must be an object")
        self._summaries = {name: Summary.from_dict(f"summaries[{name!r}]", each) for name, each in summaries.items()}
        self.training_metadata = dict(metadata)
        self.is_trained = True

    @abstractmethod
    def _summary(self, samples: Sequence[Sample]) -> Summary:
        """Return the summary of one sample or more."""

    @abstractmethod
    def _confidence(self, summary: Summary) -> float:
        """Return what the model claims, 0 to 1."""

    def _scale(self, summary: Summary, workload_size: Any) -> float:
        if workload_size is None:
            return 1.0
        size = size_of(workload_size)
        if size is None:
            raise ValueError(f"workload_size must be a finite number above 0, is {workload_size!r}")
        return size / (self.baseline_workload_size or summary.size or DEFAULT_WORKLOAD_SIZE)


class ByTypeConfig(pydantic.BaseModel):
    """What plugins of these models are configured with."""

    model_config = pydantic.ConfigDict(extra="forbid")

    baseline_workload_size: float | None = pydantic.Field(
        None, gt=0, allow_inf_nan=False, description="The workload_size that is taken for 1 time the typical values."
    )


class ByTypePlugin(MLPluginInterface):
    """A plugin of such a model, which learns from the history that comes with a request while it is not trained.

    A summary of 10,000 points takes a moment; a model that takes longer is better trained aside.
    """

    config_schema: ClassVar[type[pydantic.BaseModel] | None] = ByTypeConfig

    def __init__(self, metadata: PluginMetadata, model: ByTypeModel) -> None:
        super().__init__(metadata, model)
        self._own_baseline = model.baseline_workload_size

    def init(self, config: Mapping[str, Any] | None = None) -> None:
        """Make the plugin ready; without a baseline in the configuration the model keeps the one it was made with."""
        super().init(config)
        if isinstance(self.model, ByTypeModel):
            configured = self.config["baseline_workload_size"]
            self.model.baseline_workload_size = self._own_baseline if configured is None else configured

    def optimize(
        self, request_data: dict[str, Any], historical_data: list[WorkloadDataPoint] | None = None
    ) -> dict[str, Any]:
        """Answer a request, see `MLPluginInterface.optimize`; what is wrong with it is the answer's ``error``."""
        self._check_initialized()
        try:
            if not self.model.is_trained and historical_data and len(historical_data) >= MIN_TRAINING_POINTS:
                self.train_model(historical_data)
            return super().optimize(request_data, historical_data)
        except ValueError as error:
            return {"success": False, "error": str(error)}


def size_of(value: Any) -> float | None:
    """Return a workload's size, or None where the value is no finite number above 0."""
    return float(value) if _is_amount(value) and value > 0 else None


def _size_of_point(point: WorkloadDataPoint) -> float | None:
    # The operator keeps a request's fields in `request`; points that are made by hand have it where they like.
    fields = mapping_of(point.metadata, "request")
    return size_of(fields.get("workload_size", point.metadata.get("workload_size")))


def _is_amount(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf
