"""`engine-ops explain`: why an answer is as it is."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from engine_ops.cli.explaining import Told


@click.command("explain")
@click.argument("resources", nargs=-1, metavar="[NAME | optreq/NAME]...")
@click.option(
    "--filename",
    "-f",
    "files",
    multiple=True,
    metavar="FILE",
    help="A file or directory of manifests, or - for standard input, in place of a cluster; may be repeated.",
)
@click.option("--namespace", "-n", help="Of the requests in the cluster. Default: the current context's.")
@click.option(
    "--kubeconfig", type=click.Path(dir_okay=False), help="Default: KUBECONFIG, the Pod's own, ~/.kube/config."
)
def command(
    *, resources: tuple[str, ...], files: tuple[str, ...], namespace: str | None, kubeconfig: str | None
) -> None:
    """Print why an answer is as it is, for each item, task or container.

    Takes requests in the cluster by their names, or manifests (-f): one with a status that answers it is explained as
    it stands, any other is solved first. Of a request without an answer the conditions are printed.

    Exits with 0 if every answer is explained, 1 if there is none or it cannot be read, 2 if a manifest, its data or
    its result is wrong.
    """
    if bool(resources) == bool(files):
        raise click.UsageError("give names of requests in the cluster, or manifests with -f")
    sys.exit(_explain_manifests(files) if files else _explain_in_cluster(resources, namespace, kubeconfig))


def _explain_manifests(files: Sequence[str]) -> int:
    import asyncio

    from engine_ops.cli.stdin import read_stdin
    from engine_ops.workers.errors import WorkerStartError

    try:
        return asyncio.run(_read_and_explain(files, read_stdin(files)))
    except WorkerStartError as error:
        raise click.ClickException(str(error)) from error


async def _read_and_explain(files: Sequence[str], stdin: bytes) -> int:
    from engine_ops.cli.early_pool import EarlyPool

    async with EarlyPool() as pool:
        from engine_ops.cli.explaining import tell_manifests
        from engine_ops.cli.manifests import read_manifests
        from engine_ops.cli.printing import report

        manifests = read_manifests(files, stdin)
        for line in (*manifests.notes, *manifests.faults):
            report(line)
        told = await tell_manifests(manifests, pool)
    places = [request.where for request in manifests.requests]
    return max(2 if manifests.faults else 0, _print(places, told))


def _explain_in_cluster(resources: Sequence[str], namespace: str | None, kubeconfig: str | None) -> int:
    import asyncio

    from engine_ops.cli.cluster import name_of, tell_all
    from engine_ops.kube.errors import ApiError, ConnectError, UnavailableError

    try:
        names = [name_of(resource) for resource in resources]
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    try:
        told = asyncio.run(tell_all(kubeconfig, namespace, names))
    except ApiError as error:
        raise click.ClickException(error.message) from error
    except (ConnectError, UnavailableError) as error:
        raise click.ClickException(str(error)) from error
    return _print(names, told)


def _print(places: Sequence[str], told: Sequence[Told]) -> int:
    """Print what is said of each request, faults apart, and return the exit code."""
    from engine_ops.cli.printing import report

    for place, one in zip(places, told, strict=True):
        for fault in one.faults:
            report(f"{place}: {fault}")
    click.echo("\n".join(one.text for one in told if one.text), nl=False)
    return max((one.exit_code for one in told), default=0)
