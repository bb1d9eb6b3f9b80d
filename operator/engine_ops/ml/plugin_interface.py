"""The base class of plugins that have a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from engine_ops.ml.base_model import BaseMLModel
from engine_ops.ml.data_point import WorkloadDataPoint
from engine_ops.ml.prediction import PredictionResult

if TYPE_CHECKING:
    import pydantic


@dataclasses.dataclass
class PluginMetadata:
    """What a plugin says of itself.

    Parameters
    ----------
    name
        Its name, such as ``my-plugin``.
    version
        Its version, such as ``1.0.0``.
    description
        What it does, in a sentence.
    author
        Who wrote it.
    supported_types
        The types of request that it can handle, such as ``ml-driven``; None for every type.
    """

    name: str
    version: str
    description: str
    author: str | None = None
    supported_types: Sequence[str] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values, under the names of the parameters."""
        types = None if self.supported_types is None else list(self.supported_types)
        return {**dataclasses.asdict(self), "supported_types": types}


class MLPluginInterface:
    """A plugin made of a model.

    It works as it is: what the model predicts is the answer. A subclass that wants more writes `optimize`.

    Parameters
    ----------
    metadata
        What the plugin says of itself.
    model
        The model, trained or not.

    Attributes
    ----------
    metadata, model
        As given.
    config : dict
        The configuration of the last `init`; empty before it.
    is_initialized : bool
        Whether `init` was called, and `shutdown` not since.
    """

    config_schema: ClassVar[type[pydantic.BaseModel] | None] = None
    """The shape of the configuration, or None where anything goes. `init` checks against it and fills in defaults."""

    def __init__(self, metadata: PluginMetadata, model: BaseMLModel) -> None:
        self.metadata = metadata
        self.model = model
        self.config: dict[str, Any] = {}
        self.is_initialized = False

    def init(self, config: Mapping[str, Any] | None = None) -> None:
        """Make the plugin ready; called again, it takes another configuration and keeps the model.

        Parameters
        ----------
        config
            The configuration; None is an empty one.

        Raises
        ------
        pydantic.ValidationError
            If `config_schema` rejects it; the configuration before it stays. A ``ValueError`` that names the field.
        """
        given = dict(config) if config is not None else {}
        schema = self.config_schema
        self.config = given if schema is None else schema.model_validate(given).model_dump()
        self.is_initialized = True

    def can_handle(self, request_type: str) -> bool:
        """Return whether the plugin takes requests of a type: by default one of its ``supported_types``."""
        types = self.metadata.supported_types
        return types is None or request_type in types

    def optimize(
        self, request_data: dict[str, Any], historical_data: list[WorkloadDataPoint] | None = None
    ) -> dict[str, Any]:
        """Answer a request: by default with what the model predicts.

        Parameters
        ----------
        request_data
            The request's data, and beside it ``type`` and ``constraints``. It must not be changed.
        historical_data
            What happened until now; None where no history is kept. The model takes its lags from it. Nothing is
            trained here: training takes too long for a request, and is done aside.

        Returns
        -------
        dict
            ``success`` true, ``result`` (the prediction), ``confidence`` and ``model_id``; or ``success`` false and
            ``error``, a sentence, where the model is not trained or makes no predictions.

        Raises
        ------
        RuntimeError
            If the plugin is not initialised.
        """
        self._check_initialized()
        if not self.model.is_trained:
            return {"success": False, "error": "Model not trained"}
        self.model.use_history(historical_data)
        try:
            answer = self.predict(request_data)
        except NotImplementedError as error:
            return {"success": False, "error": str(error)}
        return {
            "success": True,
            "result": answer.prediction,
            "confidence": answer.confidence,
            "model_id": answer.model_id,
        }

    def train_model(self, data: list[WorkloadDataPoint]) -> None:
        """Train the model.

        Raises
        ------
        RuntimeError
            If the plugin is not initialised.
        ValueError
            If the model finds the data wanting.
        """
        self._check_initialized()
        self.model.train(data)

    def predict(self, request_data: dict[str, Any]) -> PredictionResult:
        """Return the model's prediction for a request.

        Raises
        ------
        RuntimeError
            If the plugin is not initialised, or its model not trained.
        """
        self._check_initialized()
        return self.model.predict(request_data)

    def get_info(self) -> dict[str, Any]:
        """Return ``plugin`` (the metadata), ``model`` (`BaseMLModel.get_metadata`) and ``is_initialized``."""
        return {
            "plugin": self.metadata.to_dict(),
            "model": self.model.get_metadata(),
            "is_initialized": self.is_initialized,
        }

    def shutdown(self) -> None:
        """End the use of the plugin; called twice, it does nothing more. The model stays as it is."""
        self.is_initialized = False

    def _check_initialized(self) -> None:
        if not self.is_initialized:
            raise RuntimeError(f"plugin {self.metadata.name!r} is not initialized: call init() first")
