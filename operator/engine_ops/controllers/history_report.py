"""How the history is, as conditions and as numbers for health."""

from __future__ import annotations

from engine_ops.history.health import HistoryHealth
from engine_ops.history.store import ConflictError, StoreError

LISTED = 10


def conditions_of(
    health: HistoryHealth, *, unreadable: str = "", unwritten: StoreError | None = None, trouble: str = ""
) -> list[dict[str, str]]:
    """Return the conditions of the history: HistoryLoaded, HistoryWritable, HistoryIntact, OutcomesReadable.

    Parameters
    ----------
    health
        Of the log.
    unreadable
        Why the store could not be read, if it could not.
    unwritten
        Why the last flush failed, if it did and there is still something to write.
    trouble
        Why outcomes could not be read the last time, if they could not.
    """
    outcomes = _condition("OutcomesReadable", True, "Readable", "what was asked for could be read")
    if trouble:
        outcomes = _condition("OutcomesReadable", False, "SourceUnavailable", trouble)
    return [_loaded(health, unreadable), _writable(health, unwritten), _intact(health), outcomes]


def numbers_of(health: HistoryHealth) -> dict[str, object]:
    """Return the numbers that health shows, as JSON values."""
    return {
        "loaded": health.loaded,
        "points": health.points,
        "openPoints": health.open_points,
        "unflushedPoints": health.unflushed,
        "segments": health.segments,
        "storedBytes": health.stored_bytes,
        "damagedSegments": len(health.damaged),
        "missingSegments": len(health.missing),
        "flushedAtMs": health.flushed_at_ms,
        "conflicts": health.conflicts,
        "cutStrings": health.cut_strings,
        "pushedOutPoints": health.pushed_out,
    }


def _loaded(health: HistoryHealth, unreadable: str) -> dict[str, str]:
    if health.loaded:
        return _condition("HistoryLoaded", True, "Loaded", "the history was read")
    message = unreadable or "it is being read"
    return _condition("HistoryLoaded", False, "Unavailable" if unreadable else "Loading", message)


def _writable(health: HistoryHealth, unwritten: StoreError | None) -> dict[str, str]:
    if health.future:
        message = f"{health.future}; nothing is written, and what happens is kept in memory"
        return _condition("HistoryWritable", False, "FutureFormat", message)
    if health.refused:
        return _condition("HistoryWritable", False, "Refused", f"{health.refused}; what happens is kept in memory")
    if unwritten is not None:
        reason = "Conflict" if isinstance(unwritten, ConflictError) else "Unavailable"
        return _condition("HistoryWritable", False, reason, f"{unwritten}; what happens is kept in memory")
    return _condition("HistoryWritable", True, "Writable", "the last write was taken")


def _intact(health: HistoryHealth) -> dict[str, str]:
    faults = [f"{damage.name}: {damage.why}" for damage in health.damaged]
    faults += [f"segment {sequence} is missing" for sequence in health.missing]
    if not faults:
        return _condition("HistoryIntact", True, "Intact", "every segment could be read")
    more = f", and {len(faults) - LISTED} more" if len(faults) > LISTED else ""
    reason = "Damaged" if health.damaged else "Missing"
    return _condition("HistoryIntact", False, reason, "; ".join(faults[:LISTED]) + more)


def _condition(type_: str, is_so: bool, reason: str, message: str) -> dict[str, str]:
    return {"type": type_, "status": "True" if is_so else "False", "reason": reason, "message": message}
