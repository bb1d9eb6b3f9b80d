"""What is under way for each request, and when it is looked at again: tasks, timers, retries with backoff.

An entry lives only while something is under way, so finished requests cost no memory.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
import time
from collections.abc import Callable, Container, Coroutine
from typing import Any

from engine_ops.controllers.entries import Entry
from engine_ops.controllers.measuring import Measured
from engine_ops.controllers.view import RequestView
from engine_ops.kube.errors import ApiError, UnavailableError

logger = logging.getLogger(__name__)

Work = Callable[[], Coroutine[Any, Any, None]]

FIRST_RETRY_SECONDS = 2.0
LAST_RETRY_SECONDS = 60.0
WAKE_APART_SECONDS = 0.002
"""Between two of the requests that are tried again because something has changed for all of them."""


class Agenda:
    """The entries, by the uid of their object. Belongs to one event loop.

    Parameters
    ----------
    look_again
        What is done when the time of an entry has come.
    observe
        Is given what the watch showed of an object while its task ran.
    measured
        Is told of each task that ended.
    """

    def __init__(
        self,
        *,
        look_again: Callable[[Entry], Coroutine[Any, Any, None]],
        observe: Callable[[RequestView], None],
        measured: Measured,
    ) -> None:
        self._look_again = look_again
        self._observe = observe
        self._measured = measured
        self._entries: dict[str, Entry] = {}
        # kopf calls us in a context that holds the whole object: a task or timer of ours must not keep it alive.
        self._context = contextvars.copy_context()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, uid: str) -> Entry | None:
        """Return what is under way for an object; None for nothing."""
        return self._entries.get(uid)

    def holds(self, entry: Entry) -> bool:
        """Whether an entry still stands for its object; another does where it was observed anew."""
        return self._entries.get(entry.target.uid) is entry

    def start(self, entry: Entry, work: Work) -> None:
        """Do some work for an entry now, in a task of its own. Work that fails is logged, and tried again later."""
        # Not a coroutine: one whose task is cancelled before it begins would never be awaited, and Python warns of it.
        self._entries[entry.target.uid] = entry
        name = f"reconcile {entry.target}"
        entry.task = asyncio.create_task(self._guard(entry, work), name=name, context=self._context)

    def look_later(self, entry: Entry, seconds: float, *, retry: bool) -> None:
        """Look at an object again after so long.

        Parameters
        ----------
        entry
            Stands for its object from now on.
        seconds
            Until then; none if it is negative.
        retry
            Whether something is missing, rather than that its time has not come; `wake` brings such a look forward.
        """
        self._entries[entry.target.uid] = entry
        entry.timer_is_retry = retry
        entry.timer = asyncio.get_running_loop().call_later(
            max(0.0, seconds), self._timer_fired, entry, context=self._context
        )

    def add(self, entry: Entry) -> None:
        """Have an entry stand for its object, before anything is under way for it."""
        self._entries[entry.target.uid] = entry

    def retry(self, entry: Entry) -> None:
        """Look at an object again after a pause that doubles from one time to the next, if the entry still stands."""
        if not self.holds(entry):
            return
        # Bounded before the power: 2.0**1024 is an error, after less than a day of waiting.
        seconds = min(FIRST_RETRY_SECONDS * 2.0 ** min(entry.retries, 10), LAST_RETRY_SECONDS)
        entry.retries += 1
        self.look_later(entry, seconds, retry=True)

    def wake(self, reasons: Container[str]) -> None:
        """Try again now what waits for one of these reasons."""
        waiting = [entry for entry in self._entries.values() if entry.waits_for in reasons]
        for place, entry in enumerate(waiting):
            entry.retries = 0  # one that is being tried just now may have looked too early
            if entry.timer is not None and entry.timer_is_retry:
                entry.timer.cancel()
                self.look_later(entry, place * WAKE_APART_SECONDS, retry=True)

    def drop(self, entry: Entry) -> None:
        """Forget an entry whose object is gone or has changed; what runs for it goes on."""
        if self.holds(entry):
            del self._entries[entry.target.uid]

    def stop(self, uid: str) -> None:
        """End what is under way for an object."""
        entry = self._entries.pop(uid, None)
        if entry is not None:
            entry.stop()

    async def close(self) -> None:
        """End everything under way."""
        tasks = [entry.task for entry in self._entries.values() if entry.task is not None]
        for uid in list(self._entries):
            self.stop(uid)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _guard(self, entry: Entry, work: Work) -> None:
        """Let no defect or outage end in silence: log it, and try again later."""
        began, failed = time.perf_counter(), True
        try:
            await work()
            failed = False
        except asyncio.CancelledError:
            failed = False  # by us: the object is gone, or has changed
            raise
        except (ApiError, UnavailableError) as error:
            logger.warning("%s: trying again: %s", entry.target, error)
            self.retry(entry)
        except Exception:
            logger.exception("%s: the reconcile failed; trying again", entry.target)
            self.retry(entry)
        finally:
            self._measured.reconciled(time.perf_counter() - began, failed=failed)
            entry.task = None
            missed, entry.missed = entry.missed, None
            if missed is not None and self.holds(entry):
                self._observe(missed)

    def _timer_fired(self, entry: Entry) -> None:
        entry.timer = None
        self.start(entry, functools.partial(self._look_again, entry))
