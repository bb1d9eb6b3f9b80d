"""The thread that serves: start, drain, end, and what becomes of a defect."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from typing import Any

import pytest
from listening_world import Served, ended, read_answer, serving, until

from engine_ops.server.address import AddressError, parse_address
from engine_ops.server.listening import Listener
from engine_ops.server.thread import ServerThread

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LATE = b"GET /late HTTP/1.1\r\nHost: x\r\n\r\n"


def _stopped(served: Served, seconds: float) -> threading.Thread:
    stopping = threading.Thread(target=served.thread.stop, args=(seconds,))
    stopping.start()
    return stopping


def _refuses(served: Served) -> bool:
    try:
        served.connect().close()
    except OSError:
        return True
    return False


def test_it_answers_when_start_returns_and_no_more_after_stop() -> None:
    with serving() as served:
        assert served.app.lifespans == ["began"]
        answer = served.ask(GET)
        assert (answer.status, answer.json) == (200, {"hello": True})
        assert "server" not in answer.headers
        assert answer.headers["date"].endswith(" GMT")
        served.thread.stop(5)
        until(lambda: not served.thread.alive)
        assert served.app.lifespans == ["began", "ended"]
        assert served.defects == []
        assert _refuses(served)
        served.thread.stop(5)


@pytest.mark.parametrize("host", ["::1", "localhost"])
def test_other_addresses(host: str) -> None:
    if host == "::1":
        try:
            socket.create_server((host, 0), family=socket.AF_INET6).close()
        except OSError:
            pytest.skip("there is no IPv6 here")
    with serving(host=host) as served:
        assert served.ask(GET).status == 200


def test_several_listeners_on_one_thread() -> None:
    with serving() as one:
        listeners = {
            name: Listener(address=parse_address("http://127.0.0.1:0", f"--{name}"), app=one.app.asgi())
            for name in ("api", "probes")
        }
        before = set(threading.enumerate())
        thread = ServerThread(listeners, on_defect=lambda _: None)
        thread.start()
        try:
            assert [each.name for each in set(threading.enumerate()) - before] == ["http"]
            assert len(set(thread.addresses.values())) == 2
            for name in listeners:
                port = int(thread.address(name).rpartition(":")[2])
                with socket.create_connection(("127.0.0.1", port)) as link:
                    link.sendall(GET)
                    assert read_answer(link).status == 200
        finally:
            thread.stop(1)


def test_a_taken_port_is_an_error_that_names_the_option_and_leaves_nothing_open() -> None:
    with serving() as served:
        free = parse_address("http://127.0.0.1:0", "--probes")
        taken = parse_address(f"http://127.0.0.1:{served.port}", "--api")
        app = served.app.asgi()
        thread = ServerThread(
            {"probes": Listener(address=free, app=app), "api": Listener(address=taken, app=app)},
            on_defect=lambda _: None,
        )
        with pytest.raises(AddressError, match=r"^--api"):
            thread.start()
        assert not thread.alive
        # That the port is refused is no proof of it: another program may have it by now.
        assert thread._sockets["probes"].fileno() == -1


def test_an_application_that_does_not_start_is_an_error_and_the_others_end() -> None:
    async def broken(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "there is no database"})

    with serving() as served:
        defects: list[BaseException] = []
        good = Listener(address=parse_address("http://127.0.0.1:0", "--a"), app=served.app.asgi())
        bad = Listener(address=parse_address("http://127.0.0.1:0", "--b"), app=broken)
        thread = ServerThread({"good": good, "bad": bad}, on_defect=defects.append)
        with pytest.raises(RuntimeError, match="did not start"):
            thread.start()
        until(lambda: not thread.alive)
        assert served.app.lifespans == ["began", "began", "ended"]
        assert defects == []


def test_stopping_lets_what_is_under_way_end_and_accepts_nothing_new() -> None:
    with serving() as served, served.connect() as link, served.connect() as idle, served.connect() as kept:
        kept.sendall(GET)
        assert read_answer(kept).status == 200
        link.sendall(LATE)
        served.app.waiting.acquire()
        stopping = _stopped(served, 30)
        assert ended(idle)
        assert ended(kept)
        assert _refuses(served)
        assert stopping.is_alive()
        served.app.release.set()
        answer = read_answer(link)
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        until(lambda: not served.thread.alive)
        stopping.join()
        assert served.app.disconnects == 0


def test_what_does_not_end_in_time_is_told_so_and_cut_off() -> None:
    with serving() as served, served.connect() as late, served.connect() as deaf:
        late.sendall(LATE)
        deaf.sendall(LATE.replace(b"late", b"deaf"))
        served.app.waiting.acquire()
        served.app.waiting.acquire()
        served.thread.stop(0.05)
        until(lambda: not served.thread.alive)
        for link in (late, deaf):
            answer = read_answer(link)
            assert (answer.status, answer.json["type"]) == (503, "urn:engine-ops:problem:unavailable")
            assert "retry-after" in answer.headers
            assert ended(link)
        assert (served.app.disconnects, served.app.cancelled) == (1, 1)
        assert served.app.lifespans == ["began", "ended"]


def test_an_endless_stream_is_cut_off_where_it_is() -> None:
    with serving() as served, served.connect() as link:
        link.sendall(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
        assert link.recv(100).startswith(b"HTTP/1.1 200")
        served.thread.stop(0.05)
        until(lambda: not served.thread.alive)
        assert served.app.cancelled == 1
        assert ended(link)


def test_the_application_hears_of_the_drain_with_the_seconds_that_remain() -> None:
    told: list[float] = []

    async def drain(seconds: float) -> None:
        told.append(seconds)
        raise RuntimeError("and it fails")

    with serving(drain=drain) as served:
        served.thread.stop(7)
        until(lambda: not served.thread.alive)
        assert told == [7]


def test_the_loop_that_stops_it_goes_on() -> None:
    draining, turned = threading.Event(), threading.Event()
    went_on: list[bool] = []

    async def drain(seconds: float) -> None:
        draining.set()
        went_on.append(await asyncio.to_thread(turned.wait, seconds))

    async def stop_from_a_loop(served: Served) -> None:
        stopping = asyncio.create_task(served.thread.aclose(120))
        assert await asyncio.to_thread(draining.wait, 60)
        turned.set()  # only a loop that goes on comes so far
        await stopping

    with serving(drain=drain) as served:
        asyncio.run(stop_from_a_loop(served))
        assert went_on == [True]
        assert not served.thread.alive


def test_signal_handlers_are_left_alone() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with serving() as served:
        assert served.ask(GET).status == 200
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
        assert signal.set_wakeup_fd(-1) == -1
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_thread_that_ends_by_itself_is_reported() -> None:
    with serving() as served:
        loop = served.thread._loop
        assert loop is not None
        loop.call_soon_threadsafe(loop.stop)
        until(lambda: not served.thread.alive)
        assert len(served.defects) == 1
        assert isinstance(served.defects[0], RuntimeError)
        assert _refuses(served)


def test_a_defect_of_what_watches_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    from engine_ops.server.listening import Listening

    def tick(_self: object) -> None:
        raise ZeroDivisionError

    with serving() as served:
        monkeypatch.setattr(Listening, "tick", tick)
        until(lambda: served.defects)
        assert isinstance(served.defects[0], ExceptionGroup)
        until(lambda: not served.thread.alive)
