"""`engine-ops devcluster`: a local control plane from the command line."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import click
from tabulate import tabulate

try:
    from engine_ops.devcluster import COMPONENTS, DevCluster, DevClusterError, ensure_binaries
    from engine_ops.devcluster.binaries import ASSETS_VARIABLE
    from engine_ops.devcluster.build import build_binaries
    from engine_ops.devcluster.launch import stop_cluster
except ImportError as error:
    raise click.ClickException(f"{error}: install it with `pip install 'engine-ops[devcluster]'`") from error

_NAME = click.option(
    "--name", default="default", show_default=True, envvar="ENGINE_OPS_DEVCLUSTER", help="Which cluster."
)
# What a shell reports for a command that is not there, and for one that cannot be run.
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126


def _report(line: str) -> None:
    click.echo(line, err=True)


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    """Say what went wrong instead of printing a traceback."""
    try:
        yield
    except DevClusterError as error:
        raise click.ClickException(str(error)) from error


def _exit_on_signals() -> None:
    """Turn signals into an orderly exit, so that builds and clusters are cleaned up on the way out."""

    def leave(number: int, frame: FrameType | None) -> None:
        del frame
        sys.exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)


@click.group("devcluster")
def command() -> None:
    """Run a local control plane: etcd, kube-apiserver, controllers, scheduler and simulated nodes, without Docker.

    It listens on loopback only and never touches your kubeconfig. Nodes and pods are simulated by kwok: pods are
    scheduled and become Running, but no container runs.
    """


@command.command()
def build() -> None:
    """Build the binaries into your cache, unless they are there, and print their directory.

    Takes some nine minutes on two cores and 5 GB of disk for the time of the build; 425 MB stay.
    """
    _exit_on_signals()
    with _errors():
        click.echo(build_binaries(_report))
    if os.environ.get(ASSETS_VARIABLE):
        _report(f"{ASSETS_VARIABLE} is set: `up` takes the binaries from there instead")


@command.command(context_settings={"allow_interspersed_args": False})
@click.option("--name", envvar="ENGINE_OPS_DEVCLUSTER", help="Which cluster.  [default: default; random with COMMAND]")
@click.option("--nodes", type=click.IntRange(min=0), default=0, help="Add this many simulated nodes.")
@click.option("--component", "components", multiple=True, type=click.Choice(COMPONENTS), help="Start only these.")
@click.option("--log-dir", type=click.Path(file_okay=False, path_type=Path), help="Keep the components' logs here.")
@click.option("--foreground", is_flag=True, help="Stay until interrupted, then take the cluster down.")
@click.argument("arguments", metavar="[-- COMMAND [ARGS]...]", nargs=-1, type=click.UNPROCESSED)
def up(
    name: str | None,
    nodes: int,
    components: tuple[str, ...],
    log_dir: Path | None,
    foreground: bool,
    arguments: tuple[str, ...],
) -> None:
    """Start a cluster, in the background.

    With COMMAND: run it with KUBECONFIG set and kubectl on PATH, take the cluster down after it, and exit with its
    exit code.
    """
    _exit_on_signals()
    if name is None and not arguments:
        name = "default"
    with _errors():
        if name is not None:
            running = DevCluster.attach(name)
            if running is not None:
                if arguments or foreground:
                    raise click.ClickException(
                        f"cluster {name} is up already; take it down first: engine-ops devcluster down --name {name}"
                    )
                _report(f"cluster {name} is up already, its nodes stay as they are: {running.server}")
                _print_usage(running)
                return
        binaries = ensure_binaries(_report)
        started = time.monotonic()
        cluster = DevCluster.start(
            name=name,
            components=components or None,
            log_dir=log_dir,
            binaries=binaries,
            detached=not (arguments or foreground),
        )
        with contextlib.ExitStack() as stack:
            stack.push(cluster)
            if nodes:
                cluster.add_nodes(nodes)
            _report(f"cluster {cluster.name} is up after {time.monotonic() - started:.1f} s: {cluster.server}")
            if arguments:
                exit_code = _run(cluster, arguments)
                stack.close()
                sys.exit(exit_code)
            _print_usage(cluster)
            if foreground:
                with contextlib.suppress(KeyboardInterrupt):
                    cluster.wait()
                return
            stack.pop_all()


def _print_usage(cluster: DevCluster) -> None:
    option = "" if cluster.name == "default" else f" --name {cluster.name}"
    click.echo(f'export KUBECONFIG="{cluster.kubeconfig}"')
    click.echo(f'export PATH="{cluster.directory / "bin"}:$PATH"')
    click.echo(f"# engine-ops devcluster status{option}")
    click.echo(f"# engine-ops devcluster down{option}")


def _run(cluster: DevCluster, arguments: tuple[str, ...]) -> int:
    process: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        del frame
        if process is None:
            early.append(number)
        else:
            process.send_signal(number)

    def leave(number: int, frame: FrameType | None) -> None:
        # A terminal sends Ctrl-C to the command, too; it decides what to do. (It would inherit SIG_IGN.)
        del number, frame

    # Before the command runs: a signal that comes first would end this process, and leave the command behind.
    for number, handler in ((signal.SIGTERM, forward), (signal.SIGHUP, forward), (signal.SIGINT, leave)):
        if signal.getsignal(number) != signal.SIG_IGN:  # as under nohup; the command ignores it then, too
            signal.signal(number, handler)
    try:
        process = subprocess.Popen(arguments, env=cluster.environment())
    except FileNotFoundError:
        _report(f"{arguments[0]}: command not found")
        return _NOT_FOUND
    except PermissionError:
        _report(f"{arguments[0]}: not executable")
        return _NOT_EXECUTABLE
    for missed in early:
        process.send_signal(missed)
    exit_code = process.wait()
    return exit_code if exit_code >= 0 else 128 - exit_code


@command.command()
@_NAME
def down(name: str) -> None:
    """Take a cluster down: every process that `up` started ends, its directory goes."""
    with _errors():
        click.echo(f"cluster {name} is down" if stop_cluster(name) else f"cluster {name} was not up")


@command.command()
@_NAME
def status(name: str) -> None:
    """Print a cluster's components; exit 1 if it, or one of them, is down."""
    with _errors():
        cluster = _attached(name)
        components = cluster.state.components
        click.echo(f"cluster {name}: {cluster.server}, logs in {cluster.log_dir}")
    rows = []
    for component in components:
        condition = "running" if component.exit_code is None else f"exited ({component.exit_code})"
        rows.append((component.name, component.pid, condition, component.address or "-"))
    click.echo(tabulate(rows, headers=("COMPONENT", "PID", "STATE", "ADDRESS"), tablefmt="plain"))
    if any(component.exit_code is not None for component in components):
        sys.exit(1)


@command.command()
@_NAME
def kubeconfig(name: str) -> None:
    """Print the path of the administrator's kubeconfig; exit 1 if the cluster is down."""
    with _errors():
        click.echo(_attached(name).kubeconfig)


def _attached(name: str) -> DevCluster:
    cluster = DevCluster.attach(name)
    if cluster is None:
        raise click.ClickException(f"cluster {name} is down; start it with `engine-ops devcluster up`")
    return cluster
