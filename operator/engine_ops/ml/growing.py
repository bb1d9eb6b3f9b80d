"""A history that grows while models look at it: they take in what is new, and not all of it again."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import final

from engine_ops.ml.data_point import WorkloadDataPoint
from engine_ops.ml.lags import Lags


class GrowingHistory(Sequence[WorkloadDataPoint]):
    """Points, oldest first, that come at the new end and go at the old one.

    Whoever has taken in a part of it keeps ``end`` and ``start``, and asks `since` for the rest.
    """

    @property
    @abstractmethod
    def added(self) -> int:
        """The position after the newest point: it grows by one with each point, and where all are replaced."""

    @property
    def start(self) -> int:
        """The position of the oldest point that is there; a point keeps its position."""
        return self.added - len(self)

    @abstractmethod
    def since(self, position: int) -> Iterator[WorkloadDataPoint] | None:
        """Return the points from a position on, oldest first.

        Parameters
        ----------
        position
            What ``added`` was when the caller looked last; 0 where it never did.

        Returns
        -------
        Iterator or None
            None where that cannot be said: all points were replaced since then, or some have come and gone. The
            caller takes in the whole history instead.
        """


@final
class FollowedLags:
    """`Lags` of a growing history, made once and then kept up with it."""

    def __init__(self) -> None:
        self._history: GrowingHistory | None = None
        self._lags = Lags(())
        self._start = 0
        self._added = 0

    def of(self, history: GrowingHistory) -> Lags:
        """Return the lags of the history as it is now; the next call may change them."""
        new = history.since(self._added) if history is self._history else None
        if new is None:
            self._lags = Lags(history.since(history.start) or ())
        elif history.added != self._added or history.start != self._start:
            self._lags.extend(new)
            self._lags.forget(history.start - self._start)
        self._history, self._start, self._added = history, history.start, history.added
        return self._lags
