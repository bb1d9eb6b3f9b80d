"""How long the watches wait for what."""

from __future__ import annotations

import dataclasses
import random


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Times of a watch, in seconds.

    Parameters
    ----------
    stream_seconds
        Bounds of the time after which the server is asked to end a stream; drawn anew for each, so that the watches
        of many clients do not come back all at once.
    silence_seconds
        A stream on which nothing comes for so long is given up: bookmarks come about once a minute.
    list_silence_seconds
        The same while the list is under way.
    open_seconds
        How long the server may take to begin an answer.
    ask_seconds
        How long it may take to say at which resourceVersion it is.
    steady_seconds
        A stream that has lasted so long was a success: what comes after it begins with the shortest wait again.
    min_backoff_seconds, max_backoff_seconds
        Between failures; doubled each time.
    forbidden_seconds
        Between attempts where the server refuses.
    quiet_seconds
        See `engine_ops.kube.watch.Watch.fresh`.
    max_quiet_seconds
        What it may grow to.
    """

    stream_seconds: tuple[float, float] = (240.0, 360.0)
    silence_seconds: float = 90.0
    list_silence_seconds: float = 30.0
    open_seconds: float = 30.0
    ask_seconds: float = 10.0
    steady_seconds: float = 5.0
    min_backoff_seconds: float = 0.2
    max_backoff_seconds: float = 30.0
    forbidden_seconds: float = 4.0
    quiet_seconds: float = 0.03
    max_quiet_seconds: float = 0.5

    def stream_timeout(self) -> str:
        """Return whole seconds for the parameter ``timeoutSeconds``."""
        return str(max(1, round(random.uniform(*self.stream_seconds))))  # noqa: S311  # jitter, no secret

    def backoff(self, attempt: int) -> float:
        """Return the wait after failure number ``attempt``, counted from 0."""
        delay = min(self.min_backoff_seconds * 2.0 ** min(attempt, 16), self.max_backoff_seconds)
        return delay * random.uniform(0.5, 1.0)  # noqa: S311  # jitter, no secret
