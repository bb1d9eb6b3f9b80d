"""The plugins of one machine: those of installed packages, each in a process of the plugin host."""

from __future__ import annotations

import asyncio
import importlib.metadata
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import pydantic

from engine_ops.api.faults import faults_of
from engine_ops.api.optimizerplugin import OptimizerPluginSpec
from engine_ops.api.plugin_change import PluginChange
from engine_ops.controllers.plugin_running import HistoryPoints, HostOnDemand, close_plugins, listen
from engine_ops.history.feed import HistoryFeed
from engine_ops.history.log import HistoryLog
from engine_ops.plugins.discovery import GROUP
from engine_ops.plugins.host.client import HostClient
from engine_ops.plugins.instance import Instance
from engine_ops.plugins.kept_settings import KeptPlugin, KeptSettings, SettingsError
from engine_ops.plugins.manager import PluginManager
from engine_ops.plugins.model_store import DirectoryModelStore
from engine_ops.plugins.process_instance import ProcessInstance
from engine_ops.plugins.registry import PluginRegistry
from engine_ops.server.callers import AccessUnavailable, Caller
from engine_ops.server.plugin_changes import PluginChangeRefused, PluginNotFound

logger = logging.getLogger(__name__)


class LocalPlugins:
    """Runs the plugins of this machine. To be made on the engine's loop.

    Parameters
    ----------
    log
        Of the history that they learn from.
    settings
        What the user has changed.
    models
        Where models are kept; None to keep them as long as the process lives.
    offered
        Name to ``package.module:Class``; None for what installed packages offer.
    """

    def __init__(
        self, log: HistoryLog, settings: KeptSettings, models: Path | None, offered: Mapping[str, str] | None = None
    ) -> None:
        self._log = log
        self._settings = settings
        self._offered = installed() if offered is None else dict(offered)
        self._feed = HistoryFeed(log.collector)
        self._host = HostOnDemand(HostClient.subprocess())
        self._changing = asyncio.Lock()
        self.manager = PluginManager(
            PluginRegistry(),
            make_instance=self._make_instance,
            history=HistoryPoints(log),
            store=None if models is None else DirectoryModelStore(models),
        )
        listen(log, self.manager)

    async def begin(self) -> None:
        """Run the plugins as the settings say, with the baseline of the history so far."""
        for name, entry_point in self._offered.items():
            try:
                await self.manager.apply(name, spec_of(entry_point, self._settings.get(name)))
            except ValueError as error:  # pydantic's too
                logger.warning("plugin %s (%s) is left out: %s", name, entry_point, error)
        await self.manager.warm(self._log.collector.select().points())

    async def change(self, name: str, change: PluginChange) -> None:
        """Change a plugin's settings, in the file and then in what runs.

        Raises
        ------
        PluginNotFound
            If there is none of this name.
        PluginChangeRefused
            If a value is wrong.
        AccessUnavailable
            If the settings cannot be written; nothing is changed then.
        """
        async with self._changing:
            if self.manager.get(name) is None:
                raise PluginNotFound(name)
            kept = self._settings.get(name)
            new = KeptPlugin(
                kept.enabled if change.enabled is None else change.enabled,
                kept.priority if change.priority is None else change.priority,
                kept.config if change.config is None else dict(change.config),
            )
            try:
                spec = spec_of(self._offered[name], new)
            except pydantic.ValidationError as error:
                found = [(fault.path, fault.message) for fault in faults_of(error)]
                raise PluginChangeRefused(422, "The settings are not valid.", found) from None
            if new != kept:
                try:
                    await asyncio.to_thread(self._settings.keep, name, new)
                except SettingsError as error:
                    raise AccessUnavailable(f"The settings of plugins cannot be written: {error}") from None
            await self.manager.apply(name, spec)

    async def close(self) -> None:
        """End the plugins and their host; a plugin that is asked just then has a moment."""
        await close_plugins(self.manager, self._host)

    def _make_instance(
        self, name: str, spec: OptimizerPluginSpec, state: bytes, on_change: Callable[[], None]
    ) -> Instance:
        if spec.source.entry_point is None:
            raise AssertionError("here plugins have entry points only")
        config = msgspec.json.encode(spec.config or {})
        return ProcessInstance(
            self._host, spec.source.entry_point, name, config, spec.limits, self._feed, state, on_change
        )


class LocalSwitch:
    """Changes plugins of this machine; see `engine_ops.server.plugin_changes.PluginSwitch`.

    Parameters
    ----------
    plugins
        The plugins.
    loop
        The engine's.
    """

    def __init__(self, plugins: LocalPlugins, loop: asyncio.AbstractEventLoop) -> None:
        self._plugins = plugins
        self._loop = loop

    async def change(self, caller: Caller, name: str, change: PluginChange, *, force: bool) -> None:
        """Change a plugin: there is one user, and no other manager."""
        del caller, force
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._plugins.change(name, change), self._loop))


def installed() -> dict[str, str]:
    """Return what installed packages offer: name to ``package.module:Class``. No code of theirs is run."""
    offered: dict[str, str] = {}
    for each in importlib.metadata.entry_points(group=GROUP):
        # What stands after the class are extras, which say what to install, not where the class is.
        entry_point = each.value.partition("[")[0].strip()
        if offered.setdefault(each.name, entry_point) != entry_point:
            logger.warning("%s is left out: plugin %s is %s", each.value, each.name, offered[each.name])
    return dict(sorted(offered.items()))


def spec_of(entry_point: str, kept: KeptPlugin) -> OptimizerPluginSpec:
    """Return the spec of an OptimizerPlugin that says the same.

    Raises
    ------
    pydantic.ValidationError
        If a value is wrong.
    """
    given = {"enabled": kept.enabled, "priority": kept.priority, "config": kept.config}
    changed = {name: value for name, value in given.items() if value is not None}
    return OptimizerPluginSpec.model_validate({"source": {"entryPoint": entry_point}, **changed})
