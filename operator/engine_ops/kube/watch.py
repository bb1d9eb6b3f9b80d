"""A view of all objects of one resource that follows the server, whatever happens to the connection."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import Final, Generic, TypeVar

from engine_ops.kube.channel import Channel, Stream, close_quietly
from engine_ops.kube.connection import Connection
from engine_ops.kube.errors import ApiError, UnavailableError
from engine_ops.kube.watch_events import GarbageError, parse_line
from engine_ops.kube.watch_faults import Faults, refuses_streaming
from engine_ops.kube.watch_handover import Handover, Opened
from engine_ops.kube.watch_source import Resource, Source
from engine_ops.kube.watch_timings import Timings
from engine_ops.kube.watch_view import Batch, Counters, JumpedBackError, View

logger = logging.getLogger(__name__)

_MOVING_SECONDS: Final = 0.2
_NEXT_EVENT_SECONDS: Final = 0.02
"""On a resource that changes often the next event proves more, at less cost, than opening the watch anew."""
_ATTEMPTS: Final = 5
_SAME_SERVER_ATTEMPTS: Final = 2

RecordT = TypeVar("RecordT")


class Watch(Generic[RecordT]):
    """Follows one resource from `start` to `close`.

    The list comes as a stream of events (``sendInitialEvents``), so that neither side holds all of it in one piece;
    from a server that refuses this, in pages. A stream that ends is taken up where it ended. Where that is not
    possible (410, a line that cannot be read, a server that has jumped back) the list is made anew, and the old view
    stays until the new one is complete.

    Parameters
    ----------
    connection
        To the API server.
    resource
        What is watched.
    timings
        How long to wait for what.

    Attributes
    ----------
    current_at : float or None
        When, on the clock of `time.monotonic`, the view was last known to be what the server had.
    """

    def __init__(self, connection: Connection, resource: Resource[RecordT], timings: Timings) -> None:
        self._resource = resource
        self._timings = timings
        self._source = Source(connection, resource.path, resource.params, resource.metadata_only, timings)
        self._view: View[RecordT] = View(resource.decode)
        self._task: asyncio.Task[None] | None = None
        self._handover = Handover()
        # A connection to ask over.
        self._spare: Channel | None = None
        # Whether a list is under way or due, when the last complete one began, and whether lists are streamed.
        self._listing = True
        self._list_began = 0.0
        self._streaming_list = True
        self._freshening = asyncio.Lock()
        self._changed = asyncio.Event()
        self._kick = asyncio.Event()
        self._quiet_seconds = timings.quiet_seconds
        self._faults = Faults(resource.plural)
        self._event_at = 0.0
        self.current_at: float | None = None

    def start(self) -> None:
        """Begin. Needs a running event loop."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"watch of {self._resource.plural}")

    async def close(self) -> None:
        """End the task and the connections, and forget the view."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        handed = self._handover.take()
        spare, self._spare = self._spare, None
        await close_quietly(handed.stream if handed else None)
        await close_quietly(spare)
        self._view = View(self._resource.decode)
        self._listing, self.current_at = True, None

    @property
    def complete(self) -> bool:
        """Whether there is a complete view; it may be old."""
        return self._view.counters.lists > 0

    @property
    def records(self) -> dict[str, RecordT]:
        """The view, by `engine_ops.kube.watch_events.key_of`; empty until it is complete. Not to be changed."""
        return self._view.records

    @property
    def changes(self) -> int:
        """Grows with every change of `records`."""
        return self._view.changes

    @property
    def counters(self) -> Counters:
        """What has happened."""
        return self._view.counters

    async def fresh(self) -> None:
        """Return once the view has everything that the server had when this was called.

        A watch that is quiet does not say up to which version it has been quiet; bookmarks do, about once a minute.
        So the server is asked: a list of one object's metadata without a resourceVersion is a consistent read, its
        resourceVersion ``R`` is not older than the call, and since Kubernetes 1.31 it comes from the same cache as
        the watches, once that cache has reached ``R``. Either an event or a bookmark of ``R`` or later has come: then
        nothing before it is missing. Or the watch is opened anew from the last version, over the connection that
        answered, thus at the same server: its backlog is fixed before the headers of the answer are sent and follows
        them at once. When the headers have come and then nothing for ``quiet_seconds`` or two round trips, whichever
        is longer, the backlog is taken for received. This last step is no proof: a server that pauses between the
        two would be believed too early. Such an event is noticed when it does come; it is counted in
        `Counters.late`, and the quiet time is doubled.

        Raises
        ------
        ApiError
            If the server refuses, with 403 for one.
        UnavailableError
            If it cannot be asked, or there is no complete view yet and no way to it.
        """
        called = time.monotonic()
        async with self._freshening:
            for attempt in range(_ATTEMPTS):
                if self._listing:
                    await self._until_listed(called)
                    if self._list_began >= called:
                        return
                if await self._follows_to_now(attempt):
                    return
        raise UnavailableError(f"the watch of {self._resource.plural} ends again and again")

    # ---- The view follows the server.

    async def _run(self) -> None:
        attempt = 0
        while True:
            began = time.monotonic()
            self._kick.clear()
            delay: float | None = 0.0
            try:
                await self._follow(began)
            except Exception as error:  # noqa: BLE001  # whatever it is, the view must not stop without a word
                delay = self._judge(error)
            finally:
                self._handover.ended()
            if time.monotonic() - began >= self._timings.steady_seconds:
                attempt = 0
            if self._handover.waiting is None:
                # The end of a stream is nothing special, unless one follows the other.
                wait = self._timings.backoff(attempt) if delay is None or (delay == 0.0 and attempt > 0) else delay
                attempt += 1
                await self._pause(wait)

    async def _follow(self, began: float) -> None:
        """Open a stream, or take the one that was handed over, and read it to its end."""
        handed = self._handover.take()
        if self._listing:
            await close_quietly(handed.stream if handed else None)
            handed = None
            if not self._streaming_list:
                await self._list_pages(began)
        if self._listing:
            stream, batch = await self._source.open_list(), Batch(self._view, None)
        else:
            opened = handed or await self._open_changes(self._source.new_channel())
            stream, batch = opened.stream, Batch(self._view, opened.version)
        try:
            if self._handover.waiting is None or batch.listing:
                self._handover.reading = stream
                await self._read(stream, batch, began)
        finally:
            await close_quietly(stream)

    async def _open_changes(self, channel: Channel) -> Opened:
        version = self._view.version
        return Opened(await self._source.open_changes(channel, version), version)

    async def _list_pages(self, began: float) -> None:
        records: dict[str, RecordT] = {}
        version = 0
        async with contextlib.aclosing(self._source.pages()) as pages:
            async for page, items in pages:
                for key, raw in items:
                    self._view.put(records, key, raw)
                version = page.version
        self._view.replace(records, version)
        self._note_list(began)

    async def _read(self, stream: Stream, batch: Batch[RecordT], began: float) -> None:
        timings = self._timings
        while True:
            lines = await stream.read(timings.list_silence_seconds if batch.listing else timings.silence_seconds)
            if lines is None:
                if batch.listing:
                    raise UnavailableError("the list ended before it was complete")
                return
            was_listing = batch.listing
            for line in lines:
                event = parse_line(line, self._resource.kinds)
                if batch.take(event):
                    self._note_late(event.version)
            if was_listing and not batch.listing:
                self._note_list(began)
            if lines and not batch.listing:
                # What was sent just now is what the server had just now.
                self._event_at = self.current_at = time.monotonic()
                self._faults.clear()
                self._notify()

    def _note_list(self, began: float) -> None:
        self._listing, self._list_began = False, began
        self._faults.clear()
        self.current_at = time.monotonic()
        seconds = self.current_at - began
        logger.info("%s: listed %d in %.1f s", self._resource.plural, len(self.records), seconds)
        self._notify()

    # ---- What goes wrong.

    def _judge(self, error: Exception) -> float | None:
        """Decide how it goes on. Return the wait in seconds; None for the backoff."""
        gone = isinstance(error, ApiError) and error.status == 410
        if gone or isinstance(error, JumpedBackError):
            self._start_over(f"the server no longer has what followed: {error}" if gone else f"jumped back: {error}")
            return 0.0
        if self._listing and self._streaming_list and refuses_streaming(error):
            logger.info("%s: the server does not stream lists: %s", self._resource.plural, error)
            self._streaming_list = False
            return 0.0
        if isinstance(error, GarbageError):
            self.counters.garbage += 1
            self._start_over(f"what came cannot be read: {error}")
            self._fail(UnavailableError(f"what came cannot be read: {error}"))
        elif isinstance(error, ApiError):
            self._fail(error)
            return self._timings.forbidden_seconds if error.status == 403 else error.retry_after_seconds
        elif isinstance(error, UnavailableError):
            if self._handover.is_aborted:
                return 0.0  # broken on purpose
            self._fail(error)
        else:
            logger.error("%s: a defect; listing anew", self._resource.plural, exc_info=error)
            self._listing = True
            self._fail(UnavailableError(f"a defect of the operator: {error!r}"))
        return None

    def _start_over(self, why: str) -> None:
        self._listing = True
        self._faults.log(f"{why}; listing anew")
        self._notify()

    def _fail(self, error: ApiError | UnavailableError) -> None:
        self._faults.note(error)
        self._notify()

    def _note_late(self, version: int) -> None:
        self._quiet_seconds = min(2 * self._quiet_seconds, self._timings.max_quiet_seconds)
        logger.warning(
            "%s: resourceVersion %d came after %d had been taken for seen; from now on %.0f ms of quiet are awaited",
            self._resource.plural, version, self._view.seen_version, 1000 * self._quiet_seconds,
        )  # fmt: skip

    async def _pause(self, seconds: float) -> None:
        """Wait so long, or until somebody needs the view."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._kick.wait()

    # ---- Up to now.

    async def _until_listed(self, called: float) -> None:
        """Wait for the list; raise what has gone wrong since ``called``."""
        self._kick.set()
        while self._listing:
            self._faults.raise_since(called)
            await self._changed.wait()

    async def _follows_to_now(self, attempt: int) -> bool:
        """Do what `fresh` says. Return False if the stream was lost over it."""
        channel, self._spare = self._spare or self._source.new_channel(), None
        owned: Channel | None = channel
        asked_at, known = time.monotonic(), self._view.version
        try:
            newest = await self._source.newest_version(channel)
            if newest < known:
                self._start_over(f"jumped back: {JumpedBackError(known, newest)}")
                self._abort()
                return False
            if time.monotonic() - self._event_at < _MOVING_SECONDS:
                await self._until_seen(newest)
            if self._view.version < newest and not self._listing:
                connects, owned = channel.connects, None
                try:
                    opened = await self._open_changes(channel)
                except ApiError as error:
                    if error.status != 410:
                        raise
                    self._start_over(f"the server no longer has what followed: {error}")
                    self._abort()
                    return False
                # Where no connection is kept, there is nothing better than what the balancer chooses.
                if channel.connects != connects and attempt < _SAME_SERVER_ATTEMPTS:
                    await opened.stream.close()
                    return False
                self._kick.set()
                await self._handover.give(opened)
                if not await self._until_quiet(opened.stream, newest):
                    return False
            elif not self._listing:
                owned, self._spare = None, channel
        finally:
            await close_quietly(owned)
        if self._listing:
            return False
        self._view.seen_version = max(self._view.seen_version, newest)
        self.current_at = max(self.current_at or asked_at, asked_at)
        return True

    async def _until_seen(self, version: int) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_NEXT_EVENT_SECONDS):
                while self._view.version < version:
                    await self._changed.wait()

    async def _until_quiet(self, stream: Stream, version: int) -> bool:
        # In two halves: where the loop was held up, a timer may run out before what has come is looked at.
        pause = max(self._quiet_seconds, 2 * stream.open_seconds) / 2
        chunks, calm = stream.chunks, 0
        while calm < 2:
            await asyncio.sleep(pause)
            if self._view.version >= version and not self._listing:
                return True
            if not self._handover.is_alive(stream):
                return False
            if self._handover.reading is stream and stream.chunks == chunks and not stream.within_line:
                calm += 1
            else:
                chunks, calm = stream.chunks, 0
        return True

    def _abort(self) -> None:
        self._handover.abort()
        self._kick.set()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
