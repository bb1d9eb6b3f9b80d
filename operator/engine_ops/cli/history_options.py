"""The options that the commands of `engine-ops history` share, and where they lead."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

if TYPE_CHECKING:
    from engine_ops.cli.history_view import HistoryView

_Function = TypeVar("_Function", bound=Callable[..., Any])
DEFAULT_NAMESPACE: Final = "engine-ops-system"
"""Where the manifests install the operator."""


@dataclasses.dataclass(frozen=True, slots=True)
class HistoryPlace:
    """Where the history is: a directory, or the operator's namespace in a cluster.

    Parameters
    ----------
    store
        A directory; None for a cluster.
    kubeconfig, context
        Of the cluster.
    operator_namespace
        The operator's.
    """

    store: Path | None = None
    kubeconfig: str | None = None
    context: str | None = None
    operator_namespace: str = DEFAULT_NAMESPACE

    def read(self) -> HistoryView:
        """Read all of it.

        Raises
        ------
        ClickException
            If there is none, or it cannot be read.
        """
        with told_to_the_user(self):
            if self.store is not None:
                from engine_ops.cli.history_view import read_directory

                view = read_directory(self.store)
            else:
                view = asyncio.run(self._read_cluster())
        if not view.is_there:
            raise click.ClickException(self._nothing())
        return view

    async def _read_cluster(self) -> HistoryView:
        from engine_ops.cli.history_view import read_cluster
        from engine_ops.cli.live_cluster import connect

        async with connect(self.kubeconfig, self.context) as connection:
            return await read_cluster(connection, self.operator_namespace)

    def _nothing(self) -> str:
        if self.store is not None:
            begin = f"`engine-ops history import FILE... --store {self.store}` begins one"
            return f"there is no history in {self.store}: {begin}"
        return (
            f"there is no history in namespace {self.operator_namespace}: is the operator in another one "
            "(--namespace), or has it recorded nothing yet?"
        )


def place_options(function: _Function) -> _Function:
    """Add the options that say where the history is; the command takes them as ``place``."""

    @functools.wraps(function)
    def with_place(
        *,
        store: Path | None,
        kubeconfig: str | None,
        context: str | None,
        operator_namespace: str | None,
        **others: Any,
    ) -> Any:
        if store is not None and (kubeconfig or context or operator_namespace):
            raise click.UsageError(
                "--store names a directory: it goes with no option of a cluster (points of a namespace: --of-namespace)"
            )
        place = HistoryPlace(store, kubeconfig, context, operator_namespace or DEFAULT_NAMESPACE)
        return function(place=place, **others)

    added: _Function = _with(with_place, _PLACE)
    return added


def filter_options(function: _Function) -> _Function:
    """Add the options that choose points; the command takes them as ``filters``, for `WorkloadCollector.select`."""

    @functools.wraps(function)
    def with_filters(
        *, request_type: str | None, points_namespace: str | None, start: int | None, end: int | None, **others: Any
    ) -> Any:
        if start is not None and end is not None and start > end:
            raise click.UsageError("--from is later than --to")
        chosen = {"type": request_type, "namespace": points_namespace, "start": start, "end": end}
        return function(filters={name: value for name, value in chosen.items() if value is not None}, **others)

    added: _Function = _with(with_filters, _FILTERS)
    return added


@contextlib.contextmanager
def told_to_the_user(place: HistoryPlace) -> Iterator[None]:
    """Say in a sentence what keeps a command from the history.

    Raises
    ------
    ClickException
        With the sentence.
    """
    from engine_ops.history.store import StoreError

    try:
        yield
    except StoreError as error:
        where = place.store or f"namespace {place.operator_namespace}"
        raise click.ClickException(f"the history in {where} cannot be used: {_why(error)}") from error
    except RuntimeError as error:
        from engine_ops.kube.errors import ConnectError

        if not isinstance(error, ConnectError):
            raise
        raise click.ClickException(str(error)) from error


def _why(error: Exception) -> str:
    from engine_ops.kube.errors import ApiError

    cause = error.__cause__
    if isinstance(cause, ApiError) and cause.status == 403:
        needs = "reading it needs get and list of ConfigMaps there, import also create, update and delete"
        return f"{cause.message}: {needs}"
    return str(error)


class Moment(click.ParamType[int]):
    """A moment as epoch milliseconds: an ISO 8601 date or time (UTC unless it says), or epoch milliseconds.

    Parameters
    ----------
    last
        A date alone means its last millisecond and not its first.
    """

    name = "time"

    def __init__(self, *, last: bool = False) -> None:
        self._last = last

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """See `click.ParamType.convert`."""
        text = str(value)
        try:
            if text.lstrip("-").isdecimal() and len(text) > 8:
                return int(text)
            moment = datetime.datetime.fromisoformat(text)
        except ValueError:
            self.fail(f"{text!r} is neither a date such as 2026-01-31T12:00 nor epoch milliseconds", param, ctx)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=datetime.UTC)
        if self._last and len(text) <= len("2026-01-31"):
            moment += datetime.timedelta(days=1, milliseconds=-1)
        return round(moment.timestamp() * 1000)


def _with(function: Callable[..., Any], options: Sequence[Callable[[Any], Any]]) -> Any:
    for option in reversed(options):
        function = option(function)
    decorated: Any = function
    return decorated


_PLACE = (
    click.option(
        "--store",
        type=click.Path(file_okay=False, path_type=Path),
        metavar="DIR",
        help="A directory. Default: the history of the operator in a cluster.",
    ),
    click.option(
        "--kubeconfig",
        type=click.Path(dir_okay=False),
        help="Of the cluster. Default: KUBECONFIG, the Pod's own, ~/.kube/config.",
    ),
    click.option("--context", metavar="NAME", help="Of the kubeconfig. Default: its current one."),
    click.option(
        "--namespace",
        "-n",
        "operator_namespace",
        metavar="NAME",
        help=f"The operator's own, where the history is.  [default: {DEFAULT_NAMESPACE}]",
    ),
)
_FILTERS = (
    click.option("--type", "request_type", metavar="TYPE", help="Only points of this type, such as observed-job."),
    click.option("--of-namespace", "points_namespace", metavar="NAME", help="Only points about this namespace."),
    click.option("--from", "start", type=Moment(), metavar="TIME", help="Only from then on: a date, a time (UTC)."),
    click.option("--to", "end", type=Moment(last=True), metavar="TIME", help="Only until then, inclusive."),
)
