"""A watch that keeps what has gone until somebody has asked for it."""

from __future__ import annotations

import collections
import time
from collections.abc import Callable
from typing import Final, Generic, TypeVar

import msgspec

from engine_ops.kube.connection import Connection
from engine_ops.kube.watch import Watch
from engine_ops.kube.watch_events import DELETED, Event
from engine_ops.kube.watch_source import Resource
from engine_ops.kube.watch_timings import Timings
from engine_ops.kube.watch_view import View

KEPT_SECONDS: Final = 1800.0
KEPT: Final = 5000
"""Bounds of what has gone and was not asked for: the oldest go first."""

RecordT = TypeVar("RecordT")


class DepartureWatch(Watch[RecordT]):
    """Follows one resource as `engine_ops.kube.watch.Watch` does, and keeps the last state of what was deleted.

    That is the one that the event of the deletion carries: an object may change and go between two looks, and even
    between two events. Of what went while the watch was away only the state before that is known.

    Parameters
    ----------
    connection, resource, timings
        As `Watch` has them.
    uid_of
        Tells objects apart that had the same name one after the other.
    on_change
        Called after every change of the view.
    kept
        How many of those that have gone are kept.
    kept_seconds
        And for how long.
    """

    def __init__(
        self,
        connection: Connection,
        resource: Resource[RecordT],
        timings: Timings,
        *,
        uid_of: Callable[[RecordT], str],
        on_change: Callable[[], None],
        kept: int = KEPT,
        kept_seconds: float = KEPT_SECONDS,
    ) -> None:
        super().__init__(connection, resource, timings)
        self.departures: Departures[RecordT] = Departures(uid_of, kept=kept, kept_seconds=kept_seconds)
        self._view = _DepartureView(resource.decode, self.departures, on_change)


class Departures(Generic[RecordT]):
    """What has gone and was not asked for since, by uid.

    Parameters
    ----------
    uid_of, kept, kept_seconds
        As `DepartureWatch` has them.
    clock
        Monotonic, in seconds.
    """

    def __init__(
        self,
        uid_of: Callable[[RecordT], str],
        *,
        kept: int = KEPT,
        kept_seconds: float = KEPT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.uid_of = uid_of
        self._kept = kept
        self._kept_seconds = kept_seconds
        self._clock = clock
        self._gone: collections.OrderedDict[str, tuple[float, RecordT]] = collections.OrderedDict()

    def __len__(self) -> int:
        return len(self._gone)

    def note(self, record: RecordT, *, newer: bool = True) -> None:
        """Keep the last state of an object. With ``newer=False`` one that is kept already is not replaced."""
        uid = self.uid_of(record)
        if uid in self._gone and not newer:
            return
        self._gone[uid] = self._clock(), record
        self._gone.move_to_end(uid)
        self._forget()

    def claim(self, chosen: Callable[[RecordT], bool]) -> list[RecordT]:
        """Return those that are chosen, oldest first, and keep them no longer."""
        self._forget()
        claimed = [(uid, record) for uid, (_, record) in self._gone.items() if chosen(record)]
        for uid, _ in claimed:
            del self._gone[uid]
        return [record for _, record in claimed]

    def _forget(self) -> None:
        oldest = self._clock() - self._kept_seconds
        while self._gone and (len(self._gone) > self._kept or next(iter(self._gone.values()))[0] < oldest):
            self._gone.popitem(last=False)


class _DepartureView(View[RecordT]):
    """A view that notes what leaves it."""

    def __init__(
        self,
        decode: Callable[[msgspec.Raw], RecordT | None],
        departures: Departures[RecordT],
        on_change: Callable[[], None],
    ) -> None:
        super().__init__(decode)
        self._departures = departures
        self._on_change = on_change

    def put_event(self, records: dict[str, RecordT], event: Event) -> None:
        """Do as `View.put_event` does, and note the state in which an object was deleted."""
        if event.type == DELETED:
            last: dict[str, RecordT] = {}
            self.put(last, event.key, event.raw)
            for record in last.values():
                self._departures.note(record)
        super().put_event(records, event)

    def apply(self, event: Event) -> bool:
        """Do as `View.apply` does, and tell of it."""
        before = self.changes
        late = super().apply(event)
        if self.changes != before:
            self._on_change()
        return late

    def replace(self, records: dict[str, RecordT], version: int) -> None:
        """Do as `View.replace` does, and note what is no longer there."""
        uid_of = self._departures.uid_of
        for key, record in self.records.items():
            now = records.get(key)
            if now is None or uid_of(now) != uid_of(record):
                self._departures.note(record, newer=False)
        super().replace(records, version)
        self._on_change()
