"""The pool with real processes: kill, time-out, memory, cancellation, order."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop
from test_workers_solve import failed, solved, trial

from engine_ops.api.reasons import Reason
from engine_ops.workers.errors import WorkerDiedError, WorkerTimeoutError
from engine_ops.workers.frames import FrameTooLargeError
from engine_ops.workers.messages import Solved, SolveTask
from engine_ops.workers.pool import WorkerPool

DEADLINE_SECONDS = 30.0
"""Until when a condition must hold. Nothing here waits that long unless something is broken."""


def pool_of(size: int, **options: Any) -> WorkerPool:
    return WorkerPool(size, preload=("test_workers_solve:register",), **options)


def run(main: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(2 * DEADLINE_SECONDS):
            await main

    asyncio.run(bounded())


async def until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        await asyncio.sleep(0.005)
    return value


def alive(pid: int) -> bool:
    """Whether there is such a process, be it a zombie."""
    return Path(f"/proc/{pid}").exists()


def running(pid: int) -> bool:
    """Whether there is such a process, and it is no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


async def pid_in(path: Path) -> int:
    return int(await until(lambda: path.exists() and path.read_text(encoding="ascii"), "the solver works"))


async def facts_of(pool: WorkerPool) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(solved(await pool.run(trial({"do": "facts"}), timeout_seconds=60)).result)
    return facts


async def check_next_task_works(pool: WorkerPool) -> None:
    got = solved(await pool.run(trial({"x": 1}), timeout_seconds=60))
    assert json.loads(got.result)["data"] == {"x": 1}


@contextlib.asynccontextmanager
async def climbing(pool: WorkerPool, tmp_path: Path, *, timeout_seconds: float = 60) -> AsyncIterator[Any]:
    """Have a task under way whose first answer has arrived; yields (call, pid of its worker, incumbents)."""
    reached = tmp_path / "reached"
    incumbents: list[Solved] = []
    call = asyncio.create_task(
        pool.run(
            trial({"do": "climb", "reached": str(reached)}, search_seconds=60.0),
            timeout_seconds=timeout_seconds,
            on_incumbent=incumbents.append,
        )
    )
    pid = await pid_in(reached)
    await until(lambda: incumbents, "the first answer arrives")
    yield call, pid, incumbents


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run])
def test_tasks_are_answered_on_either_loop(runner: Callable[[Coroutine[Any, Any, None]], None]) -> None:
    async def main() -> None:
        async with pool_of(2) as pool:
            payloads = [{"text": "x" * size} for size in (0, 10, 100_000, 3_000_000)]
            outcomes = await asyncio.gather(
                *(
                    pool.run(trial(payload, inline_limit_bytes=10**8, seed=3), timeout_seconds=30)
                    for payload in payloads
                )
            )
            assert [json.loads(solved(outcome).result)["data"] for outcome in outcomes] == payloads
            assert pool.processes.busy == pool.processes.queued == 0

    runner(main())


def test_the_built_in_solvers_answer() -> None:
    async def main() -> None:
        async with WorkerPool(1) as pool:
            got = failed(await pool.run(SolveTask("a", "ml-driven", b"{}"), timeout_seconds=60))
            assert (got.reason, got.waiting) == (Reason.NO_PLUGIN, True)
            data = {"items": [{"id": "web", "cpu": "500m", "memory": "1Gi", "count": 6}]}
            data["nodeCapacity"] = {"cpu": 2, "memory": "8Gi"}  # type: ignore[assignment]
            answer = solved(await pool.run(SolveTask("b", "resource", json.dumps(data).encode()), timeout_seconds=60))
            result = json.loads(answer.result)
            assert (result["nodeCount"], result["lowerBound"]) == (2, 2)
            data["items"][0]["cpu"] = "-1"
            bad = failed(await pool.run(SolveTask("c", "resource", json.dumps(data).encode()), timeout_seconds=60))
            assert bad.reason == Reason.INVALID_DATA
            assert bad.faults[0][0].startswith("spec.data.items[0]")

    run(main())


def test_workers_are_polite_and_inherit_nothing() -> None:
    async def main() -> None:
        async with pool_of(2) as pool:
            facts = await facts_of(pool)
            assert facts["niceness"] == 10
            assert facts["core"] == [0, 0]
            assert facts["threads"] == 1
            assert set(facts["environment"].values()) == {"1"}
            assert facts["group"] == facts["pid"]
            assert facts["oomScore"] == "500"
            opened = facts["descriptors"]
            assert opened["0"] == "/dev/null"
            assert opened["1"] == opened["2"]
            sockets = [target for target in opened.values() if target.startswith("socket:")]
            others = {name for name in opened if int(name) > 2} - {n for n, t in opened.items() if "socket:" in t}
            assert len(sockets) == 1, opened
            assert not others, opened

    run(main())


def test_a_killed_worker_leaves_its_best_answer_and_the_next_task_works(tmp_path: Path) -> None:
    async def main() -> None:
        async with pool_of(1) as pool:
            async with climbing(pool, tmp_path) as (call, pid, _):
                os.kill(pid, signal.SIGKILL)
                with pytest.raises(WorkerDiedError) as caught:
                    await call
            error = caught.value
            assert error.signal == signal.SIGKILL
            assert "SIGKILL" in error.cause
            assert not error.oom
            assert error.incumbent is not None
            assert json.loads(error.incumbent.result) == {"pid": pid}
            assert error.incumbent.objective == 7
            await check_next_task_works(pool)
            assert pid not in pool.processes.worker_pids

    run(main())


def test_a_worker_that_exits_says_its_code() -> None:
    async def main() -> None:
        async with pool_of(1) as pool:
            with pytest.raises(WorkerDiedError) as caught:
                await pool.run(trial({"do": "quit", "code": 7}), timeout_seconds=60)
            assert (caught.value.exit_code, caught.value.signal, caught.value.incumbent) == (7, None, None)
            await check_next_task_works(pool)

    run(main())


def test_an_idle_worker_that_is_killed_is_replaced() -> None:
    async def main() -> None:
        async with pool_of(2) as pool:
            before = set(await until(lambda: len(pool.processes.worker_pids) == 2 and pool.processes.worker_pids, "up"))
            victim = min(before)
            os.kill(victim, signal.SIGKILL)
            await until(lambda: not alive(victim), "the fork server has reaped it")
            await until(
                lambda: victim not in (pids := pool.processes.worker_pids) and len(pids) == 2, "another is there"
            )
            await check_next_task_works(pool)

    run(main())


def test_a_time_out_serves_the_best_answer_and_kills_the_worker(tmp_path: Path) -> None:
    async def main() -> None:
        async with pool_of(1) as pool:
            async with climbing(pool, tmp_path) as (call, pid, _):
                # Its time is over now that there is a first answer, however long that took.
                (link,) = pool.processes._crew.busy
                assert link.job is not None
                assert link.job.timer is not None
                left_seconds = link.job.timer.when() - asyncio.get_running_loop().time()
                assert 0 < left_seconds <= 60
                link.job.timer.cancel()
                asyncio.get_running_loop().call_soon(pool.processes._expire, link.job)
                with pytest.raises(WorkerTimeoutError, match="within 60 s") as caught:
                    await call
            assert caught.value.incumbent is not None
            assert json.loads(caught.value.incumbent.result) == {"pid": pid}
            await until(lambda: not alive(pid), "the worker is gone")
            await check_next_task_works(pool)

    run(main())


def test_the_time_in_the_queue_does_not_count(tmp_path: Path) -> None:
    async def main() -> None:
        async with pool_of(1) as pool, climbing(pool, tmp_path) as (call, pid, _):
            # Its limit is shorter than the other's rest; it starts to count when the worker is free.
            waiting = asyncio.create_task(pool.run(trial({"do": "climb"}), timeout_seconds=0.5))
            done, _ = await asyncio.wait([waiting], timeout=1.0)
            assert not done
            os.kill(pid, signal.SIGKILL)
            with pytest.raises(WorkerDiedError):
                await call
            with pytest.raises(WorkerTimeoutError):
                await waiting

    run(main())


def test_a_worker_over_its_memory_limit_is_killed() -> None:
    async def main() -> None:
        async with pool_of(1, memory_limit_bytes=300 * 2**20) as pool:
            with pytest.raises(WorkerDiedError, match="memory limit of 300 MiB was exceeded") as caught:
                await pool.run(trial({"do": "hoard", "bytes": 400 * 2**20}, search_seconds=60.0), timeout_seconds=60)
            assert caught.value.oom
            assert caught.value.incumbent is not None
            await check_next_task_works(pool)

    run(main())


def test_a_worker_is_recycled_after_its_tasks() -> None:
    async def main() -> None:
        async with pool_of(1, recycle_after=3) as pool:
            pids = [(await facts_of(pool))["pid"] for _ in range(7)]
            assert [pids.index(pid) for pid in pids] == [0, 0, 0, 3, 3, 3, 6]
            await until(lambda: not any(alive(pid) for pid in pids[:6]), "the old ones are gone and reaped")

    run(main())


def test_a_worker_that_has_grown_is_recycled(tmp_path: Path) -> None:
    async def main() -> None:
        async with pool_of(1, recycle_above_bytes=1) as pool:
            first, second = [(await facts_of(pool))["pid"] for _ in range(2)]
            assert first != second

    run(main())


def test_cancelling_a_call_kills_its_worker_and_no_other(tmp_path: Path) -> None:
    async def main() -> None:
        async with pool_of(2) as pool, climbing(pool, tmp_path) as (call, pid, _):
            await until(lambda: len(pool.processes.worker_pids) == 2, "both are there")
            (other,) = {*pool.processes.worker_pids} - {pid}
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await until(lambda: not alive(pid), "the worker is gone")
            await until(lambda: len(pool.processes.worker_pids) == 2, "another is there")
            assert alive(other)
            await check_next_task_works(pool)
            assert pool.processes.busy == 0

    run(main())


def test_cancelling_a_call_in_the_queue_costs_no_worker(tmp_path: Path) -> None:
    async def main() -> None:
        async with pool_of(1) as pool, climbing(pool, tmp_path) as (call, pid, _):
            waiting = asyncio.create_task(pool.run(trial({}), timeout_seconds=60))
            await until(lambda: pool.processes.queued == 1, "it queues")
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert pool.processes.queued == 0
            assert alive(pid)
            assert not call.done()
            call.cancel()

    run(main())


def test_tasks_are_taken_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    async def main() -> None:
        order: list[int] = []
        async with pool_of(1) as pool, climbing(pool, tmp_path) as (call, pid, _):

            async def ask(number: int) -> None:
                await pool.run(trial({}), timeout_seconds=60)
                order.append(number)

            asked = [asyncio.create_task(ask(number)) for number in range(20)]
            await until(lambda: pool.processes.queued == 20, "all queue")
            os.kill(pid, signal.SIGKILL)
            with pytest.raises(WorkerDiedError):
                await call
            await asyncio.gather(*asked)
        assert order == list(range(20))

    run(main())


def test_every_worker_gets_work(tmp_path: Path) -> None:
    async def main() -> None:
        async with pool_of(3) as pool:
            paths = [tmp_path / str(number) for number in range(3)]
            calls = [
                asyncio.create_task(pool.run(trial({"do": "climb", "reached": str(path)}), timeout_seconds=60))
                for path in paths
            ]
            assert len({await pid_in(path) for path in paths}) == 3
            assert pool.processes.busy == 3
            for call in calls:
                call.cancel()

    run(main())


def test_an_unexpected_exception_fails_the_task_and_the_worker_lives_on() -> None:
    async def main() -> None:
        async with pool_of(1) as pool:
            before = (await facts_of(pool))["pid"]
            got = failed(await pool.run(trial({"do": "crash"}), timeout_seconds=60))
            assert got.reason == Reason.SOLVER_CRASHED
            assert "ZeroDivisionError" in got.message
            assert (await facts_of(pool))["pid"] == before

    run(main())


def test_yaml_bombs_and_what_is_no_object_are_faults_and_the_worker_lives_on() -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60))

    async def main() -> None:
        async with pool_of(1) as pool:
            before = (await facts_of(pool))["pid"]
            for text in (bomb.encode(), b"- 1\n", b"{", b"[" * 100_000):
                got = failed(await pool.run(trial(text, data_format="json-or-yaml"), timeout_seconds=60))
                assert got.reason == Reason.INVALID_DATA
                assert got.faults[0][0] == "spec.data"
            assert (await facts_of(pool))["pid"] == before

    run(main())


def test_a_task_over_the_frame_limit_is_refused_and_costs_no_worker() -> None:
    async def main() -> None:
        async with pool_of(1) as pool:
            before = (await facts_of(pool))["pid"]
            with pytest.raises(FrameTooLargeError):
                await pool.run(trial(bytes(65 * 2**20)), timeout_seconds=60)
            assert (await facts_of(pool))["pid"] == before

    run(main())


def test_a_listener_that_fails_does_not_cost_the_answer(caplog: pytest.LogCaptureFixture) -> None:
    def listen(_best: Solved) -> None:
        raise RuntimeError("not listening")

    async def main() -> None:
        async with pool_of(1) as pool:
            task = trial({"do": "size", "bytes": 10}, search_seconds=1.0)
            solved(await pool.run(task, timeout_seconds=60, on_incumbent=listen))

    run(main())
    assert "not listening" in caplog.text


def test_the_pool_recovers_from_the_death_of_its_fork_server(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with pool_of(2) as pool, climbing(pool, tmp_path) as (call, _, _):
            workers, server = pool.processes.worker_pids, pool.processes.forkserver_pid
            assert server is not None
            os.kill(server, signal.SIGKILL)
            with pytest.raises(WorkerDiedError, match="fork server died") as caught:
                await call
            assert caught.value.incumbent is not None
            await until(lambda: not any(running(worker) for worker in workers), "the kernel has killed its workers")
            await check_next_task_works(pool)
            assert pool.processes.forkserver_pid != server
            assert not alive(server)

    run(main())
    assert "the fork server ended unasked" in caplog.text


def test_each_task_that_dies_with_the_fork_server_keeps_its_own_best_answer() -> None:
    async def main() -> None:
        async with pool_of(2) as pool:
            arrived: list[Solved] = []
            calls = [
                asyncio.create_task(
                    pool.run(
                        trial({"do": "climb", "objective": objective}, search_seconds=5.0),
                        timeout_seconds=60,
                        on_incumbent=arrived.append,
                    )
                )
                for objective in (1, 2)
            ]
            await until(lambda: len(arrived) == 2, "both have a first answer")
            assert pool.processes.forkserver_pid is not None
            os.kill(pool.processes.forkserver_pid, signal.SIGKILL)
            errors = await asyncio.gather(*calls, return_exceptions=True)
            bests = [error.incumbent for error in errors if isinstance(error, WorkerDiedError)]
            assert [best.objective for best in bests if best is not None] == [1, 2]

    run(main())
