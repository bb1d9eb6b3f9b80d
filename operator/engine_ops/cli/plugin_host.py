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
@click.option(
    "--preload",
    "libraries",
    metavar="MODULE",
    multiple=True,
    help="Load this once for all plugins, if it is installed; may be repeated. It must start no threads. "
    "Default: what plugins use of scikit-learn.",
)
@click.option("--verbose", "-v", is_flag=True, help="Log every process that starts and ends.")
def command(path: Path, libraries: tuple[str, ...], verbose: bool) -> None:
    """Run plugins, each in a process of its own, for the operator that connects.

    Needs no credentials and should have none: plugins run with what this process can reach. Serves one operator at a
    time; when it disconnects, its plugins end.
    """
    from engine_ops.cli.logs import configure_logging

    configure_logging("text", logging.DEBUG if verbose else logging.INFO)
    from engine_ops.plugins.host.main import serve_at
    from engine_ops.plugins.host.preload import LIBRARIES

    try:
        serve_at(path, libraries or LIBRARIES)
    except OSError as error:
        raise click.ClickException(str(error)) from error
