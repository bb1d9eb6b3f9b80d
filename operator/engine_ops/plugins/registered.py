"""One plugin of a registry: how it stands, and the calls of its code that the registry makes."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Final

import pydantic

from engine_ops.api.faults import InvalidDataError, faults_of
from engine_ops.api.optimizerplugin import RESERVED_NAMES
from engine_ops.engine.request import OptimizationRequest
from engine_ops.ml.plugin_interface import MLPluginInterface, PluginMetadata
from engine_ops.plugins.base import BaseOptimizationPlugin, Plugin, PluginError, describe_failure
from engine_ops.plugins.config import PluginConfig
from engine_ops.plugins.events import EventKind

FAILURES: Final = (Exception, SystemExit)
"""What a plugin may raise without ending its caller; Ctrl-C is the user's."""


@dataclasses.dataclass(frozen=True, slots=True)
class RegisteredPlugin:
    """A plugin as it is used at one moment; later changes do not show in it.

    Parameters
    ----------
    name
        The name under which it is registered.
    plugin
        The plugin itself.
    config
        How it is used.
    problem
        Why it is left out though it may be enabled: its `config` was rejected. None where nothing is wrong.
    """

    name: str
    plugin: Plugin
    config: PluginConfig
    problem: str | None = None

    @property
    def metadata(self) -> PluginMetadata:
        """What the plugin says of itself."""
        return self.plugin.metadata

    @property
    def selectable(self) -> bool:
        """Whether requests may go to it."""
        return self.config.enabled and self.problem is None


Plugins = list[RegisteredPlugin]
"""Plugins in the order in which they are asked."""


def failed(what: str, error: BaseException) -> str:
    """Return what failed, and how, in one line."""
    return f"{what} failed: {describe_failure(error)}"


def metadata_of(plugin: object) -> PluginMetadata:
    """Return what a plugin says of itself.

    Raises
    ------
    TypeError
        If it is no plugin, or says nothing of itself.
    """
    if not isinstance(plugin, (MLPluginInterface, BaseOptimizationPlugin)):
        hint = "; make an instance of it" if isinstance(plugin, type) else ""
        name = plugin.__name__ if isinstance(plugin, type) else type(plugin).__name__
        raise TypeError(f"{name} is neither an MLPluginInterface nor a BaseOptimizationPlugin{hint}")
    metadata: object = getattr(plugin, "metadata", None)
    if not isinstance(metadata, PluginMetadata):
        raise TypeError(f"{type(plugin).__name__}.metadata must be a PluginMetadata, not {type(metadata).__name__}")
    return metadata


def check_name(name: object) -> None:
    """Check what a plugin is to be called.

    Raises
    ------
    ValueError
        If it is empty, no text, or reserved.
    """
    if not isinstance(name, str) or not name:
        raise ValueError(f"a plugin's name must be a text, and not empty: {name!r}")
    if name in RESERVED_NAMES:
        raise ValueError(f"a plugin must not be called {name!r}: {' and '.join(RESERVED_NAMES)} are reserved")


def initialize(plugin: Plugin, config: PluginConfig) -> None:
    """Give a plugin its settings.

    Raises
    ------
    InvalidDataError
        If its ``config_schema`` rejects them; the paths begin with ``config``.
    PluginError
        If its ``init`` fails.
    """
    schema = plugin.config_schema
    try:
        if schema is not None:
            schema.model_validate(config.settings())
    except pydantic.ValidationError as error:
        raise InvalidDataError(faults_of(error, root="config")) from error
    except FAILURES as error:
        raise PluginError(failed("config_schema", error)) from error
    try:
        plugin.init(config.settings())
    except FAILURES as error:
        raise PluginError(failed("init", error)) from error


def takes(entry: RegisteredPlugin, request: OptimizationRequest) -> bool:
    """Return whether a plugin may be asked, and says that it can handle a request.

    Raises
    ------
    PluginError
        If its ``can_handle`` fails, or says neither True nor False.
    """
    types = entry.config.supported_types
    if not entry.selectable or (types is not None and request.type not in types):
        return False
    plugin = entry.plugin
    answer: object  # whatever foreign code returns
    try:
        if isinstance(plugin, MLPluginInterface):
            answer = plugin.can_handle(request.type)
        else:
            answer = plugin.can_handle(request)
    except FAILURES as error:
        raise PluginError(failed("can_handle", error)) from error
    return _true_or_false(answer)


def _true_or_false(answer: object) -> bool:
    if isinstance(answer, bool):
        return answer
    if inspect.iscoroutine(answer):
        answer.close()
    raise PluginError(f"can_handle must return True or False, not {type(answer).__name__}")


def kinds_of(before: RegisteredPlugin, after: RegisteredPlugin) -> list[EventKind]:
    """Return what happened between two states of a plugin; nothing where they are the same."""
    kinds = []
    if dataclasses.replace(after, config=after.config.changed({"enabled": before.config.enabled})) != before:
        kinds.append(EventKind.CONFIG_UPDATED)
    if after.config.enabled != before.config.enabled:
        kinds.append(EventKind.ENABLED if after.config.enabled else EventKind.DISABLED)
    return kinds
