"""The numbers that are read when somebody scrapes: plain values, taken on the engine's loop, handed to the API's."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from engine_ops.history.health import HistoryHealth
from engine_ops.plugins.snapshot import PluginSnapshot


@dataclasses.dataclass(frozen=True, slots=True)
class WorkerNumbers:
    """The worker processes that solve.

    Parameters
    ----------
    size, busy
        How many there should be, and how many are at a task.
    queued
        Tasks that await a worker.
    started
        How many were ever asked for.
    ended
        How many have ended, by reason.
    """

    size: int
    busy: int
    queued: int
    started: int
    ended: Mapping[str, int]


@dataclasses.dataclass(frozen=True, slots=True)
class WatchNumbers:
    """What has happened in the watch of one resource since it began.

    Parameters
    ----------
    lists, events, garbage
        See `engine_ops.kube.watch_view.Counters`.
    """

    lists: int
    events: int
    garbage: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MetricsSnapshot:
    """How the engine is at one moment. What does not exist, or not yet, is None or empty.

    Parameters
    ----------
    lease_held
        Whether this operator serves.
    under_way
        Requests that are solved, queued, tried again or timed.
    queued
        Those of them that wait for their turn.
    workers
        The processes.
    view_age_seconds
        Since the view of the live cluster was last known to be current.
    watches
        Of that view, by resource.
    history
        How the history is.
    plugins
        How each plugin stands.
    """

    lease_held: bool | None = None
    under_way: int | None = None
    queued: int = 0
    workers: WorkerNumbers | None = None
    view_age_seconds: float | None = None
    watches: Mapping[str, WatchNumbers] = dataclasses.field(default_factory=dict)
    history: HistoryHealth | None = None
    plugins: tuple[PluginSnapshot, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ApiNumbers:
    """How the REST API is at one moment; taken on its own loop.

    Parameters
    ----------
    solves_in_flight
        Questions that are being answered.
    cache_hits, cache_misses, cache_evictions
        Of the result cache, since the start.
    cache_entries, cache_bytes
        What is in it.
    """

    solves_in_flight: int = 0
    cache_hits: int = 0
    cache_misses: int = 0
    cache_evictions: int = 0
    cache_entries: int = 0
    cache_bytes: int = 0
