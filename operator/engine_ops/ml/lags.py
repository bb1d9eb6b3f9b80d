"""Lags: what was known, at a given instant, of the outcomes of earlier requests of the same key."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from operator import itemgetter
from typing import Final

from engine_ops.ml.data_point import WorkloadDataPoint
from engine_ops.ml.keys import known_at, outcome_of
from engine_ops.ml.lag_series import NOTHING, WINDOW, Group, Key, Lag, Rank
from engine_ops.ml.request import Request

__all__ = ["SCOPES", "WINDOW", "Key", "Lag", "Lags", "keys_of", "usage_of"]

SCOPES: Final = {
    "workload": "of the same workload",
    "alike": "alike in everything that was asked",
    "sized": "of the same owner that asked for the same amounts",
    "owner": "of the same owner",
    "type": "of the same type",
}
"""What a request is compared by."""


# One point, and where its outcomes are.
_Entry = tuple[Rank, tuple[Group, ...]]

_NO_ENTRY: Final[_Entry] = ((0.0, 0, ()), ())
_NO_KEY: Final = NOTHING._replace(number=math.nan)


class Lags:
    """The outcomes of many points, by key and in the order in which they were known.

    An outcome counts for a request only where it was known before the request's timestamp, and its own request was
    made before that too: no request sees its own outcome, nor that of another of the same instant. What serving builds
    of the outcomes that it knows is therefore what training builds of all.

    They can be kept up with a history: what `extend` and `forget` leave is what the points that are left would give, up
    to the rounding of ``level`` (of which values that were forgotten have faded below the 400th power of 0.9). Both
    cost time by the points that they are about, not by those that are there.

    Parameters
    ----------
    points
        In any order: where two outcomes were known at once, their values decide which is the newer.
    keys
        Only series of these keys are built; None for all. For one request it saves most of the time.
    """

    def __init__(self, points: Iterable[WorkloadDataPoint], keys: Collection[Key] | None = None) -> None:
        self._keys = keys
        self._groups: dict[Key, Group] = {}
        self._entries: deque[_Entry] = deque()
        self.extend(points)

    def extend(self, points: Iterable[WorkloadDataPoint]) -> None:
        """Add points, in any order: one that is added later may have been known earlier."""
        added = list(map(self._entry, points))
        self._entries += added
        # In order each one comes at the end of its series.
        for rank, groups in sorted((entry for entry in added if entry[1]), key=itemgetter(0)):
            for group in groups:
                group.add(rank)

    def forget(self, count: int) -> None:
        """Remove points: those that were added first, all where there are fewer."""
        for _ in range(min(count, len(self._entries))):
            rank, groups = self._entries.popleft()
            for group in groups:
                if not group.drop(rank):
                    del self._groups[group.key]

    def _entry(self, point: WorkloadDataPoint) -> _Entry:
        success, duration, usage = outcome_of(point)
        if success is None:
            return _NO_ENTRY
        own = [key for key in keys_of(Request.of_point(point)).values() if self._keys is None or key in self._keys]
        if not own:
            return _NO_ENTRY
        outcomes = [("success", success)]
        if duration is not None:
            outcomes.append(("duration", duration))
        if usage:
            outcomes += sorted((usage_of(name), amount) for name, amount in usage.items())
        # Not converted: as a float, a timestamp beyond 2**53 could lie before itself.
        rank = (max(known_at(point), point.timestamp), point.timestamp, tuple(outcomes))
        return rank, tuple(map(self._group, own))

    def _group(self, key: Key) -> Group:
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Group(key)
        return group

    def at(self, instant: float, key: Key | None, outcome: str) -> Lag:
        """Return what was known of an outcome before ``instant``.

        Parameters
        ----------
        instant
            Epoch milliseconds.
        key
            One of `keys_of`; None where the request has no key of that scope.
        outcome
            ``success``, ``duration`` (ms) or ``usage:<resource>``.
        """
        if key is None:
            return _NO_KEY
        group = self._groups.get(key)
        return NOTHING if group is None else group.at(instant, outcome)


def usage_of(resource: str) -> str:
    """Return the outcome's name for the usage of a resource."""
    return f"usage:{resource}"


def keys_of(request: Request) -> Mapping[str, Key]:
    """Return scope to key, of `SCOPES`; a scope that the request has no key for is absent."""
    keys: dict[str, Key] = {"type": ("type", request.type)}
    if request.workload is not None:
        keys["workload"] = ("workload", request.workload)
    if request.owner is not None:
        keys["owner"] = ("owner", request.owner)
    requested = tuple(sorted(request.requested.items()))
    fields = tuple(sorted(request.fields.items()))
    keys["alike"] = ("alike", request.type, request.workload, request.owner, fields, requested)
    if request.owner is not None:
        numbers = tuple(field for field in fields if not isinstance(field[1], str))
        keys["sized"] = ("sized", request.owner, numbers, requested)
    return keys
