"""Passing on the newest of many values, not too often."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from engine_ops.workers.alarm import ALARM

logger = logging.getLogger(__name__)

INTERVAL_SECONDS = 0.25
"""What was passed on last is at most this old, unless building it is dear."""

_MAX_SHARE = 0.1
"""Building and sending take at most about this share of the time."""

ValueT = TypeVar("ValueT")


class Throttle(Generic[ValueT]):
    """Builds and sends the newest value that was offered, at most once in an interval; values in between are dropped.

    A value that has to wait is built on another thread: its builder must hold a snapshot.

    Parameters
    ----------
    send
        Called with each value that is passed on, never by two threads at once.
    first_at_once
        Whether the first value is sent before `offer` returns; else it waits for an interval too.
    interval_seconds
        The least time between two values.
    """

    def __init__(
        self,
        send: Callable[[ValueT], None],
        *,
        first_at_once: bool = True,
        interval_seconds: float = INTERVAL_SECONDS,
    ) -> None:
        self._send = send
        self._interval_seconds = interval_seconds
        self._lock = threading.Lock()
        self._build: Callable[[], ValueT | None] | None = None
        self._alarm: int | None = None
        self._due = time.monotonic() + (0.0 if first_at_once else interval_seconds)
        self._finished = False

    def offer(self, build: Callable[[], ValueT | None]) -> None:
        """Offer a newer value.

        Parameters
        ----------
        build
            Makes the value; None passes nothing on. An error in it is logged, and costs only this value.
        """
        with self._lock:
            if self._finished:
                return
            self._build = build
            if self._alarm is not None:
                return
            if self._due <= time.monotonic():
                self._flush()
            else:
                self._alarm = ALARM.set(self._due, self._fire)

    def finish(self) -> None:
        """Drop what waits. Nothing is sent after this returns."""
        with self._lock:
            self._finished = True
            self._build = None
            if self._alarm is not None:
                ALARM.cancel(self._alarm)
                self._alarm = None

    def _fire(self) -> None:
        with self._lock:
            self._alarm = None
            if not self._finished:
                self._flush()

    def _flush(self) -> None:
        build, self._build = self._build, None
        if build is None:
            return
        started = time.monotonic()
        try:
            value = build()
            if value is not None:
                self._send(value)
        except OSError as error:
            logger.debug("nobody listens: %s", error)
        except Exception:
            logger.exception("an answer on the way could not be passed on")
        ended = time.monotonic()
        self._due = ended + max(self._interval_seconds, (ended - started) * (1 / _MAX_SHARE - 1))
