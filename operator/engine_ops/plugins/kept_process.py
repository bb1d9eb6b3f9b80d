"""The process of one plugin, kept alive: opened, and started again after its end, sooner or later."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from engine_ops.history.feed import HistoryUpdate
from engine_ops.plugins.host.client import HostUnavailableError, PluginProcess
from engine_ops.plugins.instance import PluginBrokenError, PluginUnavailableError, Unanswered, UnansweredKind, closing
from engine_ops.plugins.messages import MAX_REPLY_BYTES, Answer, Broken, Message, Open, Opened
from engine_ops.workers.errors import WorkerDiedError, WorkerTimeoutError
from engine_ops.workers.frames import FrameError

logger = logging.getLogger(__name__)

OPENING_SECONDS: Final = 60.0
"""For the import of a plugin, its ``init`` and the loading of its state."""

GRACE_SECONDS: Final = 2.0
"""For a plugin's ``shutdown``; then it is killed."""

_DEATH_SECONDS: Final = 5.0
"""How long the end waits for processes that were killed; the host reaps them in any case."""

_HOST_RETRY_SECONDS: Final = 0.5

_HOST_PATIENCE_SECONDS: Final = 3.0
"""How long requests wait for a host that is gone: it starts again within that time, or not soon."""


class PluginHost(Protocol):
    """What starts processes: an `engine_ops.plugins.host.client.HostClient`, or who stands before one."""

    @property
    def available(self) -> bool:
        """Whether the host is there. Asked when a process has ended, to tell a crash from a host that is gone."""

    async def spawn(self, label: str, *, memory_limit_bytes: int) -> PluginProcess:
        """Start a process for a plugin.

        Raises
        ------
        HostUnavailableError
            If there is no host for some seconds.
        """


@dataclasses.dataclass(frozen=True, slots=True)
class RestartPolicy:
    """When a process that has ended is started again: at once, and later each time that no good answer came between.

    Parameters
    ----------
    first_wait_seconds
        Before the second start in a row; doubled for each further one.
    longest_wait_seconds
        The wait is never longer.
    """

    first_wait_seconds: float = 0.1
    longest_wait_seconds: float = 30.0

    def wait_seconds(self, ends_in_a_row: int) -> float:
        """Return how long to wait after so many ends, at least 1, without a good answer between them."""
        if ends_in_a_row <= 1:
            return 0.0
        doublings = min(ends_in_a_row - 2, 32)  # beyond that any wait is the longest, and floats overflow in the end
        return float(min(self.first_wait_seconds * 2**doublings, self.longest_wait_seconds))


class KeptProcess:
    """One process of the plugin host with an opened plugin in it, whenever that can be had.

    Parameters
    ----------
    host
        Starts it.
    label
        The plugin's name.
    memory_limit_bytes
        Resident; the host kills it above that.
    opening
        Makes its first message; asked again for each start.
    policy
        When it is started again.
    opening_seconds
        For the import of the plugin, its ``init`` and the loading of its state.
    on_restarted
        Called with what the plugin says of itself, each time but the first.
    on_crash
        Called with the cause when it ended while it was at nothing, or could not be started again.
    on_unavailable
        Called when `unavailable` has become another sentence than before; `on_restarted` tells of its end.
    """

    def __init__(
        self,
        host: PluginHost,
        label: str,
        *,
        memory_limit_bytes: int,
        opening: Callable[[], Open],
        policy: RestartPolicy,
        opening_seconds: float,
        on_restarted: Callable[[Opened], None],
        on_crash: Callable[[str], None],
        on_unavailable: Callable[[str], None],
    ) -> None:
        self._host = host
        self._label = label
        self._memory_limit_bytes = memory_limit_bytes
        self._opening = opening
        self._policy = policy
        self._opening_seconds = opening_seconds
        self._on_restarted = on_restarted
        self._on_crash = on_crash
        self._on_unavailable = on_unavailable
        self._process: PluginProcess | None = None
        self._dying: set[PluginProcess] = set()
        self._calling = False
        self._closed = False
        self._ends_in_a_row = 0
        self._restarting: asyncio.Task[None] | None = None
        self._next_start = 0.0
        self._lost_at = 0.0
        self._trouble = Unanswered("it has not been started", "unavailable")
        self._changed = asyncio.Event()

    @property
    def process(self) -> PluginProcess | None:
        """The one that is opened; None between two."""
        return self._process

    @property
    def unavailable(self) -> str | None:
        """Why there is no process, where that is the host's doing; None before the first, and where there is one."""
        if self._process is not None or self._restarting is None or self._closed:
            return None
        return self._trouble.reason if self._trouble.kind == "unavailable" else None

    async def start(self) -> Opened:
        """Start the process for the first time, and open the plugin.

        Raises
        ------
        PluginBrokenError
            If it cannot be opened. Nothing is left then, nor tried again.
        PluginUnavailableError
            If the host cannot be reached.
        """
        return await self._launch()

    async def wait(self, deadline: float) -> Unanswered | None:
        """Wait until there is a process.

        Parameters
        ----------
        deadline
            On the monotonic clock. If the next start comes later, nobody waits.

        Returns
        -------
        Unanswered or None
            Why there is none.
        """
        while self._process is None:
            if self._restarting is None or self._closed:
                return self._trouble
            now = time.monotonic()
            if self._trouble.kind == "unavailable":
                deadline = min(deadline, self._lost_at + _HOST_PATIENCE_SECONDS)
            elif self._next_start >= deadline:
                wait_seconds = max(self._next_start - now, 0.1)
                return Unanswered(f"{self._trouble.reason}; started again in {wait_seconds:.1f} s", self._trouble.kind)
            try:
                async with asyncio.timeout(deadline - now):
                    await self._changed.wait()
            except TimeoutError:
                return Unanswered(f"{self._trouble.reason}; it is being started again", self._trouble.kind)
        return None

    async def call(
        self,
        message: Message,
        *,
        updates: Iterable[HistoryUpdate] = (),
        timeout_seconds: float,
        limit_bytes: int = MAX_REPLY_BYTES,
    ) -> Answer:
        """Send a message to the process, and return its answer; a process that gives none is replaced.

        Parameters
        ----------
        message
            One that is answered.
        updates
            What goes before it.
        timeout_seconds
            For the answer.
        limit_bytes
            The longest answer taken.

        Raises
        ------
        WorkerTimeoutError, WorkerDiedError
            If there was no answer in time, or no process any more.
        FrameError
            If the message is too large. Nothing was sent.
        PluginUnavailableError
            If the host has gone, and the process with it.
        """
        process = self._process
        if process is None:
            raise WorkerDiedError(self._trouble.reason)
        self._calling = True
        try:
            for update in updates:
                process.post(update)
            answer = await process.call(message, timeout_seconds=timeout_seconds, limit_bytes=limit_bytes)
        except FrameError:
            raise
        except WorkerDiedError as error:
            if not self._host.available:
                self._lose(process, "the plugin host has gone", "unavailable")
                raise PluginUnavailableError("the plugin host has gone, and the plugin's process with it") from error
            self._lose(process, error.cause, "crashed")
            raise
        except WorkerTimeoutError:
            self._lose(process, "it was killed, since it took too long", "timeout")
            raise
        except BaseException:
            self._lose(process, "a message to it was given up", "unavailable")
            raise
        finally:
            self._calling = False
        return answer

    def went_well(self) -> None:
        """Take notice of a good answer: the next end counts as the first."""
        self._ends_in_a_row = 0

    def replace(self, cause: str) -> None:
        """Kill the process, which is of no use any more, and start another."""
        if self._process is not None:
            self._lose(self._process, cause, "crashed")

    def abort(self) -> None:
        """Kill the process, whatever it is at, and start no other."""
        self._give_up()
        if self._process is not None:
            self._process.kill()

    async def close(self) -> None:
        """End the process, in good order if it can be, and leave nothing behind."""
        self._give_up()
        if self._restarting is not None:
            await asyncio.gather(self._restarting, return_exceptions=True)
        process, self._process = self._process, None
        if process is not None:
            await process.close(GRACE_SECONDS)
        if self._dying:
            await asyncio.wait([dying.ended for dying in self._dying], timeout=_DEATH_SECONDS)

    def _give_up(self) -> None:
        self._closed = True
        self._trouble = closing()
        if self._restarting is not None:
            self._restarting.cancel()
        self._news()

    async def _launch(self) -> Opened:
        try:
            process = await self._host.spawn(self._label, memory_limit_bytes=self._memory_limit_bytes)
        except HostUnavailableError as error:
            raise PluginUnavailableError(str(error)) from error
        try:
            opened = await self._open(process)
            if self._closed:
                raise PluginUnavailableError(closing().reason)
        except BaseException:
            self._kill(process)
            raise
        self._process = process
        process.ended.add_done_callback(lambda ended: self._has_ended(process, ended))
        self._news()
        return opened

    async def _open(self, process: PluginProcess) -> Opened:
        try:
            answer = await process.call(self._opening(), timeout_seconds=self._opening_seconds)
        except WorkerTimeoutError as error:
            raise PluginBrokenError(
                "import",
                f"it was not loaded and initialised in time ({self._opening_seconds:g} s); its process was killed",
            ) from error
        except WorkerDiedError as error:
            if not self._host.available:
                raise PluginUnavailableError("the plugin host has gone") from error
            raise PluginBrokenError("init", f"its process ended while it was loaded: {error.cause}") from error
        except FrameError as error:
            raise PluginBrokenError("load", f"its settings and state are too large: {error}") from error
        match answer:
            case Opened():
                return answer
            case Broken():
                raise PluginBrokenError(answer.stage, answer.message, answer.faults)
        raise PluginBrokenError("init", "its process gave an answer to what it was not asked")

    def _has_ended(self, process: PluginProcess, ended: asyncio.Future[str]) -> None:
        """Take notice of the end of a process; the end of one that is at a message is told by that."""
        if process is not self._process or self._calling:
            return
        cause = "its process has ended" if ended.cancelled() or ended.exception() else ended.result()
        if not self._host.available:
            self._lose(process, "the plugin host has gone", "unavailable")
            return
        self._lose(process, cause, "crashed")
        self._on_crash(cause)

    def _lose(self, process: PluginProcess, cause: str, kind: UnansweredKind) -> None:
        """Forget a process that has ended or is of no use any more, and start another."""
        self._kill(process)
        if process is not self._process:
            return
        self._process = None
        self._lost_at = time.monotonic()
        if self._closed:
            return
        if kind != "unavailable":
            self._ends_in_a_row += 1
        self._schedule()
        self._restarting = asyncio.create_task(self._bring_back())
        self._note_trouble(Unanswered(cause, kind))

    def _note_trouble(self, trouble: Unanswered) -> None:
        before, self._trouble = self._trouble, trouble
        if trouble.kind == "unavailable" and trouble != before:
            self._on_unavailable(trouble.reason)

    def _kill(self, process: PluginProcess) -> None:
        process.kill()
        if not process.ended.done():
            self._dying.add(process)
            process.ended.add_done_callback(lambda _: self._dying.discard(process))

    def _schedule(self) -> None:
        self._next_start = time.monotonic() + self._policy.wait_seconds(self._ends_in_a_row)

    async def _bring_back(self) -> None:
        """Start processes until one stays long enough to open the plugin.

        It ends with `close`, also where its cancellation is lost in what it awaits.
        """
        while not self._closed:
            await asyncio.sleep(self._next_start - time.monotonic())
            try:
                opened = await self._launch()
            except PluginUnavailableError as error:
                self._note_trouble(Unanswered(error.message, "unavailable"))
                self._next_start = time.monotonic() + _HOST_RETRY_SECONDS
            except PluginBrokenError as error:
                self._trouble = Unanswered(error.message, "broken")
                self._ends_in_a_row += 1
                self._schedule()
                self._on_crash(error.message)
            except Exception:
                logger.exception("plugin %s: its process could not be started again", self._label)
                self._ends_in_a_row += 1
                self._schedule()
            else:
                self._on_restarted(opened)
                return
            self._news()

    def _news(self) -> None:
        """Wake those who wait, once."""
        self._changed.set()
        self._changed = asyncio.Event()
