"""The table of bad plugins, on a real plugin host: each says why, none harms another, and nothing is left of it.

ENGINE_OPS_PLUGIN_ROUNDS=N asks for N rounds over the whole table in place of some 40.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from bad_plugins import CASES, Case
from real_plugin_host import Limits, RealHost, ask, real_host, refused, until

from engine_ops.plugins.breaker import BreakerPolicy
from engine_ops.plugins.host.memory import descendants, resident_bytes
from engine_ops.plugins.instance import PluginBrokenError
from engine_ops.plugins.kept_process import RestartPolicy
from engine_ops.plugins.messages import Replied
from engine_ops.plugins.process_instance import ProcessInstance

SHORT_SECONDS = 0.3
WAITING = [case for case in CASES if case.how == "waits"]
AT_ONCE = [case for case in CASES if case.how != "waits"]
ROUNDS = int(os.environ.get("ENGINE_OPS_PLUGIN_ROUNDS") or -(-1000 // len(AT_ONCE)))
"""Over all that fail at once: with 22 of them, 46 rounds are above a thousand failures."""
WAITS = 20
WARM_UP = 3
GROWTH_BYTES = 10 * 2**20

# Some fail forever in this test: they are never left out, and started again without a wait.
POLICIES = {"breaker_policy": BreakerPolicy(crashes=10**9), "restart_policy": RestartPolicy(1e-3, 1e-3)}


@pytest.fixture(scope="module")
def host() -> Iterator[RealHost]:
    with real_host() as started:
        yield started


def instance_of(host: RealHost, case: Case) -> ProcessInstance:
    # What dies by itself, or by its memory, gets the time that a busy machine needs for that.
    seconds = SHORT_SECONDS if case.how == "waits" else 60.0
    opening_seconds = SHORT_SECONDS if case.when == "opened" and case.how == "waits" else 60.0
    limits = Limits(seconds, 100 * 2**20)
    return host.instance(case.entry_point, limits, opening_seconds=opening_seconds, **POLICIES)


async def reason_of(instance: ProcessInstance, case: Case) -> str:
    """Ask, and return why there is no answer that could be served."""
    said = await instance.ask(ask(case.request_type))
    if isinstance(said, Replied):
        return refused(said, case.request_type)
    assert said.kind in {"timeout", "crashed"}, said
    return said.reason


async def go_through(host: RealHost, case: Case) -> str:
    """Take one from its start to its end, and return why it could not be served."""
    instance = instance_of(host, case)
    try:
        await instance.start()
        return await reason_of(instance, case)
    except PluginBrokenError as error:
        if case.when != "opened":
            raise
        return error.message
    finally:
        await instance.close()


def assert_expected(case: Case, reason: str) -> None:
    assert re.search(case.reason, reason, re.IGNORECASE), (case.name, reason)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_says_why_and_leaves_no_process(host: RealHost, case: Case) -> None:
    async def test() -> None:
        before = set(descendants(host.pid))
        async with host.started("bad_plugins:Good") as good:
            assert_expected(case, await go_through(host, case))
            said = await good.ask(ask())
            assert isinstance(said, Replied)
            assert refused(said, "resource") == ""
        await until(lambda: set(descendants(host.pid)) <= before)

    host.run(test)


@dataclasses.dataclass(frozen=True)
class Holdings:
    """What could leak."""

    processes: int
    descriptors: int
    hosts_descriptors: int
    tasks: int
    known_processes: int

    @classmethod
    def now(cls, host: RealHost) -> Holdings:
        return cls(
            len(descendants(host.pid)),
            descriptors(os.getpid()),
            descriptors(host.pid),
            len(asyncio.all_tasks()),
            len(host.client.processes),
        )


def descriptors(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def memory_bytes(host: RealHost) -> tuple[int, int]:
    gc.collect()
    return resident_bytes(os.getpid()), resident_bytes(host.pid)


async def ask_good(good: ProcessInstance) -> None:
    said = await good.ask(ask())
    assert isinstance(said, Replied), said
    assert refused(said, "resource") == ""


async def at_once(host: RealHost, good: ProcessInstance, rounds: int) -> int:
    """Have each fail so many times: those that are opened in one instance every other time, else in a new one."""
    failures = 0
    kept = {case.name: instance_of(host, case) for case in AT_ONCE if case.when != "opened"}
    try:
        for instance in kept.values():
            await instance.start()
        for number in range(rounds):
            for case in AT_ONCE:
                if number % 2 and case.name in kept:
                    reason = await reason_of(kept[case.name], case)
                else:
                    reason = await go_through(host, case)
                assert_expected(case, reason)
                failures += 1
                await ask_good(good)
    finally:
        await asyncio.gather(*(instance.close() for instance in kept.values()))
    return failures


async def waiting(host: RealHost, good: ProcessInstance, rounds: int) -> None:
    """Have each that waits do so, all of them at the same time."""
    for _ in range(rounds):
        reasons = asyncio.gather(*(go_through(host, case) for case in WAITING))
        while not reasons.done():
            await ask_good(good)
            await asyncio.wait([reasons], timeout=0.02)
        for case, reason in zip(WAITING, await reasons, strict=True):
            assert_expected(case, reason)


def test_over_many_rounds_nothing_leaks(host: RealHost) -> None:
    async def test() -> None:
        async with host.started("bad_plugins:Good") as good:
            await at_once(host, good, WARM_UP)
            await waiting(host, good, 1)
            await until(lambda: len(descendants(host.pid)) == 1)
            await until(lambda: len(host.client.processes) == 1)
            before, (ours_before, hosts_before) = Holdings.now(host), memory_bytes(host)

            assert await at_once(host, good, ROUNDS) >= 1000
            await waiting(host, good, WAITS)

            await until(lambda: Holdings.now(host) == before)
            ours, hosts = memory_bytes(host)
            assert ours - ours_before < GROWTH_BYTES
            assert hosts - hosts_before < GROWTH_BYTES
            assert good.counters.restarts == 0

    host.run(test)
