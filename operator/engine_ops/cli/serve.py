"""`engine-ops serve`: the REST API on one machine, without Kubernetes."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

import click

from engine_ops import __version__
from engine_ops.api.quantity import parse_quantity


@click.command("serve")
@click.option(
    "--api",
    default="http://127.0.0.1:3000",
    show_default=True,
    metavar="ADDRESS",
    help="Where it is served: http and a loopback address, since there are no tokens. Port 0 for any that is free.",
)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where history, models and settings of plugins are kept.  [default: engine-ops in XDG_DATA_HOME]",
)
@click.option("--memory", is_flag=True, help="Keep nothing beyond the end.")
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=lambda: max(1, len(os.sched_getaffinity(0))),
    show_default="the number of cores",
    help="How many requests are solved at once, each in a process of its own.",
)
@click.option(
    "--worker-memory", default="1Gi", show_default=True, help="A worker above it is killed. A Kubernetes quantity."
)
@click.option(
    "--history-points",
    type=click.IntRange(100, 1_000_000),
    default=10_000,
    show_default=True,
    help="The newest so many data points are kept.",
)
@click.option("--verbose", "-v", is_flag=True, help="Log every step.")
def command(
    *,
    api: str,
    data_dir: Path | None,
    memory: bool,
    workers: int,
    worker_memory: str,
    history_points: int,
    verbose: bool,
) -> None:
    """Serve the REST API on this machine, without Kubernetes, until it is told to stop.

    Plugins are those that installed packages offer. Everybody on this machine can use it: there are no tokens. A plugin
    can read what you can read.
    """
    if memory and data_dir is not None:
        raise click.UsageError("--memory keeps nothing: it goes without --data-dir")
    try:
        memory_bytes = int(parse_quantity(worker_memory))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--worker-memory") from error
    directory = None if memory else data_dir if data_dir is not None else _default_directory()
    _check_address(api)
    _say(f"engine-ops {__version__}")

    import uvloop

    from engine_ops.cli.logs import configure_logging

    configure_logging("text", logging.DEBUG if verbose else logging.INFO)
    if not uvloop.run(_serve(workers, memory_bytes, api, directory, history_points)):
        sys.stdout.flush()
        raise SystemExit(1)


async def _serve(workers: int, memory_bytes: int, api: str, directory: Path | None, points: int) -> bool:
    """Serve; return whether it ended as it was told to."""
    from engine_ops.workers.early_pool import EarlyPool
    from engine_ops.workers.garbage import collect_rarely, collector_waits, spare_what_lives_on

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    handler = "engine_ops.plugins.judging:HANDLER"
    async with EarlyPool(workers, memory_limit_bytes=memory_bytes, handler=handler) as pool:
        # Imported while the workers load numpy.
        with collector_waits():
            from engine_ops.controllers.local_service import LocalConfig, LocalServiceError, serve_locally
            from engine_ops.server.address import parse_address

        spare_what_lives_on()
        collect_rarely()
        config = LocalConfig(address=parse_address(api, "--api"), data_directory=directory, points=points)
        _say("data: kept in memory only" if directory is None else f"data: {directory}")
        try:
            await serve_locally(config, pool, stop, _say)
        except LocalServiceError as error:
            _say(f"error: {error}")
            return False
    return True


def _check_address(api: str) -> None:
    """Refuse an address that others could reach.

    Raises
    ------
    click.BadParameter
        Then, or if it is none.
    """
    from engine_ops.server.address import AddressError, parse_address

    try:
        address = parse_address(api, "--api")
    except AddressError as error:
        raise click.BadParameter(str(error), param_hint="--api") from error
    if address.scheme != "http" or not address.loopback:
        message = (
            f"{api} is refused: there are no tokens, so it is served on this machine only, as http://127.0.0.1:PORT. "
            "With tokens and TLS the operator serves it: engine-ops run --api"
        )
        raise click.BadParameter(message, param_hint="--api")


def _default_directory() -> Path:
    """Return where the XDG base directory specification has it; a relative XDG_DATA_HOME is to be ignored."""
    given: Any = os.environ.get("XDG_DATA_HOME", "")
    base = Path(given) if Path(given).is_absolute() else Path.home() / ".local" / "share"
    return base / "engine-ops"


def _say(line: str) -> None:
    click.echo(line, err=True)
