"""`engine-ops status`: the operator at a glance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from engine_ops.cli.place import Place, encode, operator_namespace_option, output_option, place_options

if TYPE_CHECKING:
    from engine_ops.cli.overview import Overview
    from engine_ops.kube.connection import Connection


@click.command("status")
@operator_namespace_option
@output_option
@place_options
def command(*, operator_namespace: str, shape: str, place: Place) -> None:
    """Show the operator at a glance: whether it runs and serves, its requests, its plugins, its history.

    What you may not read is said to be so, and the rest is shown. `engine-ops doctor` looks for what is wrong, and
    says what to do.

    Exits with 0; 1 if the cluster cannot be reached, or nothing of it may be read.
    """

    async def ask(connection: Connection) -> Overview:
        from engine_ops.cli.overview import overview

        return await overview(connection, operator_namespace)

    found = place.ask(ask)
    click.echo(found.to_text() if shape == "table" else encode(found.to_dict(), shape), nl=False)
    if found.nothing_readable:
        raise click.exceptions.Exit(1)
