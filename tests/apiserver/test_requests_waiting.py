"""Waiting is not failing: what is not there yet is tried again; what is wrong says where."""

from __future__ import annotations

import json

import pytest
from operator_process import OperatorProcess
from request_objects import SMALL, RequestObjects, condition

CONFIG_MAP = {"type": "resource", "dataFrom": {"configMapKeyRef": {"name": "late", "key": "data"}}}


@pytest.fixture
def requests(cluster, namespace: str) -> RequestObjects:
    return RequestObjects(cluster, namespace)


def test_a_missing_config_map_and_key_are_awaited(operator: OperatorProcess, requests: RequestObjects) -> None:
    requests.apply("a", CONFIG_MAP)
    found = requests.wait_reason("a", "DataNotFound")
    assert condition(found, "Reconciling")["status"] == "True"
    assert not condition(found, "Stalled")
    assert found["status"]["observedGeneration"] == -1
    requests.config_map("late", other="{}")
    requests.wait("a", lambda found: "has no key 'data'; it has: other" in condition(found, "Ready")["message"])
    requests.config_map("late", other="{}", data=json.dumps(SMALL))
    requests.wait_reason("a", "Solved")


def test_a_waiting_request_is_taken_up_after_a_restart(start_operator, requests: RequestObjects) -> None:
    first = start_operator()
    requests.apply("a", CONFIG_MAP)
    requests.wait_reason("a", "DataNotFound")
    first.kill9()
    requests.config_map("late", data=json.dumps(SMALL))
    start_operator()
    requests.wait_reason("a", "Solved")


def test_a_config_map_that_is_neither_json_nor_yaml(operator: OperatorProcess, requests: RequestObjects) -> None:
    requests.config_map("late", data="{items: [unclosed")
    requests.apply("a", CONFIG_MAP)
    found = requests.wait_reason("a", "InvalidData")
    assert "configMapKeyRef(late/data)" in condition(found, "Ready")["message"]
    requests.config_map("late", data=json.dumps(SMALL))
    requests.wait_reason("a", "Solved")


def test_a_fault_in_a_config_map_names_its_path(operator: OperatorProcess, requests: RequestObjects) -> None:
    requests.config_map("late", data=json.dumps({**SMALL, "items": [{"id": "a", "cpu": "half", "memory": 1}]}))
    requests.apply("a", CONFIG_MAP)
    message = condition(requests.wait_reason("a", "InvalidData"), "Ready")["message"]
    assert "configMapKeyRef(late/data).items[0].cpu" in message


def test_a_plugin_that_is_not_there(operator: OperatorProcess, requests: RequestObjects) -> None:
    # Without the name of a plugin, the history that other tests have left might be enough to predict from.
    requests.apply("ml", {"type": "ml-driven", "plugin": "none", "data": {"workload_size": 3}})
    requests.resource("pinned", plugin="clever")
    requests.resource("without", plugin="none")
    assert "ml-driven" in condition(requests.wait_reason("ml", "NoPlugin"), "Ready")["message"]
    assert "'clever'" in condition(requests.wait_reason("pinned", "NoPlugin"), "Ready")["message"]
    requests.wait_reason("without", "Solved")


def _items(**change: object) -> dict:
    item = {"id": "web", "cpu": "500m", "memory": "1Gi", **change}
    return {**SMALL, "items": [item]}


INVALID = {
    "negative": (_items(cpu="-1"), "spec.data.items[0].cpu"),
    "malformed": (_items(memory="8GB"), "spec.data.items[0].memory"),
    "huge": (_items(memory="1e300"), "spec.data.items[0].memory"),
    "not-a-number": (_items(cpu="NaN"), "spec.data.items[0].cpu"),
    "unknown-field": (_items(colour="red"), "spec.data.items[0].colour"),
    "missing-field": ({**SMALL, "items": [{"id": "web", "cpu": 1}]}, "spec.data.items[0].memory"),
    "duplicate-ids": ({**SMALL, "items": SMALL["items"] * 2}, "spec.data.items[1].id"),
    "empty": ({**SMALL, "items": []}, "spec.data.items"),
    "node-of-size-zero": ({**SMALL, "nodeCapacity": {"cpu": 0, "memory": 0}}, "spec.data.nodeCapacity"),
    "no-nodes": ({"items": SMALL["items"]}, "spec.data"),
}


def test_bad_data_is_stalled_with_its_path_and_the_operator_goes_on(
    operator: OperatorProcess, requests: RequestObjects
) -> None:
    for name, (data, _) in INVALID.items():
        requests.resource(name, data)
    requests.resource("bad-constraint", constraints={"colour": "red"})
    requests.resource("good")
    requests.wait_reason("good", "Solved")
    for name, (_, path) in INVALID.items():
        found = requests.wait_reason(name, "InvalidData")
        assert condition(found, "Stalled")["status"] == "True", name
        assert found["status"]["observedGeneration"] == 1, name
        assert path in condition(found, "Stalled")["message"], name
    message = condition(requests.wait_reason("bad-constraint", "InvalidData"), "Stalled")["message"]
    assert "spec.constraints.colour" in message


def test_an_item_larger_than_any_node_is_named_beside_the_partial_answer(
    operator: OperatorProcess, requests: RequestObjects
) -> None:
    items = [*SMALL["items"], {"id": "giant", "cpu": 64, "memory": "1Gi"}]
    requests.resource("a", {**SMALL, "items": items})
    found = requests.wait_reason("a", "Unplaceable")
    assert condition(found, "Stalled")["status"] == "True"
    result = found["status"]["result"]
    assert [item["id"] for item in result["unplacedItems"]] == ["giant"]
    assert result["nodeCount"] == 2
