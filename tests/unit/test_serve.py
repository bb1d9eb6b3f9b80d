"""`engine-ops serve`: the same API on one machine."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from serve_support import Served, serving, start, until

from engine_ops import AsyncEngineOpsClient, EngineOpsClient, OptimizationResult
from engine_ops.cli.main import main
from engine_ops.client import BadRequestError, ConflictError, Improvement, NotFoundError
from engine_ops.plugins.kept_settings import KeptPlugin, KeptSettings, SettingsError
from engine_ops.server.site_check import names_this_machine

PLUGIN = """
from engine_ops.ml import BaseMLModel, MLPluginInterface, PluginMetadata

class Model(BaseMLModel):
    def train(self, data):
        self.is_trained = True

class Echo(MLPluginInterface):
    def __init__(self):
        metadata = PluginMetadata("echo", "1.2.3", "Says what it was told", supported_types=["ml-driven"])
        super().__init__(metadata, Model("m"))

    def optimize(self, request_data, historical_data=None):
        return {"success": True, "result": {"said": request_data["say"], "config": self.config}}
"""

PACKING = {
    "id": "pack",
    "type": "resource",
    "data": {
        "items": [{"id": "web", "cpu": 1, "memory": "1Gi", "count": 5}],
        "nodeCapacity": {"cpu": 2, "memory": "8Gi"},
    },
    "searchSeconds": 0,
}
# Three items a node at most, and hardly ever three: nobody proves the best number of nodes.
ODD = [{"id": f"i{n}", "cpu": f"{300 + n * 7919 % 401}m", "memory": f"{300 + n * 104729 % 401}Mi"} for n in range(150)]
LONG = {
    "id": "long",
    "type": "resource",
    "data": {"items": ODD, "nodeCapacity": {"cpu": 1, "memory": "1000Mi"}},
    "searchSeconds": 300,
    "timeoutSeconds": 600,
}
ASKING = {"id": "ask", "type": "ml-driven", "data": {"say": "hello"}}


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """Install a package that offers a plugin."""
    place = tmp_path / "packages"
    metadata = place / "thing-1.0.dist-info"
    metadata.mkdir(parents=True)
    (place / "thing_plugin.py").write_text(PLUGIN)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[engine_ops.plugins]\necho = thing_plugin:Echo\nbad name = no module\nworkload-data = thing_plugin:Echo\n"
    )
    return place


def answered(served: Served) -> dict[str, Any]:
    """Ask the plugin, as soon as it has started."""
    with served.client() as client:
        result = until(lambda: client.optimize(ASKING), lambda result: result.success)
    assert result.solved_by is not None
    assert result.solved_by.plugin == "echo"
    assert result.result is not None
    return result.result


def test_history_and_settings_outlive_the_process(packages: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serving("--data-dir", str(data), path=packages) as served, served.client() as client:
        assert client.health()["status"] == "ok"
        assert answered(served) == {"said": "hello", "config": {}}
        (plugin,) = client.plugins()
        assert plugin["name"] == "echo"
        assert plugin["version"] == "1.2.3"
        assert plugin["supportedTypes"] == ["ml-driven"]
        assert plugin["config"] == {"enabled": True, "priority": 0}
        assert client.disable("echo")["config"]["enabled"] is False
        assert client.configure("echo", priority=7, config={"a": [1, None]})["config"]["priority"] == 7
        refused = client.optimize({**ASKING, "plugin": "echo"})
        assert (refused.success, refused.reason) == (False, "NoPlugin")
        with pytest.raises(NotFoundError):
            client.enable("another")
        with pytest.raises(BadRequestError) as caught:
            client.configure("echo", priority=2_000_000)
        assert [path for path, _ in caught.value.errors] == ["priority"]
        result = client.optimize(PACKING)
        assert result.success
        assert result.result is not None
        assert result.result["nodeCount"] == 3
        points = client.export()
        assert [point.metadata["requestId"] for point in points] == ["ask", "pack"]
    assert any("plugin workload-data" in line and "left out" in line for line in served.lines)
    assert any("plugin bad name" in line and "left out" in line for line in served.lines)
    kept = json.loads((data / "plugins.json").read_text())
    assert kept == {"plugins": {"echo": {"enabled": False, "priority": 7, "config": {"a": [1, None]}}}}
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert stat.S_IMODE((data / "plugins.json").stat().st_mode) == 0o600

    with serving("--data-dir", str(data), path=packages) as served, served.client() as client:
        plugin = client.plugin("echo")
        assert plugin["config"] == {"enabled": False, "priority": 7}
        assert plugin["settings"] == {"a": [1, None]}
        assert client.export() == points
        client.enable("echo")
        assert answered(served) == {"said": "hello", "config": {"a": [1, None]}}
        # What was said yes to is in the file already.
        assert served.end(signal.SIGKILL) == -signal.SIGKILL
    assert json.loads((data / "plugins.json").read_text())["plugins"]["echo"]["enabled"] is True


def test_the_client_and_the_api_understand_each_other(tmp_path: Path) -> None:
    with serving("--memory") as served, served.client() as client:
        for name, namespace, seconds in (("a", None, 0), ("b", "team", 0.001), ("c", "team", 0.001)):
            asked = {**PACKING, "id": name, "type": "genetic", "searchSeconds": seconds}
            assert client.optimize(asked, namespace=namespace).warnings == ["type genetic is treated as resource"]
        stats = client.cache_stats()
        assert (stats["hits"], stats["misses"]) == (1, 2)
        # The second of the team came of the cache, and is no point of its own.
        assert len(client.export()) == 2
        assert len(client.export(namespace="team", type="resource", from_="2020-01-01T00:00:00Z", limit=5)) == 1
        assert client.export(to=1) == client.export(type="scheduling") == []
        assert client.workload_stats()["total_requests"] == 2
        assert client.training_format(type="resource")
        client.export_file(tmp_path / "points.jsonl", format="jsonl")
        assert len((tmp_path / "points.jsonl").read_text().splitlines()) == 2

        client.submit(LONG)
        with pytest.raises(ConflictError, match="is running"):
            client.submit(LONG)
        seen: list[Any] = []
        following = threading.Thread(target=lambda: seen.extend(client.events("long")))
        following.start()
        until(lambda: client.state("long").progress, lambda progress: progress is not None)
        cancelled = client.cancel("long")
        following.join(60)
        assert cancelled.status == "cancelled"
        assert cancelled.response is not None
        assert cancelled.response.cut_off
        assert [type(each) for each in seen] == [Improvement] * (len(seen) - 1) + [OptimizationResult]
        assert seen[-1] == cancelled.response
        with pytest.raises(NotFoundError):
            client.state("another")
        with pytest.raises(BadRequestError) as caught:
            client.optimize({**PACKING, "data": {"items": [{"id": "web", "cpu": -1, "memory": 1}]}})
        assert "data.items[0].cpu" in dict(caught.value.errors)

        async def many() -> list[OptimizationResult]:
            async with AsyncEngineOpsClient(served.url, timeout=60) as clients:
                asked = [{**PACKING, "id": f"q{n}", "plugin": "none", "searchSeconds": n / 1000} for n in range(20)]
                return await asyncio.gather(*map(clients.optimize, asked))

        # With one worker two are in flight: most are told to come again, and do.
        answers = asyncio.run(many())
        assert [answer.request_id for answer in answers] == [f"q{n}" for n in range(20)]
        assert all(answer.success for answer in answers)
        assert client.metrics()["requests"]["refused"] > 0


def test_nothing_is_kept_where_nothing_is_wanted(tmp_path: Path) -> None:
    with serving("--memory", home=tmp_path) as served, served.client() as client:
        assert client.optimize(PACKING).success
        assert len(client.export()) == 1
    assert list(tmp_path.rglob("*")) == []


def test_data_go_where_the_user_s_data_are(tmp_path: Path) -> None:
    with serving(home=tmp_path) as served, served.client() as client:
        assert client.optimize(PACKING).success
        # Two would not see each other's changes.
        second = start("--api", "http://127.0.0.1:0", home=tmp_path)
        assert second.wait_until_ended() == 1
        assert any("is in use by another" in line for line in second.lines), second.lines
        port = served.url.rpartition(":")[2]
        third = start("--api", f"http://127.0.0.1:{port}", "--memory", home=tmp_path)
        assert third.wait_until_ended() == 1
        assert any("Address already in use" in line for line in third.lines), third.lines
    assert (tmp_path / ".local" / "share" / "engine-ops" / "history").is_dir()


def test_a_long_question_of_a_client_with_a_namespace() -> None:
    with serving("--memory") as served, EngineOpsClient(served.url, timeout=60, namespace="team") as client:
        client.submit({**LONG, "id": "short", "searchSeconds": 0})
        assert isinstance(list(client.events("short"))[-1], OptimizationResult)
        assert client.state("short").status == client.cancel("short").status == "done"
        assert len(client.export(namespace="team")) == 1


def test_it_ends_at_once_when_the_terminal_says_so() -> None:
    """Ctrl-C reaches the workers too; a request under way is ended, not waited for."""
    with serving("--memory") as served, served.client() as client:
        client.submit(LONG)
        until(lambda: client.state("long").progress, lambda progress: progress is not None)
        assert client.state("long").status == "running"
        os.killpg(served.process.pid, signal.SIGINT)
        assert served.wait_until_ended() == 0, served.lines


@pytest.mark.parametrize(
    "api",
    [
        "http://0.0.0.0:3000",
        "http://192.0.2.1:3000",
        "http://[::]:3000",
        "http://example.com:3000",
        "https://127.0.0.1:1",
    ],
)
def test_others_are_not_served(api: str) -> None:
    result = CliRunner().invoke(main, ["serve", "--api", api])
    assert result.exit_code == 2
    assert "there are no tokens" in result.output


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--api", "3000"], "must be http://HOST:PORT"),
        (["--memory", "--data-dir", "/x"], "--memory keeps nothing"),
        (["--worker-memory", "much"], "--worker-memory"),
    ],
)
def test_options_that_are_none(options: list[str], said: str) -> None:
    result = CliRunner().invoke(main, ["serve", *options])
    assert result.exit_code == 2
    assert said in result.output


def test_a_page_of_another_site_is_not_served() -> None:
    with serving("--memory") as served, served.client() as client:
        port = served.url.rpartition(":")[2]
        for path in ("/api/v1/health", "/api/v1/plugins", "/", "/nowhere"):
            for host in (
                "evil.example",
                f"evil.example:{port}",
                "localhost.evil.example",
                "engine.localhost",
                "192.0.2.1",
                "",
            ):
                answer = client.session.get(served.url + path, headers={"Host": host})
                assert answer.status_code in {400, 403}, (path, host)
                assert "Access-Control-Allow-Origin" not in answer.headers
        for host in (f"localhost:{port}", "127.0.0.1", f"[::1]:{port}", "LOCALHOST."):
            assert client.session.get(served.url + "/api/v1/plugins", headers={"Host": host}).status_code == 200
        # A form of another page comes without a question first.
        answer = client.session.post(
            served.url + "/api/v1/optimize",
            data=json.dumps(PACKING),
            headers={"Content-Type": "text/plain", "Origin": "http://evil.example"},
        )
        assert answer.status_code in {403, 415}
        preflight = client.session.options(
            served.url + "/api/v1/optimize",
            headers={"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"},
        )
        assert preflight.status_code >= 400
        assert "Access-Control-Allow-Origin" not in preflight.headers
        with socket.create_connection(("127.0.0.1", int(port))) as raw:
            raw.sendall(b"GET /api/v1/plugins HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")
            assert raw.recv(1000).split(b" ")[1] in {b"400", b"403"}
        assert client.export() == []


LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
PORT = st.sampled_from(["", ":1", ":3000", ":65535"])


@given(before=st.lists(LABEL, max_size=3), after=st.lists(LABEL, max_size=3), port=PORT)
def test_only_localhost_is_of_this_machine(before: list[str], after: list[str], port: str) -> None:
    name = ".".join([*before, "localhost", *after])
    assert names_this_machine(name + port) is (name == "localhost")
    assert names_this_machine(name.upper() + "." + port) is (name == "localhost")


@given(address=st.ip_addresses(), port=PORT)
def test_addresses_of_loopback_are_of_this_machine(address: Any, port: str) -> None:
    shown = f"[{address}]" if address.version == 6 else str(address)
    assert names_this_machine(shown + port) is address.is_loopback


@given(host=st.text(max_size=20))
def test_a_host_may_be_anything(host: str) -> None:
    assert names_this_machine(host) in {True, False}
    for bad in (f"localhost/{host}", f"{host}@localhost", f"localhost?{host}", f"localhost#{host}"):
        assert not names_this_machine(bad)


KEPT = st.builds(
    KeptPlugin,
    st.none() | st.booleans(),
    st.none() | st.integers(-1_000_000, 1_000_000),
    st.none() | st.dictionaries(st.text(max_size=5), st.none() | st.integers(-5, 5) | st.text(max_size=5), max_size=3),
)


@given(plugins=st.dictionaries(st.text(max_size=8), KEPT, max_size=4))
def test_settings_come_back(plugins: dict[str, KeptPlugin], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("kept") / "sub" / "plugins.json"
    settings = KeptSettings(path)
    for name, plugin in plugins.items():
        settings.keep(name, plugin)
    again = KeptSettings(path)
    for name, plugin in plugins.items():
        assert again.get(name) == settings.get(name) == plugin
    assert again.get("another one") == KeptPlugin()
    assert [each.name for each in path.parent.glob("*")] == (["plugins.json"] if plugins else [])


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"plugins": {"a": {"priority": "high"}}}', b'{"other": 1}'])
def test_settings_that_cannot_be_read_are_not_thrown_away(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "plugins.json"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"plugins\.json: .*mend it or remove it"):
        KeptSettings(path)
    assert path.read_bytes() == content


def test_settings_that_cannot_be_written_are_as_before(tmp_path: Path) -> None:
    path = tmp_path / "plugins.json"
    settings = KeptSettings(path)
    settings.keep("a", KeptPlugin(enabled=False))
    path.unlink()
    path.mkdir()  # nothing can take its place
    (path / "something").touch()
    with pytest.raises(SettingsError, match=r"plugins\.json: "):
        settings.keep("a", KeptPlugin(enabled=True))
    assert settings.get("a") == KeptPlugin(enabled=False)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["plugins.json"]
    with pytest.raises(SettingsError, match=r"plugins\.json: "):
        KeptSettings(path)
