"""Finds plugins: those that installed packages offer, and one that is named."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import inspect
import logging
import re
from typing import Any, Final

from engine_ops.api.faults import InvalidDataError
from engine_ops.api.optimizerplugin import ENTRY_POINT
from engine_ops.ml.plugin_interface import MLPluginInterface
from engine_ops.plugins.base import BaseOptimizationPlugin, Plugin, PluginError, describe_failure
from engine_ops.plugins.config import PluginConfig
from engine_ops.plugins.registered import FAILURES, Plugins
from engine_ops.plugins.registry import PluginRegistry

logger = logging.getLogger(__name__)

GROUP: Final = "engine_ops.plugins"
"""The entry-point group under which packages offer plugins."""

_NAMED: Final = re.compile(ENTRY_POINT)


@dataclasses.dataclass(frozen=True, slots=True)
class FoundPlugin:
    """A plugin that an installed package offers.

    Parameters
    ----------
    name
        The name of the entry point.
    entry_point
        Where its class is: ``package.module:Class``.
    distribution, version
        The package that offers it, and its version.
    plugin_class
        The class; None where it could not be loaded.
    error
        Why it could not be; None where it could.
    """

    name: str
    entry_point: str
    distribution: str
    version: str
    plugin_class: type[Plugin] | None = None
    error: str | None = None


def load_class(entry_point: str) -> type[Plugin]:
    """Import a plugin's class. This runs the package's code, for as long as that takes.

    Parameters
    ----------
    entry_point
        ``package.module:Class``.

    Raises
    ------
    PluginError
        If it is written otherwise, cannot be imported, is not there, or is no class of plugins.
    """
    if not _NAMED.fullmatch(entry_point):
        raise PluginError(f"{entry_point!r} must be written package.module:Class")
    module_name, _, class_name = entry_point.partition(":")
    try:
        found: Any = getattr(importlib.import_module(module_name), class_name)
    except FAILURES as error:
        raise PluginError(f"{entry_point} cannot be imported: {describe_failure(error)}") from error
    if not isinstance(found, type) or not issubclass(found, (MLPluginInterface, BaseOptimizationPlugin)):
        raise PluginError(f"{entry_point} must be a subclass of MLPluginInterface or BaseOptimizationPlugin")
    if inspect.isabstract(found):
        missing = ", ".join(sorted(getattr(found, "__abstractmethods__", ())))
        raise PluginError(f"{entry_point} is abstract: it lacks {missing}")
    return found


def make_plugin(plugin_class: type[Plugin]) -> Plugin:
    """Make a plugin of its class, which must need no arguments.

    Raises
    ------
    PluginError
        If it cannot be made.
    """
    make: Any = plugin_class  # the bases take arguments; a plugin's own class takes none
    try:
        plugin: Plugin = make()
    except FAILURES as error:
        where = f"{plugin_class.__module__}:{plugin_class.__qualname__}"
        raise PluginError(f"{where} cannot be made without arguments: {describe_failure(error)}") from error
    return plugin


def discover() -> list[FoundPlugin]:
    """Return the plugins that installed packages offer, and load their classes.

    Packages offer them as entry points of the group `GROUP`. One that cannot be loaded is among them, with its error.

    Returns
    -------
    list of FoundPlugin
        By name, then by package.
    """
    found: dict[tuple[str, str], FoundPlugin] = {}
    for distribution in importlib.metadata.distributions():
        try:
            offered = distribution.entry_points.select(group=GROUP)
            if not offered:
                continue
            package, version = distribution.name, distribution.version
        except Exception as error:  # noqa: BLE001 - another package's damaged metadata is its own fault
            logger.warning("the metadata of a package cannot be read: %s", describe_failure(error))
            continue
        for each in offered:
            # A package that is on the path twice counts where Python imports it from: the first time.
            found.setdefault((each.name, package), _load(each.name, each.value, package, version))
    return [found[key] for key in sorted(found)]


def register_installed(registry: PluginRegistry, config: PluginConfig | None = None) -> Plugins:
    """Register the plugins that installed packages offer, each under the name in its metadata.

    Those that cannot be loaded, made or registered are told to the registry's listeners as events of kind error, and
    keep none of the others. A plugin of the same class that is registered already is left as it is.

    Parameters
    ----------
    registry
        Where to.
    config
        How to use each; None takes the defaults.

    Returns
    -------
    list of RegisteredPlugin
        Those that were registered now.
    """
    registered = []
    for found in discover():
        if found.plugin_class is None:
            registry.report_error(found.name, f"{found.error} (package {found.distribution} {found.version})")
            continue
        if any(type(entry.plugin) is found.plugin_class for entry in registry.list()):
            continue
        try:
            plugin = make_plugin(found.plugin_class)
        except PluginError as error:
            registry.report_error(found.name, str(error))
            continue
        try:
            registered.append(registry.register(plugin, config))
        except (PluginError, InvalidDataError):
            continue  # the registry has told of it
        except (TypeError, ValueError) as error:
            registry.report_error(found.name, describe_failure(error))
    return registered


def _load(name: str, value: str, distribution: str, version: str) -> FoundPlugin:
    # What stands after the class are extras, which say what to install, not where the class is.
    entry_point = value.partition("[")[0].strip()
    try:
        return FoundPlugin(name, entry_point, distribution, version, plugin_class=load_class(entry_point))
    except PluginError as error:
        return FoundPlugin(name, entry_point, distribution, version, error=str(error))
