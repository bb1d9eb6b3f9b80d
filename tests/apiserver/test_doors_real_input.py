"""Recorded input through the Python client, and the same as an OptimizationRequest: one answer.

Needs the data of ``../shared/data``, which is no part of the project.
"""

from __future__ import annotations

import collections
import csv
import gzip
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from api_world import ApiWorld, api_world
from request_objects import condition

from engine_ops import OptimizationRequest
from engine_ops.devcluster import DevCluster

DATA = Path(__file__).parents[3] / "shared" / "data"
GPU = "alibabacloud.com/gpu-milli"
ATLAS_PROCESSORS, ATLAS_CORES_A_NODE = 9216, 8
HOUR = 3600


def lines_of(*parts: str) -> Iterator[str]:
    """Return the lines of a file; the test is skipped where it is not there."""
    path = DATA.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"the recorded data is not here: {path.relative_to(DATA.parents[1])}")
    content = path.read_bytes()
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("latin-1")
    return iter(io.StringIO(text))


def pods10k() -> dict[str, Any]:
    """Return 10,000 pods of some 540 deployments."""
    rows = list(csv.DictReader(lines_of("synthetic", "pods10k-1.csv")))
    items = [
        {
            "id": row["deployment"],
            "count": int(row["count"]),
            "cpu": f"{row['cpu_milli']}m",
            "memory": f"{row['memory_mib']}Mi",
        }
        for row in rows
    ]
    assert sum(item["count"] for item in items) == 10_000
    return {"items": items, "nodeCapacity": {"cpu": 16, "memory": "65536Mi", "pods": 110}}


def openb() -> dict[str, Any]:
    """Return the pods of a GPU cluster, alike ones as one item, and its nodes."""
    nodes = csv.DictReader(lines_of("openb", "openb_node_list_gpu_node.csv"))
    kinds = collections.Counter((row["cpu_milli"], row["memory_mib"], row["gpu"]) for row in nodes)
    pods = csv.DictReader(lines_of("openb", "openb_pod_list_default.csv.gz"))
    shapes = collections.Counter(
        (row["cpu_milli"], row["memory_mib"], int(row["num_gpu"]) * int(row["gpu_milli"])) for row in pods
    )
    assert sum(shapes.values()) == 8152
    items = [
        {"id": f"shape-{number}", "count": count, "cpu": f"{cpu}m", "memory": f"{memory}Mi"}
        | ({"resources": {GPU: gpu}} if gpu else {})
        for number, ((cpu, memory, gpu), count) in enumerate(sorted(shapes.items()))
    ]
    types = [
        {
            "name": f"kind-{number}",
            "cpu": f"{cpu}m",
            "memory": f"{memory}Mi",
            "resources": {GPU: 1000 * int(gpu)},
            "max": count,
        }
        for number, ((cpu, memory, gpu), count) in enumerate(sorted(kinds.items()))
    ]
    return {"items": items, "nodeTypes": types}


def atlas() -> dict[str, Any]:
    """Return the jobs of up to one node that a cluster of eight-core nodes was sent, alike ones as one item."""
    jobs = (line.split() for line in lines_of("swf", "LLNL-Atlas-2006-2.1-cln.swf.gz") if line[0] != ";")
    cores = collections.Counter(int(fields[4]) for fields in jobs if 0 < int(fields[4]) <= ATLAS_CORES_A_NODE)
    assert sum(cores.values()) > 1000
    items = [
        {"id": f"jobs-of-{count}", "count": jobs_of, "cpu": count, "memory": f"{2 * count}Gi"}
        for count, jobs_of in sorted(cores.items())
    ]
    return {"items": items, "nodeCapacity": {"cpu": ATLAS_CORES_A_NODE, "memory": "16Gi"}}


@pytest.fixture(scope="module")
def world(cluster: DevCluster, operator_kubeconfig: Path) -> Iterator[ApiWorld]:
    with api_world(cluster, operator_kubeconfig) as made:
        yield made


@pytest.mark.parametrize("read", [pods10k, openb, atlas])
def test_the_same_question_over_http_and_as_a_resource(world: ApiWorld, read: Callable[[], dict[str, Any]]) -> None:
    data = read()
    request = OptimizationRequest.model_validate(
        {"id": read.__name__, "type": "resource", "data": data, "searchSeconds": 0}
    )
    with world.client(world.users.token("editor"), timeout=120) as client:
        over_http = client.optimize(request)
    found = world.plugins.requests.ask(data, searchSeconds=0, timeoutSeconds=120)
    resource, ready = found["status"], condition(found, "Ready")
    # Of the GPU cluster's pods some find no room on its nodes: by either door.
    assert over_http.success is (ready["status"] == "True") is (read is not openb)
    assert over_http.error == (None if over_http.success else ready["message"])
    answer, other = over_http.result, resource["result"]
    same = ("nodeCount", "lowerBound", "gap", "algorithm")
    assert {key: answer[key] for key in same} == {key: other[key] for key in same}
    assert 0 < answer["lowerBound"] <= answer["nodeCount"]
    assert over_http.metrics.score == resource["metrics"]["score"]
    # Over HTTP the answer is whole, whatever a status has room for.
    told: collections.Counter[str] = collections.Counter()
    for item in [*(item for node in answer["nodes"] for item in node["items"]), *answer.get("unplacedItems", ())]:
        told[item["id"]] += item.get("count", 1)
    assert told == {item["id"]: item["count"] for item in data["items"]}
