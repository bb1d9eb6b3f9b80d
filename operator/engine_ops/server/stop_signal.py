"""Asking somebody to come to an end: an event that calls back, for where a task that waits for one would cost more."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator


class StopSignal:
    """Is set once, on the event loop where it is looked at."""

    __slots__ = ("_callbacks", "_set")

    def __init__(self) -> None:
        self._set = False
        self._callbacks: list[Callable[[], None]] = []

    def is_set(self) -> bool:
        """Return whether it was set."""
        return self._set

    def set(self) -> None:
        """Ask. Only the first time counts."""
        if not self._set:
            self._set = True
            for callback in tuple(self._callbacks):
                callback()

    @contextlib.contextmanager
    def calling(self, callback: Callable[[], None]) -> Iterator[None]:
        """Call something when it is set while the body runs: at once if it was set before."""
        self._callbacks.append(callback)
        try:
            if self._set:
                callback()
            yield
        finally:
            self._callbacks.remove(callback)
