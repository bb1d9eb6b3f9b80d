"""The SDK for plugin authors: what happened, as data that a model can learn from.

Importing it loads neither kopf nor a Kubernetes client nor scikit-learn.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine_ops.ml.data_point import WorkloadDataPoint
    from engine_ops.ml.dataset import WorkloadDataset

__all__ = ["WorkloadDataPoint", "WorkloadDataset"]

_HOMES = {
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
