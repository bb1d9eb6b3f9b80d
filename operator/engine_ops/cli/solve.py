"""`engine-ops solve`: answers without an operator."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from engine_ops.cli.answering import Answered


@click.command("solve")
@click.option(
    "--filename",
    "-f",
    "names",
    multiple=True,
    required=True,
    metavar="FILE",
    help="A file or directory of YAML or JSON manifests, or - for standard input; may be repeated.",
)
@click.option("--output", "-o", type=click.Choice(["table", "yaml", "json"]), default="table", show_default=True)
@click.option(
    "--search-seconds",
    type=click.FloatRange(0, 3600),
    help="In place of spec.searchSeconds; spec.timeoutSeconds still holds.",
)
def command(*, names: tuple[str, ...], output: str, search_seconds: float | None) -> None:
    """Answer OptimizationRequests without a cluster.

    Prints each request with the status that the operator would write, the whole result in it. ConfigMaps among the
    documents are the source for dataFrom; other kinds are left out.

    Exits with 0 if every request is answered, 1 if one is not answerable (something fits nowhere, or is waited for),
    2 if a manifest or its data is wrong; every fault is named with its path.
    """
    import asyncio

    from engine_ops.cli.stdin import read_stdin
    from engine_ops.workers.errors import WorkerStartError

    try:
        code = asyncio.run(_read_and_solve(names, read_stdin(names), output, search_seconds))
    except WorkerStartError as error:
        raise click.ClickException(str(error)) from error
    sys.exit(code)


async def _read_and_solve(names: Sequence[str], stdin: bytes, output: str, search_seconds: float | None) -> int:
    from engine_ops.cli.early_pool import EarlyPool

    async with EarlyPool() as pool:
        from engine_ops.cli.answering import Outcome, answer_all
        from engine_ops.cli.manifests import read_manifests
        from engine_ops.cli.printing import report

        manifests = read_manifests(names, stdin)
        for line in (*manifests.notes, *manifests.faults):
            report(line)
        answers = await answer_all(manifests, pool, search_seconds=search_seconds)
    for answered in answers:
        for fault in answered.faults:
            report(f"{answered.request.where}: {fault}")
    if answers:
        click.echo(_format(answers, output), nl=False)
    outcomes = [answered.outcome for answered in answers]
    if manifests.faults:
        outcomes.append(Outcome.INVALID)
    return max(outcomes, default=Outcome.DONE)


def _format(answers: list[Answered], output: str) -> str:
    from engine_ops.cli.printing import format_json, format_yaml
    from engine_ops.cli.summary import format_answers

    if output == "table":
        return format_answers(answers)
    objects = [answered.to_manifest() for answered in answers]
    return format_yaml(objects) if output == "yaml" else format_json(objects)
