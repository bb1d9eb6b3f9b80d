"""Turning a plugin's switch. Importing it loads the Kubernetes client."""

from __future__ import annotations

import click

from engine_ops.api.plugin_change import PluginChange, PluginManaged
from engine_ops.kube.connection import Connection
from engine_ops.kube.plugin_patch import CLI_MANAGER, patch_plugin, read_plugin


async def switch(connection: Connection, name: str, *, enabled: bool, force: bool) -> str:
    """Enable or disable a plugin, and return a sentence that says so.

    Parameters
    ----------
    connection
        With the user's rights.
    name
        Of the plugin.
    enabled
        What is wanted.
    force
        Also where another manager owns the field.

    Raises
    ------
    ClickException
        If another manager owns the field; the message names it.
    ApiError, UnavailableError
        As `Connection.request` does.
    """
    word = "enabled" if enabled else "disabled"
    plugin = await read_plugin(connection, name)
    if (plugin.get("spec") or {}).get("enabled", True) is enabled:
        return f"plugin {name} is {word} already"
    try:
        await patch_plugin(connection, name, PluginChange(enabled=enabled), field_manager=CLI_MANAGER, force=force)
    except PluginManaged as error:
        raise click.ClickException(f"{error}: change it there, or use --force") from error
    return f"plugin {name} {word}"
