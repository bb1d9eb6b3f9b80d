from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from cli_support import (
    REQUESTS,
    InProcessPool,
    config_map,
    engine_ops,
    packing,
    pool_that_raises,
    request,
    stream,
    use_pool,
)

from engine_ops.api.optimizationrequest import OptimizationRequestSpec
from engine_ops.cli import explaining
from engine_ops.cli.cluster import name_of
from engine_ops.cli.explaining import has_answer, tell, tell_conditions
from engine_ops.engine.contract import Explanation
from engine_ops.engine.solvers import solver_for


@pytest.fixture(autouse=True)
def _in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    use_pool(monkeypatch, InProcessPool)


def explain(*documents: dict[str, Any]) -> Any:
    return engine_ops("explain", "-f", "-", stdin=stream(*documents))


def solved(*documents: dict[str, Any]) -> dict[str, Any]:
    printed: dict[str, Any] = json.loads(engine_ops("solve", "-f", "-", "-o", "json", stdin=stream(*documents)).stdout)
    return printed


def test_the_table_is_the_solvers_explanation() -> None:
    document = request()
    spec, status = document["spec"], solved(document)["status"]
    explanation = solver_for("resource").explain(spec["data"], {}, status["result"])
    result = explain(document)
    assert result.exit_code == 0
    title, blank, header, *rest = result.stdout.splitlines()
    assert (title, blank) == (f"a: {explanation.title}", "")
    assert header.split() == list(explanation.headers)
    assert len(explanation.rows) > 0
    for line, row in zip(rest, explanation.rows, strict=False):
        assert [cell.strip() for cell in line.split("   ") if cell.strip()] == [cell for cell in row if cell]
    assert rest[len(explanation.rows) :] == ["", *explanation.notes]


def test_every_outcome_in_order() -> None:
    result = engine_ops("explain", "-f", REQUESTS)
    assert result.exit_code == 1  # two of them have no answer
    titles = [line.partition(":")[0] for line in result.stdout.splitlines() if line.startswith(TITLES)]
    assert titles == ["pack", "place", "too-big", "learn", "later"]
    assert "learn: no answer to explain" in result.stdout
    assert "Reconciling   True     NoPlugin" in result.stdout


TITLES = ("pack:", "place:", "too-big:", "learn:", "later:")


def test_a_status_that_answers_its_spec_is_explained_as_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    document = solved(request())
    use_pool(monkeypatch, pool_that_raises(AssertionError("it was solved")))
    result = explain(document)
    assert result.exit_code == 0
    assert "web" in result.stdout


@pytest.mark.parametrize(
    "change",
    [
        {"observedGeneration": 1, "result": None},
        {"observedGeneration": 4},
        {"observedGeneration": "x"},
        {"conditions": 3},
    ],
)
def test_any_other_status_is_not_believed(change: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    document = solved(request())
    document["status"] |= change
    use_pool(monkeypatch, pool_that_raises(AssertionError("it was solved")))
    assert isinstance(explain(document).exception, AssertionError)


def test_a_result_in_a_config_map_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    document = solved(request())
    compressed = gzip.compress(json.dumps(document["status"]["result"]).encode())
    document["status"] |= {"result": {"nodeCount": 2}, "resultRef": {"name": "r", "key": "k"}}
    stored = config_map("r", binaryData={"k": base64.b64encode(compressed).decode()})
    use_pool(monkeypatch, pool_that_raises(AssertionError("it was solved")))
    assert explain(document, stored).exit_code == 0
    stored["binaryData"]["k"] = base64.b64encode(b"no gzip").decode()
    result = explain(document, stored)
    assert result.exit_code == 2
    assert "stdin: document 1 (a): status.resultRef: is not gzip" in result.stderr
    stored["binaryData"]["k"] = base64.b64encode(gzip.compress(b"[")).decode()
    assert "status.resultRef: is not JSON" in explain(document, stored).stderr


def test_without_its_config_map_a_summary_is_solved_again() -> None:
    document = solved(request())
    document["status"] |= {"result": {"nodeCount": 2}, "resultRef": {"name": "r", "key": "k"}}
    assert explain(document).exit_code == 0


def test_a_result_of_other_data_is_refused_with_its_path() -> None:
    document = solved(request())
    document["spec"]["data"]["items"][0]["id"] = "other"
    result = explain(document)
    assert result.exit_code == 2
    assert result.stderr.startswith("stdin: document 1 (a): status.result")
    assert result.stdout == ""


def test_data_from_a_config_map() -> None:
    document = request(dataFrom={"configMapKeyRef": {"name": "data", "key": "k"}})
    data = config_map("data", data={"k": json.dumps(packing())})
    assert explain(document, data).exit_code == 0
    answered = solved(document, data)
    assert explain(answered, data).exit_code == 0
    result = explain(answered)
    assert result.exit_code == 1
    assert result.stdout == "a: ConfigMap default/data is not among the documents\n"
    data["data"]["k"] = "{}"
    result = explain(answered, data)
    assert result.exit_code == 2
    assert "spec.dataFrom.configMapKeyRef(data/k).items: required" in result.stderr


def test_faults_are_named_and_the_others_explained() -> None:
    result = explain(request("good"), request("bad", data={}), {"kind": "x"})
    assert result.exit_code == 2
    assert result.stdout.startswith("good: ")
    assert "stdin: document 2 (bad): spec.data.items: required, but absent\n" in result.stderr
    assert "stdin: document 3: apiVersion: required, but absent\n" in result.stderr


@pytest.mark.parametrize("type_", ["resource", "scheduling", "performance"])
def test_a_result_of_any_shape_makes_no_traceback(type_: str) -> None:
    data: dict[str, Any] = {
        "resource": packing(),
        "scheduling": {
            "tasks": [{"id": "t", "cpuRequired": 1, "memoryRequired": 1}],
            "nodes": [{"id": "a", "cpuLoad": 0, "memoryLoad": 0}],
        },
        "performance": {"samples": {"containers": [{"name": "web", "cpu": [0.1] * 30, "memory": [1000] * 30}]}},
    }[type_]
    spec = OptimizationRequestSpec.model_validate({"type": type_, "data": data})
    for result in ({}, {"nodes": 3}, {"placements": [{}]}, {"containers": [1]}, {"nodes": [{"id": 1}]}):
        told = tell("a", spec, None, result)
        assert told.exit_code in (0, 2)


def test_what_an_explanation_without_rows_looks_like(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent:
        def explain(self, data: Any, constraints: Any, result: Any) -> Explanation:
            del data, constraints, result
            return Explanation("nothing", ("A",), ())

    monkeypatch.setattr(explaining, "solver_for", lambda _: Silent())
    spec = OptimizationRequestSpec.model_validate(request()["spec"])
    assert tell("a", spec, None, {}).text == "a: nothing\n"


def test_conditions_of_an_object_that_nobody_looked_at() -> None:
    told = tell_conditions("a", {"observedGeneration": -1})
    assert told.exit_code == 1
    assert "is it running?" in told.text


def test_an_answer_is_for_one_generation() -> None:
    body = {"metadata": {}, "status": {"observedGeneration": 2, "result": {}}}
    assert has_answer(body, 2)
    assert not has_answer(body, 3)
    assert not has_answer({"metadata": {}}, -1)


@pytest.mark.parametrize(
    "resource",
    ["a", "optreq/a", "optimizationrequest/a", "optimizationrequests/a", "optimizationrequests.engineops.dev/a"],
)
def test_names_of_resources(resource: str) -> None:
    assert name_of(resource) == "a"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "give names of requests in the cluster, or manifests with -f"),
        (("a", "-f", "b.yaml"), "give names of requests in the cluster, or manifests with -f"),
        (("pod/a",), "pod/a: only optimizationrequests (optreq) can be explained"),
        (("optreq/",), "optreq/: the name is missing"),
    ],
)
def test_usage(arguments: tuple[str, ...], words: str) -> None:
    result = engine_ops("explain", *arguments)
    assert result.exit_code == 2
    assert words in result.stderr


def test_credentials_that_are_not_there(tmp_path: Path) -> None:
    result = engine_ops("explain", "a", "--kubeconfig", tmp_path / "none")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: no credentials from {tmp_path}/none: ")


def test_an_api_server_that_does_not_answer(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "config"
    cluster = {"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}
    context = {"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "n"}}
    users = [{"name": "u", "user": {}}]
    kubeconfig.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [cluster],
                "contexts": [context],
                "users": users,
                "current-context": "c",
            }
        )
    )
    result = engine_ops("explain", "a", "--kubeconfig", kubeconfig)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: http://127.0.0.1:1: ")
