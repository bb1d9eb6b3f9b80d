"""The options that commands about a cluster share, and what keeps them from it, in sentences."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

if TYPE_CHECKING:
    from engine_ops.kube.connection import Connection

_Function = TypeVar("_Function", bound=Callable[..., Any])
_Answer = TypeVar("_Answer")

DEFAULT_OPERATOR_NAMESPACE: Final = "engine-ops-system"
"""Where the manifests install the operator."""

_UNDEFINED: Final = (
    "the API server does not know this resource: the custom resource definitions are missing. "
    "Apply them: engine-ops crds | kubectl apply --server-side -f -"
)


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Which cluster.

    Parameters
    ----------
    kubeconfig
        A file; None for the usual places.
    context
        Of the kubeconfig; None for its current one.
    """

    kubeconfig: str | None = None
    context: str | None = None

    def ask(self, question: Callable[[Connection], Awaitable[_Answer]]) -> _Answer:
        """Open a connection with the user's own rights, ask something, and close it.

        Raises
        ------
        ClickException
            If the API server cannot be reached, or with its sentence if it refuses.
        """
        import asyncio

        from engine_ops.kube.errors import ApiError, ConnectError, UnavailableError

        try:
            return asyncio.run(self._ask(question))
        except (ConnectError, UnavailableError) as error:
            raise click.ClickException(str(error)) from error
        except ApiError as error:
            # Of an object that is not there the server speaks in a Status; of a resource that it does not know, not.
            undefined = error.status == 404 and not error.reason
            raise click.ClickException(_UNDEFINED if undefined else error.message) from error

    async def _ask(self, question: Callable[[Connection], Awaitable[_Answer]]) -> _Answer:
        import logging

        from engine_ops.cli.live_cluster import connect

        # The client warns of what is raised as an error anyway.
        logging.getLogger("kubernetes").setLevel(logging.ERROR)
        async with connect(self.kubeconfig, self.context) as connection:
            return await question(connection)


def place_options(function: _Function) -> _Function:
    """Add ``--kubeconfig`` and ``--context`` to a command, which takes them as ``place``."""

    @functools.wraps(function)
    def with_place(*, kubeconfig: str | None, context: str | None, **others: Any) -> Any:
        return function(place=Place(kubeconfig, context), **others)

    decorated: Any = with_place
    for option in reversed(_PLACE):
        decorated = option(decorated)
    added: _Function = decorated
    return added


_PLACE: Final = (
    click.option(
        "--kubeconfig",
        type=click.Path(dir_okay=False),
        help="Of the cluster. Default: KUBECONFIG, the Pod's own, ~/.kube/config.",
    ),
    click.option("--context", metavar="NAME", help="Of the kubeconfig. Default: its current one."),
)

operator_namespace_option: Final = click.option(
    "--namespace",
    "-n",
    "operator_namespace",
    metavar="NAME",
    default=DEFAULT_OPERATOR_NAMESPACE,
    show_default=True,
    help="The operator's own.",
)

output_option: Final = click.option(
    "-o",
    "--output",
    "shape",
    type=click.Choice(["table", "json", "yaml"]),
    default="table",
    show_default=True,
    help="json and yaml hold everything, under names that stay.",
)


def encode(document: dict[str, Any], shape: str) -> str:
    """Return a document as ``json`` or ``yaml``."""
    from engine_ops.cli.printing import format_json, format_yaml

    return format_json([document]) if shape == "json" else format_yaml([document])
