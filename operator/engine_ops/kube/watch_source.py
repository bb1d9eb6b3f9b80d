"""What a watch asks of the server, and in which words."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Final, Generic, TypeVar

import msgspec

from engine_ops.kube.channel import Channel, Stream, close_quietly
from engine_ops.kube.connection import JSON, METADATA_LIST, METADATA_ONLY, Connection
from engine_ops.kube.errors import UnavailableError
from engine_ops.kube.watch_events import GarbageError, ListPage, parse_page
from engine_ops.kube.watch_timings import Timings

PAGE_SIZE: Final = 500

RecordT = TypeVar("RecordT")


@dataclasses.dataclass(frozen=True, slots=True)
class Resource(Generic[RecordT]):
    """What is watched.

    Parameters
    ----------
    plural
        For messages, such as ``pods``.
    path
        Of the collection.
    kinds
        Of the objects in the events.
    decode
        Makes the record of an object's JSON; None for an object that does not belong into the view. Whatever it
        raises makes the object garbage.
    params
        Selectors.
    metadata_only
        Whether the metadata of the objects is all that is asked for.
    """

    plural: str
    path: str
    kinds: frozenset[str]
    decode: Callable[[msgspec.Raw], RecordT | None]
    params: Mapping[str, str] = dataclasses.field(default_factory=dict)
    metadata_only: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """The server as the source of one resource. Whatever it is asked raises `ApiError` or `UnavailableError`.

    Parameters
    ----------
    connection
        To it.
    path, params, metadata_only
        As `Resource` has them.
    timings
        How long to wait for what.
    """

    connection: Connection
    path: str
    params: Mapping[str, str]
    metadata_only: bool
    timings: Timings

    def new_channel(self) -> Channel:
        """Return a connection of its own; nothing is sent yet."""
        return Channel(self.connection)

    async def open_list(self) -> Stream:
        """Return a stream that begins with everything there is, as of now or later, and goes on with the changes."""
        # Without a resourceVersion it is a consistent read.
        return await self._open(
            self.new_channel(), {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
        )

    async def open_changes(self, channel: Channel, version: int) -> Stream:
        """Return a stream of what has changed since ``version``. The channel is the stream's, or closed."""
        return await self._open(channel, {"resourceVersion": str(version)})

    async def pages(self) -> AsyncGenerator[tuple[ListPage, list[tuple[str, msgspec.Raw]]], None]:
        """Yield everything there is, in pages. Raises `GarbageError` for a page that is none."""
        channel = self.new_channel()
        accept = _or_whole(METADATA_LIST) if self.metadata_only else JSON
        params = {**self.params, "limit": str(PAGE_SIZE)}
        try:
            while True:
                body = await channel.get(
                    self.path, params=params, accept=accept, timeout_seconds=self.timings.open_seconds
                )
                page, items = parse_page(body)
                yield page, items
                if not page.metadata.continue_token:
                    return
                params["continue"] = page.metadata.continue_token
        finally:
            await close_quietly(channel)

    async def newest_version(self, channel: Channel) -> int:
        """Return a resourceVersion that the server was at after this was called: a consistent read of one object."""
        body = await channel.get(
            self.path, params={"limit": "1"}, accept=_or_whole(METADATA_LIST), timeout_seconds=self.timings.ask_seconds
        )
        try:
            return parse_page(body)[0].version
        except GarbageError as error:
            raise UnavailableError(f"{self.path}: no list: {error}") from error

    async def _open(self, channel: Channel, params: Mapping[str, str]) -> Stream:
        try:
            return await channel.stream(
                self.path,
                params={
                    **self.params,
                    **params,
                    "watch": "true",
                    "allowWatchBookmarks": "true",
                    "timeoutSeconds": self.timings.stream_timeout(),
                },
                accept=_or_whole(METADATA_ONLY) if self.metadata_only else JSON,
                timeout_seconds=self.timings.open_seconds,
            )
        except BaseException:
            await close_quietly(channel)
            raise


def _or_whole(accept: str) -> str:
    """Let a server that cannot leave anything out send whole objects."""
    return f"{accept},{JSON}"
