"""Models as ConfigMaps of a stand-in for the API server; tests/apiserver/test_plugins_status.py has the real one."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import random
import re
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine_ops.api.fields import DNS_SUBDOMAIN
from engine_ops.kube import model_store
from engine_ops.kube.errors import ApiError, UnavailableError
from engine_ops.kube.model_names import index_name, label_value, model_name
from engine_ops.kube.model_store import ConfigMapModelStore
from engine_ops.plugins.model_store import DirectoryModelStore, ModelRecord, ModelStoreError, SavedModels

T = TypeVar("T")
BASE = "/api/v1/namespaces/ours/configmaps"
PLUGINS = "/apis/engineops.dev/v1alpha1/optimizerplugins"


class Server:
    """ConfigMaps of one namespace, and which plugins there are.

    ``failures`` holds, for the next requests of a method, an error and whether the request is done all the same.
    """

    def __init__(self, *plugins: str) -> None:
        self.maps: dict[str, dict[str, Any]] = {}
        self.plugins = plugins
        self.calls: list[str] = []
        self.failures: dict[str, list[tuple[Exception, bool]]] = {}
        self.version = 0
        self.page_size = 2

    async def request(self, method: str, path: str, *, body: bytes | None, accept: str, params: Any) -> bytes:
        await asyncio.sleep(0)
        error, done = None, True
        if self.failures.get(method):
            error, done = self.failures[method].pop(0)
        answer = self.answer(method, path, json.loads(body) if body else None, accept, params or {}) if done else None
        if error is not None:
            raise error
        return json.dumps(answer).encode()

    def answer(self, method: str, path: str, body: Any, accept: str, params: dict[str, str]) -> Any:
        name = path.removeprefix(BASE).removeprefix("/")
        self.calls.append(f"{method} {name}".strip())
        if path == PLUGINS:
            return {"metadata": {}, "items": [{"metadata": {"name": plugin}} for plugin in self.plugins]}
        assert path.startswith(BASE)
        if method == "POST":
            if body["metadata"]["name"] in self.maps:
                raise ApiError(409, {"reason": "AlreadyExists"})
            return self.put(body)
        if not name:
            return self.list(params, contents="PartialObjectMetadata" not in accept)
        if name not in self.maps:
            raise ApiError(404, {"reason": "NotFound"})
        if method == "PUT":
            assert not self.maps[name].get("immutable")
            if body["metadata"]["resourceVersion"] != self.maps[name]["metadata"]["resourceVersion"]:
                raise ApiError(409, {"reason": "Conflict"})
            return self.put(body)
        return self.maps.pop(name) if method == "DELETE" else self.maps[name]

    def put(self, body: dict[str, Any]) -> dict[str, Any]:
        self.version += 1
        content = base64.b64decode(body["binaryData"]["content"])
        assert len(content) <= 1 << 20
        body["metadata"]["resourceVersion"] = str(self.version)
        self.maps[body["metadata"]["name"]] = body
        return body

    def list(self, params: dict[str, str], *, contents: bool) -> Any:
        wanted = dict(pair.split("=") for pair in params["labelSelector"].split(","))
        found = [
            item
            for _, item in sorted(self.maps.items())
            if wanted.items() <= item["metadata"].get("labels", {}).items()
        ]
        begin = int(params.get("continue", "0"))
        page = found[begin : begin + self.page_size]
        more = str(begin + self.page_size) if begin + self.page_size < len(found) else ""
        items = page if contents else [{"metadata": item["metadata"]} for item in page]
        return {"metadata": {"continue": more}, "items": items}


def store_of(server: Any, large: Any = None) -> ConfigMapModelStore:
    return ConfigMapModelStore(server, "ours", large)


def wait(work: Coroutine[Any, Any, T]) -> T:
    async def inner() -> T:
        async with asyncio.timeout(30):
            return await work

    return asyncio.run(inner())


def digest_of(state: bytes) -> str:
    return f"sha256:{hashlib.sha256(state).hexdigest()}"


def models(*states: bytes, active: int = 0, points_since: int = 0) -> SavedModels:
    records = tuple(ModelRecord(digest_of(state), f"model {number}", 10, 1, "x") for number, state in enumerate(states))
    return SavedModels(
        records=records,
        active=records[active].digest if records else "",
        states={digest_of(state): state for state in states},
        trackers={record.digest: b"tracked" for record in records},
        points_since=points_since,
    )


def files_in(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


def noise(size: int, seed: int = 1) -> bytes:
    """Bytes that no compression makes smaller."""
    return random.Random(seed).randbytes(size)


def test_what_was_saved_is_loaded_by_another() -> None:
    server, saved = Server(), models(b"one" * 1000, b"two", b"three")
    wait(store_of(server).save("p", saved))
    assert wait(store_of(server).load("p")) == saved
    assert wait(store_of(server).load("q")) == SavedModels()


def test_a_state_is_written_once_before_the_index_and_cannot_be_changed() -> None:
    async def test() -> None:
        server, saved = Server(), models(b"one")
        store = store_of(server)
        await store.save("p", saved)
        state = model_name("p", saved.active)
        assert server.calls == ["GET", "POST", "POST"]
        assert list(server.maps) == [state, "engine-ops-plugin-p"]
        assert server.maps[state]["immutable"] is True
        assert "immutable" not in server.maps["engine-ops-plugin-p"]
        server.calls.clear()
        await store.save("p", saved)
        assert server.calls == []  # nothing has changed
        await store.save("p", models(b"one", points_since=7))
        assert server.calls == ["PUT engine-ops-plugin-p"]

    wait(test())


def test_models_that_are_not_kept_any_more_are_deleted_after_the_index_says_so() -> None:
    async def test() -> None:
        server = Server()
        store = store_of(server)
        await store.save("p", models(b"one", b"two"))
        server.calls.clear()
        await store.save("p", models(b"two", b"three"))
        gone = model_name("p", digest_of(b"one"))
        assert server.calls == ["POST", "PUT engine-ops-plugin-p", f"DELETE {gone}"]
        assert await store_of(server).load("p") == models(b"two", b"three")

    wait(test())


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "GET"])
def test_a_request_that_fails_costs_nothing_whether_or_not_it_was_done(method: str, done: bool) -> None:
    async def test() -> None:
        server = Server()
        store = store_of(server)
        await store.save("p", models(b"one"))
        before = models(b"one")
        after = models(b"two", points_since=3)
        if method == "GET":
            store = store_of(server)
        server.failures = {method: [(UnavailableError("down"), done)] * 2}
        tries = 0
        while True:
            tries += 1
            try:
                await store.save("p", after)
                break
            except ModelStoreError:
                assert await store_of(_Without(server)).load("p") in (before, after)
            assert tries < 10
        assert tries > 1
        assert await store_of(server).load("p") == after
        assert len(server.maps) == 2

    wait(test())


class _Without:
    """The same server for another client, without the failures."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def request(self, method: str, path: str, *, body: bytes | None, accept: str, params: Any) -> bytes:
        decoded = json.loads(body) if body else None
        return json.dumps(self._server.answer(method, path, decoded, accept, params or {})).encode()


def test_an_index_that_somebody_changed_is_not_written_over_unseen() -> None:
    async def test() -> None:
        server = Server()
        store = store_of(server)
        await store.save("p", models(b"one"))
        await store_of(server).save("p", models(b"one", points_since=9))
        with pytest.raises(ModelStoreError, match="Conflict"):
            await store.save("p", models(b"one", points_since=1))
        assert (await store.load("p")).points_since == 9

    wait(test())


def _edit(server: Server, name: str, content: bytes) -> None:
    server.maps[name]["binaryData"]["content"] = base64.b64encode(content).decode()


@pytest.mark.parametrize("content", [b"", b"rubbish", model_store.zlib.compress(b"another model")])
def test_a_state_that_was_damaged_is_left_out_and_made_anew(content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        server, saved = Server(), models(b"one", b"two")
        await store_of(server).save("p", saved)
        _edit(server, model_name("p", saved.active), content)
        store = store_of(server)
        loaded = await store.load("p")
        assert loaded.records == saved.records
        assert loaded.states == {digest_of(b"two"): b"two"}
        await store.save("p", saved)
        assert await store_of(server).load("p") == saved

    wait(test())
    assert "it holds no model" in caplog.text


@pytest.mark.parametrize("content", [b"", b"rubbish", model_store.zlib.compress(b"\x80")])
def test_an_index_that_was_damaged_is_as_none_and_is_written_anew(
    content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        server, saved = Server(), models(b"one")
        await store_of(server).save("p", saved)
        _edit(server, "engine-ops-plugin-p", content)
        store = store_of(server)
        assert await store.load("p") == SavedModels()
        await store.save("p", saved)
        assert await store_of(server).load("p") == saved

    wait(test())
    assert "the models are forgotten" in caplog.text


def test_a_config_map_of_somebody_else_is_neither_read_nor_written_over_nor_deleted() -> None:
    async def test() -> None:
        server, saved = Server(), models(b"one")
        state = model_name("p", saved.active)
        theirs = {"metadata": {"name": state}, "binaryData": {"content": base64.b64encode(b"x").decode()}}
        server.put(theirs)
        store = store_of(server)
        with pytest.raises(ModelStoreError, match="in the way"):
            await store.save("p", saved)
        await store.forget("p")
        assert server.maps == {state: theirs}

    wait(test())


def test_a_model_that_is_too_large_is_told_and_the_rest_is_kept() -> None:
    async def test() -> None:
        server, big = Server(), noise(800_000)
        store, saved = store_of(server), models(big, b"small")
        for _ in range(2):
            with pytest.raises(ModelStoreError, match="--plugin-state-dir"):
                await store.save("p", saved)
        loaded = await store_of(server).load("p")
        assert loaded.records == saved.records
        assert set(loaded.states) == {digest_of(b"small")}

    wait(test())


def test_a_model_that_compresses_well_enough_is_kept() -> None:
    saved, server = models(b"0" * 5_000_000), Server()
    wait(store_of(server).save("p", saved))
    assert wait(store_of(server).load("p")) == saved


def test_a_model_that_is_too_large_goes_to_the_directory(tmp_path: Path) -> None:
    async def test() -> None:
        server, big = Server("q"), noise(800_000)
        saved = models(big, b"small")

        def store() -> ConfigMapModelStore:
            return store_of(server, DirectoryModelStore(tmp_path))

        await store().save("p", saved)
        assert await store().load("p") == saved
        await store().save("p", models(b"small"))
        assert await store().load("p") == models(b"small")
        assert files_in(tmp_path) == []
        await store().save("p", saved)
        await store().sweep()  # there is no such plugin
        assert server.maps == {}
        assert files_in(tmp_path) == []

    wait(test())


def test_what_is_known_of_the_models_has_its_limit_too() -> None:
    saved = models(b"one")
    saved.trackers[saved.active] = noise(900_000)  # type: ignore[index]
    with pytest.raises(ModelStoreError, match="more than a ConfigMap holds"):
        wait(store_of(Server()).save("p", saved))


def test_plugins_that_are_gone_take_their_models_along_and_no_others() -> None:
    async def test() -> None:
        server = Server("stays")
        store = store_of(server)
        await store.save("stays", models(b"one"))
        await store.save("went", models(b"one", b"two"))
        await store_of(server).sweep()
        assert await store.load("stays") == models(b"one")
        assert len(server.maps) == 2
        await store.forget("stays")
        assert server.maps == {}
        await store.save("stays", models(b"one"))  # it was made again
        assert len(server.maps) == 2

    wait(test())


def test_a_list_that_is_too_old_between_two_pages_is_begun_anew() -> None:
    async def test() -> None:
        server, saved = Server(), models(b"one", b"two", b"three")
        await store_of(server).save("p", saved)
        server.failures = {"GET": [(ApiError(410, {"reason": "Expired"}), True)]}
        assert await store_of(server).load("p") == saved
        server.failures = {"GET": [(ApiError(410, {"reason": "Expired"}), True)] * 3}
        with pytest.raises(ModelStoreError, match="forgot the list"):
            await store_of(server).load("p")

    wait(test())


def test_an_answer_that_is_none_is_told() -> None:
    class Garbled:
        async def request(self, *_: object, **__: object) -> bytes:
            return b"<html>"

    with pytest.raises(ModelStoreError, match="cannot be read"):
        wait(store_of(Garbled()).load("p"))


plugin_names = st.from_regex(DNS_SUBDOMAIN, fullmatch=True).map(lambda name: name.strip()[:253].rstrip("-."))


@given(st.lists(plugin_names.filter(bool), min_size=2, max_size=2, unique=True))
@example(["a" * 253, "a" * 252])
@example(["a" * 252 + "b", "a" * 253])
@example([f"{'a' * 200}.{'-'.join('b' * 20)}", "p"])
def test_names_are_valid_and_each_plugins_own(plugins: list[str]) -> None:
    digests = [digest_of(b"one"), digest_of(b"two"), "odd"]
    names = [name for plugin in plugins for name in (index_name(plugin), *(model_name(plugin, d) for d in digests))]
    assert len(set(names)) == len(names)
    for name in names:
        assert len(name) <= 253
        assert re.fullmatch(DNS_SUBDOMAIN, name)
    for plugin in plugins:
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9_.]{0,61}[a-z0-9])?", label_value(plugin))
