"""Points from elsewhere are added to a store, also beside an operator that writes to it."""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Iterable
from typing import Final

from engine_ops.history.keys import point_key
from engine_ops.history.log import SEGMENT_BYTES, HistoryLog
from engine_ops.history.store import BlobStore
from engine_ops.ml.data_point import WorkloadDataPoint

LOCAL_SEGMENT_POINTS: Final = 20_000
"""Of a store on this machine: large segments compress better, and a million points are fifty files."""
SEGMENT_POINTS: Final = 500
MAX_SORTED: Final = 20_000
"""Where there is room for no more than so many, the newest are chosen; that needs them in memory."""
_LOCAL_SEGMENT_BYTES: Final = 64 << 20
_WITHOUT_LIMIT: Final = 1 << 50
_BEFORE_ALL_STAMPS: Final = 0


@dataclasses.dataclass(slots=True)
class Imported:
    """What became of the points: ``added``, ``known`` (there already, or twice), left out for ``no_room``."""

    added: int = 0
    known: int = 0
    no_room: int = 0


async def import_points(store: BlobStore, points: Iterable[WorkloadDataPoint], *, capacity: int = 10_000) -> Imported:
    """Add points to the history of a store. What is there is never pushed out.

    Where not all of them fit, the newest are taken by their timestamps; beyond room for `MAX_SORTED`, those that come
    first. The watermark stays as it is: it speaks of an operator's requests.

    Parameters
    ----------
    store
        Where the history is. An operator may write to it at the same time.
    points
        Read once; a segment's worth is in memory, or as many as there is room for where not all fit.
    capacity
        How many points the history may hold in all.

    Raises
    ------
    engine_ops.history.limits.InvalidPointError
        If a point holds what is no JSON value. Points before it may have been added.
    engine_ops.history.store.StoreError
        If the store refuses or does not answer. It can be called again: points with an identity are not added twice.
    """
    log = importing_log(store)
    await log.load()
    result, flushed = Imported(), 0
    room = max(0, capacity - len(log.collector))
    if room <= MAX_SORTED:
        points = _newest(log, points, room, result)
    for point in points:
        if result.added < room:
            new = log.record(point, log.stamp())
            result.added += new
            result.known += not new
        elif _is_known(log, point):
            result.known += 1
        else:
            result.no_room += 1
        if result.added >= flushed + LOCAL_SEGMENT_POINTS:
            await log.flush()
            flushed = result.added
    await log.flush()
    return result


def importing_log(store: BlobStore) -> HistoryLog:
    """Return a log that adds to a store and neither drops points from it nor raises its watermark."""
    local = not store.lists_whole
    log = HistoryLog(
        store,
        # The room is counted by the import; an operator drops what is beyond its own capacity itself.
        capacity=_WITHOUT_LIMIT,
        budget_bytes=_WITHOUT_LIMIT,
        segment_points=LOCAL_SEGMENT_POINTS if local else SEGMENT_POINTS,
        segment_bytes=_LOCAL_SEGMENT_BYTES if local else SEGMENT_BYTES,
        writer="import",
    )
    log.begin(_BEFORE_ALL_STAMPS)
    return log


def _is_known(log: HistoryLog, point: WorkloadDataPoint) -> bool:
    key = point_key(point)
    return key is not None and (key in log.open_points or log.collector.knows(key))


def _newest(
    log: HistoryLog, points: Iterable[WorkloadDataPoint], room: int, result: Imported
) -> list[WorkloadDataPoint]:
    heap: list[tuple[int, int, WorkloadDataPoint]] = []
    chosen: set[bytes | None] = set()
    for order, point in enumerate(points):
        key = point_key(point)
        if _is_known(log, point) or (key is not None and key in chosen):
            result.known += 1
            continue
        # Of one time, what comes later counts as newer; no two orders are equal, so points are never compared.
        entry = (point.timestamp, order, point)
        chosen.add(key)
        if len(heap) < room:
            heapq.heappush(heap, entry)
            continue
        result.no_room += 1
        _, _, left_out = heapq.heappushpop(heap, entry) if room else entry
        chosen.discard(point_key(left_out))
    return [point for _, _, point in sorted(heap, key=lambda entry: entry[1])]
