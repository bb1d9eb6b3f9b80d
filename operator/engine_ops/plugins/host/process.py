"""The operator's end of one plugin's process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, cast

import msgspec

from engine_ops.history.feed import HistoryUpdate
from engine_ops.plugins.messages import MAX_MESSAGE_BYTES, MAX_REPLY_BYTES, Answer, Close, Message
from engine_ops.workers import control
from engine_ops.workers.errors import WorkerDiedError, WorkerError, WorkerTimeoutError, death
from engine_ops.workers.frames import FrameDecoder, FrameError, encode_frame

_GRACE_SECONDS: Final = 2.0
"""How long the end of a socket may wait for the end of its process, or the other way round."""

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
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Answer] | None = None
        self._error: WorkerDiedError | WorkerTimeoutError | None = None
        self._exited: control.Exited | None = None
        self._closing = False
        self._grace: asyncio.TimerHandle | None = None

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
        # The grace of `_finish_later` bounds it.
        await asyncio.wait([self.ended])

    def kill(self) -> None:
        """Kill it with all that it started, at once. Calling it again, or too late, is harmless."""
        self._give_up(WorkerDiedError("the plugin's process was killed"))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Take the answer."""
        try:
            answers = self._frames.feed(data)
        except FrameError as error:
            self._give_up(WorkerDiedError(f"the plugin's process sent what is no answer ({error}); it was killed"))
            return
        for answer in answers:
            if self._answer is None or self._answer.done():
                self._give_up(WorkerDiedError("the plugin's process answered what it was not asked; it was killed"))
                return
            self._answer.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        """Take notice that no more answers will come."""
        del exc
        self._transport = None
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
        if self._transport is None or self._closing:
            raise WorkerDiedError("the plugin's process is ending")
        self._transport.write(encode_frame(message, limit_bytes=MAX_MESSAGE_BYTES))

    def _time_out(self, timeout_seconds: float) -> None:
        if self._answer is not None and not self._answer.done():
            self._give_up(WorkerTimeoutError(timeout_seconds))

    def _give_up(self, error: WorkerDiedError | WorkerTimeoutError) -> None:
        if self._error is not None or self.ended.done():
            return
        self._error = error
        self._fail(error)
        self._kill(self._worker_id)
        if self._transport is not None:
            self._transport.abort()

    def _fail(self, error: WorkerError) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)

    def _finish_if_over(self) -> None:
        """Finish when both the socket and the process have ended; the one may be told a little before the other."""
        if self._transport is None and self._exited is not None:
            self._finish()
        elif self._grace is None and not self.ended.done():
            self._grace = self._loop.call_later(_GRACE_SECONDS, self._finish)

    def _finish(self) -> None:
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None
        if self.ended.done():
            return
        error = self._error
        if error is None:
            in_order = self._closing and self._exited is not None and self._exited.exit_code == 0
            error = WorkerDiedError("the plugin was closed") if in_order else death(self._exited, what=_WHAT)
        if self._exited is None:
            self._kill(self._worker_id)
        self._fail(error)
        self.ended.set_result(str(error))
        if not self.spawned.done():
            self.spawned.set_result(False)
        self._forget(self._worker_id)
        if self._transport is not None:
            self._transport.abort()
