"""Questions about a cluster on the command line, with dumps and with an API server that is played by a test."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from cli_support import (
    InProcessPool,
    cluster_request,
    dump,
    engine_ops,
    live_node,
    live_pod,
    live_workload,
    request,
    stream,
    use_pool,
)
from hypothesis import given
from hypothesis import strategies as st

from engine_ops.api.cluster_source import WorkloadSource
from engine_ops.api.faults import InvalidDataError, WaitingError
from engine_ops.cli.cluster_dump import DumpReader
from engine_ops.cli.focus import _resolved
from engine_ops.cli.live_cluster import LiveReader, _chosen
from engine_ops.engine.cluster.dump import read_dump
from engine_ops.kube.errors import ApiError, UnavailableError


@pytest.fixture(autouse=True)
def _in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    use_pool(monkeypatch, InProcessPool)


DAEMON = [{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "agent", "uid": "u", "controller": True}]


def objects() -> list[dict[str, Any]]:
    """Three nodes; two pods that would fit on one of them, a pending one, and one that fits nowhere."""
    agent = live_pod("agent-a", "a", cpu="100m")
    agent["metadata"]["ownerReferences"] = DAEMON
    return [
        *(live_node(name) for name in "abc"),
        agent,
        live_pod("web-1", "a"),
        live_pod("web-2", "b"),
        live_pod("web-3"),
        live_pod("huge-1", cpu="9"),
    ]


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    return dump(tmp_path / "cluster.json", *objects())


def solve(cluster: Path | str, *documents: dict[str, Any], output: str = "json") -> Any:
    return engine_ops("solve", "-f", "-", "-o", output, "--dump", cluster, stdin=stream(*documents))


def placements(status: Mapping[str, Any]) -> dict[str, str]:
    return {item["taskId"]: item.get("nodeId", "") for item in status["result"]["placements"]}


# --- solve


def test_pending_pods_are_placed(cluster: Path) -> None:
    result = solve(cluster, cluster_request())
    assert result.exit_code == 1, result.stderr
    status = json.loads(result.stdout)["status"]
    placed = placements(status)
    assert set(placed) == {"shop/web-3", "shop/huge-1"}
    assert placed["shop/web-3"] in {"a", "b", "c"}
    assert placed["shop/huge-1"] == ""
    assert status["inputDigest"]


def test_the_table_has_a_picture(cluster: Path) -> None:
    document = cluster_request(pods={"labelSelector": {"matchLabels": {"app": "web"}}})
    result = solve(cluster, document, output="table")
    assert result.exit_code == 0, result.stderr
    assert "\nlive: 1 of 1 placed; 2 of 3 nodes in use now" in result.stdout
    assert "placed here" in result.stdout
    assert [line[:1] for line in result.stdout.splitlines() if line.endswith(" %")] == ["a", "b", "c"]
    without = engine_ops("solve", "-f", "-", "--dump", cluster, "--no-picture", stdin=stream(document))
    assert result.stdout.startswith(without.stdout)
    assert "before" not in without.stdout


def test_only_nodes_that_may_be_used_are_drawn(cluster: Path) -> None:
    result = solve(cluster, cluster_request(nodes={"fieldSelector": "metadata.name!=a"}), output="table")
    assert [line[:1] for line in result.stdout.splitlines() if line.endswith(" %")] == ["b", "c"]


def test_running_pods_are_repacked_without_a_manifest(cluster: Path) -> None:
    result = engine_ops("solve", "--dump", cluster, "--type", "resource")
    assert result.exit_code == 0, result.stderr
    assert "fewer-nodes: 3 nodes, 2 in use now, 1 after repacking; at least 1 are needed" in result.stdout
    assert "nodes in use: 1 x 4 cpu, 16Gi\n" in result.stdout
    assert "empty nodes: " in result.stdout
    assert "moves: 1 pod\n" in result.stdout


def test_a_question_without_a_manifest_is_printed_as_one(cluster: Path) -> None:
    whole = engine_ops("solve", "--dump", cluster, "--type", "scheduling", "-o", "json")
    printed = json.loads(whole.stdout)
    again = solve(cluster, printed)
    assert placements(json.loads(again.stdout)["status"]) == placements(printed["status"])


def test_given_tasks(cluster: Path) -> None:
    tasks = [{"id": name, "cpuRequired": "3", "memoryRequired": "1Gi"} for name in ("one", "two")]
    result = solve(cluster, cluster_request(data={"tasks": tasks}), output="table")
    assert result.exit_code == 0, result.stderr
    assert "live: 2 of 2 placed" in result.stdout
    assert " 100 %" in result.stdout or "  75 %" in result.stdout


def test_one_given_task_is_drawn(cluster: Path) -> None:
    task = {"id": "one", "cpuRequired": "4", "memoryRequired": "1Gi"}
    result = solve(cluster, cluster_request(data={"task": task}), output="table")
    assert result.exit_code == 0, result.stderr
    (line,) = (line for line in result.stdout.splitlines() if line.endswith("100 %"))
    assert line.startswith("c ")


def test_a_workload_from_the_dump(tmp_path: Path) -> None:
    running = [live_pod("web-1", "a", namespace="default"), live_pod("web-2", "b", namespace="default")]
    path = dump(tmp_path / "c.json", live_node("a"), live_node("b"), *running, live_workload("web", 2))
    workload = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "replicas": 5}
    result = solve(path, cluster_request(workload=workload), output="table")
    assert result.exit_code == 0, result.stderr
    assert "live: 3 of 3 placed" in result.stdout
    placed = json.loads(solve(path, cluster_request(workload=workload)).stdout)["status"]
    assert list(placements(placed)) == [f"default/web-new-{number}" for number in (1, 2, 3)]
    gone = solve(path, cluster_request(workload={**workload, "name": "other"}))
    assert gone.exit_code == 1
    condition = json.loads(gone.stdout)["status"]["conditions"][0]
    assert condition["reason"] == "DataNotFound"
    assert "kubectl get nodes,pods,namespaces,deployments -A -o json" in condition["message"]


def test_a_workload_in_a_stream_of_lists(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    lists = [{"kind": "List", "items": [live_node("a")]}, {"kind": "List", "items": [live_workload("web", 1)]}]
    path.write_text("\n".join(json.dumps(item, indent=1) for item in lists) + "\n")
    source = WorkloadSource.model_validate({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"})
    found = asyncio.run(DumpReader(str(path)).workload("default", source))
    assert found["spec"]["replicas"] == 1


def test_without_a_cluster_the_request_waits() -> None:
    result = engine_ops("solve", "-f", "-", stdin=stream(request("packed"), cluster_request()))
    assert result.exit_code == 1
    assert "packed   resource     True    Solved" in result.stdout
    assert "live     scheduling   False   SourceUnavailable" in result.stdout
    assert "--dump FILE" in result.stdout


def test_a_dump_from_standard_input() -> None:
    text = json.dumps({"kind": "List", "items": objects()})
    result = engine_ops("solve", "--type", "resource", "--dump", "-", stdin=text)
    assert result.exit_code == 0, result.stderr


def test_a_dump_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text("nodes: 3\n")
    result = engine_ops("solve", "--type", "resource", "--dump", path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"{path}: is no JSON object")
    missing = engine_ops("solve", "--type", "resource", "--dump", tmp_path / "none")
    assert (missing.exit_code, missing.stderr) == (2, f"{tmp_path}/none: no such file or directory\n")
    bad = live_node("a")
    del bad["metadata"]["name"]
    dump(path, bad)
    assert f"{path}: items[0].metadata.name" in engine_ops("solve", "--type", "resource", "--dump", path).stderr


def test_a_wrong_selector_is_a_fault(cluster: Path) -> None:
    result = solve(cluster, cluster_request(nodes={"fieldSelector": "status.phase=x"}))
    assert result.exit_code == 2
    assert "spec.dataFrom.cluster.nodes.fieldSelector" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("solve",), "give manifests with --filename (-f), or --type"),
        (("solve", "-f", "-", "--dump", "-"), "standard input can be read only once"),
        (("solve", "-f", "-", "--plot", "p.gif"), "the name must end in .svg or .png"),
        (("explain", "a", "--type", "resource"), "give names of requests in the cluster, or manifests with -f"),
    ],
)
def test_usage(arguments: tuple[str, ...], words: str) -> None:
    result = engine_ops(*arguments)
    assert result.exit_code == 2
    assert words in result.stderr


def test_a_kubeconfig_that_is_not_there(tmp_path: Path) -> None:
    result = engine_ops("solve", "--type", "resource", "--kubeconfig", tmp_path / "none")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: no credentials from {tmp_path}/none: ")


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="matplotlib is not installed")
def test_plots_of_all_answers(cluster: Path, tmp_path: Path) -> None:
    target = tmp_path / "p.svg"
    documents = stream(cluster_request("first"), cluster_request("second", "resource"), request("inline"))
    result = engine_ops("solve", "-f", "-", "--dump", cluster, "--plot", target, "-o", "yaml", stdin=documents)
    assert result.exit_code == 1
    text = target.read_text(encoding="utf-8")
    assert "first: 1 of 2 placed" in text
    assert "second: 3 nodes, 2 in use now, 1 after repacking" in text
    assert "before:" not in result.stdout
    target.unlink()
    nothing = engine_ops("solve", "-f", "-", "--plot", target, stdin=stream(request("inline")))
    assert nothing.exit_code == 0
    assert "not written: there is no answer about a cluster" in nothing.stderr
    assert not target.exists()


# --- explain


def explain(cluster: Path, *arguments: str, documents: tuple[dict[str, Any], ...] = ()) -> Any:
    return engine_ops("explain", "-f", "-", "--dump", cluster, *arguments, stdin=stream(*documents))


def test_an_answer_is_explained_with_its_picture(cluster: Path) -> None:
    result = explain(cluster, documents=(cluster_request(),))
    assert result.exit_code == 0, result.stderr
    assert "shop/huge-1" in result.stdout
    assert "live: 1 of 2 placed" in result.stdout
    assert "not as it was" not in result.stdout  # it was solved just now
    assert "placed here" not in explain(cluster, "--no-picture", documents=(cluster_request(),)).stdout


def test_an_older_answer_is_explained_by_the_dump(cluster: Path) -> None:
    solved = json.loads(solve(cluster, cluster_request()).stdout)
    result = explain(cluster, documents=(solved,))
    assert result.exit_code == 0, result.stderr
    assert f"The cluster is as it was dumped into {cluster}." in result.stdout
    alone = engine_ops("explain", "-f", "-", stdin=stream(solved))
    assert alone.exit_code == 1
    assert "no cluster was given" in alone.stdout


def test_an_answer_that_names_a_node_that_is_gone(cluster: Path, tmp_path: Path) -> None:
    solved = json.loads(solve(cluster, cluster_request(kind="resource")).stdout)
    (used,) = (node["id"] for node in solved["status"]["result"]["nodes"])
    later = dump(tmp_path / "later.json", *(item for item in objects() if item["metadata"]["name"] != used))
    result = explain(later, documents=(solved,))
    assert result.exit_code == 1
    assert f"live: the answer does not fit this cluster: node {used} is not in it; ask again\n" in result.stdout


def without(*names: str) -> list[dict[str, Any]]:
    return [item for item in objects() if item["metadata"]["name"] not in names]


@pytest.mark.parametrize(
    ("later", "note"),
    [
        ([*without("web-3"), live_pod("web-3", "c")], "1 of its pods is on nodes by now, and taken off them here"),
        ([*without("web-3"), live_pod("web-3", "a")], "1 of its pods is on nodes by now, and taken off them here"),
        (without("web-3"), "1 is gone and left out"),
        ([*objects(), live_pod("new-1"), live_pod("new-2", "a", cpu="3")], "1 came since and is left out"),
    ],
    ids=["scheduled", "scheduled-elsewhere", "gone", "new"],
)
def test_a_placement_is_explained_though_pods_have_moved_on(
    cluster: Path, tmp_path: Path, later: list[dict[str, Any]], note: str
) -> None:
    solved = json.loads(solve(cluster, cluster_request()).stdout)
    rows = [line for line in explain(cluster, documents=(solved,)).stdout.splitlines() if line.startswith("shop/")]
    result = explain(dump(tmp_path / "later.json", *later), documents=(solved,))
    assert result.exit_code == 0, result.stderr
    assert f"Since the answer: {note}." in result.stdout
    expected = [row for row in rows if "web-3" not in row or "gone" not in note]
    assert [line.split()[:2] for line in result.stdout.splitlines() if line.startswith("shop/")] == [
        row.split()[:2] for row in expected
    ]


@pytest.mark.parametrize(
    ("later", "note"),
    [
        (without("web-2"), "1 is gone and left out"),
        ([*objects(), live_pod("new-1"), live_pod("new-2", "b")], "1 came since and is left out"),
        ([*without("web-2"), live_pod("web-2", "c")], ""),
    ],
    ids=["gone", "new", "moved"],
)
def test_a_repacking_is_explained_though_pods_have_moved_on(
    cluster: Path, tmp_path: Path, later: list[dict[str, Any]], note: str
) -> None:
    solved = json.loads(solve(cluster, cluster_request(kind="resource")).stdout)
    result = explain(dump(tmp_path / "later.json", *later), documents=(solved,))
    assert result.exit_code == 0, result.stderr
    assert ("Since the answer" in result.stdout) == bool(note)
    assert note in result.stdout


def test_a_workload_that_has_grown_since(tmp_path: Path) -> None:
    workload = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "replicas": 3}
    base = [live_node("a"), live_node("b"), live_workload("web", 1)]
    solved = json.loads(solve(dump(tmp_path / "c.json", *base), cluster_request(workload=workload)).stdout)
    later = dump(tmp_path / "later.json", *base, live_pod("web-1", "a", namespace="default"))
    result = explain(later, documents=(solved,))
    assert result.exit_code == 0, result.stderr
    assert "default/web lacked 3 pods when the answer was made, and lacks 2 by now." in result.stdout
    assert "live: 3 of 3 placed" in result.stdout


def test_an_answer_whose_node_has_filled_up(cluster: Path, tmp_path: Path) -> None:
    task = {"id": "one", "cpuRequired": "4", "memoryRequired": "1Gi"}
    solved = json.loads(solve(cluster, cluster_request(data={"tasks": [task]})).stdout)
    later = dump(tmp_path / "later.json", *objects(), live_pod("new-1", "c"))
    result = explain(later, documents=(solved,))
    assert result.exit_code == 0
    assert "one    c      cannot hold it" in result.stdout
    assert "  125 %" in result.stdout


@pytest.mark.parametrize("result", [{}, {"nodes": 3}, {"placements": [{}]}, {"currentNodeCount": 1}, {"nodeId": []}])
def test_a_result_of_any_shape(cluster: Path, result: dict[str, Any]) -> None:
    for kind in ("scheduling", "resource"):
        solved = json.loads(solve(cluster, cluster_request(kind=kind)).stdout)
        solved["status"]["result"] = result
        assert explain(cluster, documents=(solved,)).exit_code in (0, 1)


def test_why_a_pod_fits_nowhere(cluster: Path) -> None:
    result = engine_ops("explain", "--dump", cluster, "--type", "scheduling", "--pod", "shop/huge-1")
    assert result.exit_code == 0, result.stderr
    assert "shop/huge-1" in result.stdout
    assert "Insufficient cpu" in result.stdout
    assert "before:" not in result.stdout
    bare = engine_ops("explain", "--dump", cluster, "--type", "scheduling", "--pod", "huge-1")
    assert bare.stdout == result.stdout


@pytest.mark.parametrize("kind", ["scheduling", "resource"])
def test_what_is_on_a_node(cluster: Path, kind: str) -> None:
    result = engine_ops("explain", "--dump", cluster, "--type", kind, "--node", "a", "--node", "b")
    assert result.exit_code == 0, result.stderr
    assert "agent" in result.stdout


def test_a_pod_that_runs_is_explained_in_a_repacking(cluster: Path) -> None:
    result = engine_ops("explain", "--dump", cluster, "--type", "resource", "--pod", "web-1")
    assert result.exit_code == 0, result.stderr
    assert "shop/web-1" in result.stdout


def test_names_that_are_not_there(cluster: Path) -> None:
    result = engine_ops("explain", "--dump", cluster, "--type", "scheduling", "--pod", "shop/wep-3", "--node", "zz")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--pod: there is no pod or task shop/wep-3; did you mean shop/web-3" in result.stderr
    assert "--node: there is no node zz" in result.stderr


def test_tasks_and_nodes_of_inline_data() -> None:
    data = {
        "tasks": [{"id": "t-1", "cpuRequired": 10, "memoryRequired": 10}],
        "nodes": [{"id": "n-1", "cpuLoad": 0, "memoryLoad": 95}, {"id": "n-2", "cpuLoad": 0, "memoryLoad": 0}],
    }
    document = stream(request(type="scheduling", data=data))
    result = engine_ops("explain", "-f", "-", "--pod", "t-1", "--node", "n-1", stdin=document)
    assert result.exit_code == 0, result.stderr
    assert "n-2" in result.stdout
    wrong = engine_ops("explain", "-f", "-", "--pod", "t-2", stdin=document)
    assert wrong.exit_code == 2
    assert "did you mean t-1?" in wrong.stderr


def test_types_without_pods() -> None:
    result = engine_ops("explain", "-f", "-", "--pod", "web", stdin=stream(request()))
    assert result.exit_code == 2
    assert "--pod: is for type scheduling, and for questions about a cluster" in result.stderr


names = st.sampled_from(["a/web", "b/web", "a/db", "a/web-1", "c/cache"])


@given(st.lists(names, unique=True), st.sampled_from(["web", "db", "a/web", "x/web", "wbe", "q"]))
def test_a_name_is_found_or_others_are_offered(known: list[str], name: str) -> None:
    faults: list[Any] = []
    found = list(_resolved([name], known, "--pod", faults))
    called = [candidate for candidate in known if candidate.endswith(f"/{name}")]
    if name in known:
        assert found == [name]
    elif len(called) == 1:
        assert found == called
    else:
        assert found == []
        assert all(candidate in str(faults[0]) for candidate in called)
    assert len(found) + len(faults) == 1


# --- a live cluster


class Server:
    """Answers GET as an API server would: lists in pages of two."""

    def __init__(
        self, *items: dict[str, Any], refused: Mapping[str, ApiError | UnavailableError] | None = None
    ) -> None:
        self.items = items
        self.refused = dict(refused or {})
        self.asked: list[str] = []
        self.forgets = False

    async def request(self, method: str, path: str, *, params: Mapping[str, str]) -> bytes:
        assert method == "GET"
        resource = path.rpartition("/")[2]
        self.asked.append(resource)
        if resource in self.refused:
            raise self.refused[resource]
        found = [item for item in self.items if item["kind"].lower() + "s" == resource]
        start = int(params.get("continue", 0))
        if start and self.forgets:
            raise ApiError(410, {"reason": "Expired", "message": "too old"})
        end = start + 2 if "limit" in params else len(found)
        metadata = {"continue": str(end)} if end < len(found) else {}
        # The API server leaves kind and apiVersion out of the items of a list.
        page = [{key: value for key, value in item.items() if key != "kind"} for item in found[start:end]]
        return json.dumps({"metadata": metadata, "items": page or None}).encode()

    async def get(self, path: str) -> dict[str, Any]:
        self.asked.append(path)
        for item in self.items:
            if path.endswith(f"/{item['metadata']['name']}"):
                return {key: value for key, value in item.items() if key != "kind"}
        raise ApiError(404, {"message": "not found"})


def space(name: str) -> dict[str, Any]:
    return {"kind": "Namespace", "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}}}


def listed(server: Server, times: int = 1) -> Any:
    async def read() -> Any:
        reader = LiveReader(server)  # type: ignore[arg-type]
        found = await asyncio.gather(*(reader.snapshot() for _ in range(times)))
        assert all(one is found[0] for one in found)
        return found[0]

    return asyncio.run(read())


@pytest.mark.parametrize("forgets", [False, True])
def test_a_live_cluster_is_what_its_dump_is(forgets: bool) -> None:
    server = Server(*objects(), space("shop"))
    server.forgets = forgets
    expected = read_dump(json.dumps({"kind": "List", "items": [*objects(), space("shop")]}).encode(), "d")
    found = listed(server, times=3)
    assert (found.nodes, found.namespaces) == (expected.nodes, expected.namespaces)
    assert [found.pod_id(pod) for pod in found.pods] == [expected.pod_id(pod) for pod in expected.pods]
    # Once each, in pages of two; anew, in one, where the server forgot.
    assert server.asked == ["nodes"] * (3 if forgets else 2) + ["pods"] * 3 + ["namespaces"]


def test_namespaces_that_may_not_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    refused = ApiError(403, {"message": "namespaces is forbidden"})
    found = listed(Server(*objects(), refused={"namespaces": refused}))
    assert found.namespaces == {"shop": {"kubernetes.io/metadata.name": "shop"}}
    assert "you may not read namespaces (namespaces is forbidden): labels" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "reason", "words"),
    [
        (ApiError(403, {"message": "no"}), "Forbidden", "you may not read pods of all namespaces (no)"),
        (ApiError(500, {"message": "oops"}), "SourceUnavailable", "pods of all namespaces: oops"),
        (UnavailableError("https://x: gone"), "SourceUnavailable", "pods of all namespaces: https://x: gone"),
    ],
)
def test_what_may_not_or_cannot_be_read_is_waited_for(error: Any, reason: str, words: str) -> None:
    with pytest.raises(WaitingError) as raised:
        listed(Server(*objects(), refused={"pods": error}))
    assert (raised.value.reason, raised.value.message) == (reason, words)


def test_garbage_is_no_cluster() -> None:
    bad = {"kind": "Node", "metadata": {"name": 3}}
    with pytest.raises(WaitingError, match="nodes: "):
        listed(Server(bad))


def test_a_live_workload() -> None:
    source = WorkloadSource.model_validate({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"})
    server = Server(live_workload("web", 2))
    found = asyncio.run(LiveReader(server).workload("default", source))  # type: ignore[arg-type]
    assert (found["kind"], found["spec"]["replicas"]) == ("Deployment", 2)
    assert server.asked == ["/apis/apps/v1/namespaces/default/deployments/web"]
    missing = source.model_copy(update={"name": "other"})
    with pytest.raises(WaitingError, match="Deployment default/other is not there"):
        asyncio.run(LiveReader(server).workload("default", missing))  # type: ignore[arg-type]


def test_the_context_of_a_kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with _chosen("mine", None) as source:
        assert source == "mine"
    with _chosen(None, None) as source:
        assert source is None
    one, two = tmp_path / "one", tmp_path / "two"
    one.touch()
    monkeypatch.setenv("KUBECONFIG", f"{one}:{two}")
    with _chosen(None, "other") as source:
        assert source is not None
        first, *rest, last = source.split(":")
        assert first == last
        assert json.loads(Path(first).read_text())["current-context"] == "other"
    assert rest == [str(one), str(two)]
    assert not Path(first).exists()


def test_a_context_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "config"
    named = {
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {}}],
    }
    contexts = [{"name": "c", "context": {"cluster": "c", "user": "u"}}]
    config = {"apiVersion": "v1", "kind": "Config", **named, "contexts": contexts, "current-context": "c"}
    path.write_text(json.dumps(config))
    result = engine_ops("solve", "--type", "resource", "--kubeconfig", path, "--context", "nowhere")
    assert result.exit_code == 1
    assert result.stderr == f"Error: no credentials from {path}: there is no context nowhere; there are: c\n"


def test_an_api_server_that_does_not_answer_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "config"
    named = {
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {}}],
    }
    contexts = [{"name": "other", "context": {"cluster": "c", "user": "u"}}]
    config = {"apiVersion": "v1", "kind": "Config", **named, "contexts": contexts, "current-context": "none"}
    path.write_text(json.dumps(config))
    result = engine_ops("solve", "--type", "resource", "--kubeconfig", path, "--context", "other")
    assert result.exit_code == 1
    assert "SourceUnavailable" in result.stdout
    assert "nodes: http://127.0.0.1:1: " in result.stdout


def test_a_dump_reader_wants_a_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidDataError, match="is a directory"):
        DumpReader(str(tmp_path))
