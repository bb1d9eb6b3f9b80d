"""Nothing is lost and nothing is there twice: killed at every store operation, and with every fault of a store."""

from __future__ import annotations

import contextlib
import random

import pytest
from history_faults import FAULTS, Clock, CrashError, FaultyStore, drive
from history_world import Operator, World

from engine_ops.history import flushing
from engine_ops.history.names import HEAD


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flushing, "FIRST_PAUSE_SECONDS", 0.0)


def recover(world: World) -> None:
    """A last operator without faults brings in whatever statuses tell."""
    operator = Operator(world, FaultyStore(world.inner), "last")
    drive(operator.run(1))
    assert operator.log.health.unflushed == 0
    world.check_complete()


def test_every_kill() -> None:
    """The first operator is killed before or after each of its store operations in turn, the second somewhere."""
    steps = 0
    ended = False
    while not ended:
        world = World()
        chosen = 20_000 if steps % 2 else 10
        try:
            drive(Operator(world, FaultyStore(world.inner), "first").run(26, tick_ms=chosen), steps)
            ended = True
        except CrashError:
            pass
        world.check()
        with contextlib.suppress(CrashError):
            drive(Operator(world, FaultyStore(world.inner), "second").run(8), 5 + steps % 17)
        world.check()
        recover(world)
        steps += 1
    assert steps > 40


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_at_every_operation(fault: str) -> None:
    number, reached = 0, True
    while reached:
        world = World()
        store = FaultyStore(world.inner, lambda at, _, number=number: fault if at == number else None)
        operator = Operator(world, store, "first")
        drive(operator.run(26, tick_ms=20_000))
        world.check()
        drive(operator.flush())
        world.check_complete()
        reached = store.operations > number
        recover(world)
        number += 1
    assert number > 20


@pytest.mark.parametrize("seed", range(30))
def test_many_faults_and_kills(seed: int) -> None:
    chance = random.Random(seed)
    world = World()
    for life in range(5):
        faults = [chance.choice(FAULTS) if chance.random() < 0.3 else None for _ in range(400)]
        store = FaultyStore(world.inner, lambda at, _, faults=faults: faults[at] if at < 400 else None)
        operator = Operator(world, store, f"life-{life}", open_capacity=chance.choice([1, 3, 100]))
        tick_ms = chance.choice([10, 5_000, 40_000])
        with contextlib.suppress(CrashError):
            drive(operator.run(20, flush_every=chance.randint(1, 5), tick_ms=tick_ms), chance.randint(5, 120))
        world.check()
        world.clock.now_ms += chance.choice([0, 10, 100_000])
    recover(world)


@pytest.mark.parametrize("seed", range(40))
def test_two_writers(seed: int) -> None:
    """Two operators take turns at random before and after every store operation; one may be killed."""
    chance = random.Random(seed)
    world = World()
    writers = {
        name: Operator(world, FaultyStore(world.inner), name).run(20, flush_every=chance.randint(1, 4))
        for name in ("one", "other")
    }
    killed_at = chance.randint(5, 100) if seed % 2 else None
    turn = 0
    while writers:
        name = chance.choice(sorted(writers))
        try:
            writers[name].send(None)
        except StopIteration:
            del writers[name]
        turn += 1
        if turn == killed_at and "one" in writers:
            writers.pop("one").close()
        if turn % 7 == 0:
            world.check()
    world.check()
    recover(world)


@pytest.mark.parametrize("seed", range(60))
def test_recording_during_a_flush(seed: int) -> None:
    """Points are recorded, opened and closed between any two store operations of a flush, which may be killed."""
    chance = random.Random(seed)
    world = World()
    count = 0
    for life in range(4):
        store = FaultyStore(world.inner, lambda *_: chance.choice(FAULTS) if chance.random() < 0.1 else None)
        operator = Operator(world, store, f"life-{life}", open_capacity=100)
        drive(operator._load())
        operator._replay(list(world.facts))

        def busy(operator: Operator = operator) -> None:
            nonlocal count
            world.clock.now_ms += chance.choice([1, 20_000])
            for _ in range(chance.randint(0, 2)):
                operator.answer(f"r-{count}", chance.random() < 0.5)
                count += 1
            if chance.random() < 0.5:
                operator.close_one()

        for _ in range(8):
            busy()
            with contextlib.suppress(CrashError):
                drive(operator.flush_while_busy(busy), chance.choice([None, 100, chance.randint(1, 6)]))
                world.check()
                continue
            break
        world.check()
    recover(world)


def test_the_head_is_deleted_by_hand_after_every_kill() -> None:
    """What only the head held is told of again by statuses: no segment claims what came after it."""
    for steps in range(200):
        world = World()
        ended = False
        with contextlib.suppress(CrashError):
            drive(Operator(world, FaultyStore(world.inner), "a").run(26, tick_ms=40_000, opens=False), steps)
            ended = True
        world.inner.blobs.pop(HEAD, None)
        world.flushed.clear()
        world.closed_for_good.clear()
        recover(world)
        if ended:
            assert steps > 30
            return
    raise AssertionError("it never ended")


@pytest.mark.parametrize("jump_ms", [-3_600_000, 86_400_000 * 365, -86_400_000 * 365])
def test_clock_that_jumps(jump_ms: int) -> None:
    """Ahead and back, or back: in one life and from one life to the next, killed at some step of each."""
    for steps in range(10, 60, 7):
        world = World()
        start = world.clock.now_ms
        for life, moment in enumerate((start, start + jump_ms, start + 1_000, start + 2_000)):
            world.clock.now_ms = moment
            operator = Operator(world, FaultyStore(world.inner), f"life-{life}")
            with contextlib.suppress(CrashError):
                drive(operator.run(16, tick_ms=20_000), steps)
            world.check()
        recover(world)


def test_stamps_rise_though_the_clock_steps_back() -> None:
    world = World()
    operator = Operator(world, FaultyStore(world.inner), "first")
    drive(operator.run(4, tick_ms=100_000))
    first = operator.log.stamp()
    world.clock.now_ms -= 3_600_000
    second = operator.log.stamp()
    assert second > first
    later = Operator(world, FaultyStore(world.inner), "second")
    drive(later.log.load())
    assert later.log.stamp() > later.log.health.watermark > 0


def test_the_watermark_rises_again_after_a_clock_was_far_ahead() -> None:
    world = World()
    clock: Clock = world.clock
    clock.now_ms += 86_400_000 * 365
    drive(Operator(world, FaultyStore(world.inner), "ahead").run(6, tick_ms=60_000))
    clock.now_ms -= 86_400_000 * 365
    operator = Operator(world, FaultyStore(world.inner), "back")
    drive(operator.run(12, tick_ms=60_000))
    before = max(fact.stamp for fact in world.facts if fact.name.startswith("ahead"))
    assert operator.log.health.watermark > before
