"""Who is next where long tasks must leave a worker to the others: whatever is asked, cancelled, answered, or dies."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from engine_ops.workers.control import Exited
from engine_ops.workers.crew import Crew
from engine_ops.workers.errors import PoolClosedError, WorkerDiedError, WorkerTimeoutError
from engine_ops.workers.link import WorkerLink
from engine_ops.workers.messages import PluginReply, Solved, SolveTask
from engine_ops.workers.pool import LONG_SEARCH_SECONDS, WorkerPool, searches_long
from engine_ops.workers.process_pool import ProcessPool
from engine_ops.workers.wire import Wire


class Toil(msgspec.Struct, tag=True, frozen=True):
    number: int
    long: bool


class Sign(msgspec.Struct, tag=True, frozen=True):
    pass


class Done(msgspec.Struct, tag=True, frozen=True):
    number: int


WIRE: Wire[Toil, Sign, Done] = Wire("nobody:HANDLER", msgspec.msgpack.Decoder(Sign | Done), Sign)


class ProcesslessLink(WorkerLink):
    """Tells the test what its worker would be sent."""

    def __init__(self, worker_id: int, owner: Crew, on_begin: Callable[[Toil], None]) -> None:
        super().__init__(worker_id, WIRE.replies, owner)
        self._on_begin = on_begin

    def send(self, frame: bytes | bytearray) -> None:
        self._on_begin(toil_of(self))


class ProcesslessCrew(Crew):
    """The crew as it is, but for its processes: workers do, die and come when the test says so."""

    on_begin: Callable[[Toil], None]

    async def start(self) -> None:
        self._open = True
        self.respawn()

    def respawn(self) -> None:
        """Have as many workers as there should be."""
        for link in [link for link in self._links.values() if link.dismissed and link.job is None]:
            del self._links[link.worker_id]
        for _ in range(self.size - sum(not link.dismissed for link in self._links.values())):
            link = ProcesslessLink(next(self._worker_ids), self, self.on_begin)
            self._links[link.worker_id] = link
            self._idle.append(link)
            self._on_idle()

    def crash(self, link: WorkerLink, *, known: bool) -> None:
        """Have a worker die by itself, the pool being told how at once, or later."""
        if known:
            link.exited = Exited(link.worker_id, signal=11)
        link.open = False
        self.hung_up(link)

    def learn(self) -> None:
        """Have the pool be told how those died of which it did not know yet."""
        for link in [link for link in self._links.values() if not link.open and link.exited is None]:
            self._noticed(Exited(link.worker_id, signal=11))


@dataclasses.dataclass
class Asked:
    """One task, its caller, and when it was asked for."""

    toil: Toil
    call: asyncio.Task[Done]


class World:
    """A pool without processes, and what was asked of it."""

    def __init__(self, size: int, *, recycle_after: int = 1000) -> None:
        self.size = size
        self.pool = ProcessPool(WIRE, size, recycle_after=recycle_after, is_long=lambda toil: toil.long)
        self.crew = ProcesslessCrew(WIRE, size, niceness=0, on_idle=self.pool._dispatch, on_reply=self.pool._replied)
        self.crew.on_begin = self._begin
        self.pool._crew = self.crew
        self.asked: list[Asked] = []
        self.begun: list[int] = []
        self.faults: list[str] = []

    async def ask(self, *, long: bool) -> None:
        toil = Toil(len(self.asked), long)
        call = asyncio.create_task(self.pool.run(toil, timeout_seconds=1000))
        self.asked.append(Asked(toil, call))
        await self.settled()

    async def settled(self) -> None:
        """Let callers hear of what has happened."""
        for _ in range(5):
            await asyncio.sleep(0)

    @property
    def at_work(self) -> list[Toil]:
        return [toil_of(link) for link in self.crew.busy]

    @property
    def waiting(self) -> list[Toil]:
        """Those that wait and are wanted still."""
        return [
            asked.toil
            for asked in self.asked
            if asked.toil.number not in self.begun and not asked.call.done() and not asked.call.cancelling()
        ]

    def _begin(self, toil: Toil) -> None:
        earlier = [other for other in self.waiting if other.number < toil.number]
        self.begun.append(toil.number)
        long_at_work = sum(other.long for other in self.at_work)
        if self.size > 1 and long_at_work > self.size - 1:
            self.faults.append(f"{toil} has the last worker")
        if self.size == 1 or toil.long:
            if earlier:
                self.faults.append(f"{toil} overtook {earlier}")
        elif earlier and not (all(other.long for other in earlier) and long_at_work == self.size - 1):
            self.faults.append(f"{toil} overtook {earlier}, which are not all long, or had room")
        if self.asked[toil.number].call.cancelling():
            self.faults.append(f"{toil} began though nobody wants it")

    def check(self) -> None:
        assert not self.faults
        most = max(1, self.size - 1)
        long_at_work = sum(toil.long for toil in self.at_work)
        assert self.pool.queued == len(self.waiting)
        if self.crew.has_idle and self.waiting:
            # Nobody waits beside a worker that is free, but for long ones for which there is no room.
            assert all(toil.long for toil in self.waiting)
            assert self.size > 1
            assert long_at_work == most

    def finish(self, link: WorkerLink) -> None:
        """Have a worker reply."""
        self.crew.replied(link, Done(toil_of(link).number))


def toil_of(link: WorkerLink) -> Toil:
    assert link.job is not None
    assert isinstance(link.job.task, Toil)
    return link.job.task


def busy_one(world: World, which: int) -> WorkerLink | None:
    links = [link for link in world.crew.busy if link.open]
    return links[which % len(links)] if links else None


async def step(world: World, action: str, which: int) -> None:
    link = busy_one(world, which)
    if action in {"ask", "ask long"}:
        await world.ask(long=action == "ask long")
        return
    if action == "cancel" and world.asked:
        world.asked[which % len(world.asked)].call.cancel()
    elif action == "cancel and ask" and world.asked:
        world.asked[which % len(world.asked)].call.cancel()
        await world.ask(long=which % 2 == 0)
    elif action == "reply" and link is not None:
        world.finish(link)
    elif action == "cancel and reply" and link is not None:
        world.asked[which % len(world.asked)].call.cancel()
        world.finish(link)
    elif action == "time out" and link is not None and link.job is not None:
        world.pool._expire(link.job)
    elif action in {"die", "vanish"} and link is not None:
        world.crew.crash(link, known=action == "die")
    elif action == "die idle" and world.crew.has_idle:
        world.crew.crash(world.crew._idle[which % len(world.crew._idle)], known=True)
    elif action == "learn":
        world.crew.learn()
    elif action == "respawn":
        world.crew.respawn()
    await world.settled()


ACTIONS = [
    "ask",
    "ask long",
    "cancel",
    "cancel and ask",
    "cancel and reply",
    "reply",
    "time out",
    "die",
    "vanish",
    "die idle",
    "learn",
]
ENDS = (asyncio.CancelledError, WorkerDiedError, WorkerTimeoutError)
STEPS = st.lists(
    st.tuples(st.sampled_from([*ACTIONS, "ask", "ask long", "ask long", "reply", "respawn"]), st.integers(0, 30)),
    min_size=20,
    max_size=60,
)


@settings(max_examples=300)
@given(st.integers(1, 4), st.integers(1, 5), STEPS)
def test_whatever_happens_nobody_waits_who_need_not(
    size: int, recycle_after: int, steps: list[tuple[str, int]]
) -> None:
    async def main() -> None:
        world = World(size, recycle_after=recycle_after)
        await world.pool.start()
        for action, which in steps:
            await step(world, action, which)
            world.check()
        # In the end all are answered who are not cancelled and whose worker has not died.
        world.crew.learn()
        for _ in range(len(world.asked)):
            world.crew.respawn()
            for link in world.crew.busy:
                world.finish(link)
            await world.settled()
            world.check()
        for asked in world.asked:
            end = await end_of(asked)
            assert end == Done(asked.toil.number) or isinstance(end, ENDS)
        assert world.pool.queued == world.pool.busy == 0
        await world.pool.close()

    logging.disable(logging.CRITICAL)
    try:
        asyncio.run(main())
    finally:
        logging.disable(logging.NOTSET)


async def end_of(asked: Asked) -> Any:
    assert asked.call.done()
    (end,) = await asyncio.gather(asked.call, return_exceptions=True)
    return end


async def begun_of(size: int, *kinds: str) -> list[int]:
    """Ask for tasks, one after the other; return which began, though none has ended."""
    world = World(size)
    await world.pool.start()
    for kind in kinds:
        await world.ask(long=kind == "long")
    await world.pool.close()
    for asked in world.asked:
        await world.settled()
        assert isinstance(await end_of(asked), PoolClosedError)
    assert not world.faults
    return world.begun


def test_short_ones_overtake_long_ones_that_have_no_room() -> None:
    assert asyncio.run(begun_of(2, "long", "long", "long", "short")) == [0, 3]
    assert asyncio.run(begun_of(3, "long", "long", "long", "short")) == [0, 1, 3]


def test_the_only_worker_is_for_all() -> None:
    assert asyncio.run(begun_of(1, "long", "long", "short")) == [0]


def test_long_ones_do_not_wait_where_there_is_room() -> None:
    assert asyncio.run(begun_of(3, "short", "long", "long")) == [0, 1, 2]


def test_between_the_kinds_the_first_that_came_is_served_where_there_is_room() -> None:
    async def main() -> None:
        world = World(2)
        await world.pool.start()
        for kind in ("short", "short", "short", "long", "short"):
            await world.ask(long=kind == "long")
        assert world.begun == [0, 1]
        for begun in ([0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3, 4]):
            world.finish(next(link for link in world.crew.busy if not toil_of(link).long))
            await world.settled()
            assert world.begun == begun
        await world.pool.close()
        await asyncio.gather(*(asked.call for asked in world.asked), return_exceptions=True)

    asyncio.run(main())


def test_a_long_one_that_is_ended_leaves_its_room_to_the_next_though_its_worker_is_not_replaced_yet() -> None:
    async def main() -> None:
        for action in ("cancel", "time out", "die"):
            world = World(2)
            await world.pool.start()
            await world.ask(long=True)
            await world.ask(long=True)
            assert world.begun == [0]
            await step(world, action, 0)
            assert world.begun == [0, 1], action
            await world.pool.close()
            await asyncio.gather(*(asked.call for asked in world.asked), return_exceptions=True)

    asyncio.run(main())


def test_which_questions_are_long() -> None:
    task = SolveTask("t", "resource", b"{}", search_seconds=LONG_SEARCH_SECONDS + 1)
    solved = Solved(b"{}", 2, 0, "Solved", "", "greedy", "1")
    assert searches_long(task)
    assert searches_long(msgspec.structs.replace(task, reply=PluginReply("p", "1", b"{}")))
    assert not searches_long(msgspec.structs.replace(task, search_seconds=LONG_SEARCH_SECONDS))
    assert not searches_long(msgspec.structs.replace(task, describe=True))
    assert not searches_long(msgspec.structs.replace(task, built_in=solved))


def test_a_pool_for_one_alone_reserves_nothing() -> None:
    assert WorkerPool(2).processes._is_long is searches_long
    assert WorkerPool(2, reserve=False).processes._is_long is None
    assert WorkerPool(1).processes._is_long is None
