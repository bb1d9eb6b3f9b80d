"""What instances of plugins have in common: turns, a circuit breaker, counters, latencies, the last error."""

from __future__ import annotations

import abc
import asyncio
import collections
import datetime
import logging
import math
import time
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from engine_ops.plugins.breaker import BreakerPolicy, BreakerState, CircuitBreaker, Permit
from engine_ops.plugins.instance import Counters, LastError, Latency, Unanswered, UnansweredKind, closing
from engine_ops.plugins.messages import Ask, Opened, Replied, Trained

logger = logging.getLogger(__name__)

LATENCIES_KEPT: Final = 1000

_CRASHES: Final = ("timeout", "crashed")


class CallFailedError(Exception):
    """A message got no answer.

    Parameters
    ----------
    reason, kind
        See `Unanswered`.
    is_crash
        Whether it counts for the circuit breaker; by default ``timeout`` and ``crashed`` do.
    """

    def __init__(self, reason: str, kind: UnansweredKind, *, is_crash: bool | None = None) -> None:
        self.reason = reason
        self.kind: UnansweredKind = kind
        self.is_crash = kind in _CRASHES if is_crash is None else is_crash
        super().__init__(reason)


class GuardedInstance(abc.ABC):
    """Asks a plugin in order of arrival, so many requests at a time, and keeps the books.

    Parameters
    ----------
    name
        The plugin's; in logs.
    timeout_seconds
        For the wait for a turn, and then for the answer.
    at_a_time
        How many requests the plugin can be at.
    breaker_policy
        When it is left out after crashes.
    on_change
        Called on the event loop when `opened`, `degraded`, `unavailable`, `last_error` or the number of restarts have
        changed. It may raise; that is logged.
    """

    def __init__(
        self,
        name: str,
        timeout_seconds: float,
        *,
        at_a_time: int = 1,
        breaker_policy: BreakerPolicy | None = None,
        on_change: Callable[[], None] | None = None,
    ) -> None:
        self._name = name
        self._timeout_seconds = timeout_seconds
        self._at_a_time = at_a_time
        self._turns = asyncio.Semaphore(at_a_time)  # first come, first served
        self._breaker = CircuitBreaker(breaker_policy)
        self._on_change = on_change
        self._counters = Counters()
        self._whole_ms: collections.deque[float] = collections.deque(maxlen=LATENCIES_KEPT)
        self._plugin_ms: collections.deque[float] = collections.deque(maxlen=LATENCIES_KEPT)
        self._opened: Opened | None = None
        self._last_error: LastError | None = None
        self._told: tuple[Opened | None, str | None, str | None, LastError | None, int] = (None, None, None, None, 0)
        self._at_work: set[asyncio.Task[Replied | Unanswered]] = set()
        self._closing: asyncio.Task[None] | None = None

    @property
    def opened(self) -> Opened | None:
        """See `Instance`."""
        return self._opened

    @property
    def degraded(self) -> str | None:
        """See `Instance`."""
        if self._breaker.state is BreakerState.CLOSED:
            return None
        return f"left out after {self._breaker.crashes} crashes in a row, the last: {self._breaker.last_error}"

    @property
    @abc.abstractmethod
    def unavailable(self) -> str | None:
        """See `Instance`."""

    @property
    def last_error(self) -> LastError | None:
        """See `Instance`."""
        return self._last_error

    @property
    def counters(self) -> Counters:
        """See `Instance`."""
        return self._counters

    @property
    def latency(self) -> Latency:
        """See `Instance`."""
        return Latency(*_p50_and_p99(self._whole_ms), *_p50_and_p99(self._plugin_ms))

    def blame(self, reason: str) -> None:
        """See `Instance`."""
        self._counters.failures += 1
        self._note_error(reason)

    async def ask(self, ask: Ask, *, timeout_seconds: float | None = None) -> Replied | Unanswered:
        """See `Instance`."""
        limit_seconds = self._timeout_seconds if timeout_seconds is None else timeout_seconds
        began = time.monotonic()
        if self._closing is not None:
            return closing()
        if (refusal := self._left_out()) is not None:
            return refusal
        if not await self._take_turn(limit_seconds):
            return Unanswered(f"no turn within {limit_seconds:g} s, so many requests are before this one", "busy")
        task = None
        try:
            refusal = self._left_out() or await self._be_ready(began + limit_seconds)
            if refusal is not None:
                return refusal
            permit = self._breaker.begin(time.monotonic())
            if permit is None:
                return self._left_out() or Unanswered("left out after crashes in a row", "open")
            task = asyncio.create_task(self._carry_out(ask, limit_seconds, permit, began))
            self._at_work.add(task)
            task.add_done_callback(self._has_worked)
        finally:
            if task is None:
                self._turns.release()
        # Shielded: who asked may go away, but the plugin has the request, and the next one must wait for its answer.
        return await asyncio.shield(task)

    def retire(self) -> None:  # noqa: B027 -- most heirs have nothing to do
        """See `Instance`. It matters where two instances are one and the same thing."""

    async def close(self) -> None:
        """See `Instance`."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._drain_and_shut())
        await asyncio.shield(self._closing)

    @abc.abstractmethod
    async def _be_ready(self, deadline: float) -> Unanswered | None:
        """Wait until the plugin can be given a message, at most until ``deadline`` on the monotonic clock."""

    @abc.abstractmethod
    async def _send(self, ask: Ask, timeout_seconds: float) -> Replied:
        """Give the plugin a request, and return its answer.

        Raises
        ------
        CallFailedError
            If there is none.
        """

    @abc.abstractmethod
    async def _shut(self) -> None:
        """End the plugin. Called once, when it is at nothing any more."""

    async def _take_turn(self, limit_seconds: float) -> bool:
        if not self._turns.locked():
            await self._turns.acquire()  # without a wait
            return True
        try:
            async with asyncio.timeout(limit_seconds):
                await self._turns.acquire()
        except TimeoutError:
            return False
        return True

    async def _carry_out(self, ask: Ask, limit_seconds: float, permit: Permit, began: float) -> Replied | Unanswered:
        self._counters.asked += 1
        try:
            reply = await self._send(ask, limit_seconds)
        except CallFailedError as error:
            self._take_failure(error, permit)
            return Unanswered(error.reason, error.kind)
        except Exception:
            # A fault of ours. The request goes to the next in line all the same.
            self._breaker.abandoned(permit)
            logger.exception("plugin %s: the request could not be passed on", self._name)
            return Unanswered("the request could not be passed on, see the operator's log", "unavailable")
        except BaseException:
            self._breaker.abandoned(permit)
            raise
        self._breaker.succeeded(permit)
        self._take_reply(reply, began)
        return reply

    def _take_reply(self, reply: Replied, began: float) -> None:
        self._whole_ms.append((time.monotonic() - began) * 1000)
        self._plugin_ms.append(reply.duration_us / 1000)
        if reply.failed:
            self._counters.failures += 1
            self._note_error(reply.no or "it returned what is no answer")
        elif reply.no is not None:
            self._counters.said_no += 1
        else:
            self._counters.answered += 1
        self._learn(reply)

    def _take_failure(self, error: CallFailedError, permit: Permit) -> None:
        if error.kind == "timeout":
            self._counters.timeouts += 1
        elif error.kind == "crashed":
            self._counters.crashes += 1
        if error.is_crash:
            self._breaker.crashed(permit, time.monotonic(), error.reason)
        else:
            self._breaker.abandoned(permit)
        self._note_error(error.reason)

    def _note_crash(self, reason: str) -> None:
        """Count a crash that no request was the cause of."""
        self._counters.crashes += 1
        # Where a trial is under way or waited for, only its own end decides.
        if self._breaker.state is BreakerState.CLOSED and (permit := self._breaker.begin(time.monotonic())) is not None:
            self._breaker.crashed(permit, time.monotonic(), reason)
        self._note_error(reason)

    def _note_error(self, message: str) -> None:
        self._last_error = LastError(message, datetime.datetime.now(datetime.UTC))
        self._tell()

    def _note_opened(self, opened: Opened) -> None:
        self._opened = opened
        self._tell()

    def _learn(self, answer: Replied | Trained) -> None:
        """Take from an answer what it says of the model."""
        opened = self._opened
        if opened is not None:
            model_id = opened.model_id if answer.model_id is None else answer.model_id
            is_trained = opened.is_trained if answer.is_trained is None else answer.is_trained
            if (model_id, is_trained) != (opened.model_id, opened.is_trained):
                self._opened = msgspec.structs.replace(opened, model_id=model_id, is_trained=is_trained)
        self._tell()

    def _tell(self) -> None:
        state = (self._opened, self.degraded, self.unavailable, self._last_error, self._counters.restarts)
        if state == self._told:
            return
        self._told = state
        if self._on_change is not None:
            try:
                self._on_change()
            except Exception:
                logger.exception("plugin %s: the listener for changes failed", self._name)

    def _left_out(self) -> Unanswered | None:
        """Return why the plugin is not asked, where the circuit breaker says so."""
        breaker = self._breaker
        if breaker.state is BreakerState.CLOSED:
            return None
        trial = "is being tried again"
        if breaker.retry_at is not None:
            wait_seconds = breaker.retry_at - time.monotonic()
            if wait_seconds <= 0:
                return None
            trial = f"tried again in {math.ceil(wait_seconds)} s"
        return Unanswered(f"left out after {breaker.crashes} crashes in a row, {trial}", "open")

    def _has_worked(self, task: asyncio.Task[Replied | Unanswered]) -> None:
        self._at_work.discard(task)
        self._turns.release()

    async def _drain_and_shut(self) -> None:
        for _ in range(self._at_a_time):
            await self._turns.acquire()  # after all who came before; never given back
        try:
            await self._shut()
        except Exception:
            logger.exception("plugin %s: it could not be ended in good order", self._name)


def _p50_and_p99(durations_ms: Iterable[float]) -> tuple[float, float]:
    """Nearest rank."""
    in_order = sorted(durations_ms)
    if not in_order:
        return 0.0, 0.0
    return in_order[math.ceil(0.5 * len(in_order)) - 1], in_order[math.ceil(0.99 * len(in_order)) - 1]
