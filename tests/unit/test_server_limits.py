"""Rate limits, places for connections, addresses: what needs no port."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine_ops.server.address import AddressError, parse_address
from engine_ops.server.closing import ClosingTransport
from engine_ops.server.connections import Connections, Seat, Stage
from engine_ops.server.rate_limit import RateLimiter, address_key


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


class TestRateLimiter:
    def test_a_burst_then_one_after_another(self) -> None:
        clock = Clock()
        limiter = RateLimiter(10, 3, clock=clock)
        assert [limiter.take("a") for _ in range(3)] == [None] * 3
        assert limiter.take("a") == pytest.approx(0.1)
        assert limiter.take("b") is None, "each has a bucket of its own"
        clock.seconds += 0.1
        assert limiter.take("a") is None
        assert limiter.take("a") == pytest.approx(0.1), "a refusal costs nothing"

    def test_looking_takes_nothing(self) -> None:
        limiter = RateLimiter(1, 1, clock=Clock())
        assert limiter.wait_seconds("a") is None
        assert limiter.wait_seconds("a") is None
        assert limiter.take("a") is None
        assert limiter.wait_seconds("a") == limiter.take("a") == pytest.approx(1)

    @given(
        per_second=st.floats(0.1, 1000),
        burst=st.integers(1, 50),
        steps=st.lists(st.floats(0, 3), min_size=1, max_size=200),
    )
    def test_never_more_than_the_bucket_and_its_refill(self, per_second: float, burst: int, steps: list[float]) -> None:
        clock = Clock()
        limiter = RateLimiter(per_second, burst, clock=clock)
        taken: list[float] = []
        for step in steps:
            clock.seconds += step / per_second
            if limiter.take("a") is None:
                taken.append(clock.seconds)
        for first, start in enumerate(taken):
            for last in range(first, len(taken)):
                allowed = burst + (taken[last] - start) * per_second
                assert last - first + 1 <= allowed + 1e-3

    @given(per_second=st.floats(0.01, 10_000), burst=st.integers(1, 20), asked=st.integers(1, 60))
    def test_who_waits_as_told_is_let_in(self, per_second: float, burst: int, asked: int) -> None:
        clock = Clock()
        limiter = RateLimiter(per_second, burst, clock=clock)
        for _ in range(asked):
            wait_seconds = limiter.take("a")
            if wait_seconds is not None:
                assert wait_seconds > 0
                clock.seconds += wait_seconds
                assert limiter.take("a") is None

    def test_keys_are_bounded_and_the_latest_stay(self) -> None:
        limiter = RateLimiter(1, 1, max_keys=3, clock=Clock())
        for key in "abcad":
            limiter.take(key)
        assert len(limiter) == 3
        assert limiter.take("d") is not None
        assert limiter.take("a") is None, "seen the longest ago: a refusal is no reason to be remembered"

    def test_who_is_let_in_again_is_remembered_longer(self) -> None:
        limiter = RateLimiter(1, 2, max_keys=3, clock=Clock())
        assert [limiter.take(key) for key in "abcad"] == [None] * 5
        assert limiter.take("a") is not None
        assert [limiter.take("b") for _ in range(2)] == [None] * 2

    @pytest.mark.parametrize(("rate", "burst"), [(0, 1), (-1, 1), (1, 0.5)])
    def test_a_limit_that_is_none_is_refused(self, rate: float, burst: float) -> None:
        with pytest.raises(ValueError, match="no rate limit"):
            RateLimiter(rate, burst)

    def test_one_host_has_one_key(self) -> None:
        assert address_key("2001:db8::1") == address_key("2001:db8::ffff:1") != address_key("2001:db8:0:1::1")
        assert address_key("::ffff:192.0.2.1") == address_key("192.0.2.1") != address_key("192.0.2.2")
        assert address_key("fe80::1%eth0") == address_key("fe80::2%eth1")
        assert address_key(None) != address_key("testclient")


class TestConnections:
    def test_the_longest_idle_makes_room_then_the_longest_receiving(self) -> None:
        ended: list[str] = []
        connections = Connections(3)
        seats = {name: self._seat(connections, name, ended) for name in "abc"}
        seats["a"].move(Stage.BUSY)
        seats["b"].move(Stage.RECEIVING)
        seats["c"].move(Stage.RECEIVING)
        seats["b"].move(Stage.IDLE)
        for name in "de":
            seats[name] = self._seat(connections, name, ended)
        assert ended == ["b", "d"]
        seats["e"].move(Stage.BUSY)
        seats["f"] = self._seat(connections, "f", ended)
        assert ended == ["b", "d", "c"]
        seats["f"].move(Stage.BUSY)
        assert connections.admit(lambda: None) is None, "all are being answered"
        assert (len(connections), connections.given_up, connections.refused) == (3, 3, 1)

    @given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["enter", "leave", *Stage]))))
    def test_never_more_than_the_limit_and_none_is_lost(self, steps: list[tuple[int, str | Stage]]) -> None:
        connections = Connections(4)
        open_seats: dict[int, Seat] = {}
        for name, step in steps:
            if step == "enter":
                if name in open_seats:
                    open_seats.pop(name).leave()
                seat = connections.admit(lambda name=name: open_seats.pop(name))
                if seat is not None:
                    open_seats[name] = seat
            elif name in open_seats:
                if isinstance(step, Stage):
                    open_seats[name].move(step)
                else:
                    seat = open_seats.pop(name)
                    seat.leave()
                    seat.leave()
                    seat.move(Stage.BUSY)
            assert len(connections) == len(open_seats) <= 4

    def _seat(self, connections: Connections, name: str, ended: list[str]) -> Seat:
        seat = connections.admit(lambda: ended.append(name))
        assert seat is not None
        return seat


class FakeTransport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.unsent_bytes = 0
        self.calls: list[str] = []

    def get_write_buffer_size(self) -> int:
        return self.unsent_bytes

    def can_write_eof(self) -> bool:
        return True

    def is_closing(self) -> bool:
        return "close" in self.calls

    def write_eof(self) -> None:
        self.calls.append("write_eof")

    def resume_reading(self) -> None:
        self.calls.append("resume_reading")

    def close(self) -> None:
        self.calls.append("close")

    def abort(self) -> None:
        self.calls.append("abort")


class FakeLoop:
    """Keeps what is called later, until it is told that the time has come."""

    def __init__(self) -> None:
        self.due: list[tuple[float, Callable[[], None]]] = []

    def call_later(self, seconds: float, action: Callable[[], None]) -> SimpleNamespace:
        entry = (seconds, action)
        self.due.append(entry)
        return SimpleNamespace(cancel=lambda: self.due.remove(entry))

    def run(self) -> float:
        ((seconds, action),) = self.due
        self.due.clear()
        action()
        return seconds


class TestClosingTransport:
    def _made(self, *, unread: bool) -> tuple[FakeTransport, FakeLoop, ClosingTransport]:
        transport, loop = FakeTransport(), FakeLoop()
        closing = ClosingTransport(
            transport,
            cast("asyncio.AbstractEventLoop", loop),
            unread=lambda: unread,
            linger_seconds=2,
            write_seconds=30,
        )
        return transport, loop, closing

    def test_who_takes_something_has_time_and_who_takes_nothing_has_not(self) -> None:
        transport, loop, closing = self._made(unread=False)
        transport.unsent_bytes = 100
        closing.close()
        assert transport.calls == ["close"]
        transport.unsent_bytes = 50
        assert loop.run() == 30
        assert transport.calls == ["close"]
        assert loop.run() == 30
        assert transport.calls == ["close", "abort"]
        assert loop.due == []

    def test_who_is_still_sending_is_listened_to_for_a_while(self) -> None:
        transport, loop, closing = self._made(unread=True)
        closing.close()
        assert closing.is_closing()
        assert transport.calls == ["write_eof", "resume_reading"]
        closing.close()
        assert loop.run() == 2
        assert transport.calls[2:] == ["close"]
        assert loop.run() == 30
        assert transport.calls[2:] == ["close", "abort"]

    @pytest.mark.parametrize("unread", [True, False])
    def test_nothing_is_left_when_the_connection_has_ended(self, unread: bool) -> None:
        _, loop, closing = self._made(unread=unread)
        closing.writing_paused()
        closing.close()
        closing.lost()
        closing.close()
        assert loop.due == []

    def test_a_client_that_takes_all_again_has_no_limit(self) -> None:
        _, loop, closing = self._made(unread=False)
        closing.writing_paused()
        assert [seconds for seconds, _ in loop.due] == [30]
        closing.writing_resumed()
        assert loop.due == []


class TestAddress:
    @pytest.mark.parametrize(
        ("text", "shown", "loopback"),
        [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080", True),
            ("https://0.0.0.0:0/", "https://0.0.0.0:0", False),
            ("http://[::1]:3000", "http://[::1]:3000", True),
            ("http://[0:0::1]:3000", "http://[::1]:3000", True),
            ("http://LOCALHOST:1", "http://localhost:1", True),
            ("http://[::]:65535", "http://[::]:65535", False),
            ("http://localhost.example.org:1", "http://localhost.example.org:1", False),
        ],
    )
    def test_what_can_be_read(self, text: str, shown: str, loopback: bool) -> None:
        address = parse_address(text, "--api")
        assert str(address) == shown
        assert address.loopback is loopback

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "8080",
            "127.0.0.1:8080",
            "http://127.0.0.1",
            "http://:8080",
            "http://::1:8080",
            "http://[::1:8080",
            "http://[127.0.0.1]:80",
            "http://[fe80::zz]:80",
            "http://host:65536",
            "http://host:-1",
            "http://user@host:80",
            "http://host:80/x",
            "http://host:80?x",
            "ftp://host:80",
            "http://ho st:80",
            "http://host:80\n80",
        ],
    )
    def test_what_cannot_names_the_option(self, text: str) -> None:
        with pytest.raises(AddressError, match=r"^--api "):
            parse_address(text, "--api")

    @given(st.text(max_size=60))
    def test_any_text_is_read_or_refused(self, text: str) -> None:
        try:
            address = parse_address("http://" + text, "--api")
        except AddressError:
            return
        assert parse_address(str(address), "--api") == address

    def test_a_path_that_is_expected(self) -> None:
        assert str(parse_address("http://h:1/healthz", "--probes", paths=("", "/healthz"))) == "http://h:1"

    def test_a_port_that_is_taken_names_the_option(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(AddressError, match=rf"^--api http://127\.0\.0\.1:{port}: .*in use"):
                parse_address(f"http://127.0.0.1:{port}", "--api").listen()

    def test_a_name_that_nobody_has(self) -> None:
        with pytest.raises(AddressError, match=r"^--api http://no\.invalid:0: "):
            parse_address("http://no.invalid:0", "--api").listen()
        with pytest.raises(AddressError, match=r"^--api "):
            parse_address(f"http://{'a' * 64}:0", "--api").listen()
