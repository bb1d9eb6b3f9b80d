"""Attacks on a real port: whatever comes, that connection ends, nothing is run that was not asked, and others go on."""

from __future__ import annotations

import contextlib
import resource
import select
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from listening_world import (
    BODY_LIMIT_BYTES,
    PATIENT,
    SOON_SECONDS,
    Answer,
    Served,
    Silence,
    change,
    ended,
    ever_longer,
    limited,
    read_answer,
    serving,
    until,
)

from engine_ops.server.connections import ConnectionLimits
from engine_ops.server.listening import NO_DESCRIPTORS_SECONDS

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /echo HTTP/1.1\r\nHost: x\r\n"
PROBLEM = "urn:engine-ops:problem:"
HUGE_BYTES = 100 * 2**20


@pytest.fixture(scope="module")
def shared() -> Iterator[Served]:
    with serving() as served:
        yield served


def _well(served: Served) -> None:
    assert served.ask(GET).status == 200
    assert served.defects == []


def _refused(served: Served, raw: bytes, status: int) -> Answer:
    """Send; the one answer is an error, and then the connection ends."""
    with served.connect() as link:
        link.sendall(raw)
        answer = read_answer(link)
        assert answer.status == status, answer
        assert answer.headers["connection"] == "close"
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json["status"] == status
        rest = b""
        with contextlib.suppress(ConnectionError):
            while piece := link.recv(65536):
                rest += piece
        assert rest == b"", "one answer, and nothing after it"
    return answer


class TestSlowClients:
    """Time limits are short here; that they hold is what is tested, not how long they are."""

    @pytest.mark.parametrize("drip", [GET[:-2] + b"X: " + b"y" * 10_000, b"\r\n" * 5000, b"G" * 5000])
    def test_a_head_that_drips_in_ends_in_time(self, drip: bytes) -> None:
        limits = limited(head_seconds=SOON_SECONDS, linger_seconds=SOON_SECONDS)
        with serving(limits=limits) as served:
            with served.connect() as link:
                stop = threading.Event()
                dripping = threading.Thread(target=_drip, args=(link, drip, stop))
                dripping.start()
                assert ended(link)
                stop.set()
                dripping.join()
            until(lambda: served.thread.connections("api")["open"] == 0)
            assert served.app.seen == []
            change(limits, head_seconds=PATIENT.head_seconds)
            _well(served)

    def test_half_a_head_is_told_that_it_is_late(self) -> None:
        limits = limited()
        with serving(limits=limits) as served:
            for head_seconds in ever_longer():
                change(limits, head_seconds=head_seconds)
                with contextlib.suppress(Silence, ConnectionError):  # not even half of it was there in time
                    answer = _refused(served, GET[:-2], 408)
                    break
            assert answer.json["type"] == PROBLEM + "timeout"

    def test_silence_ends_without_a_word(self) -> None:
        with serving(limits=limited(head_seconds=SOON_SECONDS)) as served, served.connect() as link:
            assert link.recv(1) == b""

    def test_a_second_head_on_a_kept_connection_has_the_same_time(self) -> None:
        limits = limited()
        with serving(limits=limits) as served, served.connect() as link:
            link.sendall(GET)
            assert read_answer(link).status == 200
            change(limits, head_seconds=SOON_SECONDS)
            link.sendall(GET[:-2])
            assert read_answer(link).status == 408
            assert ended(link)

    @pytest.mark.parametrize("noise", [b"", b"\r\n" * 5000])
    def test_a_kept_connection_that_asks_nothing_ends(self, noise: bytes) -> None:
        limits = limited(keep_alive_seconds=SOON_SECONDS, linger_seconds=SOON_SECONDS)
        with serving(limits=limits) as served, served.connect() as link:
            link.sendall(GET)
            assert read_answer(link).status == 200
            stop = threading.Event()
            dripping = threading.Thread(target=_drip, args=(link, noise, stop))
            dripping.start()
            assert ended(link)
            stop.set()
            dripping.join()

    @pytest.mark.parametrize(
        "start", [POST + b"Content-Length: 1000\r\n\r\n", POST + b"Transfer-Encoding: chunked\r\n\r\n3e8\r\n"]
    )
    def test_a_body_that_drips_in_ends_in_time(self, start: bytes) -> None:
        limits = limited(body_seconds=SOON_SECONDS, linger_seconds=SOON_SECONDS)
        with serving(limits=limits) as served, served.connect() as link:
            link.sendall(start)
            stop = threading.Event()
            dripping = threading.Thread(target=_drip, args=(link, b"x" * 999, stop))
            dripping.start()
            answer = read_answer(link)
            assert (answer.status, answer.json["type"]) == (408, PROBLEM + "timeout")
            assert ended(link)
            stop.set()
            dripping.join()
            assert served.app.seen == []
            _well(served)

    def test_a_request_that_takes_long_is_not_a_slow_client(self) -> None:
        limits = limited()
        with serving(limits=limits) as served:
            for seconds in ever_longer():
                change(limits, head_seconds=seconds, body_seconds=seconds, keep_alive_seconds=seconds)
                with served.connect() as link:
                    _send(link, GET.replace(b"/ ", b"/late "))
                    if not _arrives(served, link):
                        continue
                    with served.connect() as other:  # As long as all of these limits, by the same clock.
                        assert ended(other)
                    served.app.release.set()
                    assert read_answer(link).status == 200
                    break

    def test_a_body_that_waits_for_the_application_is_not_late(self) -> None:
        limits = limited()
        body = b"x" * BODY_LIMIT_BYTES  # The half of it is more than all buffers on the way hold.
        first, second = body[: len(body) // 2], body[len(body) // 2 :]
        head = POST.replace(b"/echo ", b"/echo-late ") + b"Content-Length: %d\r\n\r\n" % len(body)
        with serving(limits=limits) as served:
            for seconds in ever_longer():
                change(limits, head_seconds=PATIENT.head_seconds, body_seconds=seconds)
                with served.connect() as link:
                    sending = threading.Thread(target=_send, args=(link, head + first))
                    sending.start()
                    if not _arrives(served, link) or not _waits_for_the_application(served, link):
                        sending.join()
                        continue
                    _pass(served, limits, seconds)
                    served.app.release.set()
                    sending.join()
                    # What the client could not send has its time from here on: more than the next look at the clock.
                    change(limits, body_seconds=PATIENT.body_seconds)
                    _pass(served, limits, 1.5)
                    link.sendall(second)
                    assert read_answer(link).json == {"bytes": len(body)}
                    break

    @pytest.mark.parametrize("behind", [b"", GET])
    def test_who_does_not_read_the_answer_is_cut_off(self, behind: bytes) -> None:
        with serving(limits=limited(write_seconds=SOON_SECONDS)) as served, served.connect() as link:
            link.sendall(GET.replace(b"/ ", b"/stream ") + behind)
            until(lambda: served.app.cancelled)
            until(lambda: served.thread.connections("api")["open"] == 0)


def _send(link: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):
        link.sendall(data)


def _arrives(served: Served, link: socket.socket) -> bool:
    """Return whether the application has the request. It has not where the time was over before all was there."""
    arrived = False

    def is_known() -> bool:
        nonlocal arrived
        had_word = _has_word(link)
        arrived = served.app.waiting.acquire(blocking=False)
        return arrived or had_word

    until(is_known)
    return arrived


def _has_word(link: socket.socket) -> bool:
    """Whether something can be read, be it the end."""
    return bool(select.select([link], [], [], 0)[0])


def _pass(served: Served, limits: ConnectionLimits, seconds: float) -> None:
    """Let some time pass by the server's clock: what began before and takes no longer is over."""
    change(limits, head_seconds=seconds)
    with served.connect() as clock:
        assert ended(clock)


def _waits_for_the_application(served: Served, link: socket.socket) -> bool:
    """Wait until the server takes no more of a body; return False where the time was over before."""
    connections = served.thread._served["api"]._state.connections
    until(lambda: any(each.flow.read_paused for each in list(connections)) or _has_word(link))
    return not _has_word(link)


def _drip(link: socket.socket, data: bytes, stop: threading.Event) -> None:
    with contextlib.suppress(OSError):
        for byte in data:
            if stop.wait(0.002):
                return
            link.sendall(bytes([byte]))


class TestManyConnections:
    @pytest.mark.parametrize(
        ("count", "limit", "sent"),
        [
            (5000, 1000, GET[:-2]),
            (5000, 6000, b""),
            (300, 100, b""),
            (300, 100, POST + b"Content-Length: 9\r\n\r\n"),
        ],
    )
    def test_thousands_at_once_and_others_are_answered(
        self, count: int, limit: int, sent: bytes, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with _descriptors(2 * count + 1000) as allowed:
            if allowed < 2 * count + 1000:
                # Both ends are in this process.
                count = max(0, (allowed - 1000) // 2)
                with capsys.disabled():
                    print(  # noqa: T201 - said aloud
                        f"\nonly {count} connections: there may be {allowed} file descriptors"
                    )
            with serving(limits=limited(connections=limit)) as served, contextlib.ExitStack() as stack:
                for number in range(count):
                    link = stack.enter_context(served.connect())
                    with contextlib.suppress(ConnectionError):
                        link.sendall(sent)
                    if number % 250 == 0:
                        _well(served)
                _well(served)
                numbers = served.thread.connections("api")
                assert numbers["open"] <= limit
                assert numbers["refused"] == 0
                assert numbers["givenUp"] >= count - limit
            assert served.defects == []

    def test_where_all_are_being_answered_a_further_one_is_told_to_come_later(self) -> None:
        with serving(limits=limited(connections=2)) as served:
            links = [served.connect() for _ in range(2)]
            for link in links:
                link.sendall(GET.replace(b"/ ", b"/late "))
                served.app.waiting.acquire()
            with served.connect() as further:
                answer = read_answer(further)
            assert (answer.status, answer.json["type"]) == (503, PROBLEM + "busy")
            assert "retry-after" in answer.headers
            served.app.release.set()
            for link in links:
                assert read_answer(link).status == 200
            _well(served)
            for link in links:
                link.close()

    def test_what_is_being_answered_does_not_make_room_for_its_own_pipeline(self) -> None:
        with serving(limits=limited(connections=1)) as served, served.connect() as link:
            link.sendall(GET.replace(b"/ ", b"/late ") + POST + b"Content-Length: 9\r\n\r\nabc")
            served.app.waiting.acquire()
            with served.connect() as further:
                assert read_answer(further).status == 503
            served.app.release.set()
            assert read_answer(link).status == 200

    def test_without_descriptors_it_waits_and_then_goes_on(self, caplog: pytest.LogCaptureFixture) -> None:
        with serving() as served, served.connect() as kept:
            kept.sendall(GET)
            assert read_answer(kept).status == 200
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            late = socket.socket()
            began = time.monotonic()
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (late.fileno() + 1, hard))
                late.connect((served.host, served.port))
                late.sendall(GET)
                for _ in range(200):
                    kept.sendall(GET)
                    assert read_answer(kept).status == 200
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            late.settimeout(30)
            assert read_answer(late).status == 200
            late.close()
            pauses = 2 * (time.monotonic() - began) / NO_DESCRIPTORS_SECONDS
            assert 1 <= len(caplog.records) < 2 + pauses, "asking again at once would burn the CPU and fill the log"


@contextlib.contextmanager
def _descriptors(wanted: int) -> Iterator[int]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, allowed), hard))
    try:
        yield max(soft, allowed)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class TestBodies:
    def test_a_long_body_that_says_so_is_refused_unread(self, shared: Served) -> None:
        """The answer is there before a byte of the body is sent."""
        answer = _refused(shared, POST + b"Content-Length: %d\r\n\r\n" % HUGE_BYTES, 413)
        assert answer.json["type"] == PROBLEM + "too-large"

    def test_nor_is_it_asked_for(self, shared: Served) -> None:
        head = POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % HUGE_BYTES
        _refused(shared, head, 413)

    @pytest.mark.parametrize("length", [b"0" * 5000 + b"104857600", b"9" * 18, b"9" * 19])
    def test_a_length_that_is_written_oddly(self, shared: Served, length: bytes) -> None:
        with shared.connect() as link:
            link.sendall(POST + b"Content-Length: " + length + b"\r\n\r\n")
            assert read_answer(link).status in {400, 413}
            assert ended(link)

    @pytest.mark.parametrize("chunked", [True, False])
    @pytest.mark.parametrize("path", [b"/echo", b"/unread", b"/nowhere"])
    def test_who_sends_it_all_still_reads_the_answer(
        self, shared: Served, path: bytes, chunked: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        before = len(shared.app.seen)
        framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % HUGE_BYTES
        head = b"POST " + path + b" HTTP/1.1\r\nHost: x\r\n" + framing + b"\r\n\r\n"
        with shared.connect() as link:
            sending = threading.Thread(target=_pour, args=(link, head, chunked))
            sending.start()
            answer = read_answer(link)
            if chunked and path != b"/echo":
                assert answer.status == (401 if path == b"/unread" else 404)
            else:
                assert answer.status == 413
            assert ended(link)
            sending.join()
        assert len(shared.app.seen) == before
        _well(shared)
        assert caplog.records == [], "a client's fault is none of the application"

    @pytest.mark.parametrize("chunked", [True, False])
    def test_the_longest_that_is_allowed(self, shared: Served, chunked: bool) -> None:
        body = b"x" * BODY_LIMIT_BYTES
        with shared.connect() as link:
            if chunked:
                link.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n")
            else:
                link.sendall(POST + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            assert read_answer(link).json == {"bytes": BODY_LIMIT_BYTES}
            link.sendall(GET)
            assert read_answer(link).status == 200, "the connection stays"

    def test_chunks_of_nothing_but_framing(self, shared: Served) -> None:
        chunk = b"1;" + b"e" * 4000 + b"\r\nx\r\n"
        _refused(shared, POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 100, 400)

    def test_trailers_are_bounded(self, shared: Served) -> None:
        _refused(shared, POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: y\r\n" * 200, 431)

    def test_an_endless_trailer(self, shared: Served) -> None:
        _refused(shared, POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: " + b"y" * 2**20, 400)

    def test_trailers_are_no_headers(self, shared: Served) -> None:
        raw = POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nAuthorization: Bearer stolen\r\n\r\n"
        assert shared.ask(raw).json == {"bytes": 1}
        assert shared.app.headers[-1] == [(b"host", b"x"), (b"transfer-encoding", b"chunked")]


def _pour(link: socket.socket, head: bytes, chunked: bool) -> None:
    piece = b"x" * 2**20
    with contextlib.suppress(OSError):
        link.sendall(head)
        for _ in range(HUGE_BYTES // len(piece)):
            link.sendall(b"100000\r\n" + piece + b"\r\n" if chunked else piece)


class TestHeads:
    @pytest.mark.parametrize(
        "head",
        [
            b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 101 + b"\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 40_000 + b"\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\n" + b"y" * 40_000 + b": x\r\n\r\n",
            b"GET /" + b"y" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 2**20,
            b"GET /" + b"y" * 2**20,
        ],
    )
    def test_too_large(self, shared: Served, head: bytes) -> None:
        assert _refused(shared, head, 431).json["type"] == PROBLEM + "headers-too-large"
        _well(shared)

    def test_as_large_as_is_allowed(self, shared: Served) -> None:
        head = b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 98 + b"Y: " + b"y" * 30_000 + b"\r\n\r\n"
        assert shared.ask(head).status == 200

    @pytest.mark.parametrize(
        "line",
        [
            b"X: a\rb: c\r\n",
            b"X: a\nSet-Cookie: b\r\n",
            b"X: a\0b\r\n",
            b"X: a\r\n b\r\n",
            b"X : a\r\n",
            b"X\0: a\r\n",
            b"X(: a\r\n",
            b": a\r\n",
            b"X\r\n",
            b"Host: y\r\n",
        ],
    )
    def test_header_injection(self, shared: Served, line: bytes) -> None:
        before = len(shared.app.seen)
        _refused(shared, b"GET / HTTP/1.1\r\nHost: x\r\n" + line + b"\r\n", 400)
        assert len(shared.app.seen) == before

    def test_what_the_application_says_cannot_add_a_header(self, shared: Served) -> None:
        with shared.connect() as link:
            link.sendall(GET.replace(b"/ ", b"/header "))
            assert link.recv(65536) == b""
        _well(shared)

    @pytest.mark.parametrize(
        "start",
        [
            b"GET / HTTP/1.1\r\n\r\n",
            b"GET / HTTP/2.0\r\nHost: x\r\n\r\n",
            b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
            b"GET / HTTP/0.9\r\nHost: x\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"GET / x HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET http:// HTTP/1.1\r\nHost: x\r\n\r\n",
            b"CONNECT example.org:443 HTTP/1.1\r\nHost: x\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"\0" * 100,
            b"\xff" * 100,
        ],
    )
    def test_no_request(self, shared: Served, start: bytes) -> None:
        before = len(shared.app.seen)
        _refused(shared, start, 400)
        assert len(shared.app.seen) == before
        _well(shared)


class TestSmuggling:
    """What two servers in a row could cut differently is not read at all, and ends the connection (RFC 9112, 6.3)."""

    HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"

    @pytest.mark.parametrize(
        "framing",
        [
            b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
            b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
            b"Content-Length: 4\r\nContent-Length: 5\r\n",
            b"Content-Length: 4\r\nContent-Length: 4\r\n",
            b"Content-Length: 4, 4\r\n",
            b"Content-Length: +4\r\n",
            b"Content-Length: -4\r\n",
            b"Content-Length: 0x4\r\n",
            b"Content-Length: 4 4\r\n",
            b"Content-Length: \r\n",
            b"Content-Length: 18446744073709551620\r\n",
            b"Transfer-Encoding: xchunked\r\n",
            b"Transfer-Encoding: chunked, identity\r\n",
            b"Transfer-Encoding: identity\r\n",
            b"Transfer-Encoding: gzip, chunked\r\n",
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            b"Transfer-Encoding:\x0bchunked\r\n",
            b"Transfer-Encoding\t: chunked\r\n",
            b"Transfer-Encoding : chunked\r\n",
            b" Transfer-Encoding: chunked\r\n",
            b"X: y\nTransfer-Encoding: chunked\r\n",
            b"Transfer-Encoding:\r\n chunked\r\n",
        ],
    )
    def test_bodies_of_two_lengths(self, shared: Served, framing: bytes) -> None:
        before = len(shared.app.seen)
        _refused(shared, POST + framing + b"\r\n0\r\n\r\n" + self.HIDDEN, 400)
        assert len(shared.app.seen) == before
        _well(shared)

    def test_chunks_in_the_old_version(self, shared: Served) -> None:
        raw = POST.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        _refused(shared, raw + self.HIDDEN, 400)

    @pytest.mark.parametrize(
        "chunk", [b"-1\r\n", b"0x1\r\nx\r\n", b"1 \r\nx\r\n", b"1\nx\n", b"fffffffffffffffff\r\n", b"g\r\n"]
    )
    def test_chunks_that_are_none(self, shared: Served, chunk: bytes) -> None:
        before = len(shared.app.seen)
        _refused(shared, POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunk + b"0\r\n\r\n" + self.HIDDEN, 400)
        assert len(shared.app.seen) == before

    @pytest.mark.parametrize("upgrade", [b"h2c", b"websocket"])
    def test_an_upgrade_is_not_made_and_nothing_is_read_after_it(self, shared: Served, upgrade: bytes) -> None:
        before = len(shared.app.seen)
        with shared.connect() as link:
            link.sendall(GET[:-2] + b"Connection: Upgrade\r\nUpgrade: " + upgrade + b"\r\n\r\n" + self.HIDDEN)
            assert read_answer(link).status == 200
            assert link.recv(1) == b""
        assert len(shared.app.seen) == before + 1


class TestPipelines:
    def test_a_few_are_answered_in_order(self, shared: Served) -> None:
        with shared.connect() as link:
            link.sendall(GET + POST + b"Content-Length: 3\r\n\r\nabc" + GET)
            assert [read_answer(link).body for _ in range(3)] == [b'{"hello":true}', b'{"bytes":3}', b'{"hello":true}']
            link.sendall(GET)
            assert read_answer(link).status == 200

    def test_thousands_are_not_kept(self) -> None:
        with serving(limits=limited(pipelined=3)) as served, served.connect() as link:
            link.sendall(GET.replace(b"/ ", b"/late ") + GET * 2000)
            served.app.waiting.acquire()
            served.app.release.set()
            for _ in range(4):
                assert read_answer(link).status == 200
            assert ended(link)
            assert len(served.app.seen) == 3
            _well(served)

    def test_garbage_behind_a_request_takes_no_answer_from_it(self, shared: Served) -> None:
        with shared.connect() as link:
            link.sendall(GET + b"\0\0\0")
            assert read_answer(link).status == 200
            assert link.recv(1) == b""

    def test_a_broken_body_behind_a_request_is_not_run(self) -> None:
        with serving() as served, served.connect() as link:
            link.sendall(GET.replace(b"/ ", b"/late ") + POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n")
            served.app.waiting.acquire()
            served.app.release.set()
            assert read_answer(link).json == {"late": True}
            assert ended(link)
            assert served.app.seen == []


class TestHalfClosedSockets:
    def test_before_a_request(self, shared: Served) -> None:
        for sent in (b"", GET[:10], POST + b"Content-Length: 9\r\n\r\nabc"):
            with shared.connect() as link:
                link.sendall(sent)
                link.shutdown(socket.SHUT_WR)
                assert ended(link)
        until(lambda: shared.thread.connections("api")["open"] == 0)

    def test_while_it_is_answered_the_client_is_taken_for_gone(self) -> None:
        with serving() as served, served.connect() as link:
            link.sendall(GET.replace(b"/ ", b"/late "))
            served.app.waiting.acquire()
            link.shutdown(socket.SHUT_WR)
            until(lambda: served.app.disconnects)
            assert ended(link)

    def test_who_vanishes_in_the_answer_ends_it(self) -> None:
        with serving() as served:
            with served.connect() as link:
                link.sendall(GET.replace(b"/ ", b"/stream "))
                assert link.recv(10)
            until(lambda: served.app.cancelled)
            until(lambda: served.thread.connections("api")["open"] == 0)


class TestAnything:
    PIECES = (
        *(b"GET ", b"POST ", b"/", b"/echo", b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b"Host: x\r\n", b"\r\n", b"\n", b"\r"),
        *(b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"X: y\r\n"),
        *(b"Expect: 100-continue\r\n", b"Upgrade: h2c\r\n", b"Connection: Upgrade\r\n"),
        *(b"abc", b"3\r\nabc\r\n", b"0\r\n\r\n", GET, POST),
    )

    @given(pieces=st.lists(st.sampled_from(PIECES) | st.binary(max_size=8), max_size=20), splits=st.booleans())
    @settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
    def test_no_bytes_end_in_a_fault_of_the_server(self, shared: Served, pieces: list[bytes], splits: bool) -> None:
        with shared.connect() as link:
            with contextlib.suppress(ConnectionError):
                for piece in pieces if splits else [b"".join(pieces)]:
                    link.sendall(piece)
                link.shutdown(socket.SHUT_WR)
            said = b""
            with contextlib.suppress(ConnectionError):
                while piece := link.recv(65536):
                    said += piece
        assert not said or said.startswith(b"HTTP/1.1 ")
        assert b"HTTP/1.1 5" not in said
        assert shared.defects == []
        assert shared.thread.alive
