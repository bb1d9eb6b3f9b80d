"""Models that come with the engine: a naive one to compare with, and quantile boosting.

Each module has a model and a plugin of it. They are loaded on first use; numpy is all that predicting needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine_ops.ml.models.quantile_boosting import QuantileBoostingModel, QuantileBoostingPlugin
    from engine_ops.ml.models.seasonal_naive import SeasonalNaiveModel, SeasonalNaivePlugin

__all__ = ["QuantileBoostingModel", "QuantileBoostingPlugin", "SeasonalNaiveModel", "SeasonalNaivePlugin"]

_HOMES = {
    "QuantileBoostingModel": "engine_ops.ml.models.quantile_boosting",
    "QuantileBoostingPlugin": "engine_ops.ml.models.quantile_boosting",
    "SeasonalNaiveModel": "engine_ops.ml.models.seasonal_naive",
    "SeasonalNaivePlugin": "engine_ops.ml.models.seasonal_naive",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
