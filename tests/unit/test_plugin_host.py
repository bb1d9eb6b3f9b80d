"""What a plugin's process can do, and what becomes of it, with the real plugin host."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import bad_plugins
import pytest
from plugin_host_support import asking, client_of, do, host_at, open_plugin
from test_workers_pool import DEADLINE_SECONDS, alive, run, running, until

from engine_ops.plugins.host.memory import children, descendants, resident_bytes, used_bytes
from engine_ops.plugins.messages import Ask, Broken, Open, Replied
from engine_ops.workers.errors import WorkerDiedError, WorkerTimeoutError
from engine_ops.workers.frames import FrameTooLargeError

MIB = 2**20
PACK = Ask(
    "r1", "resource", b'{"items": [{"id": "a", "cpu": 1, "memory": 1}], "nodeCapacity": {"cpu": 4, "memory": 4}}'
)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("host") / "host.sock"
    with host_at(path):
        yield path


def test_a_plugin_is_opened_asked_and_closed(host: Path, tmp_path: Path) -> None:
    async def main() -> None:
        async with client_of(host) as client:
            packer = await open_plugin(client, "bad_plugins:Good")
            reply = await packer.call(PACK, timeout_seconds=DEADLINE_SECONDS)
            assert isinstance(reply, Replied)
            assert b"first-fit" in reply.envelope or b"node-1" in reply.envelope
            ended = tmp_path / "ended"
            obedient = await open_plugin(client, config={"shutdown_file": str(ended)})
            await obedient.close(grace_seconds=DEADLINE_SECONDS)
            assert ended.read_text(encoding="ascii") == "shut down"
            assert obedient.ended.result() == "the plugin was closed"
            with pytest.raises(WorkerDiedError, match="the plugin was closed"):
                await obedient.call(PACK, timeout_seconds=1)
            await obedient.close()
            assert client.processes == (packer,)

    run(main())


def test_what_cannot_be_opened_says_so_and_its_process_lives(host: Path) -> None:
    async def main() -> None:
        async with client_of(host) as client:
            process = await client.spawn("nothing", memory_limit_bytes=0)
            answer = await process.call(Open("no.such:Plugin", "nothing"), timeout_seconds=DEADLINE_SECONDS)
            assert isinstance(answer, Broken)
            assert answer.stage == "import"
            assert not process.ended.done()

    run(main())


def test_a_start_that_is_cancelled_in_the_moment_of_its_success_is_cancelled(host: Path) -> None:
    async def main() -> None:
        async with client_of(host) as client:
            starting = asyncio.create_task(client.spawn("nothing", memory_limit_bytes=0))
            while not client.processes:  # noqa: ASYNC110 - it must be seen in the very turn
                await asyncio.sleep(0)
            (process,) = client.processes
            process.spawned.add_done_callback(lambda _: starting.cancel())
            with pytest.raises(asyncio.CancelledError):
                await starting
            assert "killed" in await process.ended

    run(main())


@pytest.mark.parametrize("name", ["SleepsForever", "IgnoresSigterm", "SpinsForever"])
def test_one_that_takes_too_long_is_killed(host: Path, name: str) -> None:
    async def main() -> None:
        async with client_of(host) as client:
            process = await open_plugin(client, f"bad_plugins:{name}")
            pid = process.pid
            assert pid is not None
            with pytest.raises(WorkerTimeoutError, match=r"0\.3 s"):
                await process.call(PACK, timeout_seconds=0.3)
            await process.ended
            await until(lambda: not alive(pid), "it is gone")

    run(main())


def test_a_cancelled_call_kills_the_process(host: Path) -> None:
    async def main() -> None:
        async with client_of(host) as client:
            process = await open_plugin(client)
            call = asyncio.create_task(process.call(asking("sleep"), timeout_seconds=3600))
            await asyncio.sleep(0)  # it is sent
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert "cancelled" in await process.ended
            pid = process.pid
            assert pid is not None
            await until(lambda: not alive(pid), "it is gone")

    run(main())


def test_one_that_uses_too_much_memory_is_killed(host: Path) -> None:
    async def main() -> None:
        async with client_of(host) as client:
            process = await open_plugin(client, "bad_plugins:Allocates", memory_limit_bytes=200 * MIB)
            with pytest.raises(WorkerDiedError, match="MiB of memory") as death:
                await process.call(PACK, timeout_seconds=DEADLINE_SECONDS)
            assert death.value.oom
            assert process.pid is not None
            assert not alive(process.pid)

    run(main())


def test_memory_of_what_a_plugin_starts_counts(host: Path) -> None:
    async def main() -> None:
        async with client_of(host) as client:
            process = await open_plugin(client, memory_limit_bytes=300 * MIB)
            with pytest.raises(WorkerDiedError) as death:
                await do(process, "have_a_child_allocate", 600 * MIB)
            assert death.value.oom

    run(main())


def test_memory_that_processes_share_counts_once(host: Path) -> None:
    """Six processes of 100 MiB each, and nearly all of it the same."""

    async def main() -> None:
        async with client_of(host) as client:
            process = await open_plugin(client, memory_limit_bytes=300 * MIB)
            await do(process, "allocate", 100 * MIB)
            await do(process, "fork_with_what_is_held", 5)
            # The next plugin is killed for its memory, so that the watchdog has looked at both.
            other = await open_plugin(client, memory_limit_bytes=50 * MIB)
            with contextlib.suppress(WorkerDiedError):  # it may answer before it is looked at
                await do(other, "allocate", 200 * MIB)
            assert "memory" in await other.ended
            assert not process.ended.done()
            assert await do(process, "nothing") is None

    run(main())


def test_a_process_that_has_ended_does_not_make_what_others_share_count_twice() -> None:
    """As one that forks away leaves behind for a moment."""
    script = """
        import os, sys, time
        held = b"x" * 100 * 2**20
        if os.fork() == 0:
            time.sleep(3600)
        if os.fork() == 0:
            os._exit(0)  # nobody waits for it
        print(flush=True)
        sys.stdin.read()
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:

            async def main() -> None:
                await until(lambda: list(map(running, children(process.pid))).count(False) == 1, "one has ended")
                assert used_bytes(process.pid, 0, 150 * MIB) < 150 * MIB
                assert sum(map(resident_bytes, (process.pid, *descendants(process.pid)))) > 200 * MIB

            run(main())
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def test_a_crash_is_told_with_its_signal_or_exit_code(host: Path) -> None:
    async def main() -> None:
        async with client_of(host) as client:
            segfaults = await open_plugin(client, "bad_plugins:Segfaults")
            with pytest.raises(WorkerDiedError, match="SIGSEGV") as death:
                await segfaults.call(PACK, timeout_seconds=DEADLINE_SECONDS)
            assert death.value.signal == signal.SIGSEGV
            exits = await open_plugin(client, "bad_plugins:Exits")
            with pytest.raises(WorkerDiedError, match="exited with code 0") as death:
                await exits.call(PACK, timeout_seconds=DEADLINE_SECONDS)
            assert death.value.exit_code == 0

    run(main())


def test_a_host_that_is_held_up_can_still_say_how_a_plugin_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine_ops.plugins.host.process._GRACE_SECONDS", 0.01)

    async def main() -> None:
        async with client_of(None) as client:
            process = await open_plugin(client)
            host = (await do(process, "tell"))["parent"]
            call = asyncio.create_task(do(process, "sleep"))
            await asyncio.sleep(0)
            os.kill(host, signal.SIGSTOP)
            try:
                os.kill(process.pid or 0, signal.SIGSEGV)
                await until(lambda: process._hung_up or call.done(), "the grace is over")
                assert not call.done()
            finally:
                os.kill(host, signal.SIGCONT)
            with pytest.raises(WorkerDiedError, match="SIGSEGV"):
                await call
            assert "SIGSEGV" in await process.ended

    run(main())


def test_what_a_plugin_starts_ends_with_it(host: Path) -> None:
    async def main() -> None:
        async with client_of(host) as client:
            process = await open_plugin(client)
            child = await do(process, "leave_a_child")
            orphan = await do(process, "leave_an_orphan")
            assert running(child)
            process.kill()
            await process.ended
            await until(lambda: not alive(child) and not alive(orphan), "all is gone")

    run(main())


def test_orphans_are_killed_while_the_plugin_lives(host: Path) -> None:
    async def main() -> None:
        async with client_of(host) as client:
            process = await open_plugin(client)
            orphan = await do(process, "leave_an_orphan")
            await until(lambda: not alive(orphan), "the orphan is gone")
            assert not process.ended.done()

    run(main())


def test_one_that_leaves_its_group_is_killed_and_nobody_else(host: Path) -> None:
    async def main() -> None:
        async with client_of(host) as client:
            process, other = await open_plugin(client), await open_plugin(client)
            with pytest.raises(WorkerTimeoutError):
                await do(process, "leave_the_group", seconds=0.3)
            await process.ended
            pid = process.pid
            assert pid is not None
            await until(lambda: not alive(pid), "it is gone")
            assert await do(other, "nothing") is None

    run(main())


def test_rubbish_on_its_socket_ends_it(host: Path) -> None:
    async def main() -> None:
        async with client_of(host) as client:
            process = await open_plugin(client, "bad_plugins:WritesRubbish")
            with pytest.raises(WorkerDiedError, match="no answer"):
                await process.call(PACK, timeout_seconds=DEADLINE_SECONDS)
            assert "no answer" in await process.ended

    run(main())


def test_an_answer_over_the_limit_ends_it(host: Path) -> None:
    async def main() -> None:
        async with client_of(host) as client:
            process = await open_plugin(client)
            with pytest.raises(WorkerDiedError, match="over the limit of 10 bytes"):
                await process.call(asking("tell"), timeout_seconds=DEADLINE_SECONDS, limit_bytes=10)
            await process.ended

    run(main())


def test_an_answer_to_nothing_ends_it(host: Path) -> None:
    async def main() -> None:
        async with client_of(host) as client:
            process = await open_plugin(client)
            reply = await process.call(asking("answer_twice"), timeout_seconds=DEADLINE_SECONDS)
            assert isinstance(reply, Replied)
            assert reply.no == "first"
            assert "not asked" in await process.ended

    run(main())


def test_a_message_over_the_limit_is_not_sent(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine_ops.plugins.host.process.MAX_MESSAGE_BYTES", 1000)

    async def main() -> None:
        async with client_of(host) as client:
            process = await open_plugin(client)
            with pytest.raises(FrameTooLargeError):
                await do(process, "nothing", "x" * 1000)
            assert await do(process, "nothing") is None

    run(main())


def test_one_message_at_a_time(host: Path) -> None:
    async def main() -> None:
        async with client_of(host) as client:
            process = await open_plugin(client)
            first = asyncio.create_task(do(process, "nothing"))
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="one message at a time"):
                await do(process, "nothing")
            assert await first is None

    run(main())


def test_what_a_plugin_prints_harms_no_frame(host: Path) -> None:
    async def main() -> None:
        async with client_of(host) as client:
            process = await open_plugin(client, "bad_plugins:PrintsToStdout")
            for _ in range(3):
                reply = await process.call(PACK, timeout_seconds=DEADLINE_SECONDS)
                assert isinstance(reply, Replied)
                assert reply.no == "all is printed"

    run(main())


def test_a_plugin_holds_two_pipes_and_nothing_else_of_the_host(host: Path) -> None:
    async def main() -> None:
        async with client_of(host) as client:
            others = [await open_plugin(client) for _ in range(3)]
            process = await open_plugin(client)
            told = await do(process, "tell")
            descriptors = told["descriptors"]
            assert descriptors.pop("0") == "/dev/null"
            assert descriptors.pop("1") == descriptors.pop("2")
            # No socket: descriptors could be sent over it, and closing them stops the one who reads.
            assert len(descriptors) == 2
            assert all(leads_to.startswith("pipe:") for leads_to in descriptors.values())
            assert told["directory"] == "/"
            assert told["niceness"] >= 10
            assert told["oom_score"] == 500
            assert told["group"] == told["pid"] == process.pid
            assert await do(others[0], "random") != await do(process, "random")

    run(main())


def test_rounds_of_deaths_leave_nothing(host: Path) -> None:
    async def main() -> None:
        async with client_of(host) as client:
            process = await open_plugin(client)
            host_pid = (await do(process, "tell"))["parent"]

            def held() -> tuple[object, ...]:
                ours, hosts = _descriptors(os.getpid()), _descriptors(host_pid)
                return ours, hosts, _children(host_pid), len(asyncio.all_tasks())

            before = held()
            for number in range(100):
                victim = await open_plugin(client)
                if number % 10 == 0:
                    await do(victim, "leave_a_child")
                victim.kill()
                await victim.ended
            await until(lambda: held() == before, f"all is as before: {before}")
            assert client.processes == (process,)

    run(main())


@pytest.mark.parametrize("case", bad_plugins.CASES, ids=lambda case: case.name)
def test_no_bad_plugin_harms_its_neighbour(host: Path, case: bad_plugins.Case) -> None:
    """Whatever it does, within 0.3 s or a memory limit; the other plugin answers throughout."""

    async def main() -> None:
        async with client_of(host) as client:
            neighbour = await open_plugin(client)
            process = await client.spawn(case.name, memory_limit_bytes=400 * MIB)
            opening = Open(case.entry_point, case.name)
            ask = Ask("r1", case.request_type, PACK.data)
            harmless = (WorkerDiedError, WorkerTimeoutError)
            try:
                seconds = 0.3 if case.when == "opened" and case.how == "waits" else DEADLINE_SECONDS
                await process.call(opening, timeout_seconds=seconds)
                seconds = 0.3 if case.how == "waits" else DEADLINE_SECONDS
                assert await do(neighbour, "nothing") is None
                await process.call(ask, timeout_seconds=seconds)
                assert case.how == "at once"
            except harmless:
                assert case.how != "at once"
            assert await do(neighbour, "nothing") is None

    run(main())


def _descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _children(pid: int) -> list[str]:
    return sorted(Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split())
