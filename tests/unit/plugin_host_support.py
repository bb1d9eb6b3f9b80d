"""The real plugin host, and short ways to have a plugin in it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import host_plugins
from test_workers_pool import DEADLINE_SECONDS

from engine_ops.plugins.host.client import HostClient, PluginProcess
from engine_ops.plugins.messages import Ask, Open, Opened, Replied

HERE = Path(__file__).parent
PLENTY_BYTES = 2 * 2**30


@contextlib.contextmanager
def host_at(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run `engine-ops plugin-host`, without scikit-learn, until the end of the block, and see that it ends well."""
    command = [sys.executable, "-c", "from engine_ops.cli.main import main; main()", "plugin-host"]
    arguments = ["--preload", "json", "--socket", str(path)]
    search_path = filter(None, (str(HERE), os.environ.get("PYTHONPATH")))
    process = subprocess.Popen(
        [*command, *arguments], env=os.environ | {"PYTHONPATH": os.pathsep.join(search_path)}, stdin=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        code = process.wait(DEADLINE_SECONDS)
    assert code == 0
    assert not path.exists()


@contextlib.asynccontextmanager
async def client_of(path: Path | None) -> AsyncIterator[HostClient]:
    """Connect to the host at a path; None starts one as a subprocess."""
    if path is None:
        client = HostClient.subprocess(libraries=(), patience_seconds=DEADLINE_SECONDS)
    else:
        client = HostClient.at(path, patience_seconds=DEADLINE_SECONDS)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def open_plugin(
    client: HostClient,
    entry_point: str = host_plugins.ENTRY_POINT,
    *,
    memory_limit_bytes: int = PLENTY_BYTES,
    config: dict[str, Any] | None = None,
) -> PluginProcess:
    process = await client.spawn("test", memory_limit_bytes=memory_limit_bytes)
    opening = Open(entry_point, "test", json.dumps(config or {}).encode())
    answer = await process.call(opening, timeout_seconds=DEADLINE_SECONDS)
    assert isinstance(answer, Opened), answer
    return process


def asking(what: str, argument: Any = None) -> Ask:
    return Ask("r1", "ml-driven", json.dumps({"do": what, "with": argument}).encode())


async def do(process: PluginProcess, what: str, argument: Any = None, *, seconds: float = DEADLINE_SECONDS) -> Any:
    """Have an `Obedient` plugin do something, and return what it says."""
    reply = await process.call(asking(what, argument), timeout_seconds=seconds)
    assert isinstance(reply, Replied)
    assert reply.no is None, reply.no
    return json.loads(reply.envelope)["result"]["said"]
