"""Rate limits, places for connections, addresses: what needs no port."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine_ops.server.address import AddressError, parse_address
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
