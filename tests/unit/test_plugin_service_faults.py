"""Services that do what no service should: what the operator makes of each."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest
from plugin_services import (
    INFO,
    REPLY,
    Scripted,
    ask,
    feed,
    history,
    instance_at,
    point,
    response,
    run,
    started,
    until,
)

from engine_ops.plugins.breaker import BreakerPolicy
from engine_ops.plugins.instance import PluginBrokenError, PluginUnavailableError, Unanswered
from engine_ops.plugins.messages import MAX_REPLY_BYTES, Replied
from reserved_port import reserved_port


def endless(_asked: dict[str, Any]) -> bytes:
    body = b'{"success":true,"result":"' + b"x" * (MAX_REPLY_BYTES + 1) + b'"}'
    # Without a length: it ends when the connection does.
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n" + body


async def never(_asked: dict[str, Any]) -> bytes:
    await asyncio.Event().wait()
    return b""


def compressed(_asked: dict[str, Any]) -> bytes:
    return response(200, gzip.compress(json.dumps(REPLY).encode()), "Content-Encoding: gzip")


BAD_REPLIES: list[Any] = [
    pytest.param(
        response(200, b"", f"X: y\r\nContent-Length: {MAX_REPLY_BYTES + 1}").replace(b"Content-Length: 0\r\n", b""),
        "its reply is longer than",
        id="says that it is huge",
    ),
    pytest.param(endless, "its reply is longer than", id="is huge"),
    pytest.param(b"\x00\x01rubbish\r\n\r\n", "what it sends is no HTTP", id="no HTTP"),
    pytest.param(response(200, "no JSON"), "its reply to /optimize is not as it must be", id="no JSON"),
    pytest.param(response(200, b"\xff\xfe{}"), "its reply to /optimize is not as it must be", id="no UTF-8"),
    pytest.param(response(200, "[" * 100_000), "its reply to /optimize is not as it must be", id="nested too deeply"),
    pytest.param(response(200, {"result": 1}), "missing required field `success`", id="a field is missing"),
    pytest.param(response(200, {"success": "yes"}), "Expected `bool`, got `str` - at `$.success`", id="a wrong type"),
    pytest.param(response(200, {**REPLY, "confidence": 2}), "at `$.confidence`", id="out of range"),
    pytest.param(response(200, {**REPLY, "isTrained": 1}), "at `$.isTrained`", id="a number for a truth"),
    pytest.param(response(200, REPLY, kind="text/html"), "'text/html', no JSON", id="a wrong content type"),
    pytest.param(compressed, "its reply is compressed", id="compressed"),
    pytest.param(response(204, ""), "HTTP status 204, and must with 200", id="no content"),
    pytest.param(b"", "it closed the connection in the middle", id="closes"),
]


@pytest.mark.parametrize(("script", "says"), BAD_REPLIES)
def test_a_bad_reply_counts_as_a_crash(script: Any, says: str) -> None:
    async def main() -> None:
        service = Scripted()
        async with service.listening() as port, started(port) as instance:
            service.script["/optimize"] = script
            said = await instance.ask(ask())
            assert isinstance(said, Unanswered)
            assert says in said.reason
            assert said.kind == "crashed"
            assert says in instance.last_error.message
            assert instance.counters.crashes == 1
            service.script["/optimize"] = response(200, REPLY)
            assert isinstance(await instance.ask(ask()), Replied), "one crash is no reason to leave it out"

    run(main())


def test_a_reply_of_the_greatest_length_is_taken() -> None:
    async def main() -> None:
        service = Scripted()
        frame = b'{"success":true,"result":{"text":""}}'
        body = frame.replace(b'""', b'"' + b"x" * (MAX_REPLY_BYTES - len(frame)) + b'"')
        assert len(body) == MAX_REPLY_BYTES
        service.script["/optimize"] = response(200, body)
        async with service.listening() as port, started(port) as instance:
            assert isinstance(await instance.ask(ask()), Replied)

    run(main())


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_not_followed(status: int) -> None:
    async def main() -> None:
        service = Scripted()
        async with service.listening() as port, started(port) as instance:
            service.script["/optimize"] = response(status, "", f"Location: http://127.0.0.1:{port}/elsewhere")
            said = await instance.ask(ask())
            assert said.kind == "crashed"
            assert said.reason == f"it redirects to http://127.0.0.1:{port}/elsewhere: redirects are not followed"
            assert "/elsewhere" not in service.paths()

    run(main())


def test_nothing_of_the_environment_and_no_cookie_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        service, proxy = Scripted(), Scripted()
        service.script["/info"] = response(200, INFO, "Set-Cookie: a=b; Path=/")
        async with service.listening() as port, proxy.listening() as proxy_port:
            for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
                monkeypatch.setenv(name, f"http://127.0.0.1:{proxy_port}")
            async with started(port) as instance:
                assert isinstance(await instance.ask(ask()), Replied)
            assert not proxy.got
            assert all("cookie" not in headers for headers in service.headers)
            assert all(headers["accept-encoding"] == "identity" for headers in service.headers)

    run(main())


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (response(500, {"detail": "KeyError: 'rows'"}, kind="application/problem+json"), "KeyError: 'rows'"),
        (response(500, "<html>", kind="text/html"), "it answers with HTTP status 500"),
        (response(422, {"detail": 7}), "it answers with HTTP status 422"),
        (response(200, {"success": False, "failed": True, "error": "it broke"}), "it broke"),
        (response(200, {"success": True}), "result: required with success, but absent"),
    ],
)
def test_a_service_that_fails_in_good_order_has_not_crashed(script: bytes, reason: str) -> None:
    async def main() -> None:
        service = Scripted()
        service.script["/optimize"] = script
        async with service.listening() as port, started(port) as instance:
            said = await instance.ask(ask())
            assert isinstance(said, Replied)
            assert said.failed
            assert reason in said.no
            assert (instance.counters.failures, instance.counters.crashes) == (1, 0)

    run(main())


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_service_is_not_at_fault(status: int) -> None:
    async def main() -> None:
        service = Scripted()
        service.script["/optimize"] = response(status, {"detail": "later, please"}, "Retry-After: 2")
        async with service.listening() as port, started(port) as instance:
            for _ in range(10):
                assert await instance.ask(ask()) == Unanswered("later, please", "busy")
            assert instance.degraded is None
            assert len(service.bodies("/optimize")) == 10, "nothing is sent twice by itself"

    run(main())


def test_a_slow_service_is_left_out_after_some_time_outs() -> None:
    async def main() -> None:
        service = Scripted()
        service.script["/optimize"] = never
        policy = BreakerPolicy(crashes=2, first_wait_seconds=60)
        async with service.listening() as port, started(port, breaker_policy=policy) as instance:
            for _ in range(2):
                assert await instance.ask(ask(), timeout_seconds=0.2) == Unanswered("no answer within 0.2 s", "timeout")
            assert (await instance.ask(ask())).kind == "open"
            assert "no answer within 0.2 s" in instance.degraded
            assert instance.counters.timeouts == 2

    run(main())


def test_the_limit_of_the_spec_is_named() -> None:
    async def main() -> None:
        service = Scripted()
        service.script["/optimize"] = never
        async with service.listening() as port, started(port, timeout_seconds=1) as instance:
            said = await instance.ask(ask())
            assert said == Unanswered("no answer within 1 s (limits.timeoutSeconds)", "timeout")

    run(main())


def test_a_refused_connection_is_tried_again_later() -> None:
    async def main() -> None:
        service = Scripted()
        service.port = kept
        instance = instance_at(service.port)
        with pytest.raises(PluginUnavailableError, match="cannot be reached"):
            await instance.start()
        assert instance.opened is None
        async with service.listening():
            await instance.start()
            assert isinstance(await instance.ask(ask()), Replied)
            await instance.close()

    with reserved_port() as kept:
        run(main())


def test_a_service_that_goes_and_comes_back() -> None:
    async def main() -> None:
        changes: list[str | None] = []
        service = Scripted()
        service.port = kept
        collector = history(1, 2)
        async with service.listening() as port:
            instance = instance_at(
                port, feed=feed(collector), on_change=lambda: changes.append(instance.unavailable), health_seconds=0.05
            )
            await instance.start()
        await until(lambda: instance.unavailable, "its absence is seen without a request")
        gone = await instance.ask(ask())
        assert gone.kind == "unavailable"
        assert "cannot be reached" in gone.reason
        assert gone.reason == instance.unavailable == instance.last_error.message
        assert changes[-1] == gone.reason
        assert instance.degraded is None, "it is not to blame"
        collector.record(point(3))
        service.got.clear()
        async with service.listening():
            await until(lambda: instance.unavailable is None, "it is seen again without a request")
            assert isinstance(await instance.ask(ask()), Replied)
            first, *more = service.bodies("/history")
            assert first["reset"] is True
            assert [each["metadata"]["number"] for each in first["points"]] == [1, 2, 3]
            assert not more
            assert changes[-1] is None
            assert instance.counters.crashes == 0
            await instance.close()

    with reserved_port() as kept:
        run(main())


@pytest.mark.parametrize(
    "script",
    [
        response(502, "", kind="text/plain"),
        response(503, "no healthy upstream", kind="text/plain"),
        response(404, "", kind="text/plain"),
        response(200, "<html>", kind="text/html"),
        response(200, {"name": "x"}),
        response(200, {**INFO, "types": ["everything"]}),
        response(302, "", "Location: /login"),
    ],
)
def test_whatever_is_no_plugin_at_start_may_become_one(script: bytes) -> None:
    async def main() -> None:
        service = Scripted()
        good, service.script["/info"] = service.script["/info"], script
        async with service.listening() as port:
            instance = instance_at(port)
            with pytest.raises(PluginUnavailableError):
                await instance.start()
            service.script["/info"] = good
            await instance.start()
            await instance.close()

    run(main())


def test_a_reply_of_a_service_that_has_started_anew_is_not_used() -> None:
    async def main() -> None:
        service = Scripted()

        def starts_anew(name: str) -> None:
            service.script |= {
                "/info": response(200, {**INFO, "instance": name}),
                "/validate": response(200, {**INFO, "instance": name}),
                "/optimize": response(200, {**REPLY, "instance": name}),
            }

        starts_anew("one")
        async with service.listening() as port, started(port, config={"a": 1}) as instance:
            assert isinstance(await instance.ask(ask()), Replied)
            starts_anew("two")
            service.got.clear()
            assert isinstance(await instance.ask(ask()), Replied)
            assert service.paths() == ["/optimize", "/info", "/validate", "/optimize"]
            assert service.bodies("/validate") == [{"config": {"a": 1}}]
            assert instance.counters.restarts == 1

            service.script["/optimize"] = response(200, {**REPLY, "instance": "another each time"})
            said = await instance.ask(ask())
            assert said == Unanswered("the service starts anew again and again, or is more than one", "unavailable")

    run(main())


def test_a_service_without_settings_history_and_health() -> None:
    async def main() -> None:
        service = Scripted()
        for path in ("/validate", "/history", "/healthz"):
            del service.script[path]
        async with service.listening() as port:
            async with started(port, feed=feed(history(1, 2)), health_seconds=0.05) as instance:
                assert isinstance(await instance.ask(ask()), Replied)
                await until(lambda: "/healthz" in service.paths(), "its health is asked for")
                assert isinstance(await instance.ask(ask()), Replied)
                assert len(service.bodies("/history")) == 1, "it wants none"
                assert (await instance.train(5)).samples == 3
                (training,) = service.bodies("/train")
                assert [each["metadata"]["number"] for each in training["points"]] == [1, 2]
            with pytest.raises(PluginBrokenError, match="takes no settings") as caught:
                async with started(port, config={"a": 1}):
                    pass
            assert caught.value.stage == "config"

    run(main())


def test_a_service_that_refuses_the_history_is_asked_all_the_same() -> None:
    async def main() -> None:
        service = Scripted()
        service.script["/history"] = response(422, {"detail": "no"})
        collector = history(1)
        async with service.listening() as port, started(port, feed=feed(collector)) as instance:
            collector.record(point(2))
            assert isinstance(await instance.ask(ask()), Replied)
            assert len(service.bodies("/history")) == 1

    run(main())


def test_a_service_that_lost_track_gets_all_points_again() -> None:
    async def main() -> None:
        service = Scripted()
        lost = [False]

        def kept(asked: dict[str, Any]) -> bytes:
            if lost[0] and not asked.get("reset"):
                return response(409, {"detail": "what came before?"})
            return response(200, {"points": len(asked["points"])})

        service.script["/history"] = kept
        collector = history(1, 2)
        async with service.listening() as port, started(port, feed=feed(collector)) as instance:
            lost[0] = True
            collector.record(point(3))
            assert isinstance(await instance.ask(ask()), Replied)
            sent = [[each["metadata"]["number"] for each in body["points"]] for body in service.bodies("/history")]
            assert sent == [[1, 2], [3], [1, 2, 3]]
            assert len({body["feed"] for body in service.bodies("/history")}) == 2

    run(main())


def test_a_long_history_goes_in_several_requests() -> None:
    async def main() -> None:
        service = Scripted()
        held: list[int] = []

        def kept(asked: dict[str, Any]) -> bytes:
            if asked.get("reset"):
                held.clear()
            held.extend(each["metadata"]["number"] for each in asked["points"])
            return response(200, {"points": len(held)})

        service.script["/history"] = kept
        collector = history()
        text = {f"key{number}": "x" * 250 for number in range(40)}
        collector.record_many(point(number, **text) for number in range(600))
        async with service.listening() as port, started(port, feed=feed(collector)):
            assert held == list(range(600))
            assert 2 <= len(service.bodies("/history")) <= 5

    run(main())


TRAININGS: list[Any] = [
    (response(422, {"detail": "too few points", "stage": "train"}), PluginBrokenError, "too few points"),
    (response(200, {"samples": "three"}), PluginBrokenError, "not as it must be"),
    (response(200, {"modelId": "m", "state": "?"}), PluginBrokenError, "no base64"),
    (b"", PluginBrokenError, "closed the connection"),
    (never, PluginBrokenError, r"no model within 0.3 s \(training.timeoutSeconds\)"),
    (response(503, "", "Retry-After: 1"), PluginUnavailableError, "too much to do"),
    (response(502, ""), PluginUnavailableError, "nothing is behind it"),
]


@pytest.mark.parametrize(("script", "error", "says"), TRAININGS)
def test_a_training_that_goes_wrong(script: bytes | Callable[..., Any], error: type[Exception], says: str) -> None:
    async def main() -> None:
        service = Scripted()
        service.script["/train"] = script
        async with service.listening() as port, started(port) as instance:
            with pytest.raises(error, match=says):
                await instance.train(0.3)

    run(main())


def test_a_model_that_names_itself_oddly_gets_a_digest() -> None:
    async def main() -> None:
        service = Scripted()
        async with service.listening() as port, started(port) as instance:
            digests = set()
            for named in ("v7", "v7", "v8"):
                service.script["/train"] = response(200, {"digest": named})
                trained = await instance.train(5)
                assert len(trained.digest) == len("sha256:") + 64
                assert trained.model_id == "scripted"
                digests.add(trained.digest)
            assert len(digests) == 2

    run(main())


def test_as_many_requests_at_a_time_as_the_service_wants() -> None:
    async def main() -> None:
        service = Scripted()
        at_once, most = 0, 0
        release = asyncio.Event()

        async def counting(_asked: dict[str, Any]) -> bytes:
            nonlocal at_once, most
            at_once += 1
            most = max(most, at_once)
            if at_once == 3:
                release.set()
            await release.wait()
            at_once -= 1
            return response(200, REPLY)

        service.script["/optimize"] = counting
        service.script["/validate"] = response(200, {**INFO, "concurrency": 3})
        async with service.listening() as port, started(port) as instance:
            replies = await asyncio.gather(*(instance.ask(ask()) for _ in range(9)))
            assert all(isinstance(reply, Replied) for reply in replies)
            assert most == 3

    run(main())


def test_a_request_that_is_too_large_is_not_sent() -> None:
    async def main() -> None:
        service = Scripted()
        async with service.listening() as port, started(port) as instance:
            said = await instance.ask(ask({"text": "x" * (10 * 2**20)}))
            assert said.kind == "unavailable"
            assert "takes at most 10485760" in said.reason
            assert not service.bodies("/optimize")
            assert instance.degraded is None

    run(main())


def test_an_instance_that_is_closing_leaves_the_settings_of_the_next_one_alone() -> None:
    async def main() -> None:
        service = Scripted()
        answer = asyncio.Event()

        async def late(_asked: dict[str, Any]) -> bytes:
            await answer.wait()
            return response(200, {**REPLY, "instance": "of the next one"})

        service.script["/optimize"] = late
        service.script["/validate"] = response(200, {**INFO, "instance": "its own"})
        async with service.listening() as port:
            instance = instance_at(port, health_seconds=0.02)
            await instance.start()
            asking = asyncio.create_task(instance.ask(ask()))
            await until(lambda: "/optimize" in service.paths(), "it is being asked")
            closing = asyncio.create_task(instance.close())
            await asyncio.sleep(0)  # it begins
            service.script["/healthz"] = response(200, {"ok": True, "instance": "of the next one"})
            looks = service.paths().count("/healthz")
            await until(lambda: service.paths().count("/healthz") > looks, "it is looked at")
            answer.set()
            assert (await asking).kind == "unavailable"
            await closing
            assert service.paths().count("/validate") == 1

    run(main())


def test_closing_ends_everything() -> None:
    async def main() -> None:
        service = Scripted()
        async with service.listening() as port:
            instance = instance_at(port, health_seconds=0.01)
            await instance.start()
            await instance.close()
            await instance.close()
            assert asyncio.all_tasks() - {asyncio.current_task()} == {
                task for task in asyncio.all_tasks() if "_serve" in repr(task.get_coro())
            }
            await instance_at(port).close()

    run(main())
