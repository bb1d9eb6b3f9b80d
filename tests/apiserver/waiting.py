"""Waiting for what somebody else brings about, in a time of their own."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

WAIT_SECONDS = 60.0
_T = TypeVar("_T")


def wait_until(look: Callable[[], _T], holds: Callable[[_T], object], what: str, seconds: float = WAIT_SECONDS) -> _T:
    """Look until it is as told, and return what was seen."""
    deadline = time.monotonic() + seconds
    while True:
        seen = look()
        if holds(seen):
            return seen
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s: {_short(seen)}"
        time.sleep(0.05)


def _short(seen: Any) -> Any:
    """Return the status of an object, and anything else as it is."""
    return seen.get("status", seen) if isinstance(seen, dict) else seen
