"""An answer that is given before the body has come says that the connection ends with it."""

from __future__ import annotations

import pytest
import requests
from listening_world import ended, read_answer, serving

HEAD = b"POST /unread HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n"


def test_an_answer_before_the_body_says_that_the_connection_ends() -> None:
    with serving() as served, served.connect() as link:
        link.sendall(HEAD)
        answer = read_answer(link)
        assert (answer.status, answer.headers.get("connection")) == (401, "close")
        assert ended(link)


def test_after_a_body_that_came_and_was_not_read_the_connection_goes_on() -> None:
    with serving() as served, served.connect() as link:
        for _ in range(3):
            link.sendall(HEAD + b"0123456789")
            answer = read_answer(link)
            assert (answer.status, answer.headers.get("connection")) == (401, None)


def test_in_a_pipeline_only_the_answer_without_its_body_ends_it() -> None:
    with serving() as served, served.connect() as link:
        link.sendall(HEAD + b"0123456789" + HEAD)
        assert "connection" not in read_answer(link).headers
        assert read_answer(link).headers["connection"] == "close"
        assert ended(link)


@pytest.mark.parametrize("size", [10, 100_000])
def test_a_client_that_is_refused_can_ask_on(size: int) -> None:
    # It sends head and body one after the other, and would take the connection for good unless it is told.
    with serving() as served, requests.Session() as session:
        for _ in range(50):
            base = f"http://{served.host}:{served.port}"
            assert session.post(f"{base}/unread", data=b"x" * size, timeout=30).status_code == 401
            assert session.get(f"{base}/", timeout=30).status_code == 200
