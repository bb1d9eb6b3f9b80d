"""Plugins as the REST API shows and takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import Field

from engine_ops.api.base import ApiModel
from engine_ops.api.fields import INTEGRAL, Flag
from engine_ops.server.backend import PluginInfo

MAX_PRIORITY: Final = 1_000_000
"""As in the spec of an OptimizerPlugin."""


def _without_default(schema: dict[str, Any]) -> None:
    schema.pop("default", None)


_MAY_BE_ABSENT: Final = Field(json_schema_extra=_without_default)
"""What is absent is not changed: no default takes its place."""


class PluginConfig(ApiModel):
    """Whether and when a plugin is asked."""

    enabled: bool
    """Whether it is asked."""
    priority: int
    """Of all plugins that can handle a request, the one of highest priority is asked."""


class Plugin(ApiModel):
    """A plugin."""

    name: str
    """Its name, as of the OptimizerPlugin."""
    version: str
    """The version that it gives of itself; empty until it has been opened."""
    description: str
    """What it says that it does; empty until it has been opened."""
    supported_types: list[str]
    """The types of request that it is asked for."""
    config: PluginConfig
    """Whether and when it is asked."""


class PluginList(ApiModel):
    """All plugins, by name."""

    plugins: list[Plugin]
    """The plugins."""
    count: int
    """How many there are."""


class PluginDetails(Plugin):
    """A plugin, looked at closely."""

    settings: dict[str, Any]
    """Its own configuration: `spec.config` of the OptimizerPlugin."""
    status: dict[str, Any]
    """How it is: state, model, skill, counts, latency, last error; more with later releases."""


class PluginPatch(ApiModel):
    """What of a plugin is to be changed. What is absent stays as it is."""

    config: Annotated[dict[str, Any], _MAY_BE_ABSENT] = Field(default_factory=dict)
    """The plugin's own configuration, as a whole: what is not in it is gone. Checked by the plugin's own schema."""
    priority: Annotated[int, Field(strict=True, ge=-MAX_PRIORITY, le=MAX_PRIORITY), INTEGRAL, _MAY_BE_ABSENT] = 0
    """Of all plugins that can handle a request, the one of highest priority is asked."""
    enabled: Annotated[Flag, _MAY_BE_ABSENT] = True
    """Whether it is asked."""


class NoQuery(ApiModel):
    """No parameters: a misspelt one is refused and not passed over."""


class ForceQuery(ApiModel):
    """Parameters of a change."""

    force: bool = False
    """Also where another manager, such as Argo CD, owns what is to be changed."""


EXAMPLE: Final = PluginInfo(
    name="my-plugin",
    version="1.0.0",
    description="Durations of import jobs",
    types=("ml-driven",),
    enabled=True,
    priority=10,
    config={"scale": 1.5},
    status={"state": "Running", "lastError": None},
)


def wire(plugin: PluginInfo) -> dict[str, Any]:
    """Return the JSON values of a `Plugin`."""
    return {
        "name": plugin.name,
        "version": plugin.version,
        "description": plugin.description,
        "supportedTypes": list(plugin.types),
        "config": {"enabled": plugin.enabled, "priority": plugin.priority},
    }


def wire_details(plugin: PluginInfo) -> dict[str, Any]:
    """Return the JSON values of a `PluginDetails`."""
    settings: Mapping[str, Any] = plugin.config
    return {**wire(plugin), "settings": settings, "status": plugin.status}
