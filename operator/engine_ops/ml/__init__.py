"""The SDK for plugin authors: models and plugins, and what happened, as data that they can learn from.

Importing it loads neither kopf nor a Kubernetes client nor scikit-learn.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine_ops.ml.base_model import BaseMLModel
    from engine_ops.ml.data_point import WorkloadDataPoint
    from engine_ops.ml.dataset import WorkloadDataset
    from engine_ops.ml.plugin_interface import MLPluginInterface, PluginMetadata
    from engine_ops.ml.prediction import PredictionResult

__all__ = [
    "BaseMLModel",
    "MLPluginInterface",
    "PluginMetadata",
    "PredictionResult",
    "WorkloadDataPoint",
    "WorkloadDataset",
]

_HOMES = {
    "BaseMLModel": "engine_ops.ml.base_model",
    "MLPluginInterface": "engine_ops.ml.plugin_interface",
    "PluginMetadata": "engine_ops.ml.plugin_interface",
    "PredictionResult": "engine_ops.ml.prediction",
    "WorkloadDataPoint": "engine_ops.ml.data_point",
    "WorkloadDataset": "engine_ops.ml.dataset",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
