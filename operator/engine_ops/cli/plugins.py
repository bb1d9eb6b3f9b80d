"""`engine-ops plugins`: which plugins there are, and how each does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from engine_ops.cli.names import complete_plugins
from engine_ops.cli.place import Place, encode, output_option, place_options

if TYPE_CHECKING:
    from engine_ops.kube.connection import Connection


@click.command("plugins")
@click.argument("name", required=False, shell_complete=complete_plugins)
@output_option
@place_options
def command(*, name: str | None, shape: str, place: Place) -> None:
    """List plugins, or show all there is to know of one.

    SKILL is 1 for a perfect prediction, 0 for one no better than the median of the last five. ANSWERS are out of the
    REQUESTS that came to the plugin.

    Exits with 0; 1 if there is no such plugin, or they may not be read.
    """
    from engine_ops.cli.plugin_rows import format_plugin, format_plugins, plugin_to_dict

    async def ask(connection: Connection) -> list[dict[str, Any]]:
        from engine_ops.kube.paths import PLUGIN, object_path
        from engine_ops.kube.reading import list_plugins

        if name is None:
            return await list_plugins(connection)
        return [await connection.get(object_path(PLUGIN, "", name))]

    found = place.ask(ask)
    if name is not None:
        text = format_plugin(found[0]) if shape == "table" else encode(plugin_to_dict(found[0]), shape)
    elif shape == "table":
        text = format_plugins(found)
    else:
        text = encode({"plugins": [plugin_to_dict(plugin) for plugin in found], "count": len(found)}, shape)
    click.echo(text, nl=False)
    if not found:
        click.echo("no plugins", err=True)
