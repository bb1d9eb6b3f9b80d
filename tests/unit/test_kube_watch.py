"""The watch against a server that does everything a server can do wrong."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web
from fake_api_server import FakeNodes, bookmark, error_line, line, node, serving, write_kubeconfig

from engine_ops.engine.cluster.decode import RecordDecoder
from engine_ops.engine.cluster.records import NodeRecord
from engine_ops.kube.connection import Connection
from engine_ops.kube.errors import ApiError, UnavailableError
from engine_ops.kube.watch import Watch
from engine_ops.kube.watch_source import Resource
from engine_ops.kube.watch_timings import Timings

FAST = Timings(
    silence_seconds=30.0,
    list_silence_seconds=30.0,
    steady_seconds=0.0,
    min_backoff_seconds=0.01,
    max_backoff_seconds=0.05,
    forbidden_seconds=0.05,
    quiet_seconds=0.02,
)
Check = Callable[[FakeNodes, Watch[NodeRecord], Connection], Awaitable[None]]


def run(tmp_path: Path, check: Check, *, timings: Timings = FAST, prepare: Callable[[FakeNodes], None] | None = None):
    async def main() -> None:
        nodes = FakeNodes()
        nodes.put("a")
        nodes.put("b")
        if prepare is not None:
            prepare(nodes)
        async with serving(tmp_path, nodes) as connection, asyncio.timeout(30):
            decoder = RecordDecoder()
            resource = Resource("nodes", "/api/v1/nodes", frozenset({"Node"}), decoder.node)
            watch = Watch(connection, resource, timings)
            watch.start()
            before = asyncio.all_tasks()
            try:
                await check(nodes, watch, connection)
            finally:
                await watch.close()
            assert not [task for task in asyncio.all_tasks() - before if "watch of" in task.get_name()]

    asyncio.run(main())


def names(watch: Watch[NodeRecord]) -> list[str]:
    return [record.name for record in watch.records.values()]


async def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition has not come true"
        await asyncio.sleep(0.005)


async def eventually_fresh(watch: Watch[NodeRecord]) -> None:
    """What `ClusterCache` does: what is wrong for a moment is tried again."""
    while True:
        try:
            return await watch.fresh()
        except UnavailableError:
            await asyncio.sleep(0.01)


def test_every_change_is_in_the_view_at_once(tmp_path: Path) -> None:
    async def check(nodes: FakeNodes, watch: Watch[NodeRecord], _: Connection) -> None:
        await watch.fresh()
        assert names(watch) == ["a", "b"]
        for number in range(20):
            nodes.put(f"n{number}")
            await watch.fresh()
            assert f"n{number}" in names(watch)
            nodes.put("a", seen=str(number))
            nodes.delete(f"n{number}")
            await watch.fresh()
            assert f"n{number}" not in names(watch)
            assert watch.records["\0a"].labels == {"seen": str(number)}
        assert watch.counters.lists == 1
        assert watch.counters.events == 60
        assert watch.counters.late == 0

    run(tmp_path, check)


def test_what_is_lost_between_two_streams_comes_with_the_next(tmp_path: Path) -> None:
    """The first stream sends nothing after the list: only opening it anew can show the change."""

    async def deaf(request: web.Request, response: web.StreamResponse) -> None:
        await response.write(line("ADDED", node("a", 11)) + bookmark(12, end=True))
        await asyncio.sleep(60)

    async def check(nodes: FakeNodes, watch: Watch[NodeRecord], _: Connection) -> None:
        await watch.fresh()
        assert names(watch) == ["a"]
        nodes.put("late")
        await watch.fresh()
        assert names(watch) == ["a", "late"]
        assert nodes.watches[-1]["resourceVersion"] == "12"

    run(tmp_path, check, prepare=lambda nodes: nodes.streams.append(deaf))


def test_streams_that_end_are_taken_up_where_they_ended(tmp_path: Path) -> None:
    async def check(nodes: FakeNodes, watch: Watch[NodeRecord], _: Connection) -> None:
        async def ends(request: web.Request, response: web.StreamResponse) -> None:
            since = int(request.query["resourceVersion"])
            for version, kind, obj in nodes.history:
                if version > since:
                    await response.write(line(kind, obj))

        async def ends_in_a_line(_: web.Request, response: web.StreamResponse) -> None:
            await response.write(line("ADDED", node("half", 99))[:40])

        await watch.fresh()
        for number in range(10):
            nodes.streams = [ends, ends_in_a_line, ends]
            nodes.put(f"n{number}")
            await eventually_fresh(watch)
            assert f"n{number}" in names(watch)
        assert "half" not in names(watch)
        assert watch.counters.lists == 1

    run(tmp_path, check)


def test_a_stream_that_ends_at_once_is_not_opened_without_a_pause(tmp_path: Path) -> None:
    async def check(nodes: FakeNodes, watch: Watch[NodeRecord], _: Connection) -> None:
        async def ends(_request: web.Request, _response: web.StreamResponse) -> None:
            return

        await watch.fresh()
        nodes.streams = [ends] * 1000
        watch._handover.reading.abort()  # type: ignore[union-attr]
        before = len(nodes.watches)
        await until(lambda: len(nodes.watches) > before + 3)
        began = time.monotonic()
        count = len(nodes.watches)
        await until(lambda: time.monotonic() > began + 0.5)
        # Backoffs of 0.1 to 0.2 s.
        assert len(nodes.watches) - count <= 6

    timings = Timings(min_backoff_seconds=0.01, max_backoff_seconds=0.2, steady_seconds=60.0)
    run(tmp_path, check, timings=timings)


def test_a_stalled_stream_is_given_up(tmp_path: Path) -> None:
    async def stalls(_: web.Request, response: web.StreamResponse) -> None:
        await response.write(line("ADDED", node("a", 11)) + bookmark(12, end=True))
        await asyncio.sleep(60)

    async def check(nodes: FakeNodes, watch: Watch[NodeRecord], _: Connection) -> None:
        nodes.put("unseen")
        await until(lambda: "unseen" in names(watch))
        assert watch.counters.lists == 1

    timings = Timings(silence_seconds=0.1, min_backoff_seconds=0.01)
    run(tmp_path, check, timings=timings, prepare=lambda nodes: nodes.streams.append(stalls))


GARBAGE = {
    "no-json": b"\x00\xff{{{\n",
    "half-a-json": b'{"type":"ADDED","object":{"kind":"Node"\n',
    "an-array": b"[1,2]\n",
    "no-object": b'{"type":"ADDED"}\n',
    "no-metadata": b'{"type":"ADDED","object":{"kind":"Node"}}\n',
    "no-name": line("ADDED", {"kind": "Node", "metadata": {"resourceVersion": "500"}}),
    "no-version": line("ADDED", {"kind": "Node", "metadata": {"name": "x"}}),
    "odd-version": line("ADDED", {"kind": "Node", "metadata": {"name": "x", "resourceVersion": "abc"}}),
    "negative-version": line("ADDED", {"kind": "Node", "metadata": {"name": "x", "resourceVersion": "-5"}}),
    "another-kind": line("ADDED", {**node("x", 500), "kind": "Pod"}),
    "unknown-type": line("EXPLODED", node("x", 500)),
    "undecodable": line("ADDED", {**node("x", 500), "spec": {"taints": 7}}),
    "an-empty-line": b"\n",
    "deep": b'{"type":"ADDED","object":' + b"[" * 100_000 + b"\n",
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_makes_a_new_list_and_never_a_wrong_view(tmp_path: Path, garbage: bytes) -> None:
    async def check(nodes: FakeNodes, watch: Watch[NodeRecord], _: Connection) -> None:
        async def sends_garbage(_request: web.Request, response: web.StreamResponse) -> None:
            await response.write(line("DELETED", node("a", 90)) + garbage)
            await asyncio.sleep(60)

        await watch.fresh()
        nodes.silent = True
        nodes.streams = [sends_garbage]
        nodes.put("c")
        await eventually_fresh(watch)
        assert sorted(names(watch)) == ["a", "b", "c"]
        assert watch.counters.garbage == 1
        assert watch.counters.lists == 2

    run(tmp_path, check)


def test_a_list_with_garbage_for_ever_says_what_it_is(tmp_path: Path) -> None:
    async def check(nodes: FakeNodes, watch: Watch[NodeRecord], _: Connection) -> None:
        with pytest.raises(UnavailableError, match="odd"):
            await watch.fresh()
        assert not watch.complete
        assert watch.records == {}
        del nodes.items["odd"]
        await eventually_fresh(watch)
        assert names(watch) == ["a", "b"]

    def prepare(nodes: FakeNodes) -> None:
        nodes.put("odd")
        nodes.items["odd"]["metadata"]["labels"] = 7

    run(tmp_path, check, prepare=prepare)


def test_a_server_that_jumps_back_is_listed_anew(tmp_path: Path) -> None:
    async def check(nodes: FakeNodes, watch: Watch[NodeRecord], _: Connection) -> None:
        nodes.put("c")
        await watch.fresh()
        # Restored from a backup: a watch from the old version would be silent for long.
        nodes.version, nodes.history = 5, []
        nodes.items = {"a": node("a", 4)}
        await watch.fresh()
        assert names(watch) == ["a"]
        nodes.put("again")
        await watch.fresh()
        assert names(watch) == ["a", "again"]

    run(tmp_path, check)


def test_events_that_jump_back_make_a_new_list(tmp_path: Path) -> None:
    async def check(nodes: FakeNodes, watch: Watch[NodeRecord], _: Connection) -> None:
        async def jumps(_request: web.Request, response: web.StreamResponse) -> None:
            await response.write(line("ADDED", node("x", 200)) + line("ADDED", node("y", 199)))
            await asyncio.sleep(60)

        await watch.fresh()
        nodes.silent = True
        nodes.streams = [jumps]
        nodes.put("c")
        nodes.version = 300
        await eventually_fresh(watch)
        assert sorted(names(watch)) == ["a", "b", "c"]
        assert watch.counters.lists == 2

    run(tmp_path, check)


@pytest.mark.parametrize("as_event", [True, False])
def test_the_old_view_stays_until_the_list_after_410_is_complete(tmp_path: Path, as_event: bool) -> None:
    async def check(nodes: FakeNodes, watch: Watch[NodeRecord], _: Connection) -> None:
        go_on = asyncio.Event()

        async def gone(_request: web.Request, response: web.StreamResponse) -> None:
            await response.write(error_line(410, "Expired"))

        async def slow_list(_request: web.Request, response: web.StreamResponse) -> None:
            await response.write(line("ADDED", node("new", 50)))
            await go_on.wait()
            await response.write(bookmark(60, end=True))
            await asyncio.sleep(60)

        await watch.fresh()
        nodes.version = 55
        if as_event:
            nodes.streams = [gone, slow_list]
        else:
            nodes.streams = [slow_list]
            nodes.refusals.append(("watch", 410, "too old"))
        waiting = asyncio.create_task(eventually_fresh(watch))
        if not as_event:
            await until(lambda: len(nodes.watches) > 1)
            nodes.refusals.clear()
        await until(lambda: not nodes.streams)
        assert names(watch) == ["a", "b"]
        assert not waiting.done()
        go_on.set()
        await waiting
        assert names(watch) == ["new"]

    run(tmp_path, check)


@pytest.mark.parametrize("size", [1, 7, 64])
def test_lines_that_come_in_pieces(tmp_path: Path, size: int) -> None:
    async def check(nodes: FakeNodes, watch: Watch[NodeRecord], _: Connection) -> None:
        async def in_pieces(_request: web.Request, response: web.StreamResponse) -> None:
            content = b"".join(line(kind, obj) for _, kind, obj in nodes.history[2:])
            for begin in range(0, len(content), size):
                await response.write(content[begin : begin + size])
                await asyncio.sleep(0)
            await asyncio.sleep(60)

        await watch.fresh()
        nodes.silent = True
        nodes.put("piecemeal")
        nodes.put("ünïcode")
        nodes.streams = [in_pieces]
        await watch.fresh()
        assert names(watch) == ["a", "b", "piecemeal", "ünïcode"]
        assert watch.counters.garbage == 0

    run(tmp_path, check)


def test_a_line_of_megabytes(tmp_path: Path) -> None:
    labels = {f"example.org/label-{number}": "x" * 60 for number in range(30_000)}

    async def check(nodes: FakeNodes, watch: Watch[NodeRecord], _: Connection) -> None:
        await watch.fresh()
        nodes.put("large", **labels)
        assert len(json.dumps(nodes.items["large"])) > 2_000_000
        await watch.fresh()
        assert watch.records["\0large"].labels == labels
        nodes.delete("large")
        await watch.fresh()
        assert names(watch) == ["a", "b"]

    run(tmp_path, check)


@pytest.mark.parametrize("status", [400, 422])
def test_a_server_that_does_not_stream_lists_is_read_in_pages(tmp_path: Path, status: int) -> None:
    async def check(nodes: FakeNodes, watch: Watch[NodeRecord], _: Connection) -> None:
        await watch.fresh()
        assert names(watch) == ["a", "b", "n0", "n1", "n2", "n3", "n4"]
        assert [page.get("continue") for page in nodes.lists] == [None, "3", "6"]
        nodes.put("after")
        await watch.fresh()
        assert "after" in names(watch)

    def prepare(nodes: FakeNodes) -> None:
        nodes.refusals.append(("stream-list", status, "sendInitialEvents is forbidden"))
        nodes.page_size = 3
        for number in range(5):
            nodes.put(f"n{number}")

    run(tmp_path, check, prepare=prepare)


def test_a_server_that_never_ends_the_list_is_read_in_pages(tmp_path: Path) -> None:
    async def never_ends(_: web.Request, response: web.StreamResponse) -> None:
        await response.write(line("ADDED", node("a", 11)))
        await asyncio.sleep(60)

    async def check(nodes: FakeNodes, watch: Watch[NodeRecord], _: Connection) -> None:
        await watch.fresh()
        assert names(watch) == ["a", "b"]

    timings = Timings(list_silence_seconds=0.1)
    run(tmp_path, check, timings=timings, prepare=lambda nodes: nodes.streams.append(never_ends))


def test_forbidden_from_the_start_and_then_allowed(tmp_path: Path) -> None:
    async def check(nodes: FakeNodes, watch: Watch[NodeRecord], _: Connection) -> None:
        with pytest.raises(ApiError, match="you may not") as caught:
            await watch.fresh()
        assert caught.value.status == 403
        before = len(nodes.watches)
        await until(lambda: len(nodes.watches) > before + 2)  # tried again by itself
        nodes.refusals.clear()
        with contextlib.suppress(ApiError):  # of an attempt that was refused already, and is told of now
            await watch.fresh()
        await watch.fresh()
        assert names(watch) == ["a", "b"]

    run(tmp_path, check, prepare=lambda nodes: nodes.refusals.append(("any", 403, "you may not")))


def test_forbidden_while_running_is_noticed_though_the_stream_goes_on(tmp_path: Path) -> None:
    async def check(nodes: FakeNodes, watch: Watch[NodeRecord], _: Connection) -> None:
        await watch.fresh()
        nodes.refusals.append(("any", 403, "no longer"))
        with pytest.raises(ApiError, match="no longer"):
            await watch.fresh()
        nodes.refusals.clear()
        nodes.put("c")
        await watch.fresh()
        assert names(watch) == ["a", "b", "c"]
        assert watch.counters.lists == 1

    run(tmp_path, check)


def test_credentials_that_have_run_out_are_read_again(tmp_path: Path) -> None:
    async def check(nodes: FakeNodes, watch: Watch[NodeRecord], connection: Connection) -> None:
        await watch.fresh()
        assert nodes.tokens[-1] == "Bearer first"
        write_kubeconfig(tmp_path / "config", connection.server, "second")
        nodes.refusals.append(("any", 401, "expired"))

        async def let_in() -> None:
            await until(lambda: "Bearer second" in nodes.tokens)
            nodes.refusals.clear()

        letting_in = asyncio.create_task(let_in())
        nodes.put("c")
        while True:
            try:
                await watch.fresh()
                break
            except (ApiError, UnavailableError):
                await asyncio.sleep(0.01)
        await letting_in
        assert names(watch) == ["a", "b", "c"]
        assert nodes.tokens[-1] == "Bearer second"

    run(tmp_path, check)


def test_bookmarks_are_where_the_next_stream_begins(tmp_path: Path) -> None:
    async def check(nodes: FakeNodes, watch: Watch[NodeRecord], _: Connection) -> None:
        async def bookmarks(_request: web.Request, response: web.StreamResponse) -> None:
            await response.write(bookmark(70) + bookmark(70) + bookmark(80))

        await watch.fresh()
        nodes.version = 80
        nodes.streams = [bookmarks]
        await eventually_fresh(watch)
        await until(lambda: nodes.watches[-1].get("resourceVersion") == "80")
        assert watch.counters.events == 0
        asked = len(nodes.asked)
        opened = len(nodes.watches)
        await watch.fresh()  # version 80 has been seen: asking is enough
        assert len(nodes.asked) == asked + 1
        assert len(nodes.watches) == opened

    run(tmp_path, check)


def test_an_event_that_comes_after_it_was_taken_for_seen_is_counted_and_applied(tmp_path: Path) -> None:
    async def check(nodes: FakeNodes, watch: Watch[NodeRecord], _: Connection) -> None:
        await watch.fresh()
        for number in range(6):
            nodes.lets_go.clear()
            nodes.put(f"late-{number}")
            await watch.fresh()
            assert f"late-{number}" not in names(watch)
            nodes.lets_go.set()
            await until(lambda number=number: f"late-{number}" in names(watch))
            assert watch.counters.late == number + 1
        nodes.late_seconds = 0.1
        nodes.put("in-time")
        await watch.fresh()
        assert "in-time" in names(watch)  # the quiet time has grown beyond the server's pause

    run(tmp_path, check)


def test_a_server_that_is_gone_keeps_the_view_but_not_the_promise(tmp_path: Path) -> None:
    async def check(nodes: FakeNodes, watch: Watch[NodeRecord], _: Connection) -> None:
        await watch.fresh()
        nodes.refusals.append(("any", 503, "shutting down"))
        watch._handover.reading.abort()  # type: ignore[union-attr]
        with pytest.raises(ApiError, match="shutting down"):
            await watch.fresh()
        assert names(watch) == ["a", "b"]
        nodes.put("c")
        nodes.refusals.clear()
        await watch.fresh()
        assert names(watch) == ["a", "b", "c"]
        assert watch.counters.lists == 1

    run(tmp_path, check)


def test_cancelling_a_call_leaves_the_watch_in_order(tmp_path: Path) -> None:
    async def check(nodes: FakeNodes, watch: Watch[NodeRecord], _: Connection) -> None:
        await watch.fresh()
        nodes.silent = True
        for number in range(30):
            nodes.put(f"n{number}")
            call = asyncio.create_task(watch.fresh())
            for _turn in range(number):
                await asyncio.sleep(0.001)
            call.cancel()
            await asyncio.wait([call])
        await watch.fresh()
        assert len(watch.records) == 32
        assert watch.counters.lists == 1
        assert watch.counters.garbage == 0

    run(tmp_path, check)
