"""Changing a plugin with the caller's token: what is sent, with whose credentials, and what becomes of refusals."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from access_world import OWN_TOKEN, world
from aiohttp import web

from engine_ops.api.plugin_change import PluginChange, PluginManaged
from engine_ops.kube.connection import Connection
from engine_ops.kube.errors import ApiError, UnavailableError
from engine_ops.server.callers import AccessUnavailable, Caller
from engine_ops.server.plugin_changes import PluginChangeRefused, PluginNotFound
from engine_ops.server.plugin_switch import KubePluginSwitch


def test_nothing_but_the_callers_token_is_sent(tmp_path: Path) -> None:
    async def check() -> None:
        async with world(tmp_path) as it:
            change = PluginChange(enabled=False, config={"a": None})
            await KubePluginSwitch(it.connection).change(Caller("u", token="theirs"), "p", change, force=False)
            assert it.server.patches == [
                [
                    {"op": "replace", "path": "/metadata/resourceVersion", "value": "1"},
                    {"op": "add", "path": "/spec/enabled", "value": False},
                    {"op": "add", "path": "/spec/config", "value": {"a": None}},
                ]
            ]
            assert len(it.server.headers) == 2
            for headers in it.server.headers:
                assert headers["Authorization"] == "Bearer theirs"
                assert not [name for name in headers if name.lower().startswith("impersonate")]
                assert "Cookie" not in headers
                assert OWN_TOKEN not in str(headers)

    asyncio.run(check())


@pytest.mark.parametrize("token", [None, ""])
def test_nothing_is_done_in_nobodys_name(tmp_path: Path, token: str | None) -> None:
    async def check() -> None:
        async with world(tmp_path) as it:
            with pytest.raises(PluginChangeRefused) as raised:
                await KubePluginSwitch(it.connection).change(Caller("u", token=token), "p", PluginChange(), force=True)
            assert raised.value.status == 401
            assert it.server.headers == []

    asyncio.run(check())


def test_a_refused_token_is_not_replaced_by_the_operators(tmp_path: Path) -> None:
    async def check() -> None:
        async with world(tmp_path) as it:
            it.server.plugin_instead = lambda _: web.json_response({"message": "Unauthorized"}, status=401)
            with pytest.raises(PluginChangeRefused) as raised:
                await KubePluginSwitch(it.connection).change(Caller("u", token="t"), "p", PluginChange(), force=True)
            assert raised.value.status == 401
            assert [headers["Authorization"] for headers in it.server.headers] == ["Bearer t"]
            theirs = it.connection.as_user("t")
            try:
                await theirs.reload()
                apart = theirs.apart()
                try:
                    with pytest.raises(ApiError):
                        await apart.get("/apis/engineops.dev/v1alpha1/optimizerplugins/p")
                finally:
                    await apart.close()
                shown = await theirs.credentials()
            finally:
                await theirs.close()
            assert (shown.token, shown.certificate_path, shown.private_key_path) == ("t", None, None)
            assert {headers["Authorization"] for headers in it.server.headers} == {"Bearer t"}

    asyncio.run(check())


CAUSES = [{"field": "spec.priority", "message": "too big"}, {"message": "nowhere"}]


@pytest.mark.parametrize(
    ("status", "raised_as"),
    [(404, PluginNotFound), *((s, PluginChangeRefused) for s in (400, 403, 409, 413, 422, 429))]
    + [(status, AccessUnavailable) for status in (408, 500, 502, 503, 504)],
)
def test_what_the_api_server_says_is_passed_on(tmp_path: Path, status: int, raised_as: type[Exception]) -> None:
    body = {"message": "so it says", "reason": "Because", "details": {"causes": CAUSES, "retryAfterSeconds": 3}}

    async def check() -> None:
        async with world(tmp_path) as it:
            it.server.plugin_instead = lambda method: (
                web.json_response(body, status=status) if method == "PATCH" else None
            )
            with pytest.raises(raised_as) as raised:
                await KubePluginSwitch(it.connection).change(Caller("u", token="t"), "p", PluginChange(), force=False)
            error = raised.value
            assert len(it.server.patches) == 1
            if isinstance(error, AccessUnavailable):
                assert "so it says" not in str(error)
            else:
                assert str(error) == "so it says"
            if isinstance(error, PluginChangeRefused):
                assert error.status == status
                assert error.faults == (("spec.priority", "too big"), ("", "nowhere"))
                assert error.retry_after_seconds == 3.0

    asyncio.run(check())


def test_a_plugin_that_is_always_written_in_between(tmp_path: Path) -> None:
    async def check() -> None:
        async with world(tmp_path) as it:
            it.server.plugin_instead = lambda method: (
                web.json_response({"message": "modified", "reason": "Conflict"}, status=409)
                if method == "PATCH"
                else None
            )
            with pytest.raises(PluginChangeRefused) as raised:
                await KubePluginSwitch(it.connection).change(Caller("u", token="t"), "p", PluginChange(), force=False)
            assert raised.value.status == 409
            assert 1 < len(it.server.patches) < 20

    asyncio.run(check())


def test_a_managed_plugin_is_tried_and_not_changed(tmp_path: Path) -> None:
    entry = {"manager": "flux", "operation": "Apply", "fieldsV1": {"f:spec": {"f:enabled": {}}}}
    metadata = {"name": "p", "resourceVersion": "1", "managedFields": [entry]}

    async def check() -> None:
        async with world(tmp_path) as it:
            queries: list[dict[str, str]] = []
            request = it.connection.as_user

            def watched(token: str) -> Connection:
                theirs = request(token)
                send = theirs.request

                async def note(method: str, path: str, **options: Any) -> bytes:
                    if method == "PATCH":
                        queries.append(dict(options["params"]))
                    return await send(method, path, **options)

                theirs.request = note  # type: ignore[method-assign, assignment]
                return theirs

            it.connection.as_user = watched  # type: ignore[method-assign, assignment]
            it.server.plugin_instead = lambda _: web.json_response({"metadata": metadata, "spec": {"enabled": True}})
            switch, caller, off = KubePluginSwitch(it.connection), Caller("u", token="t"), PluginChange(enabled=False)
            with pytest.raises(PluginManaged) as raised:
                await switch.change(caller, "p", off, force=False)
            assert (raised.value.manager, raised.value.fields) == ("flux", ("spec.enabled",))
            await switch.change(caller, "p", off, force=True)
            assert queries == [
                {"fieldManager": "engine-ops-api", "dryRun": "All"},
                {"fieldManager": "engine-ops-api"},
            ]

    asyncio.run(check())


def test_an_unreadable_authority_is_an_outage(tmp_path: Path) -> None:
    async def check() -> None:
        async with world(tmp_path) as it:
            it.connection._configuration.ssl_ca_cert = str(tmp_path / "gone")
            with pytest.raises(AccessUnavailable):
                await KubePluginSwitch(it.connection).change(Caller("u", token="t"), "p", PluginChange(), force=False)

    asyncio.run(check())


def test_the_client_certificate_stays_behind(tmp_path: Path) -> None:
    """What is known of the operator's configuration and is not the server's or the way to it is left out."""

    async def check() -> None:
        async with world(tmp_path) as it:
            own = it.connection._configuration
            own.cert_file, own.key_file = "cert", "key"
            own.username, own.password, own.access_token = "u", "p", "t"
            own.proxy = "http://127.0.0.1:9"
            theirs = it.connection.as_user("t")
            try:
                made = theirs._configuration
                assert (made.cert_file, made.key_file) == (None, None)
                assert (made.username, made.password, made.access_token) == (None, None, None)
                assert made.refresh_api_key_hook is None
                assert theirs.proxy_url == own.proxy
                assert theirs.server == it.connection.server
                with pytest.raises(UnavailableError):
                    await theirs.get("/api")  # by way of the proxy, which is not there
            finally:
                await theirs.close()

    asyncio.run(check())
