"""A time limit that is set and lifted again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Timer:
    """Calls something when its time is over.

    Parameters
    ----------
    loop
        Where.
    action
        What.
    """

    __slots__ = ("_action", "_handle", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, action: Callable[[], None]) -> None:
        self._loop = loop
        self._action = action
        self._handle: asyncio.TimerHandle | None = None

    def start(self, seconds: float) -> None:
        """Begin, unless it runs already: who goes on slowly gets no more time."""
        if self._handle is None:
            self._handle = self._loop.call_later(seconds, self._fire)

    def stop(self) -> None:
        """Lift the limit."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _fire(self) -> None:
        self._handle = None
        self._action()
