"""Two small models to use as they are, or to begin one's own from. They need no numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine_ops.lazy import lazy_names

if TYPE_CHECKING:
    from engine_ops.ml.examples.resource_optimizer import ResourceOptimizerModel, ResourceOptimizerPlugin
    from engine_ops.ml.examples.simple_predictor import SimplePredictorModel, SimplePredictorPlugin

__all__ = ["ResourceOptimizerModel", "ResourceOptimizerPlugin", "SimplePredictorModel", "SimplePredictorPlugin"]

_HOMES = {
    "ResourceOptimizerModel": "engine_ops.ml.examples.resource_optimizer",
    "ResourceOptimizerPlugin": "engine_ops.ml.examples.resource_optimizer",
    "SimplePredictorModel": "engine_ops.ml.examples.simple_predictor",
    "SimplePredictorPlugin": "engine_ops.ml.examples.simple_predictor",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES, __all__)
