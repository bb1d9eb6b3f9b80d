"""A plugin made of any model."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from engine_ops.api.reasons import Reason
from engine_ops.engine.request import OptimizationRequest, OptimizationResult
from engine_ops.ml.plugin_interface import PluginMetadata
from engine_ops.plugins.base import BaseOptimizationPlugin

if TYPE_CHECKING:
    from engine_ops.ml.base_model import BaseMLModel
    from engine_ops.ml.data_point import WorkloadDataPoint


class MLOptimizationPlugin(BaseOptimizationPlugin):
    """Answers with what a model predicts; says no while the model is not trained.

    It never trains inside a request: `train_model` does, and whoever runs the plugin decides when.

    Parameters
    ----------
    model
        Predicts from a request's ``data`` plus its ``type`` and ``constraints``.
    metadata
        Of the plugin; unless given it has the model's ``model_id`` as its name, and is for every type.
    """

    def __init__(self, model: BaseMLModel, metadata: PluginMetadata | None = None) -> None:
        self.model = model
        self.metadata = metadata if metadata is not None else _metadata_of(model)

    def train_model(self, data: Sequence[WorkloadDataPoint]) -> None:
        """Train the model.

        Parameters
        ----------
        data
            What happened, oldest first.

        Raises
        ------
        RuntimeError
            If `init` was not called.
        Exception
            Whatever the model raises.
        """
        self._check_initialized()
        self.model.train(list(data))

    def optimize(
        self, request: OptimizationRequest, historical_data: Sequence[WorkloadDataPoint] | None = None
    ) -> OptimizationResult:
        """Return the model's prediction as the result.

        Parameters
        ----------
        request
            The question.
        historical_data
            What happened so far; the model takes its lags from it.

        Returns
        -------
        OptimizationResult
            The prediction; one that is no mapping stands under ``prediction``. ``success=False`` with reason
            NotEnoughData while the model is not trained, with NoPlugin where it has no ``predict``.

        Raises
        ------
        RuntimeError
            If `init` was not called.
        Exception
            Whatever the model raises.
        """
        self._check_initialized()
        if not self.model.is_trained:
            return self.refuse(request, f"model {self.model.model_id!r} is not trained")
        started = time.monotonic()
        self.model.use_history(historical_data)
        try:
            predicted = self.model.predict(_input_of(request))
        except NotImplementedError as error:
            return self.refuse(request, str(error), reason=Reason.NO_PLUGIN)
        value: object = predicted.prediction
        return self.answer(
            request,
            value if isinstance(value, Mapping) else {"prediction": value},
            algorithm=predicted.model_id,
            duration_ms=round((time.monotonic() - started) * 1000),
        )

    def _check_initialized(self) -> None:
        if not self.is_initialized:
            raise RuntimeError(f"plugin {self.metadata.name!r} is not initialized: call init() first")


def _metadata_of(model: BaseMLModel) -> PluginMetadata:
    return PluginMetadata(
        name=model.model_id,
        version="0",
        description=f"Predictions of {type(model).__name__}",
    )


def _input_of(request: OptimizationRequest) -> dict[str, Any]:
    return {**request.data, "type": request.type, "constraints": dict(request.constraints or {})}
