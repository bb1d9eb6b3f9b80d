"""When to ask again: exponential backoff with full jitter, within the time limit of the call.

Full jitter is a wait drawn evenly between nothing and the backoff: of the usual ways it lets a crowd of clients through
with the fewest calls (M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
"""

from __future__ import annotations

import email.utils
import random
import time
from collections.abc import Callable, Mapping
from typing import Final

AGAIN: Final = frozenset({429, 503})
"""Of these answers it is sure that nothing was begun."""

FIRST_SECONDS: Final = 0.1
LONGEST_SECONDS: Final = 5.0


class Attempts:
    """The attempts of one call.

    Parameters
    ----------
    timeout_seconds
        For all of them, waits included.
    now, draw
        A steady clock in seconds, and a draw between two numbers.
    """

    def __init__(
        self,
        timeout_seconds: float,
        *,
        now: Callable[[], float] = time.monotonic,
        draw: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._now = now
        self._draw = draw
        self._until = now() + timeout_seconds
        self._backoff = FIRST_SECONDS

    @property
    def seconds_left(self) -> float:
        """How long the next attempt may take; above 0, so that a late one ends as a timeout and not as a fault."""
        return max(self._until - self._now(), 0.001)

    def wait_seconds(self, status: int, retry_after_seconds: float | None) -> float | None:
        """Return how long to wait before the next attempt; None where there is to be none.

        Parameters
        ----------
        status
            Of the answer.
        retry_after_seconds
            What its Retry-After says. The wait is never shorter.
        """
        if status not in AGAIN:
            return None
        wait = (retry_after_seconds or 0.0) + self._draw(0.0, self._backoff)
        self._backoff = min(self._backoff * 2, LONGEST_SECONDS)
        return wait if wait < self._until - self._now() else None


def retry_after(headers: Mapping[str, str], *, now: Callable[[], float] = time.time) -> float | None:
    """Return the seconds that Retry-After asks for: a number, or a date (RFC 9110, 10.2.3). None where it says none.

    Parameters
    ----------
    headers
        Of the answer; names in any case.
    now
        Seconds since the epoch.
    """
    given = headers.get("Retry-After", "").strip()
    if given.isascii() and given.isdigit():
        return float(given) if len(given) <= 9 else None
    try:
        return max(email.utils.parsedate_to_datetime(given).timestamp() - now(), 0.0)
    except (ValueError, OverflowError):
        return None
