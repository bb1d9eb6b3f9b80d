"""A plugin in a process of the plugin host."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from engine_ops.history.feed import HistoryUpdate
from engine_ops.plugins.breaker import BreakerPolicy
from engine_ops.plugins.guarded_instance import CallFailedError, GuardedInstance
from engine_ops.plugins.host.client import PluginProcess
from engine_ops.plugins.instance import Limits, PluginBrokenError, PluginUnavailableError, Unanswered, closing
from engine_ops.plugins.kept_process import OPENING_SECONDS, KeptProcess, PluginHost, RestartPolicy
from engine_ops.plugins.messages import MAX_MESSAGE_BYTES, Answer, Ask, Broken, Open, Opened, Replied, Train, Trained
from engine_ops.workers.errors import WorkerDiedError, WorkerTimeoutError
from engine_ops.workers.frames import FrameError

_NOT_ASKED: Final = "its process answered what it was not asked, and was killed"


class HistorySource(Protocol):
    """See `engine_ops.history.feed.HistoryFeed`."""

    def cursor(self) -> Any:
        """Return where a process stands that has been told nothing."""

    def updates_for(self, cursor: Any) -> Iterable[HistoryUpdate]:
        """Return what is new since the last call with the cursor, and move it on."""


class ProcessInstance(GuardedInstance):
    """A plugin, one object in one process, that is started again whenever the process has ended.

    Parameters
    ----------
    host
        Starts the process, watches its memory, kills it.
    entry_point
        ``package.module:Class``.
    name
        The plugin's name for the one who asks.
    config
        JSON of an object: the plugin's own settings.
    limits
        Time and memory.
    feed
        What it sees of the history; None for none.
    state
        A trained model's; empty for none.
    on_change, breaker_policy
        See `GuardedInstance`.
    restart_policy
        When the process is started again.
    opening_seconds
        For the import of the plugin, its ``init`` and the loading of its state; then it is killed.
    """

    def __init__(
        self,
        host: PluginHost,
        entry_point: str,
        name: str,
        config: bytes,
        limits: Limits,
        feed: HistorySource | None = None,
        state: bytes = b"",
        on_change: Callable[[], None] | None = None,
        *,
        breaker_policy: BreakerPolicy | None = None,
        restart_policy: RestartPolicy | None = None,
        opening_seconds: float = OPENING_SECONDS,
    ) -> None:
        super().__init__(name, limits.timeout_seconds, breaker_policy=breaker_policy, on_change=on_change)
        self._memory_bytes = limits.memory_bytes
        self._opening_seconds = opening_seconds
        self._entry_point = entry_point
        self._config = config
        self._state = state
        self._feed = feed
        self._cursor: Any = None
        self._fed: PluginProcess | None = None
        self._training = False
        self._kept = KeptProcess(
            host,
            name,
            memory_limit_bytes=limits.memory_bytes,
            opening=self._opening,
            policy=restart_policy or RestartPolicy(),
            opening_seconds=opening_seconds,
            on_restarted=self._restarted,
            on_crash=self._note_crash,
            on_unavailable=self._note_error,
        )

    @property
    def unavailable(self) -> str | None:
        """See `Instance`."""
        return self._kept.unavailable

    async def start(self) -> Opened:
        """See `Instance`."""
        if self._closing is not None:
            raise PluginUnavailableError(closing().reason)
        opened = await self._kept.start()
        self._note_opened(opened)
        return opened

    async def train(self, timeout_seconds: float, replay: Ask | None = None) -> Trained:
        """See `Instance`."""
        if self._closing is not None:
            raise PluginUnavailableError(closing().reason)
        await self._turns.acquire()
        self._training = True
        try:
            if self._closing is not None:  # since
                raise PluginUnavailableError(closing().reason)
            unready = await self._kept.wait(time.monotonic() + self._opening_seconds)
            if unready is not None and unready.kind == "unavailable":
                raise PluginUnavailableError(unready.reason)
            if unready is not None:
                raise PluginBrokenError("train", unready.reason)
            trained = await self._trained(timeout_seconds, replay)
        except PluginBrokenError as error:
            self._note_error(error.message)
            raise
        finally:
            self._training = False
            self._turns.release()
        self._state = trained.state
        self._kept.went_well()
        self._learn(trained)
        return trained

    def set_state(self, state: bytes) -> None:
        """See `Instance`."""
        self._state = state

    async def close(self) -> None:
        """See `Instance`. A training is ended at once."""
        if self._training:
            self._kept.abort()
        await super().close()

    def _opening(self) -> Open:
        return Open(self._entry_point, self._name, self._config, self._state)

    def _restarted(self, opened: Opened) -> None:
        self._counters.restarts += 1
        self._note_opened(opened)

    async def _be_ready(self, deadline: float) -> Unanswered | None:
        return await self._kept.wait(deadline)

    async def _send(self, ask: Ask, timeout_seconds: float) -> Replied:
        answer = await self._call(ask, timeout_seconds)
        if not isinstance(answer, Replied):
            self._kept.replace(_NOT_ASKED)
            raise CallFailedError(_NOT_ASKED, "crashed")
        self._kept.went_well()
        return answer

    async def _call(self, ask: Ask, timeout_seconds: float) -> Answer:
        try:
            return await self._kept.call(ask, updates=self._updates(), timeout_seconds=timeout_seconds)
        except WorkerTimeoutError as error:
            limit = " (limits.timeoutSeconds)" if timeout_seconds == self._timeout_seconds else ""
            raise CallFailedError(f"no answer within {timeout_seconds:g} s{limit}", "timeout") from error
        except WorkerDiedError as error:
            raise CallFailedError(self._cause(error), "crashed") from error
        except PluginUnavailableError as error:
            # A plugin can end its host, and all others' processes with it. Who was at work each time is left out.
            raise CallFailedError(error.message, "unavailable", is_crash=True) from error
        except FrameError as error:
            raise CallFailedError(f"the request is too large for a plugin: {error}", "unavailable") from error

    async def _trained(self, timeout_seconds: float, replay: Ask | None) -> Trained:
        try:
            answer = await self._kept.call(
                Train(replay),
                updates=self._updates(),
                timeout_seconds=timeout_seconds,
                limit_bytes=MAX_MESSAGE_BYTES,
            )
        except WorkerTimeoutError as error:
            message = f"no model within {timeout_seconds:g} s (training.timeoutSeconds)"
            raise PluginBrokenError("train", message) from error
        except WorkerDiedError as error:
            if self._closing is not None:
                raise PluginUnavailableError(closing().reason) from error
            raise PluginBrokenError("train", self._cause(error)) from error
        except FrameError as error:
            raise PluginBrokenError("train", f"the request to be replayed is too large: {error}") from error
        match answer:
            case Trained():
                return answer
            case Broken():
                raise PluginBrokenError(answer.stage, answer.message, answer.faults)
        self._kept.replace(_NOT_ASKED)
        raise PluginBrokenError("train", _NOT_ASKED)

    def _cause(self, error: WorkerDiedError) -> str:
        if error.oom:
            return f"{error.cause} (limits.memory is {self._memory_bytes / 2**20:.0f} MiB)"
        return error.cause

    def _updates(self) -> list[HistoryUpdate]:
        """Return what the process has not been told of the history yet; a new one is told everything."""
        if self._feed is None:
            return []
        process = self._kept.process
        if process is not self._fed:
            self._fed, self._cursor = process, self._feed.cursor()
        try:
            return list(self._feed.updates_for(self._cursor))
        except BaseException:
            self._fed = None  # nobody knows where the cursor stands: the process is told everything again
            raise

    async def _shut(self) -> None:
        await self._kept.close()
