"""Who calls and what they may do: what is asked of the API server, how often, and what is kept of it."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from access_world import DEADLINE_SECONDS, EXTRA_KEY, OWN_TOKEN, Answer, Clock, world
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from engine_ops.server import access as access_module
from engine_ops.server.access import KubeAccess
from engine_ops.server.callers import AccessUnavailable, Caller, Right, Unauthenticated
from engine_ops.server.decisions import Recent, SingleFlight
from engine_ops.server.local_access import LocalAccess


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not holds():  # noqa: ASYNC110 - of what is not ours there is no event
            await asyncio.sleep(0.001)


async def refused(access: KubeAccess, token: str | None) -> str:
    with pytest.raises(Unauthenticated) as raised:
        await access.authenticate(token)
    return str(raised.value)


# ---- What is asked


def test_the_token_is_asked_for_as_it_came(tmp_path: Path) -> None:
    async def check() -> None:
        async with world(tmp_path) as it:
            caller = await it.access().authenticate("good-admin")
            assert caller == Caller("admin", "7", ("staff",), {EXTRA_KEY: ("pod-1",)}, "good-admin")
            assert it.server.tokens == [{"token": "good-admin"}]
            assert it.server.headers[0]["Authorization"] == f"Bearer {OWN_TOKEN}"

    asyncio.run(check())


@pytest.mark.parametrize(("answered", "good"), [(["ours"], True), (["theirs"], False), ([], False), (None, False)])
def test_an_audience_must_be_confirmed(tmp_path: Path, answered: list[str] | None, good: bool) -> None:
    async def check() -> None:
        async with world(tmp_path) as it:
            it.server.audiences = answered
            access = it.access(audiences=["ours", "also-ours"])
            if good:
                await access.authenticate("good-admin")
            else:
                await refused(access, "good-admin")
            assert it.server.tokens == [{"token": "good-admin", "audiences": ["ours", "also-ours"]}]

    asyncio.run(check())


@pytest.mark.parametrize("token", [None, "", "two words", "line\nbreak", "ümlaut", "x" * 20_000, "\x7f"])
def test_what_cannot_be_a_token_is_not_asked_about(tmp_path: Path, token: str | None) -> None:
    async def check() -> None:
        async with world(tmp_path) as it:
            said = await refused(it.access(), token)
            assert it.server.tokens == []
            assert not token or token not in said

    asyncio.run(check())


def test_a_user_without_a_name_is_nobody(tmp_path: Path) -> None:
    async def nameless(review: dict[str, Any]) -> web.Response:
        return web.json_response({"status": {"authenticated": True, "user": {"groups": ["system:masters"]}}})

    async def check() -> None:
        async with world(tmp_path) as it:
            it.server.instead = nameless
            await refused(it.access(), "good-admin")

    asyncio.run(check())


def test_everything_that_is_known_of_a_user_counts(tmp_path: Path) -> None:
    right = Right("get", "optimizerplugins", "scale", namespace="n", name="p")

    async def check() -> None:
        async with world(tmp_path) as it:
            access = it.access()
            caller = await access.authenticate("good-admin")
            assert await access.allowed(caller, right)
            assert await access.allowed(caller, Right("get", path="/api/v1/metrics"))
            user = {"user": "admin", "uid": "7", "groups": ["staff"], "extra": {EXTRA_KEY: ["pod-1"]}}
            resource = {
                "verb": "get",
                "group": "engineops.dev",
                "resource": "optimizerplugins",
                "subresource": "scale",
                "namespace": "n",
                "name": "p",
            }
            path = {"verb": "get", "path": "/engine-ops/api/v1/metrics"}
            assert it.server.rights == [
                user | {"resourceAttributes": resource},
                user | {"nonResourceAttributes": path},
            ]

    asyncio.run(check())


# ---- How often


def test_one_review_for_many_at_once(tmp_path: Path) -> None:
    go = asyncio.Event()

    async def check() -> None:
        async with world(tmp_path) as it:

            async def late(review: dict[str, Any]) -> web.Response:
                await go.wait()
                return web.json_response({"status": {"authenticated": True, "user": {"username": "a"}}})

            it.server.instead = late
            access = it.access()
            asked = [asyncio.create_task(access.authenticate("good-a")) for _ in range(100)]
            await until(lambda: bool(it.server.tokens))
            # That some go away is nothing to the others, nor does the first matter more.
            for task in asked[:50]:
                task.cancel()
            go.set()
            callers = await asyncio.gather(*asked[50:])
            assert {caller.username for caller in callers} == {"a"}
            assert len(it.server.tokens) == 1
            assert all(task.cancelled() for task in asked[:50])

    asyncio.run(check())


def test_a_review_that_nobody_waits_for_any_more_ends(tmp_path: Path) -> None:
    async def check() -> None:
        async with world(tmp_path) as it:

            async def never(review: dict[str, Any]) -> web.Response:
                await asyncio.Event().wait()
                raise AssertionError

            it.server.instead = never
            access = it.access()
            before = asyncio.all_tasks()
            asked = [asyncio.create_task(access.authenticate("good-a")) for _ in range(3)]
            await until(lambda: bool(it.server.tokens))
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
            await until(lambda: not any("_review_token" in str(task) for task in asyncio.all_tasks() - before))
            it.server.instead = None
            assert (await access.authenticate("good-a")).username == "a"

    asyncio.run(check())


def test_decisions_are_good_for_ten_seconds(tmp_path: Path) -> None:
    right = Right("list", "optimizerplugins")

    async def check() -> None:
        async with world(tmp_path) as it:
            access = it.access()
            for now, asked in ((0.0, 1), (9.9, 1), (10.0, 2), (19.9, 2), (20.0, 3)):
                it.clock.now = now
                caller = await access.authenticate("good-viewer")
                assert not await access.allowed(caller, right)
                await refused(access, "bad")
                assert len(it.server.tokens) == 2 * asked  # the good and the bad one
                assert len(it.server.rights) == asked

    asyncio.run(check())


def test_other_users_and_other_rights_are_asked_about_anew(tmp_path: Path) -> None:
    async def check() -> None:
        async with world(tmp_path) as it:
            access = it.access()
            one, other = Right("get", "optimizerplugins"), Right("get", "optimizerplugins", name="x")
            callers = (
                Caller("admin"),
                Caller("admin", uid="1"),
                Caller("admin", groups=("g",)),
                Caller("admin", extra={"scopes": ("read",)}),
                Caller("viewer"),
            )
            answers = [await access.allowed(caller, right) for caller in callers for right in (one, other)]
            assert answers == [True] * 8 + [False] * 2
            assert len(it.server.rights) == len(answers)
            # By which token somebody comes is nothing to their rights.
            assert await access.allowed(Caller("admin", token="another"), one)
            assert len(it.server.rights) == len(answers)

    asyncio.run(check())


def test_bad_tokens_do_not_displace_good_ones(tmp_path: Path) -> None:
    async def check() -> None:
        async with world(tmp_path) as it:
            access = it.access(entries=4)
            await access.authenticate("good-a")
            for number in range(40):
                await refused(access, f"bad-{number}")
            asked = len(it.server.tokens)
            await access.authenticate("good-a")
            assert len(it.server.tokens) == asked
            assert len(access._refused) == 4

    asyncio.run(check())


# ---- When the API server does not tell


async def outage(review: dict[str, Any]) -> web.Response:
    return web.json_response({"message": "etcd is away"}, status=503)


async def forbidden(review: dict[str, Any]) -> web.Response:
    return web.json_response({"message": "cannot create tokenreviews", "reason": "Forbidden"}, status=403)


async def quoting(review: dict[str, Any]) -> web.Response:
    return web.json_response({"message": f"cannot read {json.dumps(review)}"}, status=400)


async def nonsense(review: dict[str, Any]) -> web.Response:
    return web.Response(text='{"status": {"authenticated": "yes", "allowed": "yes"}}')


async def empty(review: dict[str, Any]) -> web.Response:
    return web.Response(text="")


@pytest.mark.parametrize("answer", [outage, forbidden, quoting, nonsense, empty], ids=lambda answer: answer.__name__)
def test_nobody_is_let_in_nor_is_it_remembered(
    tmp_path: Path, answer: Answer, caplog: pytest.LogCaptureFixture
) -> None:
    async def check() -> None:
        async with world(tmp_path) as it:
            access = it.access()
            it.server.instead = answer
            for _ in range(2):
                with pytest.raises(AccessUnavailable) as raised:
                    await access.authenticate("good-admin")
                assert raised.value.__cause__ is None
                with pytest.raises(AccessUnavailable):
                    await access.allowed(Caller("admin"), Right("list", "optimizerplugins"))
            assert len(it.server.tokens) == len(it.server.rights) == 2
            it.server.instead = None
            assert await access.allowed(await access.authenticate("good-admin"), Right("list", "optimizerplugins"))

    with caplog.at_level(logging.DEBUG):
        asyncio.run(check())
    assert "good-admin" not in caplog.text
    warnings = [record for record in caplog.records if record.name == access_module.__name__]
    assert len(warnings) == 1  # and not one for each caller who is turned away


def test_an_api_server_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_module, "REVIEW_SECONDS", 0.01)

    async def never(review: dict[str, Any]) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async def check() -> None:
        async with world(tmp_path) as it:
            it.server.instead = never
            with pytest.raises(AccessUnavailable):
                await it.access().authenticate("good-admin")

    asyncio.run(check())


# ---- What is kept of a token


def test_no_token_is_kept_or_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def check() -> None:
        async with world(tmp_path) as it:
            access = it.access()
            caller = await access.authenticate("good-secret")
            said = await refused(access, "bad-secret")
            kept = [vars(access._callers), vars(access._refused), vars(access._token_reviews), caller]
            assert "secret" in repr(kept)  # the name of the user
            assert [remembered.token for _, remembered in access._callers._values.values()] == [None]
            for token in ("good-secret", "bad-secret"):
                assert token not in repr(kept) + said

    with caplog.at_level(logging.DEBUG):
        asyncio.run(check())
    assert "good-secret" not in caplog.text
    assert "bad-secret" not in caplog.text


# ---- Without tokens


def test_a_machine_without_tokens_is_its_users() -> None:
    async def check() -> None:
        access = LocalAccess()
        assert access.open
        for token in (None, "anything"):
            caller = await access.authenticate(token)
            assert caller == Caller("local")
            assert await access.allowed(caller, Right("delete", "everything"))

    asyncio.run(check())


# ---- What is remembered, whatever comes


@given(st.lists(st.tuples(st.sampled_from("gpt"), st.integers(0, 5), st.integers(0, 4))), st.integers(1, 4))
def test_recent_is_a_bounded_map_that_forgets(steps: list[tuple[str, int, int]], entries: int) -> None:
    clock = Clock()
    recent: Recent[int] = Recent(5.0, entries, clock=clock)
    put: dict[bytes, tuple[float, int]] = {}
    for number, (step, key_number, seconds) in enumerate(steps):
        key = bytes([key_number])
        if step == "t":
            clock.now += seconds
        elif step == "p":
            recent.put(key, number)
            put[key] = (clock.now, number)
            assert recent.get(key) == number
        else:
            found = recent.get(key)
            assert found is None or (found == put[key][1] and clock.now - put[key][0] < 5.0)
        assert len(recent) <= entries


def test_the_longest_unused_goes_first() -> None:
    recent: Recent[int] = Recent(5.0, 2)
    recent.put(b"a", 1)
    recent.put(b"b", 2)
    assert recent.get(b"a") == 1
    recent.put(b"c", 3)
    assert [recent.get(key) for key in (b"a", b"b", b"c")] == [1, None, 3]


def test_what_is_given_up_is_out_of_the_way_at_once() -> None:
    async def check() -> None:
        flights: SingleFlight[int] = SingleFlight()
        begun, ending, may_end = asyncio.Event(), asyncio.Event(), asyncio.Event()
        unseen: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen.append(context))

        async def ends_late() -> int:
            try:
                begun.set()
                await asyncio.Event().wait()
            finally:
                ending.set()
                await may_end.wait()
                raise LookupError("nobody hears of it")

        async def answer() -> int:
            return 7

        waiting = asyncio.create_task(flights.run(b"k", ends_late))
        await begun.wait()
        waiting.cancel()
        await ending.wait()
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert await flights.run(b"k", answer) == 7
        may_end.set()
        await until(lambda: len(asyncio.all_tasks()) == 1)
        del waiting  # whose traceback leads to the other one
        gc.collect()
        assert not unseen

    asyncio.run(check())


def test_what_fails_fails_for_all_and_is_asked_again() -> None:
    async def check() -> None:
        flights: SingleFlight[int] = SingleFlight()
        calls = 0

        async def fail() -> int:
            nonlocal calls
            calls += 1
            await asyncio.sleep(0)
            raise LookupError(str(calls))

        for expected in ("1", "2"):
            results = await asyncio.gather(*(flights.run(b"k", fail) for _ in range(5)), return_exceptions=True)
            assert [str(result) for result in results] == [expected] * 5
        assert not flights._flights

    asyncio.run(check())
