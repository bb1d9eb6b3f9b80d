"""The records of all objects of one resource, and up to which resourceVersion they hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from engine_ops.kube.watch_events import BOOKMARK, DELETED, Event, GarbageError

RecordT = TypeVar("RecordT")


class JumpedBackError(RuntimeError):
    """The server is at an earlier resourceVersion than it was: restored from a backup, or another server."""

    def __init__(self, before: int, now: int) -> None:
        super().__init__(f"from resourceVersion {before} to {now}")


@dataclasses.dataclass(slots=True)
class Counters:
    """What has happened since the start.

    Parameters
    ----------
    lists
        Complete lists.
    events
        Changes that were applied.
    garbage
        Times that something came which could not be read.
    late
        Events that came after they had been taken for seen; see `engine_ops.kube.watch.Watch.fresh`.
    """

    lists: int = 0
    events: int = 0
    garbage: int = 0
    late: int = 0


class View(Generic[RecordT]):
    """The records; changed by the events of streams.

    Parameters
    ----------
    decode
        As `engine_ops.kube.watch_source.Resource` has it.

    Attributes
    ----------
    records : dict of str to record
        By `engine_ops.kube.watch_events.key_of`. Replaced by a new list, changed in place by events.
    changes : int
        Grows with every change of `records`.
    version : int
        The resourceVersion up to which events and bookmarks have come.
    seen_version : int
        The one up to which everything is taken for seen, though the server has not said so.
    counters : Counters
        What has happened.
    """

    def __init__(self, decode: Callable[[msgspec.Raw], RecordT | None]) -> None:
        self._decode = decode
        self.records: dict[str, RecordT] = {}
        self.changes = 0
        self.version = 0
        self.seen_version = 0
        self.counters = Counters()

    def put(self, records: dict[str, RecordT], key: str, raw: msgspec.Raw) -> None:
        """Put the record of an object among ``records``.

        Raises
        ------
        GarbageError
            If it cannot be made.
        """
        try:
            record = self._decode(raw)
        except Exception as error:
            name = key.replace("\0", "/").removeprefix("/")
            raise GarbageError(f"{name}: {error}") from error
        if record is None:
            records.pop(key, None)
        else:
            records[key] = record

    def put_event(self, records: dict[str, RecordT], event: Event) -> None:
        """Do to ``records`` what an event says. Raises as `put` does."""
        if event.type == DELETED:
            records.pop(event.key, None)
        elif event.type != BOOKMARK:
            self.put(records, event.key, event.raw)

    def apply(self, event: Event) -> bool:
        """Bring the view to the event's version. Return whether it was taken for seen before: it should not be.

        Raises
        ------
        GarbageError
            As `put` does.
        """
        if event.version <= self.version:
            return False  # a stream that was opened before the last one had been read to its end repeats some of it
        late = False
        if event.type != BOOKMARK:
            self.put_event(self.records, event)
            late = event.version <= self.seen_version
            self.changes += 1
            self.counters.events += 1
            self.counters.late += late
        self.version = event.version
        return late

    def replace(self, records: dict[str, RecordT], version: int) -> None:
        """Take a complete list for the view."""
        self.records = records
        self.version, self.seen_version = version, 0
        self.changes += 1
        self.counters.lists += 1


class Batch(Generic[RecordT]):
    """Takes the events of one stream to a view, and guards their order.

    Parameters
    ----------
    view
        What they change.
    opened_at
        The version that the stream was opened at; None for one that begins with the list.
    """

    def __init__(self, view: View[RecordT], opened_at: int | None) -> None:
        self._view = view
        self._last = opened_at or 0
        self._listed: dict[str, RecordT] | None = {} if opened_at is None else None

    @property
    def listing(self) -> bool:
        """Whether the list is not complete yet: the view is still the one before it."""
        return self._listed is not None

    def take(self, event: Event) -> bool:
        """Take the next event. Return whether it was late, as `View.apply` does.

        Raises
        ------
        GarbageError
            As `View.put` does.
        JumpedBackError
            If it is older than the one before it.
        """
        if self._listed is not None:
            # The list comes in the order of the names; until it is complete, changes may come among it.
            if event.end_of_list:
                self._view.replace(self._listed, event.version)
                self._listed, self._last = None, event.version
            else:
                self._view.put_event(self._listed, event)
            return False
        if event.version < self._last or (event.version == self._last and event.type != BOOKMARK):
            raise JumpedBackError(self._last, event.version)
        self._last = event.version
        return self._view.apply(event)
