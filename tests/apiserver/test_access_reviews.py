"""Who calls and what they may do, as the real API server says it of ServiceAccounts' tokens."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from api_tokens import encoded, expired, forged, signed
from api_users import ApiUsers, api_users

from engine_ops.devcluster import DevCluster
from engine_ops.kube.connection import Connection
from engine_ops.kube.preflight import why_no_api
from engine_ops.server.access import KubeAccess
from engine_ops.server.callers import AccessUnavailable, Caller, Right, Unauthenticated

WAIT_SECONDS = 30.0
REQUESTS, PLUGINS = "optimizationrequests", "optimizerplugins"


@pytest.fixture
def users(installed: DevCluster, namespace: str) -> Iterator[ApiUsers]:
    with api_users(installed, namespace) as made:
        yield made


@contextlib.asynccontextmanager
async def asking(kubeconfig: Path, **options: Any) -> AsyncIterator[KubeAccess]:
    connection = await Connection.open(str(kubeconfig))
    try:
        yield KubeAccess(connection, **options)
    finally:
        await connection.close()


def run(check: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(2 * WAIT_SECONDS):
            await check()

    asyncio.run(main())


async def refused(access: KubeAccess, token: str) -> None:
    with pytest.raises(Unauthenticated) as raised:
        await access.authenticate(token)
    assert token not in str(raised.value)


# ---- The operator's own rights


def test_the_manifests_let_the_operator_ask(operator_kubeconfig: Path, users: ApiUsers) -> None:
    async def check() -> None:
        connection = await Connection.open(str(operator_kubeconfig))
        stranger = connection.as_user(users.token("stranger"))
        try:
            assert await why_no_api(connection) is None
            why = await why_no_api(stranger)
            assert why is not None
            assert "create tokenreviews.authentication.k8s.io, create subjectaccessreviews.authorization.k8s.io" in why
        finally:
            await stranger.close()
            await connection.close()

    run(check)


def test_an_operator_that_may_not_ask_lets_nobody_in(
    users: ApiUsers, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    token = users.token("admin")

    async def check() -> None:
        kubeconfig = users.cluster.create_kubeconfig_for_token(users.token("stranger"), tmp_path / "stranger")
        async with asking(kubeconfig) as access:
            with pytest.raises(AccessUnavailable):
                await access.authenticate(token)
            with pytest.raises(AccessUnavailable):
                await access.allowed(Caller("system:admin", groups=("system:masters",)), Right("get", PLUGINS))

    run(check)
    assert "tokenreviews" in caplog.text
    assert token not in caplog.text


# ---- Tokens


def test_a_token_says_who_calls(operator_kubeconfig: Path, users: ApiUsers) -> None:
    async def check() -> None:
        async with asking(operator_kubeconfig) as access:
            token = users.token("editor")
            caller = await access.authenticate(token)
            assert caller.username == users.username("editor")
            assert caller.namespace == users.namespace
            assert caller.uid
            assert f"system:serviceaccounts:{users.namespace}" in caller.groups
            assert caller.token == token
            assert token not in repr(caller)
            assert token not in repr(vars(access))

    run(check)


def test_what_is_no_good_token_is_refused(operator_kubeconfig: Path, users: ApiUsers) -> None:
    token = users.token("admin")
    payload = token.split(".")[1]
    nobody = encoded(b'{"alg":"none"}')

    async def check() -> None:
        async with asking(operator_kubeconfig) as access:
            for bad in (
                "nonsense",
                forged(token),
                f"{nobody}.{payload}.",
                expired(users.cluster, token),
                users.token("admin", audiences=["https://elsewhere.example"]),
            ):
                await refused(access, bad)
            # It is the time alone that is wrong with the expired one.
            assert (await access.authenticate(signed(users.cluster, token))).username == users.username("admin")

    run(check)


def test_a_token_for_an_audience_of_the_apis_own(operator_kubeconfig: Path, users: ApiUsers) -> None:
    ours = "engine-ops.example"

    async def check() -> None:
        async with asking(operator_kubeconfig, audiences=[ours]) as access:
            both = users.token("viewer", audiences=["https://elsewhere.example", ours])
            assert (await access.authenticate(both)).username == users.username("viewer")
            await refused(access, users.token("viewer", audiences=["https://elsewhere.example"]))
            await refused(access, users.token("viewer"))

    run(check)


def test_a_token_goes_with_its_service_account(operator_kubeconfig: Path, users: ApiUsers) -> None:
    async def check() -> None:
        token = users.token("stranger")
        async with asking(operator_kubeconfig, seconds=0.0) as access:
            await access.authenticate(token)
            users.delete("stranger")
            deadline = time.monotonic() + WAIT_SECONDS  # the API server itself remembers for some ten seconds
            while True:
                try:
                    await access.authenticate(token)
                except Unauthenticated:
                    break
                assert time.monotonic() < deadline, "the token of a deleted ServiceAccount is still good"
                await asyncio.sleep(0.2)

    run(check)


# ---- Rights


def test_what_an_admin_an_editor_a_viewer_and_a_stranger_may(operator_kubeconfig: Path, users: ApiUsers) -> None:
    here = users.namespace
    asked = {
        "create requests here": Right("create", REQUESTS, namespace=here),
        "create requests elsewhere": Right("create", REQUESTS, namespace="default"),
        "read the history here": Right("get", REQUESTS, "history", namespace=here),
        "read the history elsewhere": Right("get", REQUESTS, "history", namespace="default"),
        "read all history": Right("get", REQUESTS, "history"),
        "list plugins": Right("list", PLUGINS),
        "get a plugin": Right("get", PLUGINS, name="oracle"),
        "patch a plugin": Right("patch", PLUGINS, name="oracle"),
        "read the metrics": Right("get", path="/api/v1/metrics"),
        "read the cache's numbers": Right("get", path="/api/v1/cache/stats"),
        "get another path": Right("get", path="/api/v1/other"),
    }
    of_the_namespace = {"create requests here", "read the history here"}
    of_everybody = {"list plugins", "get a plugin"}  # bound in the whole cluster: to all but the stranger
    expected = {
        "admin": set(asked) - {"get another path"},
        "editor": of_the_namespace | of_everybody,
        "viewer": of_everybody,
        "stranger": set(),
    }

    async def check() -> None:
        async with asking(operator_kubeconfig, seconds=0.0) as access:

            async def table() -> dict[str, set[str]]:
                callers = {name: await access.authenticate(users.token(name)) for name in expected}
                return {
                    name: {what for what, right in asked.items() if await access.allowed(caller, right)}
                    for name, caller in callers.items()
                }

            deadline = time.monotonic() + WAIT_SECONDS  # roles are aggregated, and bindings seen, a moment later
            while (found := await table()) != expected:
                assert time.monotonic() < deadline, found
                await asyncio.sleep(0.1)

    run(check)
