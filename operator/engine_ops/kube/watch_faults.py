"""What has gone wrong with a watch: kept for who waits for it, and logged, but not again and again."""

from __future__ import annotations

import logging
import time
from typing import Final

from engine_ops.kube.channel import StalledError
from engine_ops.kube.errors import ApiError, UnavailableError

logger = logging.getLogger(__name__)

LOG_SECONDS: Final = 60.0


class Faults:
    """The last fault of one watch.

    Parameters
    ----------
    plural
        What is watched, for messages.
    """

    def __init__(self, plural: str) -> None:
        self._plural = plural
        self._last: ApiError | UnavailableError | None = None
        self._last_at = 0.0
        self._logged_at = float("-inf")

    def note(self, error: ApiError | UnavailableError) -> None:
        """Keep a fault that the watch tries again after."""
        self._last, self._last_at = error, time.monotonic()
        self.log(f"{error}; trying again")

    def clear(self) -> None:
        """Take note that all is well."""
        self._last = None

    def raise_since(self, moment: float) -> None:
        """Raise what has gone wrong since a moment of `time.monotonic`, and still does.

        Raises
        ------
        ApiError, UnavailableError
            The last fault.
        """
        if self._last is not None and self._last_at >= moment:
            raise self._last

    def log(self, message: str) -> None:
        """Log it, at most once a minute: what goes wrong tends to do so many times."""
        now = time.monotonic()
        level = logging.DEBUG
        if now - self._logged_at >= LOG_SECONDS:
            level, self._logged_at = logging.WARNING, now
        logger.log(level, "%s: %s", self._plural, message)


def refuses_streaming(error: Exception) -> bool:
    """Whether this is how servers answer that do not stream lists; some do not know the parameter, and say nothing."""
    return isinstance(error, StalledError) or (isinstance(error, ApiError) and error.status in (400, 422))
