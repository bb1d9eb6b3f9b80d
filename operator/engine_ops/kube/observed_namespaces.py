"""Which namespaces the administrator asked to observe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from engine_ops.kube.connection import Connection
from engine_ops.kube.watch import Watch
from engine_ops.kube.watch_source import Resource
from engine_ops.kube.watch_timings import Timings
from engine_ops.kube.watched import Watched


class _Metadata(msgspec.Struct, gc=False):
    name: str


class _Namespace(msgspec.Struct, gc=False):
    metadata: _Metadata


_NAMESPACE: Final = msgspec.json.Decoder(_Namespace)


def _name_of(raw: msgspec.Raw) -> str:
    return _NAMESPACE.decode(raw).metadata.name


class ObservedNamespaces:
    """The namespaces whose labels match, by a watch of their metadata that begins with the first use.

    Parameters
    ----------
    connection
        To the API server.
    selector
        A label selector as text, such as ``observe=yes``; the server applies it.
    among
        Only these; none for all.
    idle_seconds
        After so long without use the watch ends.
    timings
        Of the watch.
    """

    def __init__(
        self, connection: Connection, selector: str, among: Sequence[str], *, idle_seconds: float, timings: Timings
    ) -> None:
        self._among = frozenset(among)
        resource = Resource(
            "namespaces",
            "/api/v1/namespaces",
            frozenset({"PartialObjectMetadata", "Namespace"}),
            _name_of,
            {"labelSelector": selector},
            metadata_only=True,
        )
        self._watched: Watched[Watch[str]] = Watched(
            lambda: Watch(connection, resource, timings), "list and watch namespaces", "", idle_seconds
        )

    async def names(self) -> list[str]:
        """Return them, sorted; at most five seconds old.

        Raises
        ------
        SourceError
            If namespaces cannot be watched, or the selector is none.
        """
        watch = await self._watched.current()
        return sorted(name for name in watch.records.values() if not self._among or name in self._among)

    async def close(self) -> None:
        """End the watch."""
        await self._watched.close()
