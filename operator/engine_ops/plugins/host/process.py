"""The operator's end of one plugin's process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from io import FileIO
from typing import Final, cast

import msgspec

from engine_ops.history.feed import HistoryUpdate
from engine_ops.plugins.messages import MAX_MESSAGE_BYTES, MAX_REPLY_BYTES, Answer, Close, Message
from engine_ops.workers import control
from engine_ops.workers.errors import WorkerDiedError, WorkerError, WorkerTimeoutError, death
from engine_ops.workers.frames import FrameDecoder, FrameError, encode_frame

_GRACE_SECONDS: Final = 2.0
"""How long the end of a pipe may wait for the end of its process, or the other way round."""

_REPORT_SECONDS: Final = 10.0
"""How long the host, which may be held up, then has to say how a process ended whose pipe was closed."""

_WHAT: Final = "plugin's process"
_ANSWERS: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


class PluginProcess(asyncio.Protocol):
    """A plugin's process, as the operator sees it. Made by `engine_ops.plugins.host.client.HostClient.spawn`.

    Parameters
    ----------
    worker_id
        Its number at the host.
    kill
        Has the host kill it; called with the number.
    forget
        Called with the number when it has ended.

    Attributes
    ----------
    pid
        In the host's namespace, which may be another than the operator's: for logs only.
    spawned
        Gets whether there is a process, once that is known.
    ended
        Gets the cause, one sentence without a full stop, when the process is gone.
    """

    def __init__(self, worker_id: int, *, kill: Callable[[int], None], forget: Callable[[int], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self.pid: int | None = None
        self.ended: asyncio.Future[str] = self._loop.create_future()
        self.spawned: asyncio.Future[bool] = self._loop.create_future()
        self._worker_id = worker_id
        self._kill = kill
        self._forget = forget
        self._frames = FrameDecoder(_ANSWERS, limit_bytes=MAX_REPLY_BYTES)
        self._reader: asyncio.ReadTransport | None = None
        self._writer: asyncio.WriteTransport | None = None
        self._answer: asyncio.Future[Answer] | None = None
        self._error: WorkerDiedError | WorkerTimeoutError | None = None
        self._exited: control.Exited | None = None
        self._closing = False
        self._hung_up = False
        self._grace: asyncio.TimerHandle | None = None

    async def connect(self, pass_on: Callable[[Sequence[int]], None]) -> None:
        """Make the two pipes. Called once, before anything else.

        They are no sockets: see `engine_ops.plugins.host.child.Pipes`.

        Parameters
        ----------
        pass_on
            Sends the host the process's ends: what it reads from, and what it writes to. They are closed afterwards.

        Raises
        ------
        OSError
            If there are no pipes to be had, and whatever ``pass_on`` raises.
        """
        with contextlib.ExitStack() as theirs:
            reading, their_writing = _pipe()
            theirs.enter_context(their_writing)
            with _closed_on_error(reading):
                their_reading, writing = _pipe()
            theirs.enter_context(their_reading)
            with _closed_on_error(reading, writing):
                await self._loop.connect_read_pipe(lambda: self, reading)
            with _closed_on_error(writing):
                await self._loop.connect_write_pipe(lambda: _Writer(self._take_writer), writing)
            pass_on((their_reading.fileno(), their_writing.fileno()))

    async def call(self, message: Message, *, timeout_seconds: float, limit_bytes: int = MAX_REPLY_BYTES) -> Answer:
        """Send a message and wait for its answer. One call at a time; whoever is cancelled here kills the process.

        Parameters
        ----------
        message
            One that is answered.
        timeout_seconds
            Then the process is killed.
        limit_bytes
            The longest answer taken; a longer one, or what is no answer, kills the process.

        Raises
        ------
        WorkerTimeoutError
            If the time is up.
        WorkerDiedError
            If the process has ended or ends, by itself or for what it sent.
        FrameTooLargeError
            If the message is longer than `MAX_MESSAGE_BYTES`; nothing was sent, and the process lives.
        RuntimeError
            If another call is under way.
        """
        if self._answer is not None:
            raise RuntimeError("a plugin's process handles one message at a time")
        self._send(message)
        self._frames.limit_bytes = limit_bytes
        answer: asyncio.Future[Answer] = self._loop.create_future()
        self._answer = answer
        timer = self._loop.call_later(timeout_seconds, self._time_out, timeout_seconds)
        try:
            return await answer
        except asyncio.CancelledError:
            self._give_up(WorkerDiedError("the call of the plugin was cancelled, and its process killed"))
            raise
        finally:
            timer.cancel()
            self._answer = None

    def post(self, update: HistoryUpdate) -> None:
        """Send what is not answered, without waiting; what comes later is read later.

        Raises
        ------
        WorkerDiedError
            If the process has ended.
        FrameTooLargeError
            If it is longer than `MAX_MESSAGE_BYTES`; nothing was sent.
        """
        self._send(update)

    async def close(self, grace_seconds: float = _GRACE_SECONDS) -> None:
        """Let the plugin shut down, kill it if it takes longer, and wait until it is gone. It never raises an error.

        Parameters
        ----------
        grace_seconds
            For what it is at, and for its ``shutdown``.
        """
        if self.ended.done():
            return
        try:
            if self._error is None and not self._closing:
                self._send(Close())
                self._closing = True
            await asyncio.wait([self.ended], timeout=grace_seconds)
        except WorkerDiedError:
            pass  # it has ended already, or is being killed
        finally:
            self.kill()
        # The grace of `_finish_if_over` bounds it.
        await asyncio.wait([self.ended])

    def kill(self) -> None:
        """Kill it with all that it started, at once. Calling it again, or too late, is harmless."""
        self._give_up(WorkerDiedError("the plugin's process was killed"))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._reader = cast("asyncio.ReadTransport", transport)

    def data_received(self, data: bytes) -> None:
        """Take the answer."""
        if self._answer is None or self._answer.done():
            # Also of what is not complete: nobody has set how much it may be.
            self._give_up(WorkerDiedError("the plugin's process answered what it was not asked; it was killed"))
            return
        try:
            answers = self._frames.feed(data)
        except FrameError as error:
            self._give_up(WorkerDiedError(f"the plugin's process sent what is no answer ({error}); it was killed"))
            return
        if not answers:
            return
        self._answer.set_result(answers[0])
        if len(answers) > 1 or self._frames.buffered_bytes:
            self._give_up(WorkerDiedError("the plugin's process answered what it was not asked; it was killed"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Take notice that no more answers will come."""
        del exc
        self._reader = None
        self._finish_if_over()

    def _take_writer(self, writer: asyncio.WriteTransport | None) -> None:
        """Keep the other transport; None when nobody reads what is written to it any more."""
        self._writer = writer
        if writer is None:
            self._finish_if_over()

    def noticed(self, notice: control.Spawned | control.Exited) -> None:
        """Take notice of what the host says of it."""
        if isinstance(notice, control.Spawned):
            self.pid = notice.pid
            if not self.spawned.done():
                self.spawned.set_result(True)
            return
        self._exited = notice
        self._finish_if_over()

    def host_lost(self, cause: str) -> None:
        """Take notice that the host is gone, which takes all its processes with it."""
        if self._error is None:
            self._error = WorkerDiedError(cause)
        self._finish()

    def _send(self, message: Message) -> None:
        if self.ended.done():
            raise WorkerDiedError(self.ended.result())
        if self._error is not None:
            raise WorkerDiedError(str(self._error))
        if self._writer is None or self._reader is None or self._closing:
            raise WorkerDiedError("the plugin's process is ending")
        self._writer.write(encode_frame(message, limit_bytes=MAX_MESSAGE_BYTES))

    def _time_out(self, timeout_seconds: float) -> None:
        if self._answer is not None and not self._answer.done():
            self._give_up(WorkerTimeoutError(timeout_seconds))

    def _give_up(self, error: WorkerDiedError | WorkerTimeoutError) -> None:
        if self._error is not None or self.ended.done():
            return
        self._error = error
        self._fail(error)
        self._kill(self._worker_id)
        self._hang_up()

    def _hang_up(self) -> None:
        if self._writer is not None and not self._writer.is_closing():  # asyncio fails at a second abort
            self._writer.abort()
        if self._reader is not None:
            self._reader.close()

    def _fail(self, error: WorkerError) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)

    def _finish_if_over(self) -> None:
        """Finish when both its pipe and the process have ended; the one may be told a little before the other."""
        if self._reader is None and self._exited is not None:
            self._finish()
        elif self._grace is None and not self.ended.done():
            self._grace = self._loop.call_later(_GRACE_SECONDS, self._wait_no_longer)

    def _wait_no_longer(self) -> None:
        """Finish, unless the cause is still to be told: either it lives without a pipe, or its host is held up."""
        if self._exited is not None or self._error is not None:
            self._finish()
            return
        self._hung_up = True
        self._kill(self._worker_id)
        self._grace = self._loop.call_later(_REPORT_SECONDS, self._finish)

    def _finish(self) -> None:
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None
        if self.ended.done():
            return
        error = self._error
        if error is None:
            in_order = self._closing and self._exited is not None and self._exited.exit_code == 0
            error = WorkerDiedError("the plugin was closed") if in_order else death(self._known_end(), what=_WHAT)
        if self._exited is None:
            self._kill(self._worker_id)
        self._fail(error)
        self.ended.set_result(str(error))
        if not self.spawned.done():
            self.spawned.set_result(False)
        self._forget(self._worker_id)
        self._hang_up()

    def _known_end(self) -> control.Exited | None:
        """Return how it ended; None where it had closed its pipe, and we have killed it for that."""
        exited = self._exited
        was_killed = exited is not None and exited.signal == signal.SIGKILL and exited.oom_bytes is None
        return None if self._hung_up and was_killed else exited


class _Writer(asyncio.BaseProtocol):
    """Tells of the transport that messages are written to.

    Parameters
    ----------
    take
        Called with it, and with None when it is closed.
    """

    def __init__(self, take: Callable[[asyncio.WriteTransport | None], None]) -> None:
        self._take = take

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Pass it on."""
        self._take(cast("asyncio.WriteTransport", transport))

    def connection_lost(self, exc: Exception | None) -> None:
        """Take it back."""
        del exc
        self._take(None)


def _pipe() -> tuple[FileIO, FileIO]:
    reading, writing = os.pipe()
    return FileIO(reading, "rb"), FileIO(writing, "wb")


@contextlib.contextmanager
def _closed_on_error(*files: FileIO) -> Iterator[None]:
    """Close files that would else belong to something else after the block."""
    try:
        yield
    except BaseException:
        for file in files:
            file.close()
        raise
