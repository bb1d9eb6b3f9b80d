"""`engine-ops solve`: answers without an operator."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from engine_ops.cli.cluster_options import ClusterOptions, cluster_options

if TYPE_CHECKING:
    from engine_ops.cli.answering import Answered


@click.command("solve")
@click.option(
    "--filename",
    "-f",
    "names",
    multiple=True,
    metavar="FILE",
    help="A file or directory of YAML or JSON manifests, or - for standard input; may be repeated.",
)
@cluster_options
@click.option("--output", "-o", type=click.Choice(["table", "yaml", "json"]), default="table", show_default=True)
@click.option(
    "--search-seconds",
    type=click.FloatRange(0, 3600),
    help="In place of spec.searchSeconds; spec.timeoutSeconds still holds.",
)
def command(
    *, names: tuple[str, ...], output: str, search_seconds: float | None, cluster_options: ClusterOptions
) -> None:
    """Answer OptimizationRequests without an operator.

    Prints each request with the status that the operator would write, the whole result in it. ConfigMaps among the
    documents are the source for dataFrom; other kinds are left out.

    Questions about a cluster (dataFrom.cluster) need one: a dump (--dump), or a live one (--kubeconfig, --context),
    which is only read. --type asks about the whole of it, without a manifest.

    Exits with 0 if every request is answered, 1 if one is not answerable (something fits nowhere, or is waited for),
    2 if a manifest or its data is wrong; every fault is named with its path.
    """
    import asyncio

    from engine_ops.cli.cluster_options import told_to_the_user
    from engine_ops.cli.stdin import read_stdin

    if not names and cluster_options.request_type is None:
        raise click.UsageError("give manifests with --filename (-f), or --type for a question about a cluster")
    cluster_options.check(names)
    stdin = read_stdin(cluster_options.files(names))
    with told_to_the_user():
        code = asyncio.run(_read_and_solve(names, stdin, output, search_seconds, cluster_options))
    sys.exit(code)


async def _read_and_solve(
    names: Sequence[str], stdin: bytes, output: str, search_seconds: float | None, options: ClusterOptions
) -> int:
    from engine_ops.workers.early_pool import EarlyPool

    async with EarlyPool() as pool:
        from engine_ops.cli.answering import Outcome, answer_all
        from engine_ops.cli.cluster_options import open_cluster
        from engine_ops.cli.manifests import read_manifests
        from engine_ops.cli.printing import report

        manifests = read_manifests(names, stdin)
        for line in (*manifests.notes, *manifests.faults):
            report(line)
        async with open_cluster(options, stdin) as cluster:
            answers = await answer_all(
                options.with_plain(manifests), pool, search_seconds=search_seconds, cluster=cluster
            )
    for answered in answers:
        for fault in answered.faults:
            report(f"{answered.request.where}: {fault}")
    if answers:
        click.echo(_format(answers, output), nl=False)
        _show_pictures(answers, options, in_terminal=output == "table")
    outcomes = [answered.outcome for answered in answers]
    if manifests.faults:
        outcomes.append(Outcome.INVALID)
    return max(outcomes, default=Outcome.DONE)


def _show_pictures(answers: list[Answered], options: ClusterOptions, *, in_terminal: bool) -> None:
    from engine_ops.cli.cluster_options import show_pictures

    found = [
        (answered.request.name, answered.question.picture(answered.status["result"]))
        for answered in answers
        if answered.question is not None and "result" in answered.status
    ]
    show_pictures(found, options, in_terminal=in_terminal)


def _format(answers: list[Answered], output: str) -> str:
    from engine_ops.cli.printing import format_json, format_yaml
    from engine_ops.cli.summary import format_answers

    if output == "table":
        return format_answers(answers)
    objects = [answered.to_manifest() for answered in answers]
    return format_yaml(objects) if output == "yaml" else format_json(objects)
