"""Models that come with the engine: a naive one to compare with, and quantile boosting.

Each module has a model and a plugin of it. They are loaded on first use; numpy is all that predicting needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine_ops.lazy import lazy_names

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

__getattr__, __dir__ = lazy_names(__name__, _HOMES, __all__)
