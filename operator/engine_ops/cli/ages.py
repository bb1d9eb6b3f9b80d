"""Times as people read them: how long ago, in the words of kubectl."""

from __future__ import annotations

import datetime
from typing import Final

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
# Below so many seconds: this unit, and what is left of it in the smaller one.
_STEPS: Final = (
    (120, "s", ""),
    (600, "m", "s"),
    (3 * 3600, "m", ""),
    (8 * 3600, "h", "m"),
    (48 * 3600, "h", ""),
    (8 * 86_400, "d", "h"),
    (None, "d", ""),
)


def seconds_since(timestamp: str | None, now: datetime.datetime) -> float | None:
    """Return how long ago a moment was, in seconds; None where it is none. Negative for the future."""
    if not timestamp:
        return None
    try:
        moment = datetime.datetime.fromisoformat(timestamp)
    except ValueError:
        return None
    return (now - moment).total_seconds() if moment.tzinfo is not None else None


def format_age(seconds: float | None) -> str:
    """Return a length of time in its one or two largest units, as kubectl prints an age.

    >>> [format_age(seconds) for seconds in (0.4, 119, 500, 7200, 90000, None)]
    ['0s', '119s', '8m20s', '120m', '25h', '']
    """
    if seconds is None:
        return ""
    whole = max(0, int(seconds))
    for below, unit, minor in _STEPS:
        if below is None or whole < below:
            large, small = divmod(whole, _SECONDS[unit])
            rest = small // _SECONDS[minor] if minor else 0
            return f"{large}{unit}" + (f"{rest}{minor}" if rest else "")
    raise AssertionError("the last step has no end")
