"""`engine-ops enable` and `engine-ops disable`: a plugin's switch, turned in the user's own name."""

from __future__ import annotations

import click

from engine_ops.cli.names import complete_plugins
from engine_ops.cli.place import Place, place_options


def _switch(name: str, place: Place, *, enabled: bool, force: bool) -> None:
    from engine_ops.cli.switching import switch

    click.echo(place.ask(lambda connection: switch(connection, name, enabled=enabled, force=force)))


_FORCE = click.option("--force", is_flag=True, help="Also where another manager owns the field, and may turn it back.")


@click.command("enable")
@click.argument("name", shell_complete=complete_plugins)
@_FORCE
@place_options
def enable(*, name: str, force: bool, place: Place) -> None:
    """Let the operator ask a plugin: sets spec.enabled of the OptimizerPlugin, with your own rights.

    Refused where another manager owns the field by server-side apply, or is a known GitOps tool: it would turn it
    back. Change it there, or use --force.

    Exits with 0, also where it is so already; 1 if it is not done.
    """
    _switch(name, place, enabled=True, force=force)


@click.command("disable")
@click.argument("name", shell_complete=complete_plugins)
@_FORCE
@place_options
def disable(*, name: str, force: bool, place: Place) -> None:
    """Have a plugin asked no more: clears spec.enabled of the OptimizerPlugin, with your own rights. Its model stays.

    Refused where another manager owns the field by server-side apply, or is a known GitOps tool: it would turn it
    back. Change it there, or use --force.

    Exits with 0, also where it is so already; 1 if it is not done.
    """
    _switch(name, place, enabled=False, force=force)
