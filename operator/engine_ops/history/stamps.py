"""Which moments are written for good: the stamps of statuses, and the watermark below which all is in the store."""

from __future__ import annotations

from collections.abc import Callable, Iterable

Token = bytes | int
"""A point's key, or a number where it has none."""


class Stamps:
    """Gives out stamps and says how far the watermark may rise.

    Time here never goes back: where the clock does, it goes on from the latest moment seen, at the clock's pace. A
    clock that was far ahead, and is set right, thus neither gives a stamp twice nor holds the watermark for ever.

    Parameters
    ----------
    clock
        Epoch milliseconds.
    lag_ms
        The watermark stays so far behind: what another writer has on its way is younger than that.
    """

    def __init__(self, clock: Callable[[], int], lag_ms: int) -> None:
        self._clock = clock
        self._lag_ms = lag_ms
        self._ahead_ms = 0
        self._now_ms = 0
        self._last = 0
        self._own: set[int] = set()
        self._held: set[int] = set()
        self.unflushed: dict[Token, int] = {}
        self.watermark = 0

    def now_ms(self) -> int:
        """Return the time, which never goes back."""
        now_ms = self._clock() + self._ahead_ms
        if now_ms < self._now_ms:
            self._ahead_ms += self._now_ms - now_ms
            now_ms = self._now_ms
        self._now_ms = now_ms
        return now_ms

    def next(self) -> int:
        """Return a stamp above every earlier one and above the watermark. It is held until it ends; see `hold`."""
        self._last = max(self.now_ms(), self._last + 1, self.watermark + 1)
        self._own.add(self._last)
        self._held.add(self._last)
        return self._last

    def hold(self, stamp: int) -> None:
        """Keep the watermark below a stamp until `release`, or until it is flushed."""
        self._held.add(stamp)

    def release(self, stamp: int) -> None:
        """End `hold`. What was recorded with the stamp keeps the watermark below it until it is flushed."""
        if stamp in self._held:
            self._held.discard(stamp)
            self._own.discard(stamp)

    def is_held(self, stamp: int) -> bool:
        """Whether the stamp is on its way."""
        return stamp in self._held

    def is_own(self, stamp: int) -> bool:
        """Whether the stamp was given out here and is not flushed."""
        return stamp in self._own

    def record(self, token: Token, stamp: int) -> None:
        """Take note that something with this stamp waits to be flushed."""
        if stamp in self._own:  # what somebody else put there ends with `release` alone
            self._held.discard(stamp)
        self.unflushed[token] = min(stamp, self.unflushed.get(token, stamp))

    def forget(self, tokens: Iterable[Token]) -> None:
        """Take note that these are flushed, or will never be."""
        for token in tokens:
            stamp = self.unflushed.pop(token, None)
            if stamp is not None:
                self._own.discard(stamp)

    def raised(self, covered: Iterable[Token]) -> int:
        """Return the watermark of a write that brings these into the store.

        It never falls, but for one case: another writer put it above a stamp of ours that is not in the store.
        """
        rest = self.unflushed.keys() - covered
        waiting = [*self._held, *(self.unflushed[token] for token in rest)]
        if any(stamp <= self.watermark for stamp in waiting if stamp in self._own):
            return min(stamp for stamp in waiting if stamp in self._own) - 1
        return max(self.watermark, min([self.now_ms() - self._lag_ms, *(stamp - 1 for stamp in waiting)]))

    def found(self, watermark: int) -> None:
        """Take over the watermark of the store."""
        self.watermark = watermark
        # Time goes on above it even where the clock is behind.
        self._now_ms = max(self._now_ms, watermark + self._lag_ms)
