"""`engine-ops requests`: what was asked, and what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from engine_ops.cli.names import complete_namespaces
from engine_ops.cli.place import Place, encode, output_option, place_options

if TYPE_CHECKING:
    from engine_ops.cli.request_rows import Shown
    from engine_ops.kube.connection import Connection

STATES = ("ready", "waiting", "solving", "stalled", "suspended", "unseen")


@click.command("requests")
@click.option(
    "--namespace",
    "-n",
    metavar="NAME",
    shell_complete=complete_namespaces,
    help="Of the requests. Default: the current context's.",
)
@click.option("--all-namespaces", "-A", is_flag=True, help="Those of all namespaces.")
@click.option("--selector", "-l", default="", metavar="LABELS", help="Only requests with these labels.")
@click.option(
    "--state", "states", type=click.Choice(STATES), multiple=True, help="Only requests in this state; may be repeated."
)
@click.option("--watch", "-w", is_flag=True, help="Go on, with a line for each change, until Ctrl-C.")
@output_option
@place_options
def command(
    *,
    namespace: str | None,
    all_namespaces: bool,
    selector: str,
    states: tuple[str, ...],
    watch: bool,
    shape: str,
    place: Place,
) -> None:
    """List requests: their state and reason, what solved them, how good the answer is.

    A request is ready (answered), waiting (for what the reason says; it is tried again by itself), solving, stalled
    (its spec must change first), suspended (spec.suspend), or unseen (the operator has not spoken of this spec yet).

    SCORE is 1 for an answer that cannot be better, GAP how far from the best possible it may be.

    Exits with 0, also where there are none; 1 if they cannot be listed.
    """
    if namespace and all_namespaces:
        raise click.UsageError("--namespace and --all-namespaces exclude each other")
    if watch and shape != "table":
        raise click.UsageError("--watch prints a table")

    async def ask(connection: Connection) -> Shown | None:
        from engine_ops.cli.request_rows import Shown, follow
        from engine_ops.kube.reading import list_requests

        where = "" if all_namespaces else namespace or connection.namespace
        if watch:
            await follow(connection, where, selector, frozenset(states))
            return None
        rows = await list_requests(connection, where, selector)
        return Shown(where, [row for row in rows if not states or row.state in states])

    found = place.ask(ask)
    if found is None:
        return
    if shape != "table":
        click.echo(encode(found.to_dict(), shape), nl=False)
    elif found.rows:
        click.echo(found.to_table(), nl=False)
    else:
        click.echo(f"no requests{f' in namespace {found.namespace}' if found.namespace else ''}", err=True)
