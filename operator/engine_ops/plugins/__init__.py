"""Plugins: what they are, which there are, and which of them a request goes to.

The names below are for plugin authors and for programs that use plugins. They are loaded on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine_ops.lazy import lazy_names

if TYPE_CHECKING:
    from engine_ops.plugins.base import BaseOptimizationPlugin, PluginError
    from engine_ops.plugins.config import PluginConfig
    from engine_ops.plugins.discovery import discover, register_installed
    from engine_ops.plugins.events import EventKind, PluginEvent
    from engine_ops.plugins.ml_plugin import MLOptimizationPlugin
    from engine_ops.plugins.registered import RegisteredPlugin
    from engine_ops.plugins.registry import PluginRegistry, plugin_registry
    from engine_ops.plugins.serving import serve

__all__ = [
    "BaseOptimizationPlugin",
    "EventKind",
    "MLOptimizationPlugin",
    "PluginConfig",
    "PluginError",
    "PluginEvent",
    "PluginRegistry",
    "RegisteredPlugin",
    "discover",
    "plugin_registry",
    "register_installed",
    "serve",
]

_HOMES = {
    "BaseOptimizationPlugin": "engine_ops.plugins.base",
    "EventKind": "engine_ops.plugins.events",
    "MLOptimizationPlugin": "engine_ops.plugins.ml_plugin",
    "PluginConfig": "engine_ops.plugins.config",
    "PluginError": "engine_ops.plugins.base",
    "PluginEvent": "engine_ops.plugins.events",
    "PluginRegistry": "engine_ops.plugins.registry",
    "RegisteredPlugin": "engine_ops.plugins.registered",
    "discover": "engine_ops.plugins.discovery",
    "plugin_registry": "engine_ops.plugins.registry",
    "register_installed": "engine_ops.plugins.discovery",
    "serve": "engine_ops.plugins.serving",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES, __all__)
