"""How many questions are being answered at once: a bound, so that what waits does not grow without one.

There is one for all, one for long searches, which leave half of the places to other questions, and one for each user,
who leaves a place to the others as long as there are any.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from engine_ops.server.problems import ProblemError

RETRY_AFTER_SECONDS: Final = 1

LONG_RETRY_AFTER_SECONDS: Final = 5
"""Where only the end of a long search makes room."""

OTHERS_SECONDS: Final = 10.0
"""For so long after somebody else has asked, a user leaves a place to others."""


class Place:
    """One of the places; it is given back once, however often `free` is called."""

    __slots__ = ("_in_flight", "_long", "_username")

    def __init__(self, in_flight: InFlight, username: str, *, long: bool) -> None:
        self._in_flight: InFlight | None = in_flight
        self._username = username
        self._long = long

    def free(self) -> None:
        """Give the place back."""
        if self._in_flight is not None:
            self._in_flight.give_back(self._username, long=self._long)
            self._in_flight = None


class InFlight:
    """The places.

    Parameters
    ----------
    capacity
        How many there are; asked each time, since it may change.
    clock
        Monotonic, seconds.

    Attributes
    ----------
    taken
        How many are taken.
    refused
        How often there was none.
    """

    def __init__(self, capacity: Callable[[], int], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._capacity = capacity
        self._clock = clock
        self.taken = 0
        self.refused = 0
        self._taken_by: Counter[str] = Counter()
        self._taken_long = 0
        # Two moments tell of any user whether others are there: when the last one asked, and when the last one did who
        # is not the same.
        self._last: tuple[str, float] = ("", float("-inf"))
        self._before_last = float("-inf")

    @property
    def capacity(self) -> int:
        """How many places there are; at least one."""
        return max(1, self._capacity())

    def take(self, username: str, *, long: bool = False) -> Place:
        """Take a place.

        Parameters
        ----------
        username
            Whose question it is.
        long
            Whether its search may be long.

        Raises
        ------
        ProblemError
            503 if all are taken, or all that long searches may have; 429 if the user has all that one user may have.
        """
        capacity = self.capacity
        others = self._note(username)
        try:
            self._check(username, capacity, long=long, others=others)
        except ProblemError:
            self.refused += 1
            raise
        self.taken += 1
        self._taken_by[username] += 1
        self._taken_long += long
        return Place(self, username, long=long)

    def give_back(self, username: str, *, long: bool) -> None:
        """Have a place be free again; its `Place` does it."""
        self.taken -= 1
        self._taken_long -= long
        self._taken_by[username] -= 1
        if not self._taken_by[username]:
            del self._taken_by[username]

    def _note(self, username: str) -> bool:
        """Take notice that a user asks, be it in vain; return whether others have asked of late."""
        now = self._clock()
        last_user, last = self._last
        if username != last_user:
            self._before_last = last
        self._last = (username, now)
        return now - self._before_last < OTHERS_SECONDS

    def _check(self, username: str, capacity: int, *, long: bool, others: bool) -> None:
        most_each = max(1, capacity - 1)
        if others and self._taken_by[username] >= most_each:
            raise _refusal(
                "too-many-requests",
                f"{self._taken_by[username]} of your questions are being answered, and of {capacity} at once at most "
                f"{most_each} may be one user's while others ask too. Ask again when one has its answer.",
            )
        if self.taken >= capacity:
            raise _refusal(
                "busy", f"{self.taken} questions are being answered, and at most {capacity} at once. Ask again later."
            )
        most_long = max(1, capacity // 2)
        if long and self._taken_long >= most_long:
            raise _refusal(
                "busy",
                f"{self._taken_long} questions with long searches are being answered, and at most {most_long} of "
                f"{capacity} at once may be such. Ask again later, or with a smaller searchSeconds.",
                LONG_RETRY_AFTER_SECONDS,
            )


def _refusal(kind: str, detail: str, seconds: int = RETRY_AFTER_SECONDS) -> ProblemError:
    return ProblemError(kind, detail, headers={"Retry-After": str(seconds)})
