"""A label whose values are users' words: the first of them are told apart, all others are one."""

from __future__ import annotations

from typing import Final

OTHER: Final = "other"


class BoundedLabel:
    """Keeps the number of time series bounded, whoever makes how many objects.

    Parameters
    ----------
    limit
        So many values are told apart, for as long as the process runs.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: set[str] = set()

    def __call__(self, value: str) -> str:
        """Return the value, or ``other``."""
        if value in self._known:
            return value
        if len(self._known) >= self._limit:
            return OTHER
        self._known.add(value)
        return value
