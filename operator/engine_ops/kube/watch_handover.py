"""The stream that a watch reads, and the one that it is to read in its place."""

from __future__ import annotations

import dataclasses

from engine_ops.kube.channel import Stream, close_quietly


@dataclasses.dataclass(frozen=True, slots=True)
class Opened:
    """A stream of changes, and the version that it was opened at."""

    stream: Stream
    version: int


class Handover:
    """Lets who has opened a better stream give it to the task that reads.

    Attributes
    ----------
    reading : Stream or None
        What is being read.
    waiting : Opened or None
        What is to be read in its place; not taken yet.
    is_aborted : bool
        Whether the stream that is being read was broken on purpose.
    """

    def __init__(self) -> None:
        self.reading: Stream | None = None
        self.waiting: Opened | None = None
        self.is_aborted = False

    def is_alive(self, stream: Stream) -> bool:
        """Whether a stream is being read, or will be."""
        return self.reading is stream or (self.waiting is not None and self.waiting.stream is stream)

    async def give(self, opened: Opened) -> None:
        """Let this stream be read in place of the one that is."""
        before, self.waiting = self.waiting, opened
        self.abort()
        # One that was not taken yet belongs to a call that was cancelled.
        await close_quietly(before.stream if before else None)

    def take(self) -> Opened | None:
        """Return what waits, if anything does. It is the caller's to read, and to close."""
        opened, self.waiting = self.waiting, None
        return opened

    def abort(self) -> None:
        """Break what is being read, if anything is."""
        if self.reading is not None:
            self.is_aborted = True
            self.reading.abort()

    def ended(self) -> None:
        """Take note that nothing is being read any more."""
        self.reading, self.is_aborted = None, False
