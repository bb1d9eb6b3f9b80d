"""Watches the memory of plugins, and the time at which to look."""

from __future__ import annotations

import dataclasses
import time

from engine_ops.plugins.host.memory import resident_bytes, used_bytes

PERIOD_SECONDS = 0.25
"""How often it looks. What a plugin can use above its limit is what it touches in that time."""


@dataclasses.dataclass(slots=True)
class _Watched:
    limit_bytes: int
    shared_bytes: int
    oom_bytes: int | None = None


class Watchdog:
    """Finds the processes of plugins that use more memory than they may; see `engine_ops.plugins.host.memory`."""

    def __init__(self) -> None:
        self._watched: dict[int, _Watched] = {}
        self._next_look = 0.0

    def watch(self, pid: int, own_pid: int, limit_bytes: int) -> None:
        """Watch a process from now on.

        Parameters
        ----------
        pid
            Just forked.
        own_pid
            The process that forked it.
        limit_bytes
            What it may use; 0 for no limit.
        """
        self._watched[pid] = _Watched(limit_bytes, resident_bytes(own_pid))

    def forget(self, pid: int) -> int | None:
        """Watch a process no more; return what it used when it was above its limit, or None if it never was."""
        watched = self._watched.pop(pid, None)
        return None if watched is None else watched.oom_bytes

    def wait_ms(self) -> int | None:
        """Return how long to wait for the next look, ms, rounded up; None while there is nothing to look at."""
        if not self._watched:
            return None
        return max(0, int((self._next_look - time.monotonic()) * 1000) + 1)

    def is_due(self) -> bool:
        """Return whether it is time to look."""
        return bool(self._watched) and time.monotonic() >= self._next_look

    def look(self) -> list[int]:
        """Return the processes that are above their limit for the first time."""
        above: list[int] = []
        for pid, watched in self._watched.items():
            if watched.limit_bytes and watched.oom_bytes is None:
                used = used_bytes(pid, watched.shared_bytes, watched.limit_bytes)
                if used > watched.limit_bytes:
                    watched.oom_bytes = used
                    above.append(pid)
        self._next_look = time.monotonic() + PERIOD_SECONDS
        return above
