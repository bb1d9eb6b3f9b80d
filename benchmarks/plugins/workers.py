"""What a plugin's process costs: a round trip, a respawn, memory. With the real plugin host.

python benchmarks/plugins/workers.py [--rounds 20000] [--respawns 100] [--json FILE]

- Round trip: a small `Ask` to a plugin that answers at once, and its `Replied`, one after the other, on uvloop as in
  the operator. Beside it, in turns, a bare echo: a process that sends back as many bytes on a socket pair, through
  asyncio's streams. What is above that is the frames, the typed messages and the session.
- Respawn: from the kill of a plugin's process to an `Opened` from its successor.
- Private memory of a plugin's process that was opened and asked (Private_* of smaps_rollup).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import sys
import threading
import time
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tabulate import tabulate

from engine_ops.plugins.host.client import HostClient, PluginProcess
from engine_ops.plugins.messages import Ask, Open, Opened, Replied
from lib.summary import Target, percentile, target_table

ASK = Ask("request-1", "resource", b'{"workload_size": 200}', extra=b'{"namespace": "team-a"}')
HERE = str(Path(__file__).resolve().parent)
MEMORY_LIMIT_BYTES = 512 * 2**20
TIMEOUT_SECONDS = 30.0
CHUNK = 500


async def opened(client: HostClient) -> PluginProcess:
    process = await client.spawn("trivial", memory_limit_bytes=MEMORY_LIMIT_BYTES)
    answer = await process.call(Open("trivial_plugin:Trivial", "trivial"), timeout_seconds=TIMEOUT_SECONDS)
    assert isinstance(answer, Opened), answer
    return process


async def ask_rounds(process: PluginProcess, rounds: int) -> list[float]:
    """Return round trips, microseconds."""
    times = []
    for _ in range(rounds):
        began = time.perf_counter_ns()
        answer = await process.call(ASK, timeout_seconds=TIMEOUT_SECONDS)
        times.append((time.perf_counter_ns() - began) / 1000)
        assert isinstance(answer, Replied)
        assert answer.no is None, answer
    return times


class Echo:
    """A process that sends back what it gets."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair()
        self._pid = os.fork()
        if self._pid == 0:
            self._ours.close()
            while data := theirs.recv(65536):
                theirs.sendall(data)
            os._exit(0)
        theirs.close()

    async def rounds(self, rounds: int) -> list[float]:
        """Return round trips of as many bytes as the ask has, microseconds."""
        self._ours.setblocking(False)
        reader, writer = await asyncio.open_unix_connection(sock=self._ours.dup())
        payload = bytes(len(ASK.data) + 100)
        times = []
        for _ in range(rounds):
            began = time.perf_counter_ns()
            writer.write(payload)
            await reader.readexactly(len(payload))
            times.append((time.perf_counter_ns() - began) / 1000)
        writer.close()
        await writer.wait_closed()
        return times

    def close(self) -> None:
        """End it."""
        self._ours.shutdown(socket.SHUT_RDWR)
        self._ours.close()
        os.waitpid(self._pid, 0)


async def respawns(client: HostClient, rounds: int) -> list[float]:
    """Return times from a kill to the next `Opened`, milliseconds."""
    times = []
    process = await opened(client)
    for _ in range(rounds):
        began = time.perf_counter_ns()
        process.kill()
        process = await opened(client)
        times.append((time.perf_counter_ns() - began) / 1e6)
    process.kill()
    await process.ended
    return times


def private_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


async def measure(rounds: int, spawns: int, echo: Echo) -> dict[str, list[float]]:
    measured: dict[str, list[float]] = {"ask_us": [], "echo_us": []}
    client = HostClient.subprocess(search_path=[HERE, *sys.path])
    await client.start()
    try:
        process = await opened(client)
        await ask_rounds(process, CHUNK)  # warm
        for _ in range(max(1, rounds // CHUNK)):
            measured["ask_us"] += await ask_rounds(process, CHUNK)
            measured["echo_us"] += await echo.rounds(CHUNK)
        assert process.pid is not None
        measured["private_mib"] = [private_mib(process.pid)]
        measured["respawn_ms"] = await respawns(client, spawns)
    finally:
        await client.close()
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20_000)
    parser.add_argument("--respawns", type=int, default=100)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    assert threading.active_count() == 1
    echo = Echo()  # forked before there is a loop
    try:
        measured = uvloop.run(measure(arguments.rounds, arguments.respawns, echo))
    finally:
        echo.close()
    ask, respawn = measured["ask_us"], measured["respawn_ms"]
    targets = [
        Target("round trip of a small ask, p50", percentile(ask, 50), 100, unit="us"),
        Target("round trip of a small ask, p99", percentile(ask, 99), 500, unit="us"),
        Target("respawn after a kill, p50", percentile(respawn, 50), 50, unit="ms"),
        Target("respawn after a kill, p99", percentile(respawn, 99), 50, unit="ms"),
        Target("private memory of an idle plugin", measured["private_mib"][0], 30, unit="MiB"),
    ]
    print(target_table(targets))
    echoed = measured["echo_us"]
    beside = [
        ("a bare echo between processes, p50 / p99", f"{percentile(echoed, 50):.3g} / {percentile(echoed, 99):.3g} us"),
        ("load of the machine", f"{os.getloadavg()[0]:.2f} on {os.cpu_count()} cores"),
    ]
    print(tabulate(beside, headers=("BESIDE", ""), tablefmt="simple"))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([target.as_json() for target in targets], indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
