"""Turns: who waits for one, and that long searches leave half of them to others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from engine_ops.controllers.turns import Turns


class Visitor:
    """Takes a turn, and gives it back when it is told to."""

    def __init__(self, turns: Turns, *, long: bool) -> None:
        self.long = long
        self.has_turn = False
        self._done = asyncio.Event()
        self._task = asyncio.create_task(self._visit(turns))

    async def _visit(self, turns: Turns) -> None:
        async with turns.take(long=self.long):
            self.has_turn = True
            await self._done.wait()
        self.has_turn = False

    async def leave(self, *, cancelled: bool = False) -> None:
        if cancelled:
            self._task.cancel()
        self._done.set()
        await asyncio.wait({self._task})
        self.has_turn = False


def run(body: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(30):
            await body()

    asyncio.run(main())


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_short_questions_do_not_wait_for_long_ones() -> None:
    async def body() -> None:
        turns = Turns(4)
        long = [Visitor(turns, long=True) for _ in range(10)]
        await settle()
        short = [Visitor(turns, long=False) for _ in range(3)]
        await settle()
        assert [visitor.has_turn for visitor in long] == [True] * 2 + [False] * 8
        assert [visitor.has_turn for visitor in short] == [True, True, False]
        assert turns.waiting == 9
        await short[0].leave()
        await settle()
        assert short[2].has_turn
        await long[0].leave()
        await short[1].leave()
        await settle()
        assert long[2].has_turn
        for visitor in long + short:
            await visitor.leave()
        assert turns.waiting == 0

    run(body)


def test_with_one_turn_a_long_question_has_it_too() -> None:
    async def body() -> None:
        turns = Turns(1)
        first, second = Visitor(turns, long=True), Visitor(turns, long=True)
        await settle()
        assert (first.has_turn, second.has_turn) == (True, False)
        await first.leave()
        await settle()
        assert second.has_turn
        await second.leave()

    run(body)


def test_a_turn_that_is_lent_by_a_long_question_is_another_long_ones_only_when_it_has_ended() -> None:
    """What waits for plugins has its data in memory as well."""

    async def body() -> None:
        turns = Turns(2)
        back = asyncio.Event()

        async def lend() -> None:
            async with turns.take(long=True) as turn, turn.lent():
                await back.wait()

        lending = asyncio.create_task(lend())
        await settle()
        long = Visitor(turns, long=True)
        short = [Visitor(turns, long=False) for _ in range(2)]
        await settle()
        assert ([each.has_turn for each in short], long.has_turn) == ([True, True], False)
        await short[0].leave()
        back.set()
        await lending
        await settle()
        assert long.has_turn
        for visitor in (short[1], long):
            await visitor.leave()

    run(body)


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("come"), st.booleans()),
        st.tuples(st.just("leave"), st.integers(0, 20)),
        st.tuples(st.just("cancel"), st.integers(0, 20)),
    ),
    max_size=40,
)


@settings(max_examples=80)
@given(count=st.integers(1, 5), steps=_STEPS)
def test_turns_are_neither_lost_nor_doubled(count: int, steps: list[tuple[str, int]]) -> None:
    async def body() -> None:
        turns = Turns(count)
        here: list[Visitor] = []
        for step, argument in steps:
            if step == "come":
                here.append(Visitor(turns, long=bool(argument)))
            elif here:
                visitor = here.pop(argument % len(here))
                await visitor.leave(cancelled=step == "cancel" or not visitor.has_turn)
            await settle()
            most_long = max(1, count // 2)
            long, short = ([each for each in here if each.long is kind] for kind in (True, False))
            held_long, held_short = (sum(each.has_turn for each in kind) for kind in (long, short))
            assert held_long <= most_long
            assert held_long + held_short <= count
            # Nobody waits for what is free.
            free = count - held_long - held_short
            assert not free or held_short == len(short)
            assert not free or held_long == min(most_long, len(long))
        for visitor in here:
            await visitor.leave(cancelled=True)
        await settle()
        assert turns.waiting == 0

    run(body)
