"""Stands in the registry for a plugin that runs elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from engine_ops.engine.request import OptimizationRequest, OptimizationResult
from engine_ops.ml.plugin_interface import PluginMetadata
from engine_ops.plugins.base import BaseOptimizationPlugin, PluginError
from engine_ops.plugins.hosted import HostedPlugin

if TYPE_CHECKING:
    from engine_ops.ml.data_point import WorkloadDataPoint


class RemotePlugin(BaseOptimizationPlugin):
    """A plugin in a process or a service of its own, so that the registry can say when it is asked.

    Priority, ties, types, and whether it is enabled are the registry's. Nothing of the plugin's own code runs here: it
    is asked through `HostedPlugin.ask`.

    Parameters
    ----------
    hosted
        The plugin.
    """

    def __init__(self, hosted: HostedPlugin) -> None:
        self.hosted = hosted

    @property
    def metadata(self) -> PluginMetadata:  # type: ignore[override]  # it is known once the plugin has started
        """What the plugin says of itself; under its name here, with nothing else, while it cannot be asked."""
        opened = self.hosted.opened
        if opened is None:
            return PluginMetadata(self.hosted.name, "", "", supported_types=())
        return PluginMetadata(self.hosted.name, opened.version, opened.description, opened.author, opened.types)

    def can_handle(self, request: OptimizationRequest) -> bool:
        """Return whether the plugin runs, and takes requests of the type."""
        return self.hosted.can_handle(request.type)

    def optimize(
        self, request: OptimizationRequest, historical_data: Sequence[WorkloadDataPoint] | None = None
    ) -> OptimizationResult:
        """Raise `PluginError`: the plugin is elsewhere, and asked without waiting."""
        del request, historical_data
        raise PluginError(f"plugin {self.hosted.name!r} runs in a process of its own and is not called here")
