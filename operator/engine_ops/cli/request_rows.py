"""The table of `engine-ops requests`, and its changes as they come."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
from collections.abc import Iterable, Sequence
from typing import Any, Final

import click
import msgspec

from engine_ops.cli.ages import format_age, seconds_since
from engine_ops.cli.colours import Colour, Painted
from engine_ops.cli.printing import format_table
from engine_ops.kube.connection import Connection
from engine_ops.kube.paths import REQUEST, requests_path
from engine_ops.kube.reading import REQUEST_DECODER, RequestRow, list_requests
from engine_ops.kube.watch import Watch
from engine_ops.kube.watch_source import Resource
from engine_ops.kube.watch_timings import Timings

HEADERS: Final = ("NAME", "TYPE", "STATE", "REASON", "SOLVED-BY", "SCORE", "GAP", "AGE")
LOOK_SECONDS: Final = 0.25
"""How often changes are looked for. They come by themselves; this is for what is printed."""

_COLOURS: Final = {
    "ready": Colour.GOOD,
    "stalled": Colour.BAD,
    "waiting": Colour.WAITING,
    "solving": Colour.WAITING,
    "unseen": Colour.WAITING,
    "suspended": Colour.PALE,
}


@dataclasses.dataclass(frozen=True, slots=True)
class Shown:
    """Requests that are shown.

    Parameters
    ----------
    namespace
        Whose; empty for all.
    rows
        The requests.
    """

    namespace: str
    rows: Sequence[RequestRow]

    def to_dict(self) -> dict[str, Any]:
        """Return everything, as JSON values."""
        return {"requests": [row.to_dict() for row in self.rows], "count": len(self.rows)}

    def to_table(self) -> str:
        """Return the table."""
        return format_table(headers_for(self.namespace), [cells_of(row, self.namespace) for row in self.rows])


def headers_for(namespace: str) -> tuple[str, ...]:
    """Return the headers: with a column for namespaces where there may be several."""
    return HEADERS if namespace else ("NAMESPACE", *HEADERS)


def cells_of(row: RequestRow, namespace: str) -> tuple[str, ...]:
    """Return the cells of one request."""
    shown = row.to_dict()
    age = seconds_since(shown["createdAt"], datetime.datetime.now(datetime.UTC))
    cells = (
        shown["name"],
        shown["type"],
        Painted(shown["state"], _COLOURS[shown["state"]]),
        shown["reason"] or "",
        shown["solvedBy"] or "",
        "" if shown["score"] is None else f"{shown['score']:g}",
        "" if shown["gap"] is None else f"{shown['gap'] * 100:.1f} %",
        format_age(age),
    )
    return cells if namespace else (shown["namespace"], *cells)


async def follow(connection: Connection, namespace: str, selector: str, states: frozenset[str]) -> None:
    """Print requests, and then each that has changed, until it is cancelled.

    Parameters
    ----------
    connection
        To the API server.
    namespace
        Empty for all.
    selector
        Of labels; empty for none.
    states
        Those that are shown; empty for all.

    Raises
    ------
    ApiError, UnavailableError
        If the requests cannot be listed at first. What fails later is tried again.
    """
    # Once by itself: a watch that may not be opened is tried for ever, and says nothing.
    await list_requests(connection, namespace, selector)
    resource = Resource(
        plural=REQUEST.plural,
        path=requests_path(namespace),
        kinds=frozenset({REQUEST.kind}),
        decode=_decode,
        params={"labelSelector": selector} if selector else {},
    )
    watch = Watch(connection, resource, Timings())
    watch.start()
    changes = Changes(namespace, states)
    try:
        seen = -1
        while True:
            if watch.complete and watch.changes != seen:
                seen = watch.changes
                click.echo(changes.tell(watch.records.values()), nl=False)
            await asyncio.sleep(LOOK_SECONDS)
    finally:
        await watch.close()


class Changes:
    """Tells which requests have changed, as lines of a table whose headers come once.

    Parameters
    ----------
    namespace
        Of all of them; empty for all namespaces.
    states
        Those that are shown; empty for all.
    """

    def __init__(self, namespace: str, states: frozenset[str]) -> None:
        self._namespace = namespace
        self._states = states
        self._headers: tuple[str, ...] | None = None
        self._told: dict[tuple[str, str], tuple[str, ...]] = {}

    def tell(self, rows: Iterable[RequestRow]) -> str:
        """Return a line for each request that was not told as it is now. Its age alone is no change."""
        changed = []
        for row in rows:
            if self._states and row.state not in self._states:
                continue
            key = (row.metadata.namespace, row.metadata.name)
            cells = cells_of(row, self._namespace)
            if self._told.get(key) != cells[:-1]:
                self._told[key] = cells[:-1]
                changed.append(cells)
        if self._headers is not None:
            return format_table(self._headers, changed).partition("\n")[2]
        headers = headers_for(self._namespace)
        widths = [max(map(len, column)) for column in zip(headers, *changed, strict=True)]
        # What comes later stands below the same headers.
        self._headers = tuple(header.ljust(width) for header, width in zip(headers, widths, strict=True))
        return format_table(self._headers, changed)


def _decode(raw: msgspec.Raw) -> RequestRow:
    return REQUEST_DECODER.decode(raw)
