"""What a pool leaves behind, however it ends: nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from test_workers_pool import alive, climbing, pid_in, pool_of, run, running, until
from test_workers_solve import trial

from engine_ops.workers.errors import PoolClosedError, WorkerDiedError, WorkerStartError
from engine_ops.workers.pool import WorkerPool


def test_closing_leaves_no_process_and_fails_what_is_not_done(tmp_path: Path) -> None:
    async def main() -> None:
        pool = pool_of(2)
        await pool.start()
        async with climbing(pool, tmp_path) as (call, pid, _):
            child = subprocess.Popen([sys.executable, "-c", "pass"])  # noqa: ASYNC220 -- the wait is short
            workers, server = pool.processes.worker_pids, pool.processes.forkserver_pid
            assert server is not None
            assert pid in workers
            await pool.close()
            assert not any(alive(process) for process in (*workers, server))
            with pytest.raises(PoolClosedError):
                await call
            with pytest.raises(PoolClosedError):
                await pool.run(trial({}), timeout_seconds=1)
            await pool.close()
            # Somebody else's child is not ours to reap.
            assert child.wait() == 0

    run(main())


def load_for_ever() -> None:
    """Is preloaded where a fork server is to be found loading, however late one looks."""
    time.sleep(600)


def test_closing_while_it_loads_leaves_no_process() -> None:
    async def main() -> None:
        pool = WorkerPool(1, preload=("test_workers_lifetime:load_for_ever",))
        starting = asyncio.create_task(pool.start())
        await until(lambda: pool.processes.forkserver_pid, "the fork server runs")
        server = pool.processes.forkserver_pid
        assert server is not None
        await pool.close()
        with pytest.raises(WorkerStartError, match="closed"):
            await starting
        assert not alive(server)

    run(main())


def test_cancelling_the_start_leaves_no_process() -> None:
    async def main() -> None:
        pool = WorkerPool(1, preload=("test_workers_lifetime:load_for_ever",))
        starting = asyncio.create_task(pool.start())
        await until(lambda: pool.processes.forkserver_pid, "the fork server runs")
        server = pool.processes.forkserver_pid
        assert server is not None
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert not alive(server)

    run(main())


@pytest.mark.parametrize("entry", ["no_such_module", "engine_ops.workers.solve:no_such_function"])
def test_what_cannot_be_loaded_is_said_at_the_start(entry: str) -> None:
    async def main() -> None:
        pool = WorkerPool(1, preload=(entry,))
        with pytest.raises(WorkerStartError, match="no_such"):
            await pool.start()
        with pytest.raises(PoolClosedError):
            await pool.run(trial({}), timeout_seconds=1)

    run(main())


PARENT = """
    import asyncio, signal, sys
    from test_workers_solve import trial
    from engine_ops.workers.pool import WorkerPool

    signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored where the tests run in the background

    async def main():
        pool = WorkerPool(2, preload=("test_workers_solve:register",))
        await pool.start()
        asyncio.create_task(pool.run(trial({"do": "climb", "reached": sys.argv[1]}), timeout_seconds=600))
        while len(pool.processes.worker_pids) < 2:
            await asyncio.sleep(0.01)
        print(pool.processes.forkserver_pid, *pool.processes.worker_pids, flush=True)
        await asyncio.sleep(600)

    asyncio.run(main())
"""


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_everything_ends_with_the_parent_however_it_ends(stop: signal.Signals, tmp_path: Path) -> None:
    reached = tmp_path / "reached"
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PARENT), str(reached)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=Path(__file__).parent,
    ) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == 3
        busy = asyncio.run(pid_in(reached))
        assert busy in pids
        assert all(running(pid) for pid in pids)
        parent.send_signal(stop)
        parent.wait()
    asyncio.run(until(lambda: not any(running(pid) for pid in pids), "all processes are gone"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_for_the_whole_group_is_the_pools_to_heed(number: signal.Signals) -> None:
    async def main() -> None:
        async with pool_of(1) as pool:
            forkserver = pool.processes.forkserver_pid
            assert forkserver is not None
            os.kill(forkserver, number)
            for _ in range(2):  # the second one's worker is forked after the signal
                with pytest.raises(WorkerDiedError):
                    await pool.run(trial({"do": "quit", "code": 3}), timeout_seconds=60)
            assert pool.processes.forkserver_pid == forkserver

    run(main())


def test_what_a_solver_started_is_killed_with_it(tmp_path: Path) -> None:
    async def main() -> None:
        reached = tmp_path / "reached"
        async with pool_of(1) as pool:
            call = asyncio.create_task(pool.run(trial({"do": "beget", "reached": str(reached)}), timeout_seconds=60))
            grandchild = await pid_in(reached)
            assert running(grandchild)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await until(lambda: not running(grandchild), "it is killed")

    run(main())


def test_a_worker_whose_child_holds_its_socket_open_is_found_dead(tmp_path: Path) -> None:
    async def main() -> None:
        reached = tmp_path / "reached"
        async with pool_of(1) as pool:
            task = trial({"do": "beget", "reached": str(reached), "fork": True, "code": 3})
            with pytest.raises(WorkerDiedError) as caught:
                await pool.run(task, timeout_seconds=60)
            assert caught.value.exit_code == 3
            os.kill(await pid_in(reached), signal.SIGKILL)

    run(main())


INIT = """
    import asyncio, ctypes, os, signal, sys
    from pathlib import Path
    from test_workers_pool import alive, climbing, pool_of, until
    from engine_ops.workers.errors import WorkerDiedError

    PR_SET_CHILD_SUBREAPER = 36
    assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0

    async def main():
        async with pool_of(2) as pool, climbing(pool, Path(sys.argv[1])) as (call, pid, _):
            workers = pool.processes.worker_pids
            os.kill(pool.processes.forkserver_pid, signal.SIGKILL)
            try:
                await call
            except WorkerDiedError:
                pass
            await until(lambda: not any(alive(worker) for worker in workers), "the orphans are reaped")

    asyncio.run(main())
"""


def test_as_the_first_process_of_a_container_it_reaps_the_orphans_of_a_dead_fork_server(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(INIT), str(tmp_path)],
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent,
        check=False,
    )
    assert done.returncode == 0, done.stderr
