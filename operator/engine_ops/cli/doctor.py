"""`engine-ops doctor`: what is wrong, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from engine_ops.cli.place import Place, encode, operator_namespace_option, output_option, place_options

if TYPE_CHECKING:
    from engine_ops.cli.checkup import Report
    from engine_ops.kube.connection import Connection


@click.command("doctor")
@operator_namespace_option
@output_option
@place_options
def command(*, operator_namespace: str, shape: str, place: Place) -> None:
    """Look for what is wrong with the operator and its cluster, and say what to do about it.

    Looks at the API server, the custom resource definitions, the operator's Deployment, version, Lease, rights and
    history, at plugins and requests, and at your own rights. Nothing is changed.

    Exits with 0 if all is well; 1 with findings; 2 without findings if something could not be looked at, or the
    cluster cannot be reached.
    """

    async def ask(connection: Connection) -> Report:
        from engine_ops.cli.checkup import examine

        return await examine(connection, operator_namespace)

    try:
        report = place.ask(ask)
    except click.ClickException as error:
        from engine_ops.cli.checkup import Report, blind

        report = Report([blind(error.message)])
    click.echo(report.to_text() if shape == "table" else encode(report.to_dict(), shape), nl=False)
    if report.exit_code:
        raise click.exceptions.Exit(report.exit_code)
