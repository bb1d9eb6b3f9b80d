"""`engine-ops plugin-host`: the processes of plugins, in a container of their own."""

from __future__ import annotations

import logging
from pathlib import Path

import click


@click.command("plugin-host")
@click.option(
    "--socket",
    "path",
    required=True,
    type=click.Path(path_type=Path, resolve_path=True),
    help="The Unix socket on which the operator is waited for; its directory is shared with the operator's container.",
)
@click.option("--verbose", "-v", is_flag=True, help="Log every process that starts and ends.")
def command(path: Path, verbose: bool) -> None:
    """Run plugins, each in a process of its own, for the operator that connects.

    Needs no credentials and should have none: plugins run with what this process can reach. Serves one operator at a
    time; when it disconnects, its plugins end.
    """
    from engine_ops.cli.logs import configure_logging

    configure_logging("text", logging.DEBUG if verbose else logging.INFO)
    # Loads numpy in the end, which is to happen in the environment that the host prepares.
    from engine_ops.plugins.host.main import serve_at

    try:
        serve_at(path)
    except OSError as error:
        raise click.ClickException(str(error)) from error
