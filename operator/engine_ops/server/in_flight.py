"""How many questions are being answered at once: a bound, so that what waits does not grow without one."""

from __future__ import annotations

from collections.abc import Callable

from engine_ops.server.problems import ProblemError

RETRY_AFTER_SECONDS = 1


class Place:
    """One of the places; it is given back once, however often `free` is called."""

    __slots__ = ("_in_flight",)

    def __init__(self, in_flight: InFlight) -> None:
        self._in_flight: InFlight | None = in_flight

    def free(self) -> None:
        """Give the place back."""
        if self._in_flight is not None:
            self._in_flight.taken -= 1
            self._in_flight = None


class InFlight:
    """The places.

    Parameters
    ----------
    capacity
        How many there are; asked each time, since it may change.

    Attributes
    ----------
    taken
        How many are taken.
    refused
        How often there was none.
    """

    def __init__(self, capacity: Callable[[], int]) -> None:
        self._capacity = capacity
        self.taken = 0
        self.refused = 0

    @property
    def capacity(self) -> int:
        """How many places there are; at least one."""
        return max(1, self._capacity())

    def take(self) -> Place:
        """Take a place.

        Raises
        ------
        ProblemError
            503 if all are taken.
        """
        capacity = self.capacity
        if self.taken >= capacity:
            self.refused += 1
            raise ProblemError(
                "busy",
                f"{self.taken} questions are being answered, and at most {capacity} at once. Ask again later.",
                headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
            )
        self.taken += 1
        return Place(self)
