"""Answers questions that come over HTTP, with the same solvers, plugins, limits and history as resources have."""

from __future__ import annotations

import asyncio
import collections
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from engine_ops.api.reasons import Reason
from engine_ops.controllers.asking import Asking
from engine_ops.controllers.direct_course import COURSE, Course, KeepingSolvers, WitnessedPlugins
from engine_ops.controllers.direct_history import namespaces_of, select
from engine_ops.controllers.direct_lineup import LineupBoard
from engine_ops.controllers.direct_plugins import plugin_info, plugins_health
from engine_ops.controllers.direct_reply import Once, improvement_of
from engine_ops.controllers.history_report import numbers_of
from engine_ops.controllers.measuring import UNMEASURED, Measured, count_answer, count_failure
from engine_ops.controllers.plugins import NO_PLUGINS
from engine_ops.controllers.solving import Answered, Solvers
from engine_ops.controllers.turns import Turns
from engine_ops.history.log import HistoryLog
from engine_ops.plugins.manager import PluginManager
from engine_ops.server.backend import PluginInfo
from engine_ops.server.bridge import EngineGone
from engine_ops.server.questions import Improvement, Question, Reply
from engine_ops.server.stop_signal import StopSignal
from engine_ops.server.workload_points import PointFilter, Selection
from engine_ops.workers.errors import PoolClosedError
from engine_ops.workers.messages import Failed, Solved

logger = logging.getLogger(__name__)

TURNS_PER_WORKER = 8
"""As for resources: so many questions for each worker are under way, or wait for a plugin though there is an answer."""

_FATES = ("answered", "failed", "waiting", "givenUp")

STOPPED = "it was stopped on request"


class DirectRequests:
    """The `engine_ops.server.backend.Engine` of the operator, and of `engine-ops serve`.

    To be made on the engine's loop, and closed there. It owns none of its parts.

    Parameters
    ----------
    pool
        The solvers. Their handler must know plugins if there are any; see `engine_ops.controllers.asking.Asking`.
    workers
        How many processes they are.
    manager
        The plugins; None for none.
    log
        The history; None where none is kept.
    probes
        What else `health` tells, by part: called on the engine's loop, each returns JSON values. A part of the name
        ``history`` or ``plugins`` is told in place of this class's own.
    measured
        Who counts, as for resources.
    """

    def __init__(
        self,
        *,
        pool: Solvers,
        workers: int,
        manager: PluginManager | None = None,
        log: HistoryLog | None = None,
        probes: Mapping[str, Callable[[], object]] | None = None,
        measured: Measured = UNMEASURED,
    ) -> None:
        self._workers = workers
        self._manager = manager
        self._log = log
        self._probes = dict(probes or {})
        self._measured = measured
        plugins = NO_PLUGINS if manager is None else WitnessedPlugins(manager)
        self._asking = Asking(KeepingSolvers(pool), plugins, late=TURNS_PER_WORKER * workers)
        self._turns = Turns(TURNS_PER_WORKER * workers)
        self._board = None if manager is None else LineupBoard(manager)
        self._under_way = 0
        self._counts: collections.Counter[str] = collections.Counter()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End what it runs beside answering. Questions under way are their callers' to cancel."""
        if self._board is not None:
            await self._board.close()

    @property
    def workers(self) -> int:
        """See `Engine`."""
        return self._workers

    def lineup(self, request_type: str, plugin: str | None) -> str:
        """See `Engine`."""
        return "" if self._board is None else self._board.of(request_type, plugin)

    async def answer(
        self, question: Question, *, on_improvement: Callable[[Improvement], None], stop: StopSignal
    ) -> Reply:
        """See `Engine`.

        Raises
        ------
        EngineGone
            If the solvers were closed.
        ValueError
            If there is no such type.
        """
        started = asyncio.get_running_loop().time()
        self._under_way += 1
        try:
            reply = await self._answer(question, on_improvement, stop, started)
        except asyncio.CancelledError:
            self._counts["givenUp"] += 1
            raise
        except PoolClosedError as error:
            raise EngineGone("the engine is ending") from error
        finally:
            self._under_way -= 1
        self._counts["waiting" if reply.waiting else "answered" if reply.success else "failed"] += 1
        return reply

    async def plugins(self) -> Sequence[PluginInfo]:
        """See `Engine`."""
        infos = [await self.plugin(name) for name in self._manager.names()] if self._manager is not None else []
        return [info for info in infos if info is not None]

    async def plugin(self, name: str) -> PluginInfo | None:
        """See `Engine`."""
        hosted = None if self._manager is None else self._manager.get(name)
        return None if hosted is None else plugin_info(hosted)

    async def history_namespaces(self) -> frozenset[str]:
        """See `Engine`."""
        return frozenset() if self._log is None else namespaces_of(self._log.collector)

    async def history(self, chosen: PointFilter) -> Selection | None:
        """See `Engine`."""
        return None if self._log is None else await select(self._log.collector, chosen)

    async def health(self) -> Mapping[str, Any]:
        """See `Engine`."""
        told: dict[str, Any] = {
            "questionsUnderWay": self._under_way,
            "questions": {name: self._counts[name] for name in _FATES},
        }
        if self._log is not None:
            told["history"] = numbers_of(self._log.health)
        if self._manager is not None:
            told["plugins"] = plugins_health(self._manager)
        return told | {name: probe() for name, probe in self._probes.items()}

    async def _answer(
        self, question: Question, on_improvement: Callable[[Improvement], None], stop: StopSignal, started: float
    ) -> Reply:
        loop = asyncio.get_running_loop()
        course = Course()

        def improved(solved: Solved) -> None:
            course.best = solved
            on_improvement(improvement_of(solved))

        once = Once.of(question)
        outcome: Answered | Failed
        token = COURSE.set(course)
        try:
            async with asyncio.timeout(None) as until:
                with stop.calling(lambda: until.reschedule(loop.time())):
                    async with self._turns.take() as turn:
                        outcome = await self._asking.answer(once.posed(turn, improved))
        except TimeoutError:
            if not until.expired():
                raise
            outcome = _best_of(course)
        finally:
            COURSE.reset(token)
        self._count(question.type, outcome, loop.time() - started)
        duration_ms = round((loop.time() - started) * 1000)
        # Where there was no time left, a plugin's reply may have gone unjudged.
        in_time = duration_ms < question.timeout_seconds * 1000
        reply = once.reply(outcome, duration_ms=duration_ms, reproducible=in_time and not course.troubled)
        if not reply.waiting:
            self._record(once, outcome, reply)
        return reply

    def _count(self, request_type: str, outcome: Answered | Failed, seconds: float) -> None:
        self._measured.solved(request_type, seconds)
        if isinstance(outcome, Answered):
            count_answer(self._measured, request_type, outcome)
        else:
            count_failure(self._measured, request_type, outcome.reason, waiting=outcome.waiting)

    def _record(self, once: Once, outcome: Answered | Failed, reply: Reply) -> None:
        """Put a reply into the history: in memory at once, in the store with the next flush."""
        if self._log is None:
            return
        try:
            self._log.record(once.point(outcome, reply), self._log.stamp())
        except ValueError as error:
            logger.warning("%s: an answer is not recorded: %s", once.target, error)


def _best_of(course: Course) -> Answered | Failed:
    if course.best is not None:
        return Answered(course.best, STOPPED)
    return Failed(Reason.TIMED_OUT, f"{STOPPED} before there was an answer", waiting=True)
