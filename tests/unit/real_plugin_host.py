"""A real plugin host for the tests of a module, with an event loop that lasts as long."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from engine_ops.plugins.answers import Refusal, question_of, read_reply
from engine_ops.plugins.host.client import HostClient
from engine_ops.plugins.messages import Ask, Replied
from engine_ops.plugins.process_instance import ProcessInstance

DEADLINE_SECONDS = 60.0

DATA: dict[str, dict[str, Any]] = {
    "resource": {
        "items": [
            {"id": "web", "cpu": 0.5, "memory": "1Gi", "count": 3},
            {"id": "db", "cpu": "1500m", "memory": "3Gi"},
        ],
        "nodeCapacity": {"cpu": 2, "memory": "4Gi"},
    },
    "scheduling": {
        "task": {"id": "t1", "cpuRequired": 10, "memoryRequired": 10},
        "nodes": [{"id": "n1", "cpuLoad": 20, "memoryLoad": 20}],
    },
}


@dataclasses.dataclass
class Limits:
    timeout_seconds: float = 30.0
    memory_bytes: int = 256 * 2**20


@dataclasses.dataclass
class RealHost:
    """The host, and the loop that everything about it runs on."""

    runner: asyncio.Runner
    client: HostClient

    def run(self, test: Callable[[], Any]) -> Any:
        return self.runner.run(test())

    @property
    def pid(self) -> int:
        pid = self.client._dial.pid  # type: ignore[attr-defined]
        assert isinstance(pid, int)
        return pid

    def instance(self, entry_point: str, limits: Limits | None = None, **kwargs: Any) -> ProcessInstance:
        config = kwargs.pop("config", b"{}")
        return ProcessInstance(self.client, entry_point, entry_point, config, limits or Limits(), **kwargs)

    @contextlib.asynccontextmanager
    async def started(self, entry_point: str, limits: Limits | None = None, **kwargs: Any) -> Any:
        instance = self.instance(entry_point, limits, **kwargs)
        try:
            await instance.start()
            yield instance
        finally:
            await instance.close()


@contextlib.contextmanager
def real_host() -> Iterator[RealHost]:
    with asyncio.Runner() as runner:
        search_path = [str(Path(__file__).parent), *sys.path]
        client = HostClient.subprocess(search_path=search_path, patience_seconds=DEADLINE_SECONDS)
        runner.run(client.start())
        try:
            yield RealHost(runner, client)
        finally:
            runner.run(client.close())


def ask(request_type: str = "resource", request_id: str = "shop/r1") -> Ask:
    return Ask(request_id, request_type, msgspec.json.encode(DATA[request_type]))


def refused(reply: Replied, request_type: str) -> str:
    """Return why what a plugin returned is not served; empty where it is."""
    if reply.no is not None:
        return reply.no
    question = question_of(request_type, DATA[request_type], {})
    said = read_reply(msgspec.json.decode(reply.envelope), question, algorithm="plugin").said
    return (said.reason or "no reason") if isinstance(said, Refusal) else ""


async def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < end, "the condition did not come true"
        await asyncio.sleep(0.005)
