"""Closes open points with what became of their workloads."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Protocol, TypeVar

from engine_ops.history.outcomes.following import (
    GRACE_MS,
    Followed,
    find_job,
    follow_job,
    follow_pod,
    see_service,
    selected_ending,
    service_ending,
    superseded,
)
from engine_ops.history.outcomes.jobs import JobIndex
from engine_ops.history.outcomes.joining import Ending, OpenPoint, closed, unknown
from engine_ops.history.outcomes.looking import SERVICE_KINDS, FreshSamples, LaterError, Look, Lookups
from engine_ops.history.outcomes.observation import Observation
from engine_ops.history.outcomes.observer import Observer, ObserverLog
from engine_ops.history.outcomes.pods import PodIndex
from engine_ops.history.outcomes.records import WorkloadRecord
from engine_ops.history.outcomes.source import OutcomeSource, SourceError
from engine_ops.ml.data_point import WorkloadDataPoint

_LOG = logging.getLogger(__name__)

SAMPLE_PERIOD_S: Final = 60.0
"""How often usage is sampled; metrics.k8s.io renews its own every 15 s or more."""

SPACING_S: Final = 2.0
"""Steps are at least so far apart: Jobs that end together are looked at together."""

_POINTS_A_SLICE: Final = 100  # then others on the event loop have their turn

_T = TypeVar("_T")


class OutcomeLog(ObserverLog, Protocol):
    """What is needed of the history; `engine_ops.history.log.HistoryLog` is one."""

    @property
    def open_points(self) -> Mapping[bytes, OpenPoint]:
        """The points that wait, by key."""

    @property
    def loaded(self) -> bool:
        """Whether all that was written before is known."""

    def touch(self, key: bytes) -> None:
        """Take note that the state of an open point changed."""

    def close(self, key: bytes, point: WorkloadDataPoint) -> bool:
        """Record an open point as closed; False if it is not open."""


def epoch_ms() -> int:
    """Return the time in epoch milliseconds."""
    return time.time_ns() // 1_000_000


class OutcomeCollector:
    """Looks at the workloads of open points and closes the points whose workloads have ended.

    Each step asks for the Jobs and pods of each namespace once, however many points wait there, and never for a
    namespace where none does. Pods and usage are read at the sample period, and when a Job ended.

    Make it before the log is loaded if it is to observe: it holds the watermark until it has looked at all Jobs.

    Parameters
    ----------
    log
        Of the history.
    source
        Workloads, pods and usage.
    observe
        Whether Jobs and daily usage without a request are recorded too, in the source's observed namespaces.
    clock
        Epoch milliseconds.
    sample_period_s
        Of usage, in seconds.

    Attributes
    ----------
    trouble
        Why something could not be read in the last step; empty if all could.
    """

    def __init__(
        self,
        log: OutcomeLog,
        source: OutcomeSource,
        *,
        observe: bool = False,
        clock: Callable[[], int] = epoch_ms,
        sample_period_s: float = SAMPLE_PERIOD_S,
    ) -> None:
        self._log = log
        self._source = source
        self._clock = clock
        self._sample_period_ms = round(sample_period_s * 1000)
        self._sampled_ms: int | None = None
        self._followed: dict[bytes, Followed] = {}
        self._lookups = Lookups(source)
        self._fresh = FreshSamples()
        self._observer = Observer(log, self._lookups) if observe else None
        self._observed: Sequence[str] = ()
        self._wake = asyncio.Event()
        self.trouble = ""

    @property
    def left_out(self) -> int:
        """How many workloads of the observed namespaces had too much company for a point of their daily usage."""
        return self._observer.left_out if self._observer is not None else 0

    def wake(self) -> None:
        """Look again soon: a point was opened."""
        self._wake.set()

    async def run(self) -> None:
        """Look again and again until cancelled: when a Job changed, when usage is to be sampled, and when woken."""
        while True:
            self._wake.clear()
            try:
                await self.step()
            except Exception as error:  # noqa: BLE001 - whoever runs this writes the history too, which must go on
                _LOG.exception("a defect; outcomes are looked at again")
                self.trouble = f"a defect: {error!r}"
            await asyncio.sleep(SPACING_S)
            await self._rest()

    async def _rest(self) -> None:
        timeout_s = max(0.1, self._until_next_ms(self._clock()) / 1000)
        waits = [asyncio.ensure_future(self._source.changed(timeout_s)), asyncio.ensure_future(self._wake.wait())]
        try:
            await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if waits[0].done() and not waits[1].done() and waits[0].exception() is not None:
                # It cannot tell of changes: the period decides.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(timeout_s):
                        await self._wake.wait()
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    def _until_next_ms(self, now_ms: int) -> int:
        rest = self._sample_period_ms
        if self._sampled_ms is not None and now_ms >= self._sampled_ms:
            rest = self._sampled_ms + self._sample_period_ms - now_ms
        later = (f.open_point.closes_at_ms - now_ms for f in self._followed.values() if not f.is_due(now_ms))
        return max(0, min(rest, min(later, default=rest)))

    async def step(self) -> None:
        """Look once at every open point, and close those that have an outcome. What cannot be read waits."""
        now_ms = self._clock()
        self.trouble = ""
        self._lookups.begin(now_ms)
        self._take_over()
        self._supersede(now_ms)
        if self._observer is not None and self._log.loaded:
            names = await self._read(self._source.observed_namespaces())
            self._observed = self._observed if names is None else names
            self._observer.begin(now_ms, names)
        # A clock that stepped back must not stop the sampling.
        sampling = self._sampled_ms is None or abs(now_ms - self._sampled_ms) >= self._sample_period_ms
        if sampling:
            self._sampled_ms = now_ms
        by_namespace: dict[str, list[Followed]] = {name: [] for name in self._observed}
        for followed in self._followed.values():
            by_namespace.setdefault(followed.namespace, []).append(followed)
        for namespace, points in sorted(by_namespace.items()):
            await self._look_at(namespace, points, now_ms, sampling=sampling)
        self._fresh.keep(by_namespace)
        for followed in list(self._followed.values()):
            if now_ms >= followed.open_point.closes_at_ms + GRACE_MS:
                self._close(followed, unknown("SourceUnavailable"), now_ms)
        if self._observer is not None and self._log.loaded:
            self._observer.end(now_ms)

    def _take_over(self) -> None:
        opened = self._log.open_points
        for key in self._followed.keys() - opened.keys():
            del self._followed[key]
        for key, open_point in list(opened.items()):
            followed = self._followed.get(key)
            if followed is None:
                self._followed[key] = Followed(key, open_point, Observation.from_json(open_point.state))
            else:
                followed.open_point = open_point  # the log may have read it anew

    def _supersede(self, now_ms: int) -> None:
        by_request: dict[object, list[Followed]] = {}
        for followed in self._followed.values():
            if not followed.is_daily:
                by_request.setdefault(followed.open_point.point.metadata.get("uid"), []).append(followed)
        for points in by_request.values():
            points.sort(key=lambda followed: followed.open_point.stamp)
            for older, newer in itertools.pairwise(points):
                ending = superseded(older, newer)
                if ending is not None:
                    self._close(older, ending, now_ms)

    async def _look_at(self, namespace: str, points: Sequence[Followed], now_ms: int, *, sampling: bool) -> None:
        observer = self._observer if namespace in self._observed else None
        jobs = pods = None
        if observer is not None or any(followed.is_job for followed in points):
            records = await self._read(self._source.jobs(namespace))
            jobs = None if records is None else JobIndex(records)
        if jobs is not None:
            for followed in points:
                if followed.is_job:
                    find_job(followed, jobs)
        waiting = observer is not None and observer.sees_jobs(namespace, jobs, self._named())
        if sampling or waiting or any(followed.wants_pods(now_ms) for followed in points):
            pods = await self._read(self._source.pods(namespace))
        samples = await self._read(self._source.usage(namespace)) if sampling and pods is not None else None
        look = Look(
            now_ms,
            jobs,
            None if pods is None else PodIndex(pods, None if jobs is None else jobs.by_uid),
            self._fresh.of(namespace, samples) if samples else {},
        )
        for number, followed in enumerate(points):
            if number % _POINTS_A_SLICE == _POINTS_A_SLICE - 1:
                await asyncio.sleep(0)
            if followed.is_job:
                ending = follow_job(followed, look)
            elif followed.is_pod:
                ending = follow_pod(followed, look)
            else:
                ending = await self._follow_service(followed, look)
            self._advance(followed, ending, look)
        if observer is not None:
            trouble = await observer.look(namespace, look)
            self.trouble = self.trouble or trouble

    def _named(self) -> set[str]:
        return {followed.seen.run.uid for followed in self._followed.values() if followed.seen.run is not None}

    async def _follow_service(self, followed: Followed, look: Look) -> Ending | None:
        has_pods = see_service(followed, look)
        if look.pods is None:
            return None
        due, seen = followed.is_due(look.now_ms), followed.seen
        record: WorkloadRecord | None = None
        if followed.kind in SERVICE_KINDS and not followed.is_due(look.now_ms) and seen.uid and has_pods:
            return None
        if followed.kind in SERVICE_KINDS and (due or self._lookups.rested(*followed.reference)):
            try:
                record = await self._lookups.get(*followed.reference)
            except SourceError as error:
                if not isinstance(error, LaterError):
                    self.trouble = str(error)
                return None
            if record is not None and not seen.uid:
                seen.uid = record.uid
                seen.see_template(record.specs)
            if record is not None and record.uid != seen.uid:
                record = None  # another one of that name
            if record is None and seen.uid and not has_pods and not due:
                return service_ending(followed, None, look.now_ms, ended=True)
        if due:
            return service_ending(followed, record, followed.open_point.closes_at_ms, ended=False)
        return selected_ending(followed, look.now_ms) if followed.kind == "Selector" else None

    def _advance(self, followed: Followed, ending: Ending | None, look: Look) -> None:
        if ending is not None:
            self._close(followed, ending, look.now_ms)
            return
        if look.pods is None and followed.seen.run == followed.written_run:
            return  # nothing was looked at
        followed.written_run = followed.seen.run
        state = followed.seen.to_json()
        if state != followed.open_point.state:
            followed.open_point.state.clear()
            followed.open_point.state.update(state)
            self._log.touch(followed.key)

    def _close(self, followed: Followed, ending: Ending, now_ms: int) -> None:
        self._followed.pop(followed.key, None)
        run = followed.seen.run
        if self._observer is not None and run is not None:
            self._observer.name(run.uid)
        try:
            self._log.close(followed.key, closed(followed.open_point.point, followed.seen, ending, now_ms))
        except ValueError:
            # A state that was edited by hand may hold anything; it must not stop the others, now and at each start.
            _LOG.warning("what was seen of %s %s/%s cannot be recorded", *followed.reference, exc_info=True)
            ending = unknown("Unreadable")
            self._log.close(followed.key, closed(followed.open_point.point, Observation(), ending, now_ms))

    async def _read(self, answer: Awaitable[_T]) -> _T | None:
        try:
            return await answer
        except SourceError as error:
            if not self.trouble:
                _LOG.info("outcomes wait: %s", error)
            self.trouble = str(error)
            return None
