"""What stands before all routes: who calls, errors as problem details, what there is."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from server_history import HistoryEngine
from server_stand_in import HttpClient, HttpReply, StandInAccess, StandIns

from engine_ops.server.app import create_app
from engine_ops.server.authentication import describe
from engine_ops.server.bridge import BridgedEngine, EngineGone
from engine_ops.server.callers import AccessUnavailable, Caller, Right
from engine_ops.server.problem_handlers import Problems, invalid
from engine_ops.server.problems import TITLES, TYPE_PREFIX, ProblemError
from engine_ops.server.services import ApiLimits

ADA = "token-of-ada"


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def stand_ins(*, open_: bool = False, **limits: Any) -> StandIns:
    these = StandIns(HistoryEngine(), StandInAccess(open_=open_), ApiLimits(**limits))
    these.access.add(ADA, "ada")
    return these


def client(these: StandIns, token: str | None = ADA) -> HttpClient:
    return HttpClient(create_app(these.services(), version="1.2.3"), token)


def problem(reply: HttpReply, kind: str) -> dict[str, Any]:
    """Return problem details, once they are known to be some."""
    assert reply.headers["content-type"] == "application/problem+json", reply.body
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["cache-control"] == "no-store"
    said: dict[str, Any] = reply.json()
    status, title = TITLES[kind]
    assert said["type"] == TYPE_PREFIX + kind
    assert (reply.status, said["status"], said["title"]) == (status, status, title)
    assert said["detail"]
    return said


def test_the_root_says_what_there_is_and_it_is_there() -> None:
    async def main() -> None:
        there = client(stand_ins())
        root = (await there.get("/")).json()
        assert (root["name"], root["version"]) == ("engine-ops", "1.2.3")
        for name, path in root["links"].items():
            reply = await there.get(path)
            assert reply.status == (405 if name == "optimize" else 200), path

    run(main())


@pytest.mark.parametrize("path", ["/", "/openapi.json", "/api/v1/metrics", "/api/v1/plugins", "/nothing"])
def test_a_token_is_needed(path: str) -> None:
    async def main() -> None:
        for token in (None, "expired"):
            reply = await client(stand_ins(), token).get(path)
            problem(reply, "unauthenticated")
            assert reply.headers["www-authenticate"] == "Bearer"

    run(main())


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic YWRhOmFkYQ==", "Bearer two words", f"Bearer {ADA}, Bearer {ADA}", ADA]
)
def test_a_header_that_holds_no_token(header: str) -> None:
    async def main() -> None:
        problem(await client(stand_ins(), None).get("/", authorization=header), "unauthenticated")

    run(main())


def test_the_word_bearer_is_read_in_any_case() -> None:
    async def main() -> None:
        assert (await client(stand_ins(), None).get("/", authorization=f"bearer {ADA}")).status == 200

    run(main())


def test_health_needs_no_token_and_tells_nothing_of_the_inside() -> None:
    async def main() -> None:
        reply = await client(stand_ins(), None).get("/api/v1/health")
        said = reply.json()
        assert said.pop("uptimeSeconds") >= 0
        assert said == {"status": "ok", "version": "1.2.3"}

    run(main())


def test_health_is_degraded_when_the_engine_has_ended() -> None:
    async def main() -> None:
        these = stand_ins()
        loop = asyncio.new_event_loop()
        loop.close()
        app = create_app(_of(these, BridgedEngine(these.engine, loop)), version="1")
        reply = await HttpClient(app).get("/api/v1/health")
        assert (reply.status, reply.json()["status"]) == (200, "degraded")
        assert reply.json()["reason"] == "the engine is ending"
        gone = await HttpClient(app, ADA).get("/api/v1/plugins")
        problem(gone, "unavailable")
        assert int(gone.headers["retry-after"]) > 0

    run(main())


def _of(these: StandIns, engine: Any) -> Any:
    return dataclasses.replace(these.services(), engine=engine)


def test_health_is_asked_once_a_second_however_many_want_to_know() -> None:
    class Counting(HistoryEngine):
        looks = 0

        async def health(self) -> dict[str, Any]:
            self.looks += 1
            await asyncio.sleep(0)
            return {}

    async def main() -> None:
        engine = Counting()
        there = client(StandIns(engine))
        await asyncio.gather(*(there.get("/api/v1/health") for _ in range(50)))
        assert engine.looks == 1

    run(main())


def test_metrics_and_the_cache_need_the_right_to_their_path() -> None:
    async def main() -> None:
        these = stand_ins()
        these.access.add("grace", "grace", lambda right: right == Right("get", path="/api/v1/metrics"))
        there = client(these, "grace")
        metrics = (await there.get("/api/v1/metrics")).json()
        assert metrics["engine"] == {"requestsUnderWay": 0}
        assert metrics["plugins"]["my-plugin"] == {"state": "Running", "skill": None}
        assert metrics["cache"]["hits"] == 0
        said = problem(await there.get("/api/v1/cache/stats"), "forbidden")
        assert said["detail"] == "grace may not get the path /engine-ops/api/v1/cache/stats (nonResourceURLs)."

    run(main())


@pytest.mark.parametrize(
    "path",
    ["/nothing", "/api/v1/plugins/", "//", "/api/v1/plugins/a/b", "/docs", "/redoc", "/API/V1/health", "/api/v1/../x"],
)
def test_paths_that_are_none(path: str) -> None:
    async def main() -> None:
        problem(await client(stand_ins()).get(path), "not-found")

    run(main())


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/api/v1/plugins", "GET"),
        ("POST", "/api/v1/plugins/my-plugin", "GET, PATCH"),
        ("GET", "/api/v1/plugins/my-plugin/enable", "POST"),
        ("PUT", "/api/v1/plugins/workload-data/stats", "GET"),
        ("TRACE", "/", "GET"),
        ("OPTIONS", "/api/v1/health", "GET"),
        ("\u00e4", "/", "GET"),
    ],
)
def test_methods_that_a_path_does_not_take(method: str, path: str, allowed: str) -> None:
    async def main() -> None:
        reply = await client(stand_ins()).request(method, path)
        problem(reply, "method-not-allowed")
        assert reply.headers["allow"] == allowed

    run(main())


def test_parameters_that_are_none_are_named() -> None:
    async def main() -> None:
        said = problem(await client(stand_ins()).get("/api/v1/plugins?limit=3"), "invalid")
        assert said["errors"] == [{"field": "limit", "detail": "there is no such parameter"}]
        assert said["detail"] == "query parameter limit: there is no such parameter."

    run(main())


def test_a_long_list_of_faults_makes_no_long_answer() -> None:
    async def main() -> None:
        query = "&".join(f"{'x' * 2000}{number}=1" for number in range(100))
        reply = await client(stand_ins()).get(f"/api/v1/plugins?{query}")
        assert len(problem(reply, "invalid")["errors"]) == 50
        assert len(reply.body) < 25_000

    run(main())


def test_where_a_fault_is() -> None:
    def found(*loc: str | int, kind: str = "int_type", msg: str = "Input should be a number") -> dict[str, Any]:
        return {"type": kind, "loc": loc, "msg": msg}

    error = invalid([found("body", "data", "items", 0, "cpu"), found("body", "x", kind="extra_forbidden")])
    assert error.errors == (("data.items[0].cpu", "Input should be a number"), ("x", "unknown field"))
    assert error.detail == "data.items[0].cpu: Input should be a number; x: unknown field."
    assert invalid([found("body", kind="missing")]).detail == "body: required, but absent."
    assert invalid([found("body", 3, kind="json_invalid")]).kind == "malformed"
    assert invalid([found("query", "from", msg="Value error, no time")]).errors == (("from", "no time"),)


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (EngineGone("the engine has ended"), "unavailable"),
        (AccessUnavailable("the API server does not answer"), "unavailable"),
        (ProblemError("conflict", "No."), "conflict"),
        (asyncio.CancelledError(), "unavailable"),
    ],
)
def test_what_a_route_may_raise(raised: BaseException, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        reply = await _raising(raised).get("/api/v1/plugins")
        problem(reply, kind)
        assert ("retry-after" in reply.headers) == (kind == "unavailable")

    run(main())
    assert not caplog.records


def _raising(raised: BaseException) -> HttpClient:
    these = stand_ins()

    async def plugins() -> Any:
        raise raised

    these.engine.plugins = plugins  # type: ignore[method-assign]
    return client(these)


def test_a_defect_is_logged_and_tells_the_caller_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        reply = await _raising(KeyError("/etc/secret")).get("/api/v1/plugins?")
        problem(reply, "internal")
        assert b"secret" not in reply.body
        assert b"Error" not in reply.body

    with caplog.at_level(logging.ERROR):
        run(main())
    (record,) = caplog.records
    assert record.exc_info is not None
    assert "GET /api/v1/plugins" in record.getMessage()


def test_an_api_server_that_cannot_be_asked_lets_nobody_in() -> None:
    async def main() -> None:
        these = stand_ins()
        these.access.failure = AccessUnavailable("no route to it")
        said = problem(await client(these).get("/"), "unavailable")
        assert "no route to it" in said["detail"]
        assert (await client(these, None).get("/api/v1/health")).status == 200

    run(main())


def test_what_fails_after_the_answer_has_begun_is_cut() -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise OSError("the disk is gone")

    async def main() -> None:
        exchange = HttpClient(Problems(broken)).start("GET", "/")
        with pytest.raises(OSError, match="the disk is gone"):
            await exchange.task
        assert (exchange.status, exchange.body, exchange.complete) == (200, b"half", False)

    run(main())


def test_a_cancelled_request_stays_cancelled() -> None:
    async def waiting(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        exchange = HttpClient(Problems(waiting)).start("GET", "/")
        await asyncio.sleep(0)
        exchange.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await exchange.task
        assert exchange.status is None

    run(main())


def test_users_are_counted_by_name() -> None:
    async def main() -> None:
        these = stand_ins(requests_per_second=0.001, burst=2)
        these.access.add("grace", "grace")
        app = create_app(these.services(), version="1")
        ada, grace = HttpClient(app, ADA), HttpClient(app, "grace")
        assert [(await ada.get("/")).status for _ in range(3)] == [200, 200, 429]
        refused = await ada.get("/")
        problem(refused, "too-many-requests")
        assert 0 < int(refused.headers["retry-after"]) <= 1000
        assert (await grace.get("/")).status == 200

    run(main())


def test_bad_tokens_are_counted_by_address_and_then_not_looked_at() -> None:
    class Counting(StandInAccess):
        asked = 0

        async def authenticate(self, token: str | None) -> Caller:
            self.asked += 1
            return await super().authenticate(token)

    async def main() -> None:
        these = StandIns(HistoryEngine(), Counting(), ApiLimits(requests_per_second=0.001, burst=3))
        app = create_app(these.services(), version="1")
        tried = [(await HttpClient(app, f"guess{number}").get("/")).status for number in range(5)]
        assert tried == [401, 401, 401, 429, 429]
        assert these.access.asked == 3  # type: ignore[attr-defined]

    run(main())


def test_no_limit_where_none_is_set() -> None:
    async def main() -> None:
        there = client(stand_ins(requests_per_second=0, burst=0))
        assert {(await there.get("/")).status for _ in range(300)} == {200}

    run(main())


def test_a_long_body_is_refused_unread_and_before_a_token_is_looked_at() -> None:
    async def main() -> None:
        there = client(stand_ins(body_bytes=10), None)
        reply = await there.post("/api/v1/plugins/x/enable", body=b"x" * 11)
        assert problem(reply, "too-large")["status"] == 413

    run(main())


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "127.0.0.1:3000"}, 200),
        ({"host": "[::1]:3000"}, 200),
        ({"host": "[::1]"}, 200),
        ({"origin": "http://localhost:3000"}, 200),
        ({"sec_fetch_site": "same-origin", "origin": "http://localhost:3000"}, 200),
        ({"sec_fetch_site": "none"}, 200),
        ({"host": "evil.example:3000"}, 403),
        ({"host": "evil.example.:3000", "origin": "http://evil.example.:3000"}, 403),
        ({"host": ""}, 403),
        ({"host": "[::1"}, 403),
        ({"host": "a:b:c"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://localhost:8080"}, 403),
        ({"sec_fetch_site": "cross-site"}, 403),
        ({"sec_fetch_site": "same-site"}, 403),
    ],
)
def test_without_tokens_no_page_of_another_site_is_served(headers: dict[str, str], status: int) -> None:
    async def main() -> None:
        reply = await client(stand_ins(open_=True), None).post("/api/v1/plugins/my-plugin/disable", **headers)
        assert reply.status == status
        if status == 403:
            problem(reply, "forbidden")

    run(main())


def test_with_tokens_any_host_will_do() -> None:
    async def main() -> None:
        there = client(stand_ins())
        assert (await there.get("/", host="engine-ops.shop.svc.example", origin="https://x.example")).status == 200

    run(main())


def test_rights_in_words() -> None:
    assert describe(Right("get", "optimizerplugins", name="a")) == (
        'get optimizerplugins "a" of the API group engineops.dev'
    )


APP = create_app(stand_ins(requests_per_second=0).services(), version="1")


@given(
    st.text(max_size=40),
    st.sampled_from(["GET", "POST", "PATCH", "DELETE", "PUT"]),
    st.text(st.characters(max_codepoint=255, blacklist_characters="\r\n\0"), max_size=40),
)
def test_whatever_is_asked_it_is_no_defect(path: str, method: str, query: str) -> None:
    async def main() -> None:
        url = f"/{quote(path, safe='/.')}?{quote(query, safe='=&')}"
        there = HttpClient(APP, ADA)
        for prefix in ("", "/api/v1/plugins", "/api/v1/plugins/workload-data", "/api/v1/plugins/my-plugin"):
            reply = await there.request(method, prefix + url, json={})
            assert reply.status < 500, (method, prefix + url, reply.body)
            if reply.status >= 400:
                assert json.loads(reply.body)["status"] == reply.status
                assert reply.headers["content-type"] == "application/problem+json"

    run(main())


def test_it_is_one_answer_for_every_way_to_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each kind of problem can be answered: its status, title and members fit together."""
    made: list[Callable[[], ProblemError]] = [lambda kind=kind: ProblemError(kind, "It is so.") for kind in TITLES]  # type: ignore[misc]
    for make in made:
        error = make()
        body = json.loads(bytes(error.response().body))
        assert body == {
            "type": TYPE_PREFIX + error.kind,
            "title": error.title,
            "status": error.status,
            "detail": "It is so.",
        }
