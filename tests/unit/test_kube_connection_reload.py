"""Credentials are read again once for all who need them, and to the end though who asked first has given up."""

from __future__ import annotations

import asyncio

import pytest
from kubernetes.aio.client import Configuration

from engine_ops.kube import connection as of_connection
from engine_ops.kube.connection import Connection
from engine_ops.kube.errors import ConnectError


class Plugin:
    """Gives credentials when it is told to, as an exec plugin that takes long."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.runs = 0
        self.begun = asyncio.Event()
        self.may_end = asyncio.Event()
        self.error: Exception | None = None
        monkeypatch.setattr(of_connection, "_load", self._load)

    async def _load(self, source: str | None) -> Configuration:
        assert source == "kubeconfig"
        self.runs += 1
        self.begun.set()
        await self.may_end.wait()
        if self.error is not None:
            raise self.error
        return Configuration(host=f"https://new-{self.runs}")


def connection() -> Connection:
    return Connection(Configuration(host="https://old"), "kubeconfig", "default")


def test_what_one_gives_up_the_next_has(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        plugin, ours = Plugin(monkeypatch), connection()
        first = asyncio.create_task(ours.reload())
        await plugin.begun.wait()
        first.cancel()
        await asyncio.wait({first})
        assert first.cancelled()
        others = [asyncio.create_task(ours.reload()) for _ in range(3)]
        await asyncio.sleep(0)
        plugin.may_end.set()
        await asyncio.gather(*others)
        assert (plugin.runs, ours.server) == (1, "https://new-1")
        await ours.reload()
        assert (plugin.runs, ours.server) == (2, "https://new-2")

    asyncio.run(main())


def test_all_who_wait_are_told_why_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        plugin, ours = Plugin(monkeypatch), connection()
        plugin.error = ConnectError("it does not run")
        waiting = [asyncio.create_task(ours.reload()) for _ in range(2)]
        await plugin.begun.wait()
        plugin.may_end.set()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert [str(outcome) for outcome in outcomes] == ["it does not run"] * 2
        assert ours.server == "https://old"

    asyncio.run(main())


def test_a_connection_that_is_closed_reads_them_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        plugin, ours = Plugin(monkeypatch), connection()
        waiting = asyncio.create_task(ours.reload())
        await plugin.begun.wait()
        await ours.close()
        await asyncio.wait({waiting})
        assert waiting.cancelled()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())
