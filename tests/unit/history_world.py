"""Requests with statuses, and operators that record them: what stays true whatever happens to the store."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from history_faults import Clock, key, keyed_point, name_of, new_log, open_point, step, stored_names

from engine_ops.history.log import HistoryLog
from engine_ops.history.memory_store import MemoryStore
from engine_ops.history.store import BlobStore, StoreError


@dataclasses.dataclass
class Fact:
    """What a status tells."""

    name: str
    stamp: int
    waits: bool


class World:
    """The statuses of all requests, which outlive every operator, and what operators have reported as flushed."""

    def __init__(self) -> None:
        self.inner = MemoryStore()
        self.clock = Clock()
        self.facts: list[Fact] = []
        self.flushed: set[str] = set()
        self.closed_for_good: set[str] = set()

    def check(self) -> None:
        """Whatever was reported, and all that the watermark speaks of, is in the store exactly once."""
        closed, opened, watermark = stored_names(self.inner, open_capacity=1_000)
        assert len(closed) == len(set(closed)), "a point is there twice"
        assert not set(closed) & set(opened), "a closed point is still open"
        there = {*closed, *opened}
        assert self.flushed <= there, f"flushed and not there: {self.flushed - there}"
        assert self.closed_for_good <= set(closed)
        below = {fact.name for fact in self.facts if fact.stamp <= watermark}
        assert below <= there, f"below the watermark and not there: {below - there}"

    def check_complete(self) -> None:
        self.check()
        closed, opened, _ = stored_names(self.inner, open_capacity=1_000)
        assert sorted([*closed, *opened]) == sorted(fact.name for fact in self.facts)


class Operator:
    """One process: it replays what statuses tell, then answers requests and flushes now and then."""

    def __init__(self, world: World, store: BlobStore, prefix: str, **options: int) -> None:
        self.world = world
        self.log: HistoryLog = new_log(store, world.clock, **options)
        self.prefix = prefix

    async def run(self, requests: int, flush_every: int = 3, tick_ms: int = 10, opens: bool = True) -> None:
        log, world = self.log, self.world
        log.begin(0)
        await self._load()
        replayed = list(world.facts)
        middle = max(1, requests // 2)
        for index in range(requests):
            # New requests are answered while the old ones are still being read.
            self._replay(replayed[index * len(replayed) // middle : (index + 1) * len(replayed) // middle])
            if index == middle:
                log.abandon(0)
            name = f"{self.prefix}-{index}"
            fact = Fact(name, log.stamp(), opens and index % 3 == 2)
            log.begin(fact.stamp)
            world.clock.now_ms += tick_ms
            if index % 5 == 4:
                log.abandon(fact.stamp)  # the status did not land
            else:
                world.facts.append(fact)
                self._record(fact)
            if index % 4 == 3:
                self.close_one()
            if index % flush_every == flush_every - 1:
                await self.flush()
        self._replay(replayed)
        log.abandon(0)
        await self.flush()

    async def flush(self) -> bool:
        closed = {name_of(point) for point in self.log.collector.select().points()}
        try:
            await self.log.flush()
        except StoreError:
            self._report()
            return False
        self.world.closed_for_good |= closed
        assert not self.log.dirty
        self._report()
        return True

    async def flush_while_busy(self, busy: Callable[[], None]) -> None:
        """Flush, with the word given to something that records between any two store operations."""
        flushing = self.log.flush()
        try:
            while True:
                flushing.send(None)
                busy()
                await step()
        except (StopIteration, StoreError):
            self._report()
        finally:
            flushing.close()

    def answer(self, name: str, waits: bool) -> None:
        """Answer one request."""
        fact = Fact(name, self.log.stamp(), waits)
        self.world.facts.append(fact)
        self._record(fact)

    def _report(self) -> None:
        for fact in self.world.facts:
            if self.log.is_flushed(key(fact.name), fact.stamp):
                self.world.flushed.add(fact.name)

    async def _load(self) -> None:
        while not self.log.loaded:
            try:
                await self.log.load()
            except StoreError:
                continue

    def _replay(self, facts: list[Fact]) -> None:
        for fact in facts:
            if not self.log.knows(key(fact.name), fact.stamp):
                self._record(fact)

    def _record(self, fact: Fact) -> None:
        if fact.waits:
            self.log.open(open_point(fact.name, fact.stamp))
        else:
            self.log.record(keyed_point(fact.name, fact.stamp), fact.stamp)

    def close_one(self) -> None:
        for one, opened in list(self.log.open_points.items())[:1]:
            self.log.close(one, keyed_point(name_of(opened.point), opened.point.timestamp, outcome={"state": "done"}))
