"""Quantiles of durations and usage by gradient boosting."""

from __future__ import annotations

import importlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

import pydantic

from engine_ops.ml.base_model import MIN_TRAINING_POINTS
from engine_ops.ml.data_point import WorkloadDataPoint
from engine_ops.ml.growing import GrowingHistory
from engine_ops.ml.keys import outcome_of
from engine_ops.ml.lags import Lags
from engine_ops.ml.models import boosting_state
from engine_ops.ml.models.flat_trees import FlatTrees
from engine_ops.ml.models.remembering import RememberingModel
from engine_ops.ml.plugin_interface import MLPluginInterface, PluginMetadata
from engine_ops.ml.prediction import PredictionResult
from engine_ops.ml.scoring import DURATION, from_logarithm, nested, resource_key, to_logarithm

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

QUANTILES: Final = (0.1, 0.5, 0.9)

_DURATION: Final = "duration"
_MAX_RESOURCES: Final = 3
_ITERATIONS: Final = 80
_LEAVES: Final = 16


class QuantileBoostingModel(RememberingModel):
    """Predicts quantiles of how long a workload takes, and of what it uses.

    One ensemble of trees for each target and quantile, fitted with the pinball loss to the logarithm of the target
    (histogram gradient boosting, Ke et al., LightGBM, 2017, as scikit-learn implements it), on the features of
    `WorkloadDataset.to_features_labels`. Ensembles that are fitted apart may cross; the predicted quantiles of a target
    are therefore sorted, after which they never do, and their pinball loss is no larger than before (Chernozhukov,
    Fernández-Val and Galichon, Quantile and Probability Curves Without Crossing, Econometrica 2010).

    Fitting needs scikit-learn; predicting and loading need numpy alone.

    Parameters
    ----------
    model_id
        Identifies the model.
    targets
        ``duration`` and ``usage:<resource>``; None for the duration and the three most frequent resources, those that
        10 points or more have.
    quantiles
        Rising, between 0 and 1, the median among them.
    recommend
        The quantile that ``recommended_resources`` are: one of ``quantiles``. The median is what they are scored by;
        a higher one leaves room.
    seed
        Of scikit-learn's random numbers.

    Raises
    ------
    ValueError
        If the quantiles are not as described.
    """

    missing_value: ClassVar[float] = math.nan

    def __init__(
        self,
        model_id: str = "quantile-boosting",
        *,
        targets: Sequence[str] | None = None,
        quantiles: Sequence[float] = QUANTILES,
        recommend: float = 0.5,
        seed: int = 0,
    ) -> None:
        super().__init__(model_id)
        self.targets = None if targets is None else tuple(targets)
        self.quantiles = boosting_state.checked_quantiles(quantiles)
        self.recommend = boosting_state.checked_recommend(recommend, self.quantiles)
        self.seed = seed
        self._trees: FlatTrees | None = None
        self._keys: tuple[str, ...] = ()

    def train(self, data: Iterable[WorkloadDataPoint]) -> None:
        """Fit the ensembles, and keep the outcomes for the lags of predictions.

        Parameters
        ----------
        data
            The points, in any order.

        Raises
        ------
        ValueError
            If no target has 10 sane points, or one of ``targets`` has fewer; the message names it.
        ImportError
            If scikit-learn is not installed.
        """
        points = list(data)
        targets = self._able_targets(points) if self.targets is None else self.targets
        for target in targets or (_DURATION,):
            if not self.validate_training_data(points, target):
                raise ValueError(f"at least {MIN_TRAINING_POINTS} sane data points with a known {target} are needed")
        try:
            regressor = importlib.import_module("sklearn.ensemble").HistGradientBoostingRegressor
            threads = importlib.import_module("threadpoolctl")  # comes with scikit-learn
        except ImportError as error:
            raise ImportError("training needs scikit-learn: pip install 'engine-ops[ml]'") from error
        fitted, samples = [], {}
        for target in targets:
            features, labels = self._arrays(points, target)
            samples[target] = len(labels)
            # More threads than free processors wait for each other actively: a fit of 40 points then takes seconds.
            with threads.threadpool_limits(1):
                fitted += [self._fitted(regressor, features, labels, quantile) for quantile in self.quantiles]
        self._trees = FlatTrees.of_boosting(fitted)
        self._keys = tuple(_key(target) for target in targets)
        self.use_history(data if isinstance(data, GrowingHistory) else points)
        self.training_metadata = {
            "training_samples": len(points),
            "model_type": "quantile-boosting",
            "samples_by_target": samples,
            "quantiles": list(self.quantiles),
        }
        self.is_trained = True

    def predict(self, input_data: Mapping[str, Any]) -> PredictionResult:
        """Predict all targets of a request.

        Parameters
        ----------
        input_data
            The request's data, ``type``, and what `WorkloadDataset.features` takes beside them.

        Returns
        -------
        PredictionResult
            ``expected_duration``, the median in milliseconds, and ``recommended_resources``, where they are targets;
            ``quantiles``, scored key to quantile to value, which rise with the quantile. No confidence is claimed.

        Raises
        ------
        RuntimeError
            If it is not trained.
        """
        if self._trees is None:
            raise RuntimeError(f"model {self.model_id!r} is not trained")
        (by_key,) = self.predict_quantiles([self.feature_vector(input_data)])
        chosen = {key: values[0.5 if key == DURATION else self.recommend] for key, values in by_key.items()}
        quantiles = {key: {str(quantile): value for quantile, value in each.items()} for key, each in by_key.items()}
        return PredictionResult({**nested(chosen), "quantiles": quantiles}, None, self.model_id)

    def predict_quantiles(self, vectors: npt.ArrayLike) -> list[dict[str, dict[float, float]]]:
        """Return scored key to quantile to value, for each feature vector; values rise with the quantile.

        Parameters
        ----------
        vectors
            Shape (rows, columns), in the columns of ``feature_names``; NaN where a value is missing.

        Raises
        ------
        RuntimeError
            If it is not trained.
        ValueError
            If the shape is another, or a value infinite.
        """
        import numpy as np

        if self._trees is None:
            raise RuntimeError(f"model {self.model_id!r} is not trained")
        sums = self._trees.predict(vectors).reshape(-1, len(self._keys), len(self.quantiles))
        rows: list[list[list[float]]] = np.sort(sums, axis=2).tolist()
        return [
            {
                key: {q: from_logarithm(key, value) for q, value in zip(self.quantiles, values, strict=True)}
                for key, values in zip(self._keys, row, strict=True)
            }
            for row in rows
        ]

    def save(self) -> dict[str, Any] | None:
        """Return the trained state, arrays and JSON values; None before training.

        The outcomes that lags are taken of are no part of it: after `load` they come with `use_history`.
        """
        if self._trees is None or self.feature_schema is None:
            return None
        return {
            "format": boosting_state.FORMAT,
            "schema": self.feature_schema.to_dict(),
            "keys": list(self._keys),
            "quantiles": list(self.quantiles),
            "recommend": self.recommend,
            "trees": self._trees.to_arrays(),
            "trainingMetadata": dict(self.training_metadata),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over what `save` returned.

        Raises
        ------
        ValueError
            If it is none of this model's states; the message says where, and the model is as before.
        """
        read = boosting_state.read(state)
        self.feature_schema, self.feature_names = read.schema, read.schema.names()
        self.quantiles, self.recommend = read.quantiles, read.recommend
        self._trees, self._keys = read.trees, read.keys
        self.training_metadata = read.training_metadata
        self.is_trained = True

    def _digest(self, points: Iterable[WorkloadDataPoint]) -> None:
        self._history = Lags(points)

    def _extend(self, points: Iterable[WorkloadDataPoint], gone: int) -> bool:
        if not isinstance(self._history, Lags):
            return False
        self._history.extend(points)
        self._history.forget(gone)
        return True

    def _able_targets(self, points: Sequence[WorkloadDataPoint]) -> tuple[str, ...]:
        resources = Counter(name for point in points for name in outcome_of(point).usage)
        most = sorted(resources, key=lambda name: (-resources[name], name))[:_MAX_RESOURCES]
        able = (_DURATION, *(f"usage:{name}" for name in most))
        return tuple(target for target in able if self.validate_training_data(points, target))

    def _arrays(
        self, points: Sequence[WorkloadDataPoint], target: str
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        import numpy as np

        vectors, labels = self.preprocess_data(points, target)
        key = _key(target)
        features = np.array(vectors)
        # scikit-learn finds no bins in a column without a value. No tree ever splits one that is constant.
        features[:, np.isnan(features).all(axis=0)] = 0.0
        return features, np.array([to_logarithm(key, label) for label in labels])

    def _fitted(
        self, regressor: Any, features: npt.NDArray[np.float64], labels: npt.NDArray[np.float64], quantile: float
    ) -> Any:
        # No early stopping: scikit-learn sets points aside at random, whatever came first.
        return regressor(
            loss="quantile",
            quantile=quantile,
            max_iter=_ITERATIONS,
            max_leaf_nodes=_LEAVES,
            early_stopping=False,
            random_state=self.seed,
        ).fit(features, labels)


class QuantileBoostingConfig(pydantic.BaseModel):
    """What a `QuantileBoostingPlugin` is configured with: see `QuantileBoostingModel`."""

    model_config = pydantic.ConfigDict(extra="forbid")

    targets: list[str] | None = pydantic.Field(None, min_length=1, max_length=8)
    quantiles: list[float] = pydantic.Field(list(QUANTILES), min_length=1, max_length=9)
    recommend: float = 0.5

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> QuantileBoostingConfig:
        boosting_state.checked_recommend(self.recommend, boosting_state.checked_quantiles(self.quantiles))
        for target in self.targets or ():
            _key(target)
        return self


class QuantileBoostingPlugin(MLPluginInterface):
    """A plugin of the boosting model, for every type."""

    config_schema: ClassVar[type[pydantic.BaseModel] | None] = QuantileBoostingConfig

    def __init__(self) -> None:
        metadata = PluginMetadata("quantile-boosting", "1.0.0", "Quantiles of durations and usage by gradient boosting")
        super().__init__(metadata, QuantileBoostingModel())

    def init(self, config: Mapping[str, Any] | None = None) -> None:
        """Make the plugin ready; a configuration that differs from the model's own replaces it by an untrained one."""
        super().init(config)
        other = QuantileBoostingModel(self.model.model_id, **self.config)
        model = self.model
        names = ("targets", "quantiles", "recommend")
        if any(getattr(model, name, None) != getattr(other, name) for name in names):
            self.model = other


def _key(target: str) -> str:
    if target == _DURATION:
        return DURATION
    resource = target.removeprefix("usage:")
    if resource == target or not resource:
        raise ValueError(f"a target must be duration or usage:<resource>, such as usage:cpu, not {target!r}")
    return resource_key(resource)
