"""The history of answered requests: each finished solve is a data point, exactly once.

What a point is made of stands in the request's status first (``status.historyPoints``), with a stamp that rises from
one solve to the next. Whatever the watch shows is compared with what the history knows, so that a crash, a lost
response or a second operator changes nothing: what is not known is recorded, what is known is not recorded again.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from engine_ops.api import status as statuses
from engine_ops.api.history_point import MAX_HISTORY_POINTS
from engine_ops.api.status import Attempt, Status
from engine_ops.controllers.view import RequestView
from engine_ops.history.facts import Asked, SolveFact, facts_of, point_of
from engine_ops.history.keys import key_of
from engine_ops.history.log import HistoryLog
from engine_ops.history.open_points import OpenPoint
from engine_ops.kube.target import Target

logger = logging.getLogger(__name__)

SETTLE_SECONDS = 5.0
"""For so long an action that must not overtake the history waits for it, before it is tried again later."""


class HistoryKeeper:
    """Records finished solves in a log.

    Parameters
    ----------
    log
        Of the history.
    outcome_window_ms
        For so long a point waits for the outcome of its workload.
    opened
        Told when there is another point that waits for one.
    """

    def __init__(self, log: HistoryLog, *, outcome_window_ms: int, opened: Callable[[], None]) -> None:
        self._log = log
        self._window_ms = outcome_window_ms
        self._opened = opened
        self._on_their_way: dict[str, SolveFact] = {}

    def note(self, view: RequestView, *, gone: bool = False) -> None:
        """See `engine_ops.controllers.recording.History.note`."""
        target = view.target
        for fact in facts_of(view.status):
            self._record(target, fact)
        waiting = self._on_their_way.get(target.uid)
        if waiting is not None and (gone or view.deleting or target.generation > waiting.generation):
            # The write tests the generation: if it did not land before this one, it never will.
            self.missed(target)

    def sign(self, target: Target, attempt: Attempt, status: Status, asked: Asked) -> None:
        """See `engine_ops.controllers.recording.History.sign`."""
        self.missed(target)  # a write that failed before is replaced by this one
        ready = statuses.find(status, statuses.READY) or {}
        metrics = status.get("metrics") or {}
        started_ms = _epoch_ms(attempt.started)
        now_ms = _epoch_ms(datetime.datetime.now(datetime.UTC))
        fact = SolveFact(
            generation=attempt.generation,
            run=attempt.run,
            stamp=self._log.stamp(),
            timestamp=started_ms,
            type=asked.type,
            success=ready.get("status") == "True",
            reason=str(ready.get("reason", "")),
            duration_ms=metrics.get("durationMs", max(0, now_ms - started_ms)),
            score=metrics.get("score"),
            algorithm=(status.get("solvedBy") or {}).get("algorithm"),
            workload=asked.workload,
            workload_selector=asked.workload_selector,
            request=asked.request,
        )
        earlier = self._unflushed(target, attempt.previous)
        status["historyPoints"] = msgspec.to_builtins([*earlier[-(MAX_HISTORY_POINTS - 1) :], fact])
        self._log.begin(fact.stamp)
        self._on_their_way[target.uid] = fact

    def landed(self, target: Target) -> None:
        """See `engine_ops.controllers.recording.History.landed`."""
        fact = self._on_their_way.pop(target.uid, None)
        if fact is not None:
            self._record(target, fact)
            self._log.abandon(fact.stamp)  # if another had recorded it already

    def missed(self, target: Target) -> None:
        """See `engine_ops.controllers.recording.History.missed`."""
        fact = self._on_their_way.pop(target.uid, None)
        if fact is not None:
            self._log.abandon(fact.stamp)

    def has_room(self, target: Target, status: Mapping[str, Any]) -> bool:
        """See `engine_ops.controllers.recording.History.has_room`."""
        return len(self._unflushed(target, status)) < MAX_HISTORY_POINTS

    async def settle(self, target: Target, status: Mapping[str, Any]) -> bool:
        """See `engine_ops.controllers.recording.History.settle`."""
        for fact in self._unflushed(target, status):
            key = key_of(target.uid, fact.generation, fact.run)
            self._record(target, fact)
            if not await self._log.settle(key, fact.stamp, SETTLE_SECONDS):
                return False
        return True

    def _unflushed(self, target: Target, status: Mapping[str, Any]) -> list[SolveFact]:
        return [
            fact
            for fact in facts_of(status)
            if not self._log.is_flushed(key_of(target.uid, fact.generation, fact.run), fact.stamp)
        ]

    def _record(self, target: Target, fact: SolveFact) -> None:
        if self._log.knows(key_of(target.uid, fact.generation, fact.run), fact.stamp):
            return
        point = point_of(fact, uid=target.uid, namespace=target.namespace, name=target.name)
        try:
            if fact.awaits_outcome:
                self._log.open(OpenPoint(point, fact.stamp, fact.timestamp + self._window_ms, {}))
                self._opened()
            else:
                self._log.record(point, fact.stamp)
        except ValueError as error:  # a status that somebody edited into something that no operator writes
            logger.warning("%s: an answer is not recorded: %s", target, error)


def _epoch_ms(moment: datetime.datetime) -> int:
    return round(moment.timestamp() * 1000)
