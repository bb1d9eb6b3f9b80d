"""One piece of work for all who wait for it."""

from __future__ import annotations

import asyncio

import pytest

from engine_ops.kube.coalescing import Coalesced


class Work:
    def __init__(self) -> None:
        self.begun = 0
        self.done = 0
        self.gate = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self) -> None:
        self.begun += 1
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.done += 1


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_callers_share_the_next_run_and_never_the_one_under_way() -> None:
    async def main() -> None:
        work = Work()
        coalesced = Coalesced(work)
        first = [asyncio.create_task(coalesced()) for _ in range(3)]
        await turns()
        assert work.begun == 1
        later = [asyncio.create_task(coalesced()) for _ in range(4)]
        await turns()
        assert work.begun == 1
        work.gate.set()
        await asyncio.gather(*first)
        await asyncio.gather(*later)
        assert work.begun == work.done == 2

    asyncio.run(main())


def test_an_error_reaches_all_and_the_next_run_is_a_new_one() -> None:
    async def main() -> None:
        work = Work()
        work.gate.set()
        work.error = ValueError("no")
        coalesced = Coalesced(work)
        outcomes = await asyncio.gather(coalesced(), coalesced(), return_exceptions=True)
        assert [str(outcome) for outcome in outcomes] == ["no", "no"]
        work.error = None
        await coalesced()
        assert work.done == 1

    asyncio.run(main())


def test_a_run_that_nobody_waits_for_is_cancelled_and_does_not_hold_up_the_next() -> None:
    async def main() -> None:
        work = Work()
        coalesced = Coalesced(work)
        callers = [asyncio.create_task(coalesced()) for _ in range(2)]
        await turns()
        callers[0].cancel()
        await turns()
        assert len(asyncio.all_tasks()) == 3  # this one, the other caller and the work
        following = asyncio.create_task(coalesced())
        await turns()
        callers[1].cancel()
        await asyncio.wait(callers)
        await turns()
        assert work.begun == 2
        work.gate.set()
        await following
        assert work.done == 1

    asyncio.run(main())


def test_closing_cancels_the_work_and_those_who_wait() -> None:
    async def main() -> None:
        coalesced = Coalesced(Work())
        callers = [asyncio.create_task(coalesced())]
        await turns()
        callers.append(asyncio.create_task(coalesced()))
        await turns()
        await coalesced.close()
        await asyncio.wait(callers)
        for caller in callers:
            with pytest.raises(asyncio.CancelledError):
                caller.result()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())
