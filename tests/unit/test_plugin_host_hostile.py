"""A plugin that writes to the operator itself, or turns against its host."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import hostile_plugins
import pytest
import uvloop
from plugin_host_support import asking, client_of, host_at, open_plugin
from test_workers_pool import DEADLINE_SECONDS, until

from engine_ops.plugins.host.client import HostClient, HostUnavailableError, PluginProcess
from engine_ops.plugins.messages import Broken, Opened, Replied
from engine_ops.workers.errors import WorkerDiedError
from engine_ops.workers.frames import encode_frame

Runner = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("host") / "host.sock"
    with host_at(path):
        yield path


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Runner:
    def bounded(main: Coroutine[Any, Any, None]) -> None:
        async def within() -> None:
            async with asyncio.timeout(2 * DEADLINE_SECONDS):
                await main

        request.param(within())

    return bounded


async def hostile(client: HostClient) -> PluginProcess:
    return await open_plugin(client, hostile_plugins.ENTRY_POINT)


@pytest.mark.parametrize(
    "frame",
    [
        encode_frame(Replied(scored={f"k{number}": 1.0 for number in range(1000)})),
        encode_frame(Replied(scored={"expected_duration": float("nan")})),
        encode_frame(Replied(no="x" * 10_000)),
        encode_frame(Broken("init", "x", (("config.x", "y"),) * 1000)),
        encode_frame(Opened("x" * 1000, "1", "", ())),
        b"\x00\x00\x00\x12\x82\xa4kind\xa7Replied\xa2no\xa2\xff\xfe",
        b"\x00\x00\x08\x00\x82\xa4kind\xa7Replied\xa1x" + b"\x91" * 2036,
        b"\xff\xff\xff\xff",
    ],
    ids=["many keys", "NaN", "long line", "many faults", "long name", "no UTF-8", "deep", "endless"],
)
def test_a_frame_that_no_session_sends_ends_it(host: Path, run: Runner, frame: bytes) -> None:
    async def main() -> None:
        async with client_of(host) as client:
            process = await hostile(client)
            with pytest.raises(WorkerDiedError, match="what is no answer"):
                await process.call(asking("write", frame.decode("latin-1")), timeout_seconds=DEADLINE_SECONDS)
            assert "no answer" in await process.ended

    run(main())


def test_what_follows_an_answer_ends_it(host: Path, run: Runner) -> None:
    """Also half a frame, with which its next answer would begin."""

    async def main() -> None:
        async with client_of(host) as client:
            process = await hostile(client)
            reply = await process.call(asking("answer_and_write", "\x00"), timeout_seconds=DEADLINE_SECONDS)
            assert isinstance(reply, Replied)
            assert reply.no == "first"
            assert "not asked" in await process.ended

    run(main())


def test_what_comes_while_nobody_asks_is_not_kept(host: Path, run: Runner, tmp_path: Path) -> None:
    async def main() -> None:
        async with client_of(host) as client:
            process = await hostile(client)
            signal_file = tmp_path / "now"
            await process.call(asking("write_later", str(signal_file)), timeout_seconds=DEADLINE_SECONDS)
            signal_file.touch()
            assert "not asked" in await process.ended

    run(main())


def test_an_answer_counts_though_its_process_dies_of_it(host: Path, run: Runner) -> None:
    async def main() -> None:
        async with client_of(host) as client:
            process = await hostile(client)
            reply = await process.call(asking("answer_and_die"), timeout_seconds=DEADLINE_SECONDS)
            assert isinstance(reply, Replied)
            assert reply.no == "last words"
            assert "exited with code 3" in await process.ended

    run(main())


def test_one_that_hangs_up_is_killed(host: Path, run: Runner) -> None:
    async def main() -> None:
        async with client_of(host) as client:
            process = await hostile(client)
            with pytest.raises(WorkerDiedError, match="hung up"):
                await process.call(asking("close_its_ends"), timeout_seconds=DEADLINE_SECONDS)
            assert client.processes == ()

    run(main())


def test_a_host_that_hangs_is_started_again(run: Runner) -> None:
    """A plugin can stop its host, which is of the same user."""

    async def main() -> None:
        client = HostClient.subprocess(libraries=(), patience_seconds=DEADLINE_SECONDS)
        await client.start()
        try:
            process = await hostile(client)
            stopped = client._dial.pid  # type: ignore[attr-defined]
            client._patience_seconds = 0.2
            os.kill(stopped, signal.SIGSTOP)
            with pytest.raises(HostUnavailableError, match="hangs"):
                await client.spawn("late", memory_limit_bytes=0)
            await process.ended
            await until(lambda: client.available, "there is another host")
            assert client._dial.pid != stopped  # type: ignore[attr-defined]
            client._patience_seconds = DEADLINE_SECONDS
            await hostile(client)
        finally:
            await client.close()

    run(main())
