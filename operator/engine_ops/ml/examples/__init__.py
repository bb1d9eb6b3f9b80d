"""Two small models to use as they are, or to begin one's own from. They need no numpy."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

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


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
