"""The base class of models that learn from the history."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence, Sized
from typing import Any, ClassVar, Final

from engine_ops.ml.data_point import WorkloadDataPoint
from engine_ops.ml.dataset import WorkloadDataset
from engine_ops.ml.features import FeatureSchema
from engine_ops.ml.growing import FollowedLags, GrowingHistory
from engine_ops.ml.lags import Lags
from engine_ops.ml.prediction import PredictionResult

MIN_TRAINING_POINTS: Final = 10
"""Points with a known label that a model needs at least."""


class BaseMLModel(ABC):
    """A model that is trained on data points and predicts what becomes of a request.

    A subclass writes `train`, and mostly `predict`. `train` sets ``is_trained`` when it is done.

    Parameters
    ----------
    model_id
        Identifies the model in results and statistics.

    Attributes
    ----------
    model_id : str
        As given.
    is_trained : bool
        Whether it can predict; False at first.
    training_metadata : dict
        What the model tells of its training, as JSON values; empty at first.
    feature_schema : FeatureSchema or None
        The columns of the feature vectors, fixed by the last `preprocess_data`. A model that saves its state keeps it
        there (`FeatureSchema.to_dict`).
    feature_names : sequence of str or None
        The names of the columns, set along with it. A model with features of its own sets it itself.
    """

    missing_value: ClassVar[float] = -1.0
    """What stands in a feature vector for a value that is not known.

    Clock, counts, durations and requested amounts are never negative, so a tree can tell -1 from all of them, and an
    algorithm that takes no NaN (linear models, networks, random forests before scikit-learn 1.4) takes it. A model
    whose algorithm understands NaN sets ``math.nan``.
    """

    def __init__(self, model_id: str) -> None:
        self.model_id = model_id
        self.is_trained = False
        self.training_metadata: dict[str, Any] = {}
        self.feature_schema: FeatureSchema | None = None
        self.feature_names: Sequence[str] | None = None
        self._history: Iterable[WorkloadDataPoint] | Lags | None = None
        self._trained_on: WorkloadDataset | None = None
        self._followed = FollowedLags()

    @abstractmethod
    def train(self, data: list[WorkloadDataPoint]) -> None:
        """Learn from data points, and set ``is_trained``.

        Parameters
        ----------
        data
            What happened, in any order.

        Raises
        ------
        ValueError
            If they are too few, see `validate_training_data`.
        """

    def predict(self, input_data: dict[str, Any]) -> PredictionResult:
        """Predict what becomes of a request.

        Parameters
        ----------
        input_data
            The request's data, and beside it ``type`` and ``constraints``. It must not be changed.

        Raises
        ------
        NotImplementedError
            If the model has no `predict`.
        RuntimeError
            If it is not trained.
        """
        raise NotImplementedError(f"model {self.model_id!r} ({type(self).__name__}) has no predict method")

    def get_metadata(self) -> dict[str, Any]:
        """Return ``model_id``, ``is_trained`` and ``training_metadata``."""
        return {
            "model_id": self.model_id,
            "is_trained": self.is_trained,
            "training_metadata": dict(self.training_metadata),
        }

    def validate_training_data(self, data: Iterable[WorkloadDataPoint] | None, target: str = "success") -> bool:
        """Return whether there is enough to learn from.

        That is so where every element is a `WorkloadDataPoint`, and at least `MIN_TRAINING_POINTS` of them are sane
        and have the label. A point is sane if neither its duration nor an amount of its usage is negative or infinite;
        NaN, not known, is no fault. One whose outcome nobody saw has no label.

        Parameters
        ----------
        data
            The points. What is none gives False, not an exception.
        target
            The label that the model learns, see `preprocess_data`.

        Raises
        ------
        ValueError
            If the target is unknown.
        """
        points: object = data  # types are not checked where a plugin calls this
        if not isinstance(points, Iterable):
            return False
        given = list(points)
        if not all(isinstance(point, WorkloadDataPoint) for point in given):
            return False
        return len(_sane(given).labelled(target)) >= MIN_TRAINING_POINTS

    def preprocess_data(
        self, data: Iterable[WorkloadDataPoint], target: str = "success"
    ) -> tuple[list[list[float]], list[float]]:
        """Return features and labels that scikit-learn and its like take as they are.

        Every number in them is finite: a missing feature is `missing_value`, and points that are not sane or do not
        have the label (`validate_training_data`) are left out. The features are what was known when each request was
        made (`WorkloadDataset.to_features_labels`); no outcome of the point itself is among them. ``feature_schema``
        and ``feature_names`` are set, and `feature_vector` then builds the same columns for a request.

        Parameters
        ----------
        data
            The points, in any order.
        target
            What the label is: ``success`` (1 or 0), ``duration`` (ms), or ``usage:<resource>``, such as ``usage:cpu``.

        Returns
        -------
        tuple
            Features, one list a point with one number for each of ``feature_names``; and labels, one number a point.
            Both are in the order of the points.

        Raises
        ------
        TypeError
            If an element is no `WorkloadDataPoint`; the message says which.
        ValueError
            If the target is unknown.
        """
        dataset = _sane(data)
        features, labels = dataset.to_features_labels(target)
        self.feature_schema = dataset.schema
        self.feature_names = dataset.feature_names()
        # Lags are made of it when they are first needed: many models never do.
        self._trained_on, self._history = dataset, None
        return [self._filled(vector) for vector in features], labels

    def feature_vector(
        self, input_data: Mapping[str, Any], historical_data: Iterable[WorkloadDataPoint] | Lags | None = None
    ) -> list[float]:
        """Return the features of a request, in the columns that the model was trained with.

        Parameters
        ----------
        input_data
            The request, as `predict` gets it; further keys are those of `WorkloadDataset.features`.
        historical_data
            Outcomes to take the lags from. Without it, those that `use_history` was given last; without any, those
            that the model was trained on. Points are gone through at each call (some 20 us each), `Lags` are looked up;
            of a `GrowingHistory`, which is what plugins get in their process, only new points are gone through.

        Returns
        -------
        list of float
            One number for each of ``feature_names``; `missing_value` where it is not known.

        Raises
        ------
        RuntimeError
            If there is no ``feature_schema`` yet.
        TypeError, ValueError
            If the request's type or timestamp is wrong.
        """
        if self.feature_schema is None:
            raise RuntimeError(f"model {self.model_id!r} has no feature schema: call preprocess_data first")
        # Constraints are no field of the data, and so in no point's features either. A type may be missing where
        # a plugin is called by hand.
        request = {"type": "", **{key: value for key, value in input_data.items() if key != "constraints"}}
        dataset = WorkloadDataset()
        dataset.schema = self.feature_schema
        history = historical_data if historical_data is not None else self._known()
        if isinstance(history, GrowingHistory):
            history = self._followed.of(history)
        return self._filled(dataset.features(request, history))

    def use_history(self, historical_data: Iterable[WorkloadDataPoint] | Lags | None) -> None:
        """Take lags from these outcomes from now on, in `feature_vector`.

        `MLPluginInterface.optimize` calls it before each prediction. Where it was never called, lags come from what
        the model was trained on, and grow old with it.

        Parameters
        ----------
        historical_data
            What is known by now; read when it is needed. None and no points at all change nothing: what the model was
            trained on is more.
        """
        if historical_data is None or (isinstance(historical_data, Sized) and not len(historical_data)):
            return
        self._history = historical_data

    def save(self) -> dict[str, Any] | None:
        """Return the trained state, or None where the model has no saved form and is trained again instead.

        Returns
        -------
        dict or None
            Strings to JSON values (no NaN) or numpy arrays of numbers, nested as needed; never a pickle, for that is
            code which would run where it is loaded.
        """
        return None

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over what `save` returned, ``is_trained``, ``training_metadata`` and ``feature_schema`` included.

        Raises
        ------
        NotImplementedError
            If the model has no saved form.
        ValueError
            If the state is none of this model's.
        """
        raise NotImplementedError(f"model {self.model_id!r} ({type(self).__name__}) has no load method")

    def _known(self) -> Iterable[WorkloadDataPoint] | Lags | None:
        if self._history is None and self._trained_on is not None:
            self._history, self._trained_on = self._trained_on.lags(), None
        return self._history

    def _filled(self, vector: list[float]) -> list[float]:
        return [self.missing_value if math.isnan(value) else value for value in vector]


def _sane(data: Iterable[WorkloadDataPoint]) -> WorkloadDataset:
    # The whole first: it raises where an element is no data point.
    return WorkloadDataset(point for point in WorkloadDataset(data) if _is_sane(point))


def _is_sane(point: WorkloadDataPoint) -> bool:
    return not any(amount < 0 or math.isinf(amount) for amount in (point.duration, *point.resource_usage.values()))
