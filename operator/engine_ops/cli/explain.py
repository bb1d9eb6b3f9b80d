"""`engine-ops explain`: why an answer is as it is."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from engine_ops.cli.cluster_options import ClusterOptions, cluster_options
from engine_ops.cli.names import complete_namespaces, complete_requests

if TYPE_CHECKING:
    from engine_ops.cli.explaining import Told


@click.command("explain")
@click.argument("resources", nargs=-1, metavar="[NAME | optreq/NAME]...", shell_complete=complete_requests)
@click.option(
    "--filename",
    "-f",
    "files",
    multiple=True,
    metavar="FILE",
    help="A file or directory of manifests, or - for standard input, in place of a cluster; may be repeated.",
)
@click.option(
    "--namespace",
    "-n",
    shell_complete=complete_namespaces,
    help="Of the requests in the cluster. Default: the current context's.",
)
@click.option(
    "--pod", "pods", multiple=True, metavar="NAMESPACE/NAME", help="Explain this pod, or task; may be repeated."
)
@click.option("--node", "nodes", multiple=True, metavar="NAME", help="Explain this node; may be repeated.")
@cluster_options
def command(
    *,
    resources: tuple[str, ...],
    files: tuple[str, ...],
    namespace: str | None,
    pods: tuple[str, ...],
    nodes: tuple[str, ...],
    cluster_options: ClusterOptions,
) -> None:
    """Print why an answer is as it is, for each item, task or container.

    Takes requests in the cluster by their names, or manifests (-f): one with a status that answers it is explained as
    it stands, any other is solved first. Of a request without an answer the conditions are printed, and
    what it waits for.

    An answer about a cluster (dataFrom.cluster) is explained by the cluster as it is now, or by a dump (--dump).
    --pod says for one pod how many nodes each filter leaves and which are best; --node says what is on a node and what
    it lacks. --type asks about the whole cluster, without a request.

    Exits with 0 if every answer is explained, 1 if there is none or it cannot be read, 2 if a manifest, its data or
    its result is wrong.
    """
    manifests = bool(files) or cluster_options.request_type is not None
    if bool(resources) == manifests:
        raise click.UsageError("give names of requests in the cluster, or manifests with -f")
    cluster_options.check(files)
    focus = (pods, nodes)
    if manifests:
        sys.exit(_explain_manifests(files, cluster_options, focus))
    sys.exit(_explain_in_cluster(resources, namespace, cluster_options, focus))


_Names = tuple[tuple[str, ...], tuple[str, ...]]
"""Of pods and of nodes."""


def _explain_manifests(files: Sequence[str], options: ClusterOptions, focus: _Names) -> int:
    import asyncio

    from engine_ops.cli.cluster_options import told_to_the_user
    from engine_ops.cli.stdin import read_stdin

    stdin = read_stdin(options.files(files))
    with told_to_the_user():
        return asyncio.run(_read_and_explain(files, stdin, options, focus))


async def _read_and_explain(files: Sequence[str], stdin: bytes, options: ClusterOptions, focus: _Names) -> int:
    from engine_ops.workers.early_pool import EarlyPool

    async with EarlyPool() as pool:
        from engine_ops.cli.cluster_options import open_cluster
        from engine_ops.cli.explaining import tell_manifests
        from engine_ops.cli.focus import Focus
        from engine_ops.cli.manifests import read_manifests
        from engine_ops.cli.printing import report

        manifests = options.with_plain(read_manifests(files, stdin))
        for line in (*manifests.notes, *manifests.faults):
            report(line)
        async with open_cluster(options, stdin) as cluster:
            told = await tell_manifests(manifests, pool, cluster, Focus(*focus))
    places = [request.where for request in manifests.requests]
    return max(2 if manifests.faults else 0, _print(places, told, options))


def _explain_in_cluster(resources: Sequence[str], namespace: str | None, options: ClusterOptions, focus: _Names) -> int:
    import asyncio

    from engine_ops.cli.cluster import name_of, tell_all
    from engine_ops.cli.cluster_dump import DumpReader
    from engine_ops.cli.cluster_options import told_to_the_user
    from engine_ops.cli.focus import Focus
    from engine_ops.cli.stdin import read_stdin
    from engine_ops.kube.errors import ApiError, UnavailableError

    try:
        names = [name_of(resource) for resource in resources]
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    with told_to_the_user():
        dump = None if options.dump is None else DumpReader(options.dump, read_stdin([options.dump]))
        try:
            told = asyncio.run(tell_all(options.kubeconfig, options.context, namespace, names, dump, Focus(*focus)))
        except ApiError as error:
            raise click.ClickException(error.message) from error
        except UnavailableError as error:
            raise click.ClickException(str(error)) from error
    return _print(names, told, options)


def _print(places: Sequence[str], told: Sequence[Told], options: ClusterOptions) -> int:
    """Print what is said of each request, faults apart, and return the exit code."""
    from engine_ops.cli.cluster_options import show_pictures
    from engine_ops.cli.printing import report

    for place, one in zip(places, told, strict=True):
        for fault in one.faults:
            report(f"{place}: {fault}")
    click.echo("\n".join(one.text for one in told if one.text), nl=False)
    show_pictures([(one.name, one.picture) for one in told if one.picture is not None], options, in_terminal=True)
    return max((one.exit_code for one in told), default=0)
