"""The clients of the REST API against a server that says what a test wants."""

from __future__ import annotations

import asyncio
import datetime
import json
import pickle
import re
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
import requests
from api_stand_in import Asked, Said, StandIn, gone, stand_in

from engine_ops import AsyncEngineOpsClient, EngineOpsClient, OptimizationRequest, OptimizationResult
from engine_ops.client import (
    BadRequestError,
    BusyError,
    ConflictError,
    EngineOpsError,
    ForbiddenError,
    Improvement,
    NotFoundError,
    UnauthenticatedError,
    UnreachableError,
    retrying,
)

REQUEST = OptimizationRequest(
    id="a", type="resource", data={"items": [{"id": "web", "cpu": None}], "x": 1}, search_seconds=0
)
RESULT = {
    "requestId": "a",
    "success": True,
    "result": {"nodeCount": 2, "nested": {"some": None}},
    "reason": "Solved",
    "metrics": {"durationMs": 3, "score": 1.0, "newer": 1},
    "solvedBy": {"algorithm": "packing", "version": "0.1.0", "newer": True},
    "warnings": ["type genetic is treated as resource"],
    "newer": {"field": 1},
}
POINT = {
    "timestamp": 1_700_000_000_000,
    "request_type": "resource",
    "resource_usage": {"cpu": 1.5},
    "duration": 12.0,
    "success": True,
    "metadata": {},
}


class Blocking:
    """Calls `EngineOpsClient`."""

    def __init__(self, url: str, **options: Any) -> None:
        self._client = EngineOpsClient(url, **options)

    def __call__(self, method: str, *args: Any, **options: Any) -> Any:
        with self._client as client:
            return getattr(client, method)(*args, **options)

    def events(self, request_id: str) -> list[Any]:
        with self._client as client:
            return list(client.events(request_id))


class Asynchronous:
    """Calls `AsyncEngineOpsClient`, each call in an event loop of its own."""

    def __init__(self, url: str, **options: Any) -> None:
        self._made = (url, options)

    def _client(self) -> AsyncEngineOpsClient:
        return AsyncEngineOpsClient(self._made[0], **self._made[1])

    def __call__(self, method: str, *args: Any, **options: Any) -> Any:
        async def call() -> Any:
            async with self._client() as client:
                return await getattr(client, method)(*args, **options)

        return asyncio.run(call())

    def events(self, request_id: str) -> list[Any]:
        async def call() -> list[Any]:
            async with self._client() as client:
                return [event async for event in client.events(request_id)]

        return asyncio.run(call())


Caller = Blocking | Asynchronous


@pytest.fixture
def api() -> Iterator[StandIn]:
    with stand_in() as serving:
        yield serving


@pytest.fixture(params=[Blocking, Asynchronous])
def kind(request: pytest.FixtureRequest) -> type[Caller]:
    return request.param


@pytest.fixture
def client(kind: type[Caller], api: StandIn) -> Caller:
    return kind(api.url, timeout=60)


def test_a_request_is_sent_with_the_names_of_the_api(client: Caller, api: StandIn) -> None:
    api.answers = [Said.json(RESULT)]
    result = client("optimize", REQUEST)
    assert isinstance(result, OptimizationResult)
    assert result.result == RESULT["result"]
    assert result.metrics.duration_ms == 3
    assert result.solved_by is not None
    assert result.solved_by.algorithm == "packing"
    assert result.warnings == ["type genetic is treated as resource"]
    (asked,) = api.asked
    assert (asked.method, asked.path) == ("POST", "/api/v1/optimize")
    assert asked.headers["Content-Type"] == "application/json"
    assert asked.headers["User-Agent"].startswith("engine-ops-python/")
    # What the caller left out is not sent; what stands in the data is, null too.
    assert json.loads(asked.body) == {"id": "a", "type": "resource", "data": REQUEST.data, "searchSeconds": 0}


def test_a_mapping_is_sent_as_it_is(client: Caller, api: StandIn) -> None:
    api.answers = [Said.json(RESULT)]
    old = {"id": "a", "type": "genetic", "data": {}, "timeoutSeconds": 5}
    client("optimize", old, namespace="team")
    assert json.loads(api.asked[0].body) == old
    assert api.asked[0].path == "/api/v1/optimize?namespace=team"


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_is_no_json_is_not_sent(client: Caller, api: StandIn, number: float) -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        client("optimize", REQUEST.model_copy(update={"data": {"cpu": number}}))
    assert api.asked == []


def test_the_namespace_of_the_client(kind: type[Caller], api: StandIn) -> None:
    api.answers = [Said.json(RESULT)]
    client = kind(api.url, namespace="mine")
    client("optimize", REQUEST)
    client("optimize", REQUEST, namespace="other")
    assert [urlsplit(asked.path).query for asked in api.asked] == ["namespace=mine", "namespace=other"]


def test_an_id_is_the_users_whatever_the_namespace(kind: type[Caller], api: StandIn) -> None:
    """The API knows the namespace of a running request, and refuses a parameter that it would not read."""
    state = Said.json({"requestId": "a", "status": "done"})
    api.answers = [state, state, Said.problem("not-found", 404)]
    client = kind(api.url, namespace="mine")
    client("state", "a")
    client("cancel", "a")
    with pytest.raises(NotFoundError):
        client.events("a")
    assert [urlsplit(asked.path).query for asked in api.asked] == [""] * 3


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, BadRequestError),
        (401, UnauthenticatedError),
        (403, ForbiddenError),
        (404, NotFoundError),
        (409, ConflictError),
        (413, BadRequestError),
        (422, BadRequestError),
        (500, EngineOpsError),
    ],
)
def test_problems_become_exceptions(client: Caller, api: StandIn, status: int, error: type[EngineOpsError]) -> None:
    faults = [{"field": "data.items[0].cpu", "detail": "must be above 0"}]
    api.answers = [Said.problem("invalid", status, errors=faults, manager="argocd-controller")]
    with pytest.raises(EngineOpsError, match=r"it is so\n  data.items\[0\].cpu: must be above 0") as caught:
        client("optimize", REQUEST)
    assert type(caught.value) is error
    assert caught.value.status == status
    assert caught.value.kind == "invalid"
    assert caught.value.problem["manager"] == "argocd-controller"
    assert caught.value.errors == (("data.items[0].cpu", "must be above 0"),)
    assert len(api.asked) == 1
    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301
    assert (str(again), again.status, again.errors) == (str(caught.value), status, caught.value.errors)


def test_faults_that_the_detail_names_are_not_said_twice(client: Caller, api: StandIn) -> None:
    faults = [{"field": "a", "detail": "must not be"}, {"field": "b", "detail": "is absent"}]
    api.answers = [Said.json({"title": "T", "detail": "a: must not be", "errors": faults}, 422)]
    with pytest.raises(BadRequestError) as caught:
        client("optimize", REQUEST)
    assert str(caught.value) == "a: must not be\n  b: is absent"
    assert len(caught.value.errors) == 2


def test_an_answer_of_another_program(client: Caller, api: StandIn) -> None:
    api.answers = [Said(502, b"<html>\n<h1>Bad gateway</h1>", {"Content-Type": "text/html"})]
    with pytest.raises(EngineOpsError, match="HTTP 502: <html> <h1>Bad gateway</h1>") as caught:
        client("health")
    assert (caught.value.problem, caught.value.errors, caught.value.kind) == ({}, (), "")


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"", b"\xff", b"[" * 5000])
@pytest.mark.parametrize("call", [("health",), ("optimize", REQUEST), ("plugins",), ("export",)])
def test_an_answer_that_is_no_answer(client: Caller, api: StandIn, body: bytes, call: tuple[Any, ...]) -> None:
    api.answers = [Said(200, body)]
    with pytest.raises(EngineOpsError, match="the answer is"):
        client(*call)


def test_redirects_are_not_followed(client: Caller, api: StandIn) -> None:
    api.answers = [Said(302, b"", {"Location": "https://elsewhere.example/"})]
    with pytest.raises(EngineOpsError, match=r"points to https://elsewhere.example/; give that as base_url"):
        client("optimize", REQUEST)
    assert len(api.asked) == 1


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("headers", [{}, {"Retry-After": "0"}, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}])
def test_a_busy_server_is_asked_again(client: Caller, api: StandIn, status: int, headers: dict[str, str]) -> None:
    refusal = Said.problem("busy", status, headers=headers)
    api.answers = [refusal, refusal, Said.json(RESULT)]
    assert client("optimize", REQUEST).success
    assert len(api.asked) == 3
    assert len({asked.body for asked in api.asked}) == 1


def test_a_busy_server_is_not_asked_beyond_the_time_limit(client: Caller, api: StandIn) -> None:
    api.answers = [Said.problem("busy", 503, headers={"Retry-After": "600"})]
    with pytest.raises(BusyError, match="it is so") as caught:
        client("optimize", REQUEST)
    assert caught.value.retry_after_seconds == 600
    assert len(api.asked) == 1


def test_other_failures_are_not_tried_again(client: Caller, api: StandIn) -> None:
    for status in (500, 502, 504):
        api.answers = [Said(status, b"no")]
        api.asked.clear()
        with pytest.raises(EngineOpsError, match=f"HTTP {status}: no"):
            client("optimize", REQUEST)
        assert len(api.asked) == 1


def test_nobody_is_there(kind: type[Caller]) -> None:
    for call in (("health",), ("optimize", REQUEST)):
        with (
            gone() as nobody,
            pytest.raises(UnreachableError, match=f"localhost:{nobody.port}: the connection is refused") as caught,
        ):
            kind(nobody.url, timeout=60)(*call)
        assert caught.value.status is None
        assert isinstance(caught.value.__cause__, (requests.RequestException, aiohttp.ClientError))


def test_looking(client: Caller, api: StandIn) -> None:
    api.answers = [Said.json({"status": "ok"})]
    for method in ("health", "metrics", "cache_stats"):
        assert client(method) == {"status": "ok"}
    assert [asked.path for asked in api.asked] == ["/api/v1/health", "/api/v1/metrics", "/api/v1/cache/stats"]


def test_plugins(client: Caller, api: StandIn) -> None:
    shown = {"name": "a b", "config": {"enabled": True, "priority": 0}}
    api.answers = [Said.json({"plugins": [shown], "count": 1}), Said.json(shown)]
    assert client("plugins") == [shown]
    for call in (client("plugin", "a b"), client("enable", "a b"), client("disable", "../x", force=True)):
        assert call == shown
    assert client("configure", "p", priority=0, config={"a": None}) == shown
    assert [(asked.method, asked.path) for asked in api.asked] == [
        ("GET", "/api/v1/plugins"),
        ("GET", "/api/v1/plugins/a%20b"),
        ("POST", "/api/v1/plugins/a%20b/enable"),
        ("POST", "/api/v1/plugins/..%2Fx/disable?force=true"),
        ("PATCH", "/api/v1/plugins/p"),
    ]
    assert json.loads(api.asked[-1].body) == {"priority": 0, "config": {"a": None}}


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_names_that_are_steps(client: Caller, api: StandIn, name: str) -> None:
    for method in ("plugin", "state", "cancel"):
        with pytest.raises(ValueError, match="cannot be part of a path"):
            client(method, name)
    assert api.asked == []


def test_the_history(client: Caller, api: StandIn, tmp_path: Any) -> None:
    api.answers = [Said.json({"data": [POINT], "count": 1})]
    since = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    (point,) = client("export", type="resource", from_=since, to=5, limit=3, namespace="n")
    assert point.resource_usage == {"cpu": 1.5}
    query = parse_qs(urlsplit(api.asked[0].path).query)
    assert query == {
        "type": ["resource"],
        "from": ["2026-01-01T00:00:00+00:00"],
        "to": ["5"],
        "limit": ["3"],
        "namespace": ["n"],
    }
    with pytest.raises(ValueError, match="without a time zone"):
        client("export", from_=datetime.datetime(2026, 1, 1))  # noqa: DTZ001
    api.answers = [Said(200, b"PAR1")]
    client("export_file", tmp_path / "points.parquet", format="parquet")
    assert (tmp_path / "points.parquet").read_bytes() == b"PAR1"
    api.answers = [Said.json({"features": []})]
    assert client("workload_stats") == client("training_format", type="resource") == {"features": []}
    assert [urlsplit(asked.path).path for asked in api.asked[2:]] == [
        "/api/v1/plugins/workload-data/stats",
        "/api/v1/plugins/workload-data/training-format",
    ]


def test_a_submitted_request(client: Caller, api: StandIn) -> None:
    running = {"requestId": "a", "status": "running", "links": {"self": "/"}}
    done = {"status": "done", "progress": {"objective": 3, "lowerBound": 2, "gap": 0.5}, "response": RESULT}
    api.answers = [Said.json(running, 202), Said.json(done), Said.json({**done, "status": "cancelled"})]
    submitted = client("submit", REQUEST)
    assert (submitted.request_id, submitted.status, submitted.response) == ("a", "running", None)
    state = client("state", "a/b")
    assert state.progress == Improvement(objective=3, lower_bound=2, gap=0.5)
    assert state.response is not None
    assert state.response.result == RESULT["result"]
    cancelled = client("cancel", "a")
    assert (cancelled.status, cancelled.response) == ("cancelled", state.response)
    assert api.asked[0].headers["Prefer"] == "respond-async"
    assert [(asked.method, asked.path) for asked in api.asked[1:]] == [
        ("GET", "/api/v1/optimize/a%2Fb"),
        ("DELETE", "/api/v1/optimize/a"),
    ]


def event(name: str, value: Any, number: int) -> bytes:
    return f"id: {number}\nevent: {name}\ndata: {json.dumps(value)}\n\n".encode()


def test_events_go_on_where_they_broke_off(client: Caller, api: StandIn) -> None:
    first, second = ({"objective": n, "lowerBound": 2, "gap": n / 2 - 1} for n in (4, 3))
    api.answers = [
        Said(200, b": hello\n\n" + event("improvement", first, 1) + b"event: improvement\ndata: {"),
        Said.problem("unavailable", 503),
        Said(200, event("unheard-of", {}, 2) + event("improvement", second, 3) + event("answer", RESULT, 4)),
    ]
    told = client.events("a")
    assert [type(each) for each in told] == [Improvement, Improvement, OptimizationResult]
    assert [each.objective for each in told[:2]] == [4, 3]
    assert [asked.path for asked in api.asked] == ["/api/v1/optimize/a/events"] * 3
    assert [asked.headers.get("Last-Event-ID") for asked in api.asked] == [None, "1", "1"]


def test_events_of_what_is_not_there(client: Caller, api: StandIn) -> None:
    api.answers = [Said.problem("not-found", 404)]
    with pytest.raises(NotFoundError):
        client.events("a")


def test_events_of_a_server_that_went_away(kind: type[Caller], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "FIRST_SECONDS", 1e12)  # there is no time for another attempt, however short
    refused = r"the events end before the answer: .*: the connection is refused"
    with gone() as nobody, pytest.raises(UnreachableError, match=refused):
        kind(nobody.url, timeout=60).events("a")


def test_a_path_before_the_api(kind: type[Caller], api: StandIn) -> None:
    kind(api.url + "/engine/", timeout=60)("health")
    assert api.asked[0].path == "/engine/api/v1/health"
    assert EngineOpsClient(api.url + "/").base_url == api.url


@pytest.mark.parametrize("url", ["localhost:3000", "ftp://x", "http://", "http://u:p@x", "http://x?a=b", "http://x#y"])
def test_addresses_that_are_none(url: str) -> None:
    for client in (EngineOpsClient, AsyncEngineOpsClient):
        with pytest.raises(ValueError, match="base_url"):
            client(url)


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_times_that_are_none(seconds: float) -> None:
    for client in (EngineOpsClient, AsyncEngineOpsClient):
        with pytest.raises(ValueError, match="timeout"):
            client(timeout=seconds)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://nowhere.invalid:3000", "http://nowhere.invalid:3000: its name cannot be resolved"),
        ("https://{here}", "is it http"),
    ],
)
def test_why_there_was_no_answer(kind: type[Caller], api: StandIn, url: str, why: str) -> None:
    with pytest.raises(UnreachableError, match=re.escape(why)):
        kind(url.format(here=f"localhost:{api.port}"), timeout=60)("health")


def test_no_answer_in_time(kind: type[Caller]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(UnreachableError, match=re.escape(f"{address}: no answer within 0.2 s (timeout=)")):
            kind(address, timeout=0.2)("health")


def test_an_error_of_the_callers_own_is_not_taken_for_the_cause(kind: type[Caller]) -> None:
    try:
        raise OSError(28, "No space left on device")
    except OSError:
        with gone() as nobody, pytest.raises(UnreachableError, match="the connection is refused"):
            kind(nobody.url, timeout=60)("health")


def test_a_token_that_was_read_from_a_file(kind: type[Caller], api: StandIn) -> None:
    for token in ("mine\n", lambda: " mine\r\n"):
        kind(api.url, token=token)("health")
    assert [asked.headers["Authorization"] for asked in api.asked] == ["Bearer mine"] * 2


@pytest.mark.parametrize("token", ["se cret", "sec\nret", "s\xe9cret", "secr\x00et"])
def test_a_token_that_can_be_none_is_not_shown(kind: type[Caller], api: StandIn, token: str) -> None:
    for given in (token, lambda: token):
        with pytest.raises(ValueError, match="token: has") as caught:
            kind(api.url, token=given)("health")
        shown = "".join(traceback.format_exception_only(caught.value))
        assert token not in shown
        assert repr(token)[1:-1] not in shown
    assert api.asked == []


def test_certificates_that_cannot_be_read(tmp_path: Path) -> None:
    nothing = tmp_path / "ca.pem"
    for client in (EngineOpsClient, AsyncEngineOpsClient):
        with pytest.raises(ValueError, match=r"verify: there is no file or directory .*ca\.pem"):
            client(verify=nothing)
    nothing.write_text("not a certificate")
    for client in (EngineOpsClient, AsyncEngineOpsClient):
        with pytest.raises(ValueError, match=r"verify: .*ca\.pem has no certificates that can be read"):
            client(verify=nothing)


def test_the_guide_uses_the_session(api: StandIn) -> None:
    def echo(asked: Asked) -> Said:
        return Said.json({"path": asked.path})

    api.answers = [echo]
    with EngineOpsClient(base_url=api.url) as client:
        assert isinstance(client.session, requests.Session)
        assert client.session.get(f"{client.base_url}/api/v1/plugins").json() == {"path": "/api/v1/plugins"}
    assert EngineOpsClient().base_url == "http://localhost:3000"


def test_both_clients_have_the_same_methods() -> None:
    def public(client: type) -> set[str]:
        return {name for name in dir(client) if not name.startswith("_")}

    assert public(AsyncEngineOpsClient) - {"session"} == public(EngineOpsClient)


def test_each_client_loads_what_it_needs() -> None:
    script = (
        "import sys, engine_ops.client\n"
        "HEAVY = ('requests', 'aiohttp', 'kubernetes', 'numpy')\n"
        "def loaded(): return [name for name in HEAVY if name in sys.modules]\n"
        "print(loaded(), engine_ops.EngineOpsClient and loaded(), engine_ops.AsyncEngineOpsClient and loaded())"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()
    assert said == "[] ['requests'] ['requests', 'aiohttp']"
