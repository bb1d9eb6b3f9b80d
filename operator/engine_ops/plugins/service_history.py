"""The history on its way to a plugin's service: all of it once, then what is new."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import msgspec

from engine_ops.plugins.service_client import ServiceClient, ServiceProblemError
from engine_ops.plugins.service_messages import NOT_OFFERED, HistoryKept, to_wire_point

if TYPE_CHECKING:
    from engine_ops.history.feed import HistoryUpdate
    from engine_ops.plugins.process_instance import HistorySource

logger = logging.getLogger(__name__)

POST_BYTES: Final = 4 * 2**20
"""Of the points of one request, roughly."""

TRAINING_BYTES: Final = 60 * 2**20
"""Of the points that go with a training."""

_CONFLICT: Final = 409


class HistorySender:
    """Sends to one service what it does not have of the history. For one event loop; one call at a time.

    Parameters
    ----------
    client
        To the service.
    feed
        What is sent; None where no history is kept.
    """

    def __init__(self, client: ServiceClient, feed: HistorySource | None) -> None:
        self._client = client
        self._feed = feed
        self._lock = asyncio.Lock()
        self._is_wanted = feed is not None
        self.forget()

    @property
    def is_wanted(self) -> bool:
        """Whether the service keeps a history, as far as it has said."""
        return self._is_wanted

    def forget(self) -> None:
        """Send everything the next time: the service may have forgotten it."""
        self._cursor = None if self._feed is None else self._feed.cursor()
        self._name = uuid.uuid4().hex
        self._is_wanted = self._feed is not None

    async def send(self, *, timeout_seconds: float) -> HistoryKept | None:
        """Send what is new; everything again to a service that has lost track.

        Parameters
        ----------
        timeout_seconds
            For each request.

        Returns
        -------
        HistoryKept or None
            What the service said last; None where there was nothing to send.

        Raises
        ------
        ServiceFaultError
            If it could not be sent. The next time it is all of it. A service that refuses it gets none, until `forget`.
        """
        async with self._lock:
            try:
                try:
                    return await self._send(timeout_seconds)
                except ServiceProblemError as error:
                    if error.status != _CONFLICT:
                        raise
                    self.forget()
                    return await self._send(timeout_seconds)
            except ServiceProblemError as error:
                if error.status not in NOT_OFFERED:
                    logger.warning("%s refuses the history: %s", self._client.base_url, error.message)
                self.forget()
                self._is_wanted = False
                return None
            except BaseException:
                # Nobody knows what has arrived.
                self.forget()
                raise

    async def all_points(self) -> list[msgspec.Raw]:
        """Return the newest points as JSON, oldest first, as many as go with a training."""
        if self._feed is None:
            return []
        points: list[msgspec.Raw] = []
        for update in self._feed.updates_for(self._feed.cursor()):
            points += await asyncio.to_thread(_all_of, update)
        size, kept = 0, 0
        for point in reversed(points):
            size += len(bytes(point)) + 1
            if size > TRAINING_BYTES:
                break
            kept += 1
        return points[len(points) - kept :]

    async def _send(self, timeout_seconds: float) -> HistoryKept | None:
        said, name = None, self._name
        if self._feed is None or not self._is_wanted:
            return None
        for update in self._feed.updates_for(self._cursor):
            reset = update.reset
            posts = _posts(update)
            while (points := await asyncio.to_thread(next, posts, None)) is not None:
                body = {"feed": name, "reset": reset, "size": update.size, "points": points}
                content = await asyncio.to_thread(msgspec.json.encode, body)
                said = await self._client.post("/history", content, HistoryKept, timeout_seconds=timeout_seconds)
                reset = False
        return said


def _all_of(update: HistoryUpdate) -> list[msgspec.Raw]:
    return [point for post in _posts(update) for point in post]


def _posts(update: HistoryUpdate) -> Iterator[list[msgspec.Raw]]:
    """Yield the points of an update as JSON, so many at a time that a request holds them; one list at least."""
    from engine_ops.history.view import HistoryView

    view = HistoryView()
    view.apply(msgspec.structs.replace(update, reset=True, size=sum(map(len, update.runs))))
    size = 0
    points: list[msgspec.Raw] = []
    for point in view:
        encoded = msgspec.json.encode(to_wire_point(point))
        if size + len(encoded) > POST_BYTES:
            yield points
            size, points = 0, []
        size += len(encoded) + 1
        points.append(msgspec.Raw(encoded))
    yield points
