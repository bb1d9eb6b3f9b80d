"""`engine-ops run`: the operator."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any, Protocol

import click

from engine_ops import __version__
from engine_ops.api.quantity import parse_quantity
from engine_ops.cli.api_options import api_options

logger = logging.getLogger(__name__)


@click.command("run")
@click.option(
    "--kubeconfig", type=click.Path(dir_okay=False), help="Default: KUBECONFIG, the Pod's own, ~/.kube/config."
)
@click.option(
    "--namespace", "-n", "namespaces", multiple=True, help="Watch only this one; may be repeated. Default: all."
)
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
    "--lease-namespace",
    help="Where the Lease, the history and the models live. Default: the Pod's own namespace, else the kubeconfig's.",
)
@click.option(
    "--cluster-data-namespaces",
    metavar="SELECTOR",
    help="Labels of the namespaces whose requests may see nodes and all pods (spec.dataFrom.cluster), "
    "such as team=platform. Default: only the operator's own namespace.",
)
@click.option(
    "--probes",
    default="http://127.0.0.1:8080",
    show_default=True,
    help="Where /healthz, /readyz and /metrics are answered; none for nowhere.",
)
@api_options
@click.option("--history/--no-history", default=True, show_default=True, help="Record what happened, in ConfigMaps.")
@click.option(
    "--history-points",
    type=click.IntRange(100, 1_000_000),
    default=10_000,
    show_default=True,
    help="The newest so many data points are kept.",
)
@click.option(
    "--history-flush-seconds",
    type=click.FloatRange(0.1, 600),
    default=3.0,
    show_default=True,
    help="The history is written at most so often.",
)
@click.option(
    "--outcome-window-seconds",
    type=click.FloatRange(1, 30 * 86_400),
    default=86_400,
    show_default="a day",
    help="For so long a data point waits for the outcome of the workload that its request names.",
)
@click.option(
    "--usage-period-seconds",
    type=click.FloatRange(1, 3600),
    default=60.0,
    show_default=True,
    help="How often usage is read from metrics.k8s.io.",
)
@click.option(
    "--observe",
    metavar="SELECTOR",
    help="Labels of the namespaces whose finished Jobs and daily usage are recorded without a request, "
    "such as engine-ops=observed. Default: none.",
)
@click.option("--plugins/--no-plugins", default=True, show_default=True, help="Ask OptimizerPlugins.")
@click.option(
    "--plugin-host",
    metavar="SOCKET",
    help="Of an `engine-ops plugin-host` that runs already. Default: a process of its own, ended with this one.",
)
@click.option(
    "--plugin-service",
    "plugin_services",
    metavar="NAMESPACE/NAME=URL",
    multiple=True,
    help="Where a plugin's Service is reached, for who writes one; may be repeated. Default: its name in the cluster.",
)
@click.option(
    "--plugin-state-dir",
    type=click.Path(file_okay=False),
    help="Where models are kept that are too large for a ConfigMap. Default: they are trained again after a restart.",
)
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--verbose", "-v", is_flag=True, help="Log every step.")
def command(
    *,
    kubeconfig: str | None,
    namespaces: tuple[str, ...],
    workers: int,
    worker_memory: str,
    lease_namespace: str | None,
    cluster_data_namespaces: str | None,
    probes: str,
    api: dict[str, Any] | None,
    history: bool,
    history_points: int,
    history_flush_seconds: float,
    outcome_window_seconds: float,
    usage_period_seconds: float,
    observe: str | None,
    plugins: bool,
    plugin_host: str | None,
    plugin_services: tuple[str, ...],
    plugin_state_dir: str | None,
    log_format: str,
    verbose: bool,
) -> None:
    """Run the operator until it is told to stop.

    It exits with 1 and a sentence where the custom resource definitions or its rights are missing, or an address
    cannot be used.
    """
    try:
        memory_bytes = int(parse_quantity(worker_memory))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--worker-memory") from error
    asked = {
        "host": plugin_host,
        "services": dict(map(_service, plugin_services)),
        "state_directory": plugin_state_dir,
    }
    from engine_ops.cli.logs import configure_logging

    configure_logging(log_format, logging.DEBUG if verbose else logging.INFO)
    tell = _tell_collectors if log_format == "json" else _tell_people
    tell(f"engine-ops {__version__}")

    import uvloop

    options = {
        "kubeconfig": kubeconfig,
        "namespaces": namespaces,
        "lease_namespace": lease_namespace,
        "cluster_data_namespaces": cluster_data_namespaces,
        "probes": None if probes == "none" else probes,
    }

    kept = {
        "points": history_points,
        "flush_seconds": history_flush_seconds,
        "outcome_window_seconds": outcome_window_seconds,
        "usage_period_seconds": usage_period_seconds,
        "observe": observe,
    }
    kept_or_none, asked_or_none = kept if history else None, asked if plugins else None
    if not uvloop.run(_serve(workers, memory_bytes, options, kept_or_none, asked_or_none, api, tell)):
        # The Lease may be another's by now: nothing may linger, not even a thread.
        sys.stdout.flush()
        os._exit(1)


async def _serve(
    workers: int,
    memory_bytes: int,
    options: dict[str, Any],
    history: dict[str, Any] | None,
    plugins: dict[str, Any] | None,
    api: dict[str, Any] | None,
    tell: _Tell,
) -> bool:
    """Run the operator; return whether it ended as it was told to."""
    from engine_ops.workers.early_pool import EarlyPool
    from engine_ops.workers.garbage import collector_waits

    handler = None if plugins is None else "engine_ops.plugins.judging:HANDLER"
    async with EarlyPool(workers, memory_limit_bytes=memory_bytes, handler=handler) as pool:
        # Imported while the workers load numpy: kopf and the clients take a second.
        with collector_waits():
            from engine_ops.controllers.api_config import ApiConfig
            from engine_ops.controllers.history_config import HistoryConfig
            from engine_ops.controllers.operator import serve
            from engine_ops.controllers.operator_config import OperatorConfig
            from engine_ops.controllers.plugins_config import PluginsConfig
            from engine_ops.kube.errors import ApiError, ConnectError, UnavailableError
            from engine_ops.kube.lease import LeaseLostError

        ended = True
        try:
            kept = None if history is None else HistoryConfig(**history)
            asked = None if plugins is None else PluginsConfig(**plugins)
            doors = None if api is None else ApiConfig(**api)
            await serve(OperatorConfig(**options, history=kept, plugins=asked, api=doors), pool, tell)
        except* (ConnectError, ApiError, UnavailableError, LeaseLostError) as group:
            ended = False
            for leaf in _leaves(group):
                tell(str(leaf), error=True)
    return ended


def _service(given: str) -> tuple[str, str]:
    name, _, address = given.partition("=")
    if name.count("/") != 1 or not address.startswith(("http://", "https://")):
        message = f"must be written namespace/name=http://address, not {given!r}"
        raise click.BadParameter(message, param_hint="--plugin-service")
    return name, address.rstrip("/")


class _Tell(Protocol):
    """How the operator says that it starts, and why it ends."""

    def __call__(self, line: str, *, error: bool = False) -> None: ...


def _tell_people(line: str, *, error: bool = False) -> None:
    click.echo(f"error: {line}" if error else line, err=True)


def _tell_collectors(line: str, *, error: bool = False) -> None:
    logger.log(logging.ERROR if error else logging.INFO, "%s", line)


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    leaves: list[BaseException] = []
    for error in group.exceptions:
        leaves += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return leaves
