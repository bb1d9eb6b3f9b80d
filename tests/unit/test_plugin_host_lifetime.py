"""How a plugin host begins and ends, and what the operator makes of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import socket
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from plugin_host_support import HERE, PLENTY_BYTES, client_of, do, host_at, open_plugin
from test_workers_pool import DEADLINE_SECONDS, alive, run, running, until

from engine_ops.plugins.host.client import HostClient, HostUnavailableError
from engine_ops.plugins.host.dialing import host_environment
from engine_ops.plugins.host.listener import accept, listen, refreshed
from engine_ops.plugins.host.memory import children
from engine_ops.workers import control
from engine_ops.workers.errors import WorkerDiedError


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("host") / "host.sock"
    with host_at(path):
        yield path


def test_a_subprocess_sees_nothing_of_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/home/somebody/.kube/config")
    monkeypatch.setenv("MY_SECRET", "hush")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")

    async def main() -> None:
        async with client_of(None) as client:
            told = await do(await open_plugin(client), "tell")
            environment = told["environment"]
            assert environment["LC_ALL"] == "C.UTF-8"
            assert environment["OMP_NUM_THREADS"] == "1"
            assert environment["HOME"] == "/nonexistent"
            assert not {"KUBECONFIG", "MY_SECRET", "USER"} & environment.keys()
            assert str(HERE) in told["path"]
            assert "" not in told["path"]
            assert told["parent"] in children(os.getpid())

    run(main())


def test_the_environment_is_a_list_of_what_is_kept() -> None:
    environment = {
        "PATH": "/bin",
        "PYTHONPATH": "/x",
        "LC_TIME": "C",
        "AWS_SECRET": "s",
        "HOME": "/home/somebody",
        "PYTHON": "y",
    }
    kept = host_environment(environment)
    assert {"PATH": "/bin", "PYTHONPATH": "/x", "LC_TIME": "C"}.items() <= kept.items()
    assert not {"AWS_SECRET", "PYTHON"} & kept.keys()
    assert kept["HOME"] != "/home/somebody"


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_closing_leaves_no_process_descriptor_or_task(
    runner: Callable[[Coroutine[Any, Any, None]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A host that has to be killed, as it does not get round to it, leaves what plugins have started.
    monkeypatch.setattr("engine_ops.plugins.host.dialing._END_SECONDS", DEADLINE_SECONDS)

    async def main() -> None:
        before = _descriptors()
        client = HostClient.subprocess(libraries=(), patience_seconds=DEADLINE_SECONDS)
        await client.start()
        process, other = await open_plugin(client), await open_plugin(client)
        told = await do(process, "tell")
        child = await do(process, "leave_a_child")
        call = asyncio.create_task(do(other, "sleep"))
        await asyncio.sleep(0)
        await client.close()
        with pytest.raises(WorkerDiedError, match="closed"):
            await call
        assert process.ended.done()
        for pid in (told["pid"], told["parent"], child, other.pid):
            assert not alive(pid)
        assert not client.available
        with pytest.raises(HostUnavailableError, match="closed"):
            await client.spawn("late", memory_limit_bytes=0)
        await client.close()
        await until(lambda: len(asyncio.all_tasks()) == 1, "no task is left")
        assert _descriptors() == before

    async def bounded() -> None:
        async with asyncio.timeout(2 * DEADLINE_SECONDS):
            await main()

    runner(bounded())


def test_a_host_that_is_killed_comes_back() -> None:
    async def main() -> None:
        async with client_of(None) as client:
            process, other = await open_plugin(client), await open_plugin(client)
            host = (await do(process, "tell"))["parent"]
            call = asyncio.create_task(do(process, "sleep"))
            await asyncio.sleep(0)
            os.kill(host, signal.SIGKILL)
            with pytest.raises(WorkerDiedError, match="the plugin host ended"):
                await call
            assert await other.ended == "the plugin host ended"
            assert not client.available
            assert client.processes == ()
            await until(lambda: not running(process.pid or 0) and not running(other.pid or 0), "the plugins are gone")
            again = await open_plugin(client)
            assert (await do(again, "tell"))["parent"] != host

    run(main())


def test_a_host_that_listens_and_ends_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / "host.sock"

    async def main() -> None:
        async with client_of(path) as client:
            assert not client.available
            with host_at(path):
                process = await open_plugin(client)
                assert client.available
                pid = process.pid
            assert await process.ended == "the plugin host ended"
            assert pid is not None
            assert not alive(pid)
            with host_at(path):
                await open_plugin(client)

    run(main())


def test_a_host_serves_one_operator_at_a_time(host: Path) -> None:
    async def main() -> None:
        async with client_of(host) as first:
            process = await open_plugin(first)
            # A plugin may connect as well; what it has said is not heard when it is dead.
            assert await do(process, "connect", str(host)) == "connected"
            async with client_of(host) as second:
                assert await do(process, "nothing") is None
                assert not second.available
                await first.close()
                assert await do(await open_plugin(second), "nothing") is None
                assert process.pid is not None
                assert not alive(process.pid)

    run(main())


def test_what_connects_and_is_no_operator_is_sent_away(host: Path) -> None:
    async def main() -> None:
        await until(host.exists, "the host listens")
        for rubbish in (b"\xff\x00rubbish", control.encode(control.Spawn(1))):  # the second has no socket
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger:
                stranger.settimeout(DEADLINE_SECONDS)
                stranger.connect(str(host))
                stranger.recv(100)  # that it is ready
                stranger.send(rubbish)
                assert stranger.recv(100) == b""
        async with client_of(host) as client:
            await open_plugin(client)

    run(main())


def test_without_a_host_there_is_no_process(tmp_path: Path) -> None:
    async def main() -> None:
        client = HostClient.at(tmp_path / "nothing.sock", patience_seconds=0.01)
        with pytest.raises(HostUnavailableError, match="not been started"):
            await client.spawn("early", memory_limit_bytes=0)
        await client.start()
        with pytest.raises(HostUnavailableError, match="No such file"):
            await client.spawn("x", memory_limit_bytes=0)
        assert client.processes == ()
        await client.close()

    run(main())


def test_a_spawn_that_fails_says_why(tmp_path: Path) -> None:
    """The host is another that cannot fork."""
    listener = listen(tmp_path / "host.sock")
    listener.setblocking(False)

    async def main() -> None:
        async with client_of(tmp_path / "host.sock") as client:
            sock, _ = await asyncio.get_running_loop().sock_accept(listener)
            sock.setblocking(True)
            with sock:
                sock.send(control.encode(control.Ready()))
                spawning = asyncio.create_task(client.spawn("x", memory_limit_bytes=PLENTY_BYTES))
                await until(lambda: client.processes, "it is asked for")
                await until(lambda: select.select([sock], [], [], 0)[0], "it is told")
                packet, descriptors, _, _ = socket.recv_fds(sock, 65536, 1)
                command = control.COMMANDS.decode(packet)
                assert isinstance(command, control.Spawn)
                assert command.memory_limit_bytes == PLENTY_BYTES
                assert command.label == "x"
                sock.send(control.encode(control.Exited(command.worker_id, error="cannot fork: enough")))
                for descriptor in descriptors:
                    os.close(descriptor)
                with pytest.raises(HostUnavailableError, match="cannot fork: enough"):
                    await spawning
                assert client.processes == ()
                # Whatever such a host says besides, it is the host that is given up.
                sock.send(b"rubbish")
                await until(lambda: not client.available, "it is given up")

    with listener:
        run(main())


@pytest.mark.parametrize("what", ["gone", "another's", "a directory", "a file"])
def test_a_socket_whose_file_was_taken_is_made_anew(tmp_path: Path, what: str) -> None:
    """Plugins are of the host's user; the operator would never find it again."""
    path = tmp_path / "host.sock"
    listener = listen(path)
    same = refreshed(listener, path)
    assert same is listener
    path.unlink()
    if what == "another's":
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as theirs:
            theirs.bind(str(path))
            theirs.listen()
    elif what == "a directory":
        (path / "x").mkdir(parents=True)
    elif what == "a file":
        path.touch()
    with (
        refreshed(listener, path) as renewed,
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as operator,
    ):
        assert renewed is not listener
        operator.connect(str(path))
        with accept(renewed) as connection:
            connection.send(b"x")
            assert operator.recv(1) == b"x"


def test_what_plugins_started_dies_with_the_operator() -> None:
    """However it ends: the kernel tells the host, which has the time to kill."""
    script = """
        import asyncio, os, sys
        from plugin_host_support import do, open_plugin
        from engine_ops.plugins.host.client import HostClient

        async def main():
            client = HostClient.subprocess(libraries=())
            await client.start()
            process = await open_plugin(client)
            children = [await do(process, "leave_a_child") for _ in range(5)]
            print(process.pid, *children, flush=True)
            sys.stdin.read()

        asyncio.run(main())
    """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH"))))}
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as operator:
        assert operator.stdout is not None
        pids = [int(pid) for pid in operator.stdout.readline().split()]
        assert len(pids) == 6
        operator.kill()

        async def main() -> None:
            await until(lambda: not any(map(running, pids)), "all is gone")

        run(main())


def test_a_host_dies_with_the_operator() -> None:
    script = """
        import asyncio, os, sys
        from engine_ops.plugins.host.client import HostClient

        async def main():
            client = HostClient.subprocess(libraries=())
            await client.start()
            process = await client.spawn("x", memory_limit_bytes=0)
            status = open(f"/proc/{process.pid}/stat").read()
            print(process.pid, status.split()[3], flush=True)
            sys.stdin.read()

        asyncio.run(main())
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as operator:
        assert operator.stdout is not None
        plugin, host = map(int, operator.stdout.readline().split())
        assert running(plugin)
        assert running(host)
        operator.kill()

    async def main() -> None:
        await until(lambda: not running(plugin) and not running(host), "all is gone")

    run(main())


def test_a_stale_socket_is_replaced_and_a_live_one_refused(tmp_path: Path) -> None:
    path = tmp_path / "host.sock"
    listen(path).close()
    assert path.is_socket()
    with listen(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        with pytest.raises(FileExistsError, match="another plugin host"):
            listen(path)
        with contextlib.ExitStack() as waiting:
            for _ in range(100):  # more than may wait
                sock = waiting.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
                sock.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    sock.connect(str(path))
            with pytest.raises(FileExistsError, match="another plugin host"):
                listen(path)
    path.unlink()
    path.write_text("precious", encoding="ascii")
    with pytest.raises(FileExistsError, match="no socket"):
        listen(path)
    assert path.read_text(encoding="ascii") == "precious"


def test_connections_whose_other_end_is_closed_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "host.sock"
    with listen(path) as listener:
        for _ in range(2):
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as gone:
                gone.connect(str(path))
                gone.send(b"do as I say")
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as there:
            there.connect(str(path))
            there.send(b"hello")
            with accept(listener) as sock:
                assert sock.recv(100) == b"hello"


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from engine_ops.cli.main import main

    arguments = [sys.executable, "-c", "from engine_ops.cli.main import main; main()", "plugin-host", "--socket"]
    refused = subprocess.run(
        [*arguments, str(tmp_path / "no" / "such" / "host.sock")], capture_output=True, text=True, check=False
    )
    assert refused.returncode == 1
    assert "No such file or directory" in refused.stderr
    shown = CliRunner().invoke(main, ["plugin-host", "--help"])
    assert shown.exit_code == 0
    assert "--socket" in shown.output


def test_the_client_loads_no_numpy() -> None:
    script = "import sys; import engine_ops.plugins.host.client; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def _descriptors() -> list[str]:
    """Return what is open; uvloop opens the null device once, and keeps it."""
    found = []
    for path in list(Path("/proc/self/fd").iterdir()):
        with contextlib.suppress(FileNotFoundError):  # that of the listing itself
            found.append(str(path.readlink()))
    return sorted(target for target in found if target != "/dev/null")


def test_what_cannot_be_loaded_in_advance_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "fails_on_import.py").write_text("raise RuntimeError('no such GPU')", encoding="ascii")
    script = """
        import logging, sys
        from engine_ops.plugins.host.preload import preload
        logging.basicConfig()
        preload(["no_such_library", "fails_on_import", "colorsys"])
        sys.exit("colorsys" not in sys.modules)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "fails_on_import is not loaded in advance" in done.stderr
    assert "no_such_library" not in done.stderr
