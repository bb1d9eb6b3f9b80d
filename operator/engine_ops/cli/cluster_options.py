"""The options for questions about a cluster that `engine-ops solve` and `engine-ops explain` share."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from engine_ops.cli.cluster_question import ClusterReader
    from engine_ops.cli.fills import Picture
    from engine_ops.cli.manifests import Manifests

_Function = TypeVar("_Function", bound=Callable[..., Any])


@dataclasses.dataclass(frozen=True, slots=True)
class ClusterOptions:
    """Where the cluster comes from, and how answers about it are shown.

    Parameters
    ----------
    dump
        A file of objects as JSON, or ``-``.
    kubeconfig, context
        Of a live cluster.
    request_type
        Of a question about the whole cluster, without a manifest.
    picture
        Whether answers are drawn in the terminal.
    plot
        The file to draw them into.
    """

    dump: str | None = None
    kubeconfig: str | None = None
    context: str | None = None
    request_type: str | None = None
    picture: bool = True
    plot: Path | None = None

    @property
    def live(self) -> bool:
        """Whether a live cluster is asked for."""
        return self.kubeconfig is not None or self.context is not None

    def files(self, names: Sequence[str]) -> list[str]:
        """Return all files that are read."""
        return [*names, *([] if self.dump is None else [self.dump])]

    def check(self, names: Sequence[str]) -> None:
        """Fail before any work is done for what could not be shown.

        Raises
        ------
        UsageError
            If the options exclude each other, or the plot cannot be written.
        """
        if self.files(names).count("-") > 1:
            raise click.UsageError("standard input can be read only once: either -f - or --dump -")
        if self.plot is not None:
            from engine_ops.cli.plot import PlotError, check_target

            try:
                check_target(self.plot)
            except PlotError as error:
                raise click.UsageError(str(error)) from error

    def with_plain(self, manifests: Manifests) -> Manifests:
        """Return the manifests and, where one is asked, the question without a manifest."""
        if self.request_type is None:
            return manifests
        from engine_ops.cli.cluster_question import plain_question

        return dataclasses.replace(manifests, requests=[*manifests.requests, plain_question(self.request_type)])


def cluster_options(function: _Function) -> _Function:
    """Add the options to a command, which takes them as ``cluster_options``."""

    @functools.wraps(function)
    def with_options(
        *,
        dump: str | None,
        kubeconfig: str | None,
        context: str | None,
        request_type: str | None,
        picture: bool,
        plot: Path | None,
        **others: Any,
    ) -> Any:
        options = ClusterOptions(dump, kubeconfig, context, request_type, picture, plot)
        return function(cluster_options=options, **others)

    decorated: Any = with_options
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    added: _Function = decorated
    return added


_OPTIONS = (
    click.option(
        "--dump",
        metavar="FILE",
        help="The cluster that questions are about: what `kubectl get nodes,pods,namespaces -A -o json` printed, or - "
        "for standard input.",
    ),
    click.option(
        "--kubeconfig",
        type=click.Path(dir_okay=False),
        help="To reach a live cluster. Default: KUBECONFIG, the Pod's own, ~/.kube/config.",
    ),
    click.option("--context", metavar="NAME", help="Of the kubeconfig. Default: its current one."),
    click.option(
        "--type",
        "request_type",
        type=click.Choice(["scheduling", "resource"]),
        help="Ask about the whole cluster, without a manifest: where the pending pods would go (scheduling), or how "
        "many nodes would do for those that run (resource).",
    ),
    click.option("--picture/--no-picture", default=True, help="Whether nodes are drawn, before and after."),
    click.option(
        "--plot",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Draw the nodes into this file too, an .svg or .png. Needs engine-ops[plot].",
    ),
)


@contextlib.asynccontextmanager
async def open_cluster(options: ClusterOptions, stdin: bytes) -> AsyncIterator[ClusterReader]:
    """Open the cluster that the options name: a dump, a live one, or none.

    Raises
    ------
    InvalidDataError
        If the dump cannot be read.
    ConnectError
        If there are no credentials.
    """
    if options.dump is not None:
        from engine_ops.cli.cluster_dump import DumpReader

        yield DumpReader(options.dump, stdin)
    elif options.live:
        from engine_ops.cli.live_cluster import LiveReader, connect

        async with connect(options.kubeconfig, options.context) as connection:
            yield LiveReader(connection)
    else:
        from engine_ops.cli.cluster_question import NoCluster

        yield NoCluster()


def show_pictures(pictures: Sequence[tuple[str, Picture]], options: ClusterOptions, *, in_terminal: bool) -> None:
    """Draw answers, each with the name of its request, where the options want them.

    Raises
    ------
    ClickException
        If a file cannot be written.
    """
    from engine_ops.cli.printing import report

    if in_terminal and options.picture and pictures:
        from engine_ops.cli.picture import Canvas, draw

        canvas = Canvas.of_stdout()
        for name, picture in pictures:
            click.echo(f"\n{draw(picture.called(name), canvas)}", nl=False)
    if options.plot is None:
        return
    if not pictures:
        report(f"--plot {options.plot}: not written: there is no answer about a cluster")
        return
    from engine_ops.cli.plot import PlotError, write_plot

    try:
        write_plot([picture.called(name) for name, picture in pictures], options.plot)
    except PlotError as error:
        raise click.ClickException(str(error)) from error


@contextlib.contextmanager
def told_to_the_user() -> Iterator[None]:
    """Say in a sentence what keeps a command from its work: no workers, a bad dump, no credentials.

    Raises
    ------
    ClickException
        With the sentence; exit code 2 for a bad dump, else 1.
    """
    from engine_ops.api.faults import InvalidDataError
    from engine_ops.cli.printing import report
    from engine_ops.kube.errors import ConnectError
    from engine_ops.workers.errors import WorkerStartError

    try:
        yield
    except (ConnectError, WorkerStartError) as error:
        raise click.ClickException(str(error)) from error
    except InvalidDataError as error:
        for fault in error.faults:
            report(str(fault))
        raise click.exceptions.Exit(2) from error
