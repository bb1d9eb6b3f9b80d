"""A plugin that crashes again and again is not asked for a while."""

from __future__ import annotations

import dataclasses
import enum


class BreakerState(enum.StrEnum):
    """Whether a plugin is asked."""

    CLOSED = "Closed"
    """It is."""
    OPEN = "Open"
    """It is not, until the wait is over."""
    HALF_OPEN = "HalfOpen"
    """One request tries it; the others do not wait for how that ends."""


@dataclasses.dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When a breaker opens, and for how long.

    Parameters
    ----------
    crashes
        In a row; at least 1.
    first_wait_seconds
        Above 0. Each crash of a trial doubles the wait.
    longest_wait_seconds
        The wait is never longer.

    Raises
    ------
    ValueError
        If a value is out of range.
    """

    crashes: int = 5
    first_wait_seconds: float = 2.0
    longest_wait_seconds: float = 300.0

    def __post_init__(self) -> None:
        if self.crashes < 1:
            raise ValueError(f"crashes must be at least 1, is {self.crashes}")
        if not 0 < self.first_wait_seconds <= self.longest_wait_seconds:
            raise ValueError(
                "first_wait_seconds must be above 0 and at most longest_wait_seconds, "
                f"are {self.first_wait_seconds} and {self.longest_wait_seconds}"
            )


@dataclasses.dataclass(frozen=True, slots=True)
class Permit:
    """Leave to ask the plugin once.

    Parameters
    ----------
    era
        Counts the changes of the breaker's state: how a call ends that began before the last one is no news.
    """

    era: int


class CircuitBreaker:
    """Closed at first; open after some crashes in a row; after a wait one call is tried.

    What is a crash is the caller's to say: the death of the worker, a kill for time or memory. A plugin that says no
    has not crashed. Not thread-safe: it belongs to the event loop.

    The pattern is that of Nygard, Release It!, 2007.

    Parameters
    ----------
    policy
        When it opens.
    """

    def __init__(self, policy: BreakerPolicy | None = None) -> None:
        self._policy = policy if policy is not None else BreakerPolicy()
        self._state = BreakerState.CLOSED
        self._era = 0
        self._crashes = 0
        self._wait = self._policy.first_wait_seconds
        self._retry_at = 0.0
        self._last_error = ""

    @property
    def state(self) -> BreakerState:
        """Whether the plugin is asked. An open breaker stays so until a call is wanted after its wait."""
        return self._state

    @property
    def crashes(self) -> int:
        """How many calls have crashed since the last that did not."""
        return self._crashes

    @property
    def retry_at(self) -> float | None:
        """When the next call is tried, on the caller's clock, in seconds; None unless it is open."""
        return self._retry_at if self._state is BreakerState.OPEN else None

    @property
    def last_error(self) -> str:
        """What the last crash was; empty where the last call was none."""
        return self._last_error

    def begin(self, now: float) -> Permit | None:
        """Ask for leave to call the plugin.

        Parameters
        ----------
        now
            Seconds, on a clock that never goes back.

        Returns
        -------
        Permit or None
            None where the plugin must not be asked. With a permit, `succeeded`, `crashed` or `abandoned` must follow.
        """
        if self._state is BreakerState.HALF_OPEN:
            return None
        if self._state is BreakerState.OPEN:
            if now < self._retry_at:
                return None
            self._change(BreakerState.HALF_OPEN)
        return Permit(self._era)

    def succeeded(self, permit: Permit) -> None:
        """Take note that the call ended without a crash."""
        if permit.era != self._era:
            return
        self._crashes = 0
        self._last_error = ""
        if self._state is BreakerState.HALF_OPEN:
            self._wait = self._policy.first_wait_seconds
            self._change(BreakerState.CLOSED)

    def crashed(self, permit: Permit, now: float, error: str) -> None:
        """Take note of a crash.

        Parameters
        ----------
        permit
            Of the call.
        now
            See `begin`.
        error
            What happened, for people.
        """
        if permit.era != self._era:
            return
        self._crashes += 1
        self._last_error = error
        trial = self._state is BreakerState.HALF_OPEN
        if not trial and self._crashes < self._policy.crashes:
            return
        if trial:
            self._wait = min(2 * self._wait, self._policy.longest_wait_seconds)
        self._retry_at = now + self._wait
        self._change(BreakerState.OPEN)

    def abandoned(self, permit: Permit) -> None:
        """Take note that nobody knows how the call would have ended: a trial can be made again at once."""
        if permit.era == self._era and self._state is BreakerState.HALF_OPEN:
            self._change(BreakerState.OPEN)

    def reset(self) -> None:
        """Forget all crashes: the plugin's code or settings have changed. Calls under way count no more."""
        self._crashes = 0
        self._last_error = ""
        self._wait = self._policy.first_wait_seconds
        self._change(BreakerState.CLOSED)

    def _change(self, state: BreakerState) -> None:
        self._state = state
        self._era += 1
