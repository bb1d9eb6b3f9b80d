"""What one user does to his own request costs no other request its answer."""

from __future__ import annotations

import json
import socket

import pytest
from operator_process import OperatorProcess
from request_objects import SMALL, RequestObjects, condition


@pytest.fixture
def requests(cluster, namespace: str) -> RequestObjects:
    return RequestObjects(cluster, namespace)


def _create_raw(requests: RequestObjects, name: str, spec: str, padding: str = "") -> None:
    metadata = json.dumps({"name": name, "annotations": {"example.com/padding": padding}})
    kind = '"apiVersion": "engineops.dev/v1alpha1", "kind": "OptimizationRequest"'
    path = f"/apis/engineops.dev/v1alpha1/namespaces/{requests.namespace}/optimizationrequests"
    manifest = f'{{{kind}, "metadata": {metadata}, "spec": {spec}}}'
    requests.kubectl("create", "--raw", path, "-f", "-", stdin=manifest)


def _wait_invalid(requests: RequestObjects, name: str) -> None:
    """Wait without reading the object: this process recurses no deeper than the operator would."""
    reason = "{.status.conditions[?(@.type=='Ready')].reason}"
    requests.kubectl("wait", f"optreq/{name}", f"--for=jsonpath={reason}=InvalidData", "--timeout=30s")


@pytest.mark.parametrize("depth", [300, 1500, 9900])
@pytest.mark.parametrize("field", ["data", "constraints"])
def test_data_nested_deeper_than_python_recurses(
    operator: OperatorProcess, requests: RequestObjects, depth: int, field: str
) -> None:
    data = {"data": json.dumps(SMALL), "constraints": "{}", field: '{"items": ' + "[" * depth + "]" * depth + "}"}
    _create_raw(
        requests, "deep", f'{{"type": "resource", "data": {data["data"]}, "constraints": {data["constraints"]}}}'
    )
    _wait_invalid(requests, "deep")
    requests.resource("other")
    requests.wait_reason("other", "Solved")
    assert operator.returncode is None


def test_an_operator_starts_beside_data_nested_too_deeply(start_operator, requests: RequestObjects) -> None:
    _create_raw(requests, "deep", '{"type": "resource", "data": {"a": ' + "[" * 9900 + "]" * 9900 + "}}")
    start_operator()
    _wait_invalid(requests, "deep")


def test_objects_without_room_for_a_status_take_no_turn(operator: OperatorProcess, requests: RequestObjects) -> None:
    """etcd takes 1.5 MiB; more of these than there are turns."""
    for number in range(10):
        # The annotations take their 256 KiB, the identifiers the rest, up to a few bytes.
        _fill(requests, f"full-{number}")
    requests.resource("other")
    requests.wait_reason("other", "Solved")
    requests.wait_event("ResultTooLarge")


def _fill(requests: RequestObjects, name: str) -> None:
    items = [{"id": f"item-{number:05}" + "x" * 200, "cpu": 1, "memory": 1} for number in range(6000)]
    data = {"items": items, "nodeCapacity": {"cpu": 2, "memory": "8Gi"}}
    spec = json.dumps({"type": "resource", "data": data, "searchSeconds": 0}, separators=(",", ":"))
    missing = 1_572_100 - len(spec) - 330
    _create_raw(requests, name, spec, "y" * missing)


def test_a_result_keeps_out_of_the_way_of_a_name_of_253_characters(
    operator: OperatorProcess, requests: RequestObjects
) -> None:
    name = "n" * 253
    requests.resource(name, {"items": []})
    requests.wait_reason(name, "InvalidData")
    items = [{"id": f"item-{number:05}", "cpu": 1, "memory": 1} for number in range(2000)]
    requests.resource(name, {"items": items, "nodeCapacity": {"cpu": 2, "memory": "8Gi"}})
    found = requests.wait_reason(name, "Solved")
    kept = found["status"]["resultRef"]["name"]
    assert len(kept) <= 253
    requests.kubectl("get", "configmap", kept)
    assert not condition(found, "Stalled")


def test_an_address_in_use_for_health_is_told_in_a_sentence(start_operator) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process: OperatorProcess = start_operator(f"--probes=http://127.0.0.1:{port}/healthz", wait=False)
        assert process.wait_for_exit() == 1
    said = process.stderr.splitlines()[-1]
    assert said == f"error: --probes http://127.0.0.1:{port}: Address already in use"
