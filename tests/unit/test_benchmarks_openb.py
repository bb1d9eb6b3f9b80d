"""Real traces as requests: nothing is lost on the way, and the check of the answers finds what is wrong."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine_ops import EngineConfig, OptimizationEngine, OptimizationRequest
from engine_ops.api.quantity import parse_quantity
from engine_ops.engine.resource.data import parse as parse_packing

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
from openb.convert import GPU_RESOURCE, packing, scheduling
from openb.trace import TraceNode, TracePod, read_nodes, read_pods
from openb.verify import check_packing, check_scheduling

NODES = [
    TraceNode("node-0", cpu_milli=8000, memory_mib=16384, gpus=2, model="T4"),
    TraceNode("node-1", cpu_milli=8000, memory_mib=16384, gpus=2, model="T4"),
    TraceNode("node-2", cpu_milli=16000, memory_mib=32768, gpus=4, model="V100"),
]
PODS = [
    TracePod("pod-0", cpu_milli=3150, memory_mib=4096, gpus=1, gpu_milli=500, models=frozenset()),
    TracePod("pod-1", cpu_milli=3150, memory_mib=4096, gpus=1, gpu_milli=500, models=frozenset()),
    TracePod("pod-2", cpu_milli=4000, memory_mib=1000, gpus=2, gpu_milli=1000, models=frozenset({"V100"})),
    TracePod("pod-3", cpu_milli=4000, memory_mib=1000, gpus=0, gpu_milli=0, models=frozenset({"V100", "T4"})),
]
PACKED: dict[str, Any] = {
    "nodes": [
        {"id": "a", "type": "T4x2-c8000-m16384", "items": [{"id": "c3150-m4096-g1x500", "count": 2}]},
        {
            "id": "b",
            "type": "V100x4-c16000-m32768",
            "items": [{"id": "c4000-m1000-g2x1000", "count": 1}, {"id": "c4000-m1000-g0x0", "count": 1}],
        },
    ],
    "unplacedItems": [],
}
PLACED: dict[str, Any] = {
    "placements": [
        {"taskId": "pod-0", "nodeId": "node-0"},
        {"taskId": "pod-1", "nodeId": "node-0"},
        {"taskId": "pod-2", "nodeId": "node-2"},
        {"taskId": "pod-3", "reason": "0/3 nodes are available"},
    ]
}

PODS_OF_ANY_SIZE = st.builds(
    TracePod,
    name=st.just(""),
    cpu_milli=st.integers(0, 200_000),
    memory_mib=st.integers(0, 10**6),
    gpus=st.integers(0, 8),
    gpu_milli=st.integers(0, 1000),
    models=st.frozensets(st.sampled_from(["T4", "V100", "P100"])),
)


@given(pods=st.lists(PODS_OF_ANY_SIZE, min_size=1, max_size=30))
def test_a_packing_asks_for_what_the_pods_ask_for(pods: list[TracePod]) -> None:
    data = packing(NODES, pods)
    items = data["items"]
    assert sum(item["count"] for item in items) == len(pods)
    assert len({item["id"] for item in items}) == len(items)
    cpu_milli = sum(round(parse_quantity(item["cpu"]) * 1000) * item["count"] for item in items)
    memory_bytes = sum(int(parse_quantity(item["memory"])) * item["count"] for item in items)
    gpu_milli = sum(item.get("resources", {}).get(GPU_RESOURCE, 0) * item["count"] for item in items)
    assert cpu_milli == sum(pod.cpu_milli for pod in pods)
    assert memory_bytes == sum(pod.memory_mib for pod in pods) * 1024**2
    assert gpu_milli == sum(pod.gpus * pod.gpu_milli for pod in pods)
    parse_packing(data, {})


def test_identical_nodes_are_one_type_with_their_number() -> None:
    types = packing(NODES, PODS)["nodeTypes"]
    assert {node_type["name"]: node_type["max"] for node_type in types} == {
        "T4x2-c8000-m16384": 2,
        "V100x4-c16000-m32768": 1,
    }


def test_allowed_models_become_a_selector_or_an_affinity() -> None:
    data = scheduling(NODES, PODS)
    plain, _, one, several = data["tasks"]
    assert "nodeSelector" not in plain
    assert "affinity" not in plain
    assert one["nodeSelector"] == {"gpu": "V100"}
    required = several["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert required["nodeSelectorTerms"] == [
        {"matchExpressions": [{"key": "gpu", "operator": "In", "values": ["T4", "V100"]}]}
    ]
    assert [node["labels"]["gpu"] for node in data["nodes"]] == ["T4", "T4", "V100"]
    assert all("labels" not in node for node in scheduling(NODES, PODS[:2])["nodes"])


@pytest.mark.parametrize("kind", ["resource", "scheduling"])
def test_the_engine_answers_what_was_converted_and_the_answer_passes_the_check(kind: str) -> None:
    convert, check = (packing, check_packing) if kind == "resource" else (scheduling, check_scheduling)
    engine = OptimizationEngine(EngineConfig())
    engine.init()
    data = json.loads(json.dumps(convert(NODES, PODS)))
    answer = engine.optimize(OptimizationRequest(id="openb", type=kind, data=data, search_seconds=0))
    checked = check(answer.result, NODES, PODS)
    assert checked.faults == ()
    assert (checked.placed, checked.unplaced) == (4, 0)
    assert checked.gpu_milli == 3000


def test_a_good_packing_is_counted() -> None:
    checked = check_packing(PACKED, NODES, PODS)
    assert checked.faults == ()
    assert (checked.placed, checked.unplaced, checked.nodes_used, checked.gpu_milli) == (4, 0, 2, 3000)


def _too_much(result: dict[str, Any]) -> None:
    result["nodes"][0]["items"][0]["count"] = 3


def _too_many_nodes(result: dict[str, Any]) -> None:
    result["nodes"].append({"id": "c", "type": "V100x4-c16000-m32768", "items": []})


def _lost(result: dict[str, Any]) -> None:
    result["nodes"][1]["items"].pop()


def _unknown_type(result: dict[str, Any]) -> None:
    result["nodes"][0]["type"] = "A100"


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (_too_much, "a: 9450 of 8000 CPU"),
        (_too_many_nodes, "2 of 1 nodes V100x4-c16000-m32768"),
        (_lost, "c4000-m1000-g0x0: 0 placed and 0 not, of 1"),
        (_unknown_type, "a: there is no type A100"),
    ],
)
def test_a_wrong_packing_is_found(spoil: Any, fault: str) -> None:
    result = copy.deepcopy(PACKED)
    spoil(result)
    assert fault in check_packing(result, NODES, PODS).faults


def test_a_good_placement_is_counted() -> None:
    checked = check_scheduling(PLACED, NODES, PODS)
    assert checked.faults == ()
    assert (checked.placed, checked.unplaced, checked.nodes_used, checked.gpu_milli) == (3, 1, 2, 3000)


@pytest.mark.parametrize(
    ("number", "entry", "fault"),
    [
        (2, {"taskId": "pod-2", "nodeId": "node-0"}, "node-0: 10300 of 8000 CPU"),
        (2, {"taskId": "pod-2", "nodeId": "node-0"}, "node-0: 3000 of 2000 GPU"),
        (2, {"taskId": "pod-2", "nodeId": "node-1"}, "pod-2: on node-1 with T4, allowed ['V100']"),
        (1, {"taskId": "pod-0", "nodeId": "node-1"}, "pod-0: unknown, or told of twice"),
        (1, {"taskId": "pod-0", "nodeId": "node-1"}, "pod-1: no placement"),
        (3, {"taskId": "pod-3"}, "pod-3: neither a node nor a reason"),
    ],
)
def test_a_wrong_placement_is_found(number: int, entry: dict[str, str], fault: str) -> None:
    result = copy.deepcopy(PLACED)
    result["placements"][number] = entry
    assert fault in check_scheduling(result, NODES, PODS).faults


def test_the_real_trace_is_read_whole() -> None:
    directory = Path(__file__).parents[3] / "shared" / "data" / "openb"
    if not directory.exists():
        pytest.skip("the recorded cluster is not here: shared/data/openb")
    nodes, pods = read_nodes(directory), read_pods(directory, "gpuspec10")
    assert (len(nodes), sum(node.gpus for node in nodes), len(pods)) == (1213, 6212, 8152)
    data = scheduling(nodes, pods)
    assert len(json.dumps(data, separators=(",", ":"))) < 1024**2, "a ConfigMap holds no more"
