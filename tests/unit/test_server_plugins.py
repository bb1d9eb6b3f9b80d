"""Plugins over HTTP: what is shown, who may, what is changed in whose name, and names that are none."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from server_history import HistoryEngine
from server_stand_in import HttpClient, StandInAccess, StandIns
from test_server_app import ADA, client, problem, stand_ins

from engine_ops.api.plugin_change import PluginChange, PluginManaged
from engine_ops.server.app import create_app
from engine_ops.server.callers import AccessUnavailable, Caller, Right
from engine_ops.server.plugin_changes import PluginChangeRefused

MINE = {
    "name": "my-plugin",
    "version": "1.0.0",
    "description": "Custom plugin",
    "supportedTypes": ["ml-driven"],
    "config": {"enabled": True, "priority": 10},
}
DETAILS = {**MINE, "settings": {"scale": 1.5}, "status": {"state": "Running", "skill": None}}
BASE = "/api/v1/plugins"


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def test_the_list_is_as_old_clients_know_it() -> None:
    async def main() -> None:
        said = (await client(stand_ins()).get(BASE)).json()
        assert said["plugins"][0] == MINE
        assert [plugin["name"] for plugin in said["plugins"]] == ["my-plugin", "other"]
        assert said["count"] == 2

    run(main())


def test_one_plugin_shows_more() -> None:
    async def main() -> None:
        assert (await client(stand_ins()).get(f"{BASE}/my-plugin")).json() == DETAILS
        problem(await client(stand_ins()).get(f"{BASE}/nobody"), "not-found")

    run(main())


def test_the_list_and_each_plugin_need_their_right() -> None:
    async def main() -> None:
        these = stand_ins()
        asked: list[Right] = []

        def may(right: Right) -> bool:
            asked.append(right)
            return right.name == "my-plugin"

        these.access.add("viewer", "viewer", may)
        there = client(these, "viewer")
        problem(await there.get(BASE), "forbidden")
        assert (await there.get(f"{BASE}/my-plugin")).status == 200
        problem(await there.get(f"{BASE}/other"), "forbidden")
        said = problem(await there.get(f"{BASE}/nobody"), "forbidden")
        assert said["detail"] == 'viewer may not get optimizerplugins "nobody" of the API group engineops.dev.'
        assert asked[:2] == [Right("list", "optimizerplugins"), Right("get", "optimizerplugins", name="my-plugin")]

    run(main())


def test_without_tokens_everything_is_allowed() -> None:
    async def main() -> None:
        these = stand_ins(open_=True)
        these.access.rights.clear()
        there = client(these, None)
        assert (await there.get(BASE)).status == 200
        assert (await there.post(f"{BASE}/my-plugin/disable")).json()["config"]["enabled"] is False

    run(main())


@pytest.mark.parametrize(("word", "enabled"), [("enable", True), ("disable", False)])
def test_switching_is_done_in_the_callers_name(word: str, enabled: bool) -> None:
    async def main() -> None:
        these = stand_ins()
        for force in (False, True):
            reply = await client(these).post(f"{BASE}/my-plugin/{word}{'?force=true' if force else ''}")
            assert reply.status == 200
            assert reply.json() == {**DETAILS, "config": {"enabled": enabled, "priority": 10}}
            caller, name, change, forced = these.switch.changes[-1]
            assert (caller, name, forced) == (Caller("ada", token=ADA), "my-plugin", force)
            assert change == PluginChange(enabled=enabled)

    run(main())


def test_a_patch_changes_what_it_names() -> None:
    async def main() -> None:
        these = stand_ins()
        there = client(these)
        reply = await there.patch(f"{BASE}/my-plugin", json={"priority": 20.0})
        assert reply.json()["config"] == {"enabled": True, "priority": 20}
        reply = await there.patch(
            f"{BASE}/my-plugin", json={"config": {"scale": 2}, "enabled": False}, content_type="application/json"
        )
        assert reply.json()["settings"] == {"scale": 2}
        assert [change for _, _, change, _ in these.switch.changes] == [
            PluginChange(priority=20),
            PluginChange(enabled=False, config={"scale": 2}),
        ]
        assert (await there.patch(f"{BASE}/my-plugin", json={})).json()["settings"] == {"scale": 2}

    run(main())


def test_what_the_operator_has_not_heard_of_yet_is_said_all_the_same() -> None:
    async def main() -> None:
        these = stand_ins()

        async def nothing(*_: object, **__: object) -> None: ...

        these.switch.change = nothing  # type: ignore[method-assign]
        there = client(these)
        # The change is at the API server; the watch has not brought it.
        reply = await there.patch(f"{BASE}/my-plugin", json={"priority": 3, "enabled": False})
        assert reply.json()["config"] == {"enabled": False, "priority": 3}
        reply = await there.patch(f"{BASE}/just-made", json={"config": {"a": 1}})
        assert (reply.json()["name"], reply.json()["settings"]) == ("just-made", {"a": 1})

    run(main())


@pytest.mark.parametrize(
    ("body", "kind", "field"),
    [
        (b"", "malformed", None),
        (b"{", "malformed", None),
        (b"\xff", "malformed", None),
        (b'{"config":{"a":NaN}}', "malformed", None),
        (b'{"config":{"a":"\\ud800"}}', "malformed", None),
        (b'{"config":' + b'{"a":' * 64 + b"1" + b"}" * 65, "malformed", None),
        (b'{"config":' + b"[" * 100_000, "malformed", None),
        (b"[]", "invalid", ""),
        (b"null", "invalid", ""),
        (b'{"config":null}', "invalid", "config"),
        (b'{"config":[]}', "invalid", "config"),
        (b'{"priority":"3"}', "invalid", "priority"),
        (b'{"priority":1.5}', "invalid", "priority"),
        (b'{"priority":true}', "invalid", "priority"),
        (b'{"priority":1000001}', "invalid", "priority"),
        (b'{"priority":null}', "invalid", "priority"),
        (b'{"enabled":1}', "invalid", "enabled"),
        (b'{"Priority":1}', "invalid", "Priority"),
        (b'{"spec":{}}', "invalid", "spec"),
    ],
)
def test_patches_that_are_none(body: bytes, kind: str, field: str | None) -> None:
    async def main() -> None:
        these = stand_ins()
        reply = await client(these).patch(f"{BASE}/my-plugin", body=body, content_type="application/json")
        said = problem(reply, kind)
        assert [error["field"] for error in said.get("errors", [])] == ([] if field is None else [field])
        assert not these.switch.changes

    run(main())


def test_settings_may_be_nested_as_deep_as_is_said() -> None:
    async def main() -> None:
        body = b'{"config":' + b'{"a":' * 63 + b"1" + b"}" * 64
        reply = await client(stand_ins()).patch(f"{BASE}/my-plugin", body=body, content_type="application/json")
        assert reply.status == 200

    run(main())


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "application/json-patch+json"])
def test_a_patch_of_another_type_is_not_read(kind: str) -> None:
    async def main() -> None:
        reply = await client(stand_ins()).patch(f"{BASE}/my-plugin", body=b"{}", content_type=kind)
        problem(reply, "unsupported-media-type")

    run(main())


@pytest.mark.parametrize("force", ["maybe", "2", "", "true&force2=1"])
def test_force_is_a_flag(force: str) -> None:
    async def main() -> None:
        these = stand_ins()
        problem(await client(these).post(f"{BASE}/my-plugin/enable?force={force}"), "invalid")
        assert not these.switch.changes

    run(main())


def test_a_field_of_another_manager_is_a_conflict_that_names_it() -> None:
    async def main() -> None:
        these = stand_ins()
        these.switch.refusal = PluginManaged("argocd-controller", ["spec.enabled"])
        said = problem(await client(these).post(f"{BASE}/my-plugin/disable"), "managed")
        assert (said["manager"], said["fields"]) == ("argocd-controller", ["spec.enabled"])
        assert "?force=true" in said["detail"]
        assert (await client(these).post(f"{BASE}/my-plugin/disable?force=true")).status == 200

    run(main())


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, "malformed"), (401, "unauthenticated"), (403, "forbidden"), (409, "conflict"), (413, "too-large"),
     (422, "invalid"), (429, "too-many-requests"), (418, "unavailable")],
)  # fmt: skip
def test_what_the_api_server_refuses_is_passed_on(status: int, kind: str) -> None:
    async def main() -> None:
        these = stand_ins()
        wait = 1.2 if status == 429 else None
        faults = [("spec.config.scale", "must be above 0")] if status == 422 else []
        these.switch.refusal = PluginChangeRefused(status, "it says no", faults, retry_after_seconds=wait)
        reply = await client(these).post(f"{BASE}/my-plugin/disable")
        said = problem(reply, kind)
        assert said["detail"] == "it says no"
        assert reply.headers.get("retry-after") == ("2" if wait else None)
        assert said.get("errors", []) == [{"field": path, "detail": why} for path, why in faults]

    run(main())


def test_an_api_server_that_cannot_be_reached() -> None:
    async def main() -> None:
        these = stand_ins()
        these.switch.refusal = AccessUnavailable("it does not answer")
        problem(await client(these).post(f"{BASE}/my-plugin/disable"), "unavailable")

    run(main())


def test_where_nothing_can_be_changed() -> None:
    async def main() -> None:
        these = stand_ins()
        these.switch = None  # type: ignore[assignment]
        problem(await client(these).post(f"{BASE}/my-plugin/disable"), "conflict")
        assert (await client(these).get(f"{BASE}/my-plugin")).status == 200

    run(main())


HOSTILE = [
    "..", ".", "...", "../optimizerplugins", "../../namespaces/kube-system/secrets/x", "a/../b", "a%2Fb", "%2e%2e",
    "%252e%252e%252f", "workload-data", "none", "a" * 254, "a" * 100_000, "A", "a_b", "-a", "a-", "a..b", " a", "a ",
    "a\n", "a\0", "a?b", "a#b", "a;b", "a\\b", "\u00e9t\u00e9", "\u202ea", "\uff0e\uff0e", "a\r\nX-Injected: 1", "'a'",
    "{name}", "$(id)", "a%00", "\U0001f600",
]  # fmt: skip


class _NothingIsAsked(HistoryEngine):
    async def plugin(self, name: str) -> Any:
        raise AssertionError(f"the engine was asked about {name!r}")


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("way", ["get", "enable", "disable", "patch"])
def test_names_that_are_none_reach_nobody(name: str, way: str) -> None:
    async def main() -> None:
        these = StandIns(_NothingIsAsked(), StandInAccess())
        asked: list[Right] = []
        these.access.add(ADA, "ada", lambda right: not asked.append(right))  # type: ignore[func-returns-value]
        there = client(these)
        for quoted in {quote(name, safe=""), quote(name, safe="/%")}:
            url = f"{BASE}/{quoted}"
            if way == "get":
                reply = await there.get(url)
            elif way == "patch":
                reply = await there.patch(url, json={"priority": 1})
            else:
                reply = await there.post(f"{url}/{way}")
            assert reply.status in {404, 405}, (url, reply.body)
            problem(reply, "not-found" if reply.status == 404 else "method-not-allowed")
            assert "x-injected" not in reply.headers
        assert not asked
        assert not these.switch.changes

    run(main())


def test_workload_data_says_what_it_is() -> None:
    async def main() -> None:
        said = problem(await client(stand_ins()).get(f"{BASE}/workload-data"), "not-found")
        assert "/export" in said["detail"]

    run(main())


def test_without_kubernetes_plugins_are_called_what_they_call_themselves() -> None:
    async def main() -> None:
        these = stand_ins(open_=True)
        these.engine.named["Mein Plug-in \u00fc"] = these.engine.named.pop("other")
        there = client(these, None)
        url = f"{BASE}/{quote('Mein Plug-in ü')}"
        assert (await there.get(url)).status == 200
        assert (await there.post(f"{url}/disable")).status == 200
        for name in ("..", "workload-data", "a\n", "x" * 254):
            problem(await there.get(f"{BASE}/{quote(name)}"), "not-found")

    run(main())


APP = create_app(stand_ins(requests_per_second=0).services(), version="1")


@given(st.text(max_size=30))
def test_no_name_but_a_plugins_finds_one(name: str) -> None:
    async def main() -> None:
        reply = await HttpClient(APP, ADA).get(f"{BASE}/{quote(name, safe='')}")
        found = reply.status == 200 and "settings" in reply.json()
        assert found == (name in {"my-plugin", "other"})

    run(main())
