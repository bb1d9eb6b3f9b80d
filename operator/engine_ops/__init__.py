"""Engine-Ops: optimisation questions as Kubernetes resources, answered with proof of their quality.

The names below are the public SDK. They are loaded on first use, so that importing the package stays light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine_ops.lazy import lazy_names

if TYPE_CHECKING:
    from engine_ops.client.aio import AsyncEngineOpsClient
    from engine_ops.client.sync import EngineOpsClient
    from engine_ops.engine.config import EngineConfig
    from engine_ops.engine.request import OptimizationMetrics, OptimizationRequest, OptimizationResult, SolvedBy
    from engine_ops.library import OptimizationEngine
    from engine_ops.plugins.config import PluginConfig
    from engine_ops.plugins.registry import plugin_registry

__version__ = "0.1.0"

__all__ = [
    "AsyncEngineOpsClient",
    "EngineConfig",
    "EngineOpsClient",
    "OptimizationEngine",
    "OptimizationMetrics",
    "OptimizationRequest",
    "OptimizationResult",
    "PluginConfig",
    "SolvedBy",
    "__version__",
    "plugin_registry",
]

_HOMES = {
    "AsyncEngineOpsClient": "engine_ops.client.aio",
    "EngineConfig": "engine_ops.engine.config",
    "EngineOpsClient": "engine_ops.client.sync",
    "OptimizationEngine": "engine_ops.library",
    "OptimizationMetrics": "engine_ops.engine.request",
    "OptimizationRequest": "engine_ops.engine.request",
    "OptimizationResult": "engine_ops.engine.request",
    "PluginConfig": "engine_ops.plugins.config",
    "SolvedBy": "engine_ops.engine.request",
    "plugin_registry": "engine_ops.plugins.registry",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES, __all__)
