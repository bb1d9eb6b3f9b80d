"""The SDK for plugin authors: models and plugins, and what happened, as data that they can learn from.

Importing it loads neither kopf nor a Kubernetes client nor scikit-learn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine_ops.lazy import lazy_names

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

__getattr__, __dir__ = lazy_names(__name__, _HOMES, __all__)
