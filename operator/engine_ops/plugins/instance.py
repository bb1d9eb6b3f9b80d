"""One plugin, made from one spec, that can be asked: what it looks like, wherever it runs."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Literal, Protocol

from engine_ops.plugins.messages import Ask, Opened, Replied, Trained

UnansweredKind = Literal["busy", "timeout", "crashed", "unavailable", "broken", "open", "closing"]
"""``busy``: other requests took all the time that this one had. ``timeout``, ``crashed``: the plugin had the request.
``unavailable``: the plugin host or the service cannot be reached; no fault of the plugin. ``broken``: it cannot be
loaded (again). ``open``: it is left out after crashes in a row. ``closing``: it is being replaced or removed."""


@dataclasses.dataclass(frozen=True, slots=True)
class Unanswered:
    """Why a plugin did not answer a request at all.

    Parameters
    ----------
    reason
        One sentence for people, without the plugin's name and without a full stop.
    kind
        The sort of reason.
    """

    reason: str
    kind: UnansweredKind


def closing() -> Unanswered:
    """Return what is said to requests that come when the instance is closed already."""
    return Unanswered("it is being replaced or removed", "closing")


class PluginBrokenError(Exception):
    """A plugin cannot be loaded, or not be trained; more of the same will not help soon.

    Parameters
    ----------
    stage
        ``import``, ``config`` (its schema rejects the settings), ``init``, ``load`` (of the state) or ``train``.
    message
        One line for people.
    faults
        Path and message of each fault of the settings; the paths begin with ``config``.
    """

    def __init__(self, stage: str, message: str, faults: tuple[tuple[str, str], ...] = ()) -> None:
        self.stage = stage
        self.message = message
        self.faults = faults
        super().__init__(message)


class PluginUnavailableError(Exception):
    """The plugin host or the plugin's service cannot be reached: nothing is known of the plugin. Try again later.

    Parameters
    ----------
    message
        One line for people.
    """

    def __init__(self, message: str) -> None:
        self.message = message
        super().__init__(message)


@dataclasses.dataclass(frozen=True, slots=True)
class LastError:
    """What went wrong last.

    Parameters
    ----------
    message
        One sentence for people.
    at
        When, with its time zone.
    """

    message: str
    at: datetime.datetime


@dataclasses.dataclass(slots=True)
class Counters:
    """What came of asking a plugin, since it was made.

    Parameters
    ----------
    asked
        Requests that the plugin was given.
    answered
        Of these, with a result.
    said_no
        Without one, in good order.
    failures
        It raised, or returned what is no answer, be it found later (`Instance.blame`).
    timeouts
        No answer in time.
    crashes
        Its process ended by itself, or was killed for its memory; at a request or between two.
    restarts
        Processes that were started in place of one that had ended.
    """

    asked: int = 0
    answered: int = 0
    said_no: int = 0
    failures: int = 0
    timeouts: int = 0
    crashes: int = 0
    restarts: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Latency:
    """How long the last answers took, up to 1,000 of them; all values are 0 before the first.

    Parameters
    ----------
    p50_ms, p99_ms
        Of the whole of `Instance.ask`, the wait for a turn included.
    plugin_p50_ms, plugin_p99_ms
        Of the time in the plugin's own code.
    """

    p50_ms: float = 0.0
    p99_ms: float = 0.0
    plugin_p50_ms: float = 0.0
    plugin_p99_ms: float = 0.0


class Limits(Protocol):
    """What a plugin may use; `engine_ops.api.optimizerplugin.PluginLimits` is one."""

    @property
    def timeout_seconds(self) -> float:
        """For one answer, and for the wait for its turn."""

    @property
    def memory_bytes(self) -> int:
        """Resident, of its process."""


class Instance(Protocol):
    """A plugin that has been made from one spec. It belongs to one event loop.

    `start` comes first, `close` last; an instance that did not start needs no `close`, but may have one.
    """

    @property
    def opened(self) -> Opened | None:
        """What the plugin says of itself; None before it has started. As of its last start or training."""

    @property
    def degraded(self) -> str | None:
        """Why it is left out for the time being, for people: it crashed again and again. None where it is not."""

    @property
    def unavailable(self) -> str | None:
        """Why it cannot be reached, for people: its host or its service has gone since it started. None where it can.

        It is started again by itself as soon as that is there again.
        """

    @property
    def last_error(self) -> LastError | None:
        """What went wrong last; stays when things go well again."""

    @property
    def counters(self) -> Counters:
        """What came of asking it. The live object: copy it to keep it."""

    @property
    def latency(self) -> Latency:
        """How long its last answers took."""

    async def start(self) -> Opened:
        """Load the plugin, and initialise it.

        Raises
        ------
        PluginBrokenError
            If it cannot be.
        PluginUnavailableError
            If there is nothing to load it in.
        """

    async def ask(self, ask: Ask, *, timeout_seconds: float | None = None) -> Replied | Unanswered:
        """Give the plugin a request, when its turn comes.

        Cancelling the call does no harm: a request that the plugin has already is waited out in the background.

        Parameters
        ----------
        ask
            The request.
        timeout_seconds
            In place of the limit of the spec: for the wait, and then for the answer.

        Returns
        -------
        Replied or Unanswered
            It raises nothing but `asyncio.CancelledError`.
        """

    async def train(self, timeout_seconds: float, replay: Ask | None = None) -> Trained:
        """Train the model on the history. The instance keeps the state for its next start.

        Cancelling the call ends the training.

        Parameters
        ----------
        timeout_seconds
            For the training.
        replay
            See `engine_ops.plugins.messages.Train`.

        Raises
        ------
        PluginBrokenError
            If the plugin could not be trained (stage ``train``): it said so, took too long, or died of it.
        PluginUnavailableError
            If it cannot be reached.
        """

    def set_state(self, state: bytes) -> None:
        """Keep the state of a model for the next start; empty for none. What runs stays as it is."""

    def blame(self, reason: str) -> None:
        """Count as a failure what turned out later, such as an answer that names a node that does not exist."""

    def retire(self) -> None:
        """Take note that another instance is being started in this one's place: open nothing anew from now on."""

    async def close(self) -> None:
        """Take no more requests, let the plugin finish those that it was given before, and end it. Idempotent."""
