"""A request is answered: once, in its status, and nothing else of it is touched."""

from __future__ import annotations

import base64
import gzip
import json

import pytest
from operator_process import OperatorProcess
from request_objects import SMALL, RequestObjects, answered, condition, hard


@pytest.fixture
def requests(cluster, namespace: str) -> RequestObjects:
    return RequestObjects(cluster, namespace)


def test_an_answer_with_its_proof(operator: OperatorProcess, requests: RequestObjects) -> None:
    requests.resource("a")
    requests.kubectl("wait", "optreq/a", "--for=condition=Ready", "--timeout=30s")
    status = requests.get("a")["status"]
    assert status["observedGeneration"] == 1
    assert status["run"] == 1
    assert status["result"]["nodeCount"] == status["result"]["lowerBound"] == 2
    assert status["metrics"]["score"] == 1
    assert status["solvedBy"]["name"] == status["solvedBy"]["algorithm"]
    assert status["completionTime"] >= status["startTime"]


def test_only_the_status_is_written(operator: OperatorProcess, requests: RequestObjects) -> None:
    requests.resource("a")
    found = requests.wait_reason("a", "Solved")
    metadata = json.loads(requests.kubectl("get", "optreq", "a", "-o", "json", "--show-managed-fields"))["metadata"]
    assert not {"annotations", "labels", "finalizers"} & found["metadata"].keys()
    assert found["metadata"]["generation"] == 1
    assert found["spec"]["data"] == SMALL
    ours = [entry for entry in metadata["managedFields"] if entry["manager"] != "kubectl"]
    assert [(entry["subresource"], list(entry["fieldsV1"])) for entry in ours] == [("status", ["f:status"])]


def test_a_first_success_is_no_event(operator: OperatorProcess, requests: RequestObjects) -> None:
    requests.resource("good")
    requests.resource("bad", {"items": []})
    requests.wait_reason("good", "Solved")
    requests.wait_reason("bad", "InvalidData")
    requests.wait_event("InvalidData")
    assert [(event["involvedObject"]["name"], event["type"], event["reason"]) for event in requests.events()] == [
        ("bad", "Warning", "InvalidData")
    ]


def test_a_changed_spec_is_answered_again(operator: OperatorProcess, requests: RequestObjects) -> None:
    requests.resource("a")
    requests.wait_reason("a", "Solved")
    requests.resource("a", {**SMALL, "nodeCapacity": {"cpu": 1, "memory": "8Gi"}})
    found = requests.wait("a", lambda found: answered(found) and found["metadata"]["generation"] == 2)
    assert found["status"]["result"]["nodeCount"] == 3


def test_a_label_is_no_reason_to_solve_again(operator: OperatorProcess, requests: RequestObjects) -> None:
    requests.resource("a")
    before = requests.wait_reason("a", "Solved")
    requests.kubectl("label", "optreq", "a", "team=shop")
    requests.resource("b")
    requests.wait_reason("b", "Solved")
    assert requests.get("a")["status"] == before["status"]


def test_suspend_and_resume(operator: OperatorProcess, requests: RequestObjects) -> None:
    requests.resource("a", suspend=True)
    found = requests.wait_reason("a", "Suspended")
    assert "result" not in found["status"]
    requests.kubectl("patch", "optreq", "a", "--type=merge", "-p", '{"spec": {"suspend": false}}')
    requests.wait_reason("a", "Solved")


def test_a_standing_request_is_solved_again(operator: OperatorProcess, requests: RequestObjects) -> None:
    requests.resource("a", intervalSeconds=10)
    requests.wait_reason("a", "Solved")
    found = requests.wait("a", lambda found: found["status"].get("run", 0) >= 2)
    assert condition(found, "Ready")["status"] == "True"
    assert found["metadata"]["generation"] == 1


def test_a_request_is_deleted_after_its_time_to_live(operator: OperatorProcess, requests: RequestObjects) -> None:
    requests.resource("later", ttlSecondsAfterFinished=3600)
    requests.resource("soon", ttlSecondsAfterFinished=2)
    requests.wait_reason("later", "Solved")
    requests.wait_gone("soon")
    assert answered(requests.get("later"))


def test_a_large_result_is_kept_in_an_owned_config_map(operator: OperatorProcess, requests: RequestObjects) -> None:
    requests.resource("a", hard(items=1500), searchSeconds=0)
    found = requests.wait_reason("a", "Solved")
    ref = found["status"]["resultRef"]
    assert "nodes" not in found["status"]["result"], "the summary is small"
    kept = json.loads(requests.kubectl("get", "configmap", ref["name"], "-o", "json"))
    assert kept["metadata"]["ownerReferences"][0]["uid"] == found["metadata"]["uid"]
    content = gzip.decompress(base64.b64decode(kept["binaryData"][ref["key"]]))
    assert len(content) == ref["sizeBytes"] > 32 * 1024
    result = json.loads(content)
    assert result["nodeCount"] == found["status"]["result"]["nodeCount"] == len(result["nodes"])

    requests.resource("a")
    small = requests.wait("a", lambda found: answered(found) and found["metadata"]["generation"] == 2)
    assert "resultRef" not in small["status"]
    requests.kubectl("wait", "--for=delete", f"configmap/{ref['name']}", "--timeout=60s")


def test_data_from_a_config_map_in_yaml(operator: OperatorProcess, requests: RequestObjects) -> None:
    text = "items:\n- {id: web, cpu: 500m, memory: 1Gi, count: 6}\nnodeCapacity: {cpu: 2, memory: 8Gi}\n"
    requests.config_map("shop", **{"data.yaml": text})
    source = {"configMapKeyRef": {"name": "shop", "key": "data.yaml"}}
    requests.apply("a", {"type": "resource", "dataFrom": source})
    assert requests.wait_reason("a", "Solved")["status"]["result"]["nodeCount"] == 2


def test_a_long_search_tells_how_far_it_is(operator: OperatorProcess, requests: RequestObjects) -> None:
    # It is still under way when we look, however late that is; then a short one takes its place.
    requests.resource("a", hard(), searchSeconds=600, timeoutSeconds=600)
    during = requests.wait("a", lambda found: condition(found, "Reconciling").get("reason") == "Solving")
    assert during["status"]["observedGeneration"] == -1
    progress = requests.wait("a", lambda found: found["status"].get("progress", {}).get("gap") is not None)
    assert progress["status"]["progress"]["objective"] >= progress["status"]["progress"]["lowerBound"]
    requests.resource("a", hard(), searchSeconds=4)
    found = requests.wait_reason("a", "Solved")
    assert "progress" not in found["status"]
    assert not condition(found, "Reconciling")
    assert found["status"]["metrics"]["durationMs"] >= 2000
