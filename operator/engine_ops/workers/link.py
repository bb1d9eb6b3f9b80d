"""The pool's end of one worker: its socket, the task that it is at, its memory."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import Callable
from typing import Any, Protocol, cast

import msgspec

from engine_ops.workers.control import Exited
from engine_ops.workers.frames import FrameDecoder, FrameError

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_RESIDENT = 1
"""Index of the resident set in /proc/PID/statm, in pages."""


@dataclasses.dataclass(slots=True, eq=False)
class Job:
    """One task on its way through the pool.

    Parameters
    ----------
    task
        The message.
    timeout_seconds
        From when a worker takes it.
    on_interim
        Called with each interim reply.
    future
        Gets the final reply, or the error.
    link
        The worker that has it; None while it queues.
    timer
        Ends it when its time is up.
    """

    task: msgspec.Struct
    timeout_seconds: float
    on_interim: Callable[[Any], None] | None
    future: asyncio.Future[Any]
    link: WorkerLink | None = None
    timer: asyncio.TimerHandle | None = None

    def fail(self, error: Exception) -> None:
        """End with an error, unless it has ended already."""
        if self.timer is not None:
            self.timer.cancel()
        if not self.future.done():
            self.future.set_exception(error)


class LinkOwner(Protocol):
    """Whom a link tells."""

    def replied(self, link: WorkerLink, reply: Any) -> None:
        """Take a reply, interim or final."""

    def garbled(self, link: WorkerLink, error: FrameError) -> None:
        """Take notice of bytes that are no reply."""

    def hung_up(self, link: WorkerLink) -> None:
        """Take notice that no more replies will come."""


class WorkerLink(asyncio.Protocol):
    """One worker, as the pool sees it.

    Parameters
    ----------
    worker_id
        Unique in the pool, never used again.
    replies
        Decodes a reply.
    owner
        Whom to tell.

    Attributes
    ----------
    job
        What it is at; None while it is idle or ending.
    pid
        Known once the fork server has told it.
    tasks_done
        Final replies so far.
    open
        Whether replies can still come.
    exited
        How the process ended; None while it runs.
    dismissed
        Whether the pool has given it up (killed, retired): it counts no more, and gets no task.
    """

    __slots__ = (
        "_frames",
        "_owner",
        "_statm",
        "_transport",
        "dismissed",
        "exited",
        "job",
        "open",
        "pid",
        "tasks_done",
        "worker_id",
    )

    def __init__(self, worker_id: int, replies: msgspec.msgpack.Decoder[Any], owner: LinkOwner) -> None:
        self.worker_id = worker_id
        self.job: Job | None = None
        self.pid: int | None = None
        self.tasks_done = 0
        self.open = True
        self.exited: Exited | None = None
        self.dismissed = False
        self._owner = owner
        self._frames = FrameDecoder(replies)
        self._transport: asyncio.Transport | None = None
        self._statm: int | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Pass on the replies that are complete."""
        try:
            replies = self._frames.feed(data)
        except FrameError as error:
            self._owner.garbled(self, error)
            return
        for reply in replies:
            self._owner.replied(self, reply)

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass on that the worker has hung up."""
        del exc
        self.open = False
        self._owner.hung_up(self)

    def send(self, frame: bytes | bytearray) -> None:
        """Send a frame without waiting. At most one task is under way, so that no more than one frame is buffered."""
        if self._transport is not None:
            self._transport.write(frame)

    def fail(self, error: Exception | None) -> None:
        """End the task that it is at, if there is one; with None nobody waits for it any more."""
        job, self.job = self.job, None
        if job is not None and error is not None:
            job.fail(error)

    def hang_up(self) -> None:
        """Close the socket: an idle worker then ends by itself."""
        if self._transport is not None:
            self._transport.abort()

    def watch(self, pid: int) -> None:
        """Take notice of the worker's pid."""
        self.pid = pid
        try:
            # Kept open: the descriptor stays bound to this process, whoever gets its pid later.
            self._statm = os.open(f"/proc/{pid}/statm", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._statm = None

    def rss_bytes(self) -> int:
        """Return the resident memory of the worker, pages shared with the fork server included; 0 if unknown."""
        if self._statm is None:
            return 0
        try:
            fields = os.pread(self._statm, 128, 0).split()
        except OSError:
            return 0
        return int(fields[_RESIDENT]) * _PAGE_BYTES if len(fields) > _RESIDENT else 0

    def release(self) -> None:
        """Give back the descriptors."""
        self.hang_up()
        if self._statm is not None:
            os.close(self._statm)
            self._statm = None
