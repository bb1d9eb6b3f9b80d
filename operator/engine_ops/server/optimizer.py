"""Answers questions that came over HTTP: from the cache, or by the engine, within bounds, each with one answer."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import Counter, deque
from collections.abc import Coroutine
from typing import Any, Final

from engine_ops.server.answers import problem_of, tail_of, tail_without_reply
from engine_ops.server.bridge import EngineGone
from engine_ops.server.cache import ResultCache, cache_key
from engine_ops.server.in_flight import InFlight, Place
from engine_ops.server.jobs import Ended, Job, Jobs
from engine_ops.server.optimize_models import CANCELLED, INTERNAL_ERROR, INTERRUPTED
from engine_ops.server.problems import ProblemError
from engine_ops.server.question_reading import ReadQuestion
from engine_ops.server.questions import Reply
from engine_ops.server.services import Services
from engine_ops.workers.pool import is_long_search

logger = logging.getLogger(__name__)

STOP_SECONDS: Final = 10.0
"""For the engine to give its best answer so far when it is stopped; after that its work is ended."""

DRAIN_STOP_SECONDS: Final = 5.0
"""The same when the process ends, or half of the time that there is for that."""

LAST_SECONDS: Final = 1.0
"""For work that is ended to be over."""

PLUGIN_ANSWER_SECONDS: Final = 60.0
"""For so long an answer is cached that plugins were asked for: they see the time, and predict from what came before."""

_DURATIONS: Final = 2048
"""Of so many answers the quantiles are taken."""

_ENDING: Final = "The operator is ending. Ask again."
_RETRY: Final = {"Retry-After": "5"}


class Optimizer:
    """Answers questions. Everything of it is called on the API's event loop.

    Parameters
    ----------
    services
        The engine, and the limits.

    Attributes
    ----------
    cache, in_flight, jobs
        The result cache, the places for questions that are being answered, and the asynchronous requests.
    """

    def __init__(self, services: Services) -> None:
        limits = services.limits
        engine = services.engine
        self.limits = limits
        self.cache = ResultCache(max_entries=limits.cache_entries, max_bytes=limits.cache_bytes)
        self.in_flight = InFlight(lambda: limits.in_flight_per_worker * engine.workers)
        self.jobs = Jobs(max_kept=limits.kept_jobs, max_bytes=limits.kept_jobs_bytes, seconds=limits.kept_jobs_seconds)
        self._engine = engine
        self._tasks: dict[Job, asyncio.Task[Reply]] = {}
        self._draining = False
        self._outcomes: Counter[str] = Counter()
        self._durations_ms: deque[float] = deque(maxlen=_DURATIONS)

    def key_of(self, read: ReadQuestion) -> bytes:
        """Return under which key a question's answer is in the cache, as long as the lineup stays."""
        return cache_key(read.question, content=read.content, lineup=self._lineup(read))

    def cached(self, key: bytes) -> bytes | None:
        """Return the tail of a cached answer; None where there is none."""
        tail = self.cache.get(key)
        if tail is not None:
            self._outcomes["cached"] += 1
        return tail

    def start(self, read: ReadQuestion, key: bytes | None) -> Job:
        """Begin to answer a question.

        Parameters
        ----------
        read
            The question.
        key
            Under which the answer may be put into the cache; None where it may not.

        Raises
        ------
        ProblemError
            503 if too many are being answered, or the process is ending; 429 if too many of them are this user's.
        """
        if self._draining:
            self._outcomes["refused"] += 1
            raise ProblemError("unavailable", _ENDING, headers=_RETRY)
        try:
            place = self.in_flight.take(read.question.username, long=is_long_search(read.question.search_seconds))
        except ProblemError:
            self._outcomes["refused"] += 1
            raise
        question = read.question
        job = Job(question.id, namespace=question.namespace, username=question.username, warnings=read.warnings)
        answering: Coroutine[Any, Any, Reply] = self._engine.answer(question, on_improvement=job.improve, stop=job.stop)
        task = asyncio.create_task(answering, name=f"optimize {question.id:.40}")
        started = time.monotonic()
        self._tasks[job] = task
        # Not in a coroutine's `finally`: one that is cancelled before its first step has none.
        task.add_done_callback(lambda done: self._end(job, done, place, started, read, key))
        return job

    def start_kept(self, read: ReadQuestion, key: bytes | None) -> Job:
        """Begin to answer an asynchronous request.

        Raises
        ------
        ProblemError
            As `start`; 409 if one of the same user and id is running.
        """
        self.jobs.check_free(read.question.username, read.question.id)
        job = self.start(read, key)
        self.jobs.add(job)
        return job

    def keep_cached(self, read: ReadQuestion, tail: bytes) -> Job:
        """Return an asynchronous request that has its answer already.

        Raises
        ------
        ProblemError
            409 if one of the same user and id is running.
        """
        question = read.question
        job = Job(question.id, namespace=question.namespace, username=question.username, warnings=read.warnings)
        job.end(Ended("done", tail))
        self.jobs.add(job)
        return job

    def give_up(self, job: Job) -> None:
        """End the engine's work on a job that nobody waits for."""
        task = self._tasks.get(job)
        if task is not None:
            task.cancel()

    async def cancel(self, job: Job) -> Ended:
        """Cancel a job in its user's name, and return its one answer: the best so far, if there is any."""
        if job.ended is None:
            job.cancel_asked = True
            job.stop.set()
            try:
                async with asyncio.timeout(STOP_SECONDS):
                    await job.finished()
            except TimeoutError:
                self.give_up(job)
        return await job.finished()

    async def drain(self, seconds: float) -> None:
        """Take no further question, and end those that are being answered.

        They may end by themselves first; then they are asked for their best answers so far, then ended. Whoever waits
        for one, or reads its events, gets what there is.

        Parameters
        ----------
        seconds
            For all of it.
        """
        self._draining = True
        stop_seconds = min(DRAIN_STOP_SECONDS, seconds / 2)
        if await self._all_ended(seconds - stop_seconds):
            return
        for job in self._tasks:
            job.stop.set()
        if await self._all_ended(stop_seconds):
            return
        for task in self._tasks.values():
            task.cancel()
        if not await self._all_ended(LAST_SECONDS):
            logger.error("%d questions do not end; the process ends all the same", len(self._tasks))

    def numbers(self) -> dict[str, Any]:
        """Return numbers, as JSON values.

        Returns
        -------
        dict
            ``requests`` by outcome (``cached``, ``solved``, ``unsolved``, ``invalid``, ``cancelled``, ``abandoned``,
            ``failed``, ``refused``), ``inFlight``, ``durationMs`` of what the engine was asked (``p50`` and ``p99`` are
            None before the first), and ``jobs``.
        """
        durations = sorted(self._durations_ms)
        return {
            "requests": {
                outcome: self._outcomes[outcome]
                for outcome in (
                    "cached",
                    "solved",
                    "unsolved",
                    "invalid",
                    "cancelled",
                    "abandoned",
                    "failed",
                    "refused",
                )
            },
            "inFlight": {"now": self.in_flight.taken, "most": self.in_flight.capacity},
            "durationMs": {
                "count": len(durations),
                "p50": _quantile(durations, 0.5),
                "p99": _quantile(durations, 0.99),
            },
            "jobs": self.jobs.numbers(),
        }

    def _lineup(self, read: ReadQuestion) -> str:
        return self._engine.lineup(read.question.type, read.question.plugin)

    async def _all_ended(self, seconds: float) -> bool:
        tasks = list(self._tasks.values())
        if tasks:
            await asyncio.wait(tasks, timeout=max(0.0, seconds))
        # Their callbacks run right after them.
        await asyncio.sleep(0)
        return not self._tasks

    def _end(
        self,
        job: Job,
        task: asyncio.Task[Reply],
        place: Place,
        started: float,
        read: ReadQuestion,
        key: bytes | None,
    ) -> None:
        place.free()
        del self._tasks[job]
        elapsed_ms = (time.monotonic() - started) * 1000
        try:
            outcome, ended = self._outcome(job, task, round(elapsed_ms))
            # Who answers may have changed meanwhile, and the answer may be of either.
            if key is not None and _is_cacheable(task) and key == self.key_of(read):
                self.cache.put(key, ended.tail, PLUGIN_ANSWER_SECONDS if self._lineup(read) else math.inf)
        except Exception as error:
            logger.exception("a defect: the answer to %.60s cannot be said", job.id)
            outcome, ended = "failed", _failed(error, round(elapsed_ms))
        self._outcomes[outcome] += 1
        if outcome in {"solved", "unsolved"}:
            self._durations_ms.append(elapsed_ms)
        job.end(ended)
        self.jobs.settle(job)

    def _outcome(self, job: Job, task: asyncio.Task[Reply], elapsed_ms: int) -> tuple[str, Ended]:
        if task.cancelled():
            return self._cancelled(job, elapsed_ms)
        error = task.exception()
        if isinstance(error, EngineGone):
            return "failed", _interrupted(elapsed_ms)
        if error is not None:
            logger.error("a defect: request %.60s failed", job.id, exc_info=error)
            return "failed", _failed(error, elapsed_ms)
        reply = task.result()
        if self._draining and reply.waiting and job.stop.is_set() and not job.cancel_asked:
            return "failed", _interrupted(elapsed_ms)  # it had no answer yet when it was stopped for the drain
        problem = problem_of(job.id, reply)
        complete = reply.success and reply.cut_off is None
        if job.cancel_asked and not complete:
            return "cancelled", Ended("cancelled", tail_of(reply), problem)
        outcome = "invalid" if problem is not None else "solved" if reply.success else "unsolved"
        return outcome, Ended("done", tail_of(reply), problem)

    def _cancelled(self, job: Job, elapsed_ms: int) -> tuple[str, Ended]:
        if self._draining:
            return "failed", _interrupted(elapsed_ms)
        if job.cancel_asked:
            said = "It was cancelled before there was any answer."
            tail = tail_without_reply(CANCELLED, said, duration_ms=elapsed_ms, cut_off=said)
            return "cancelled", Ended("cancelled", tail)
        # Nobody waits for it; or the engine's loop has ended, and has cancelled what ran there.
        return "abandoned", _interrupted(elapsed_ms)


def _is_cacheable(task: asyncio.Task[Reply]) -> bool:
    if task.cancelled() or task.exception() is not None:
        return False
    reply = task.result()
    return reply.cacheable and problem_of("", reply) is None


def _interrupted(elapsed_ms: int) -> Ended:
    tail = tail_without_reply(INTERRUPTED, _ENDING, duration_ms=elapsed_ms, cut_off=_ENDING)
    return Ended("done", tail, ProblemError("unavailable", _ENDING, headers=_RETRY))


def _failed(error: BaseException, elapsed_ms: int) -> Ended:
    said = f"This is a defect of the operator ({type(error).__name__}); its log says more."
    return Ended(
        "done", tail_without_reply(INTERNAL_ERROR, said, duration_ms=elapsed_ms), ProblemError("internal", said)
    )


def _quantile(ordered: list[float], share: float) -> float | None:
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3) if ordered else None
