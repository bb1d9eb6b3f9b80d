"""The random clusters that kube-scheduler is asked about: what the API server would have, again and again the same."""

from __future__ import annotations

import collections
import copy
import itertools
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from engine_ops.api.quantity import parse_quantity
from engine_ops.engine.cluster.dump import read_dump
from lib.random_clusters import Cluster, is_pending, make_cluster, pod_id
from lib.random_rules import PREFERRED, REQUIRED
from lib.shrinking import shrink

SEEDS = range(60)
CLUSTERS = {seed: make_cluster(seed) for seed in SEEDS}
PODS = [pod for cluster in CLUSTERS.values() for pod in cluster.pods]
TERM_KINDS = ("podAffinity", "podAntiAffinity")


def test_a_seed_gives_one_cluster() -> None:
    assert make_cluster(3).to_json() == make_cluster(3).to_json()
    assert len({cluster.to_json() for cluster in CLUSTERS.values()}) == len(SEEDS)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_size_is_about_what_is_asked_for(seed: int) -> None:
    cluster = make_cluster(seed, nodes=20, pods=100)
    assert 10 <= len(cluster.nodes) <= 30
    # The last template may bring a few more than were wanted.
    assert 50 <= len(cluster.pods) <= 150 + 12


@pytest.mark.parametrize("seed", SEEDS)
def test_a_cluster_is_a_dump_without_faults(seed: int) -> None:
    cluster = CLUSTERS[seed]
    snapshot = read_dump(cluster.to_json().encode(), "cluster.json")
    finished = [pod for pod in cluster.pods if pod["status"].get("phase") in {"Succeeded", "Failed"}]
    assert len(snapshot.nodes) == len(cluster.nodes)
    assert len(snapshot.pods) == len(cluster.pods) - len(finished)
    assert not [node.name for node in snapshot.nodes if node.clamped]
    assert not [kind for kind in snapshot.kinds if "resources" in kind.not_modelled]


@pytest.mark.parametrize("seed", SEEDS)
def test_names_and_uids_are_unique(seed: int) -> None:
    cluster = CLUSTERS[seed]
    for values in (
        [pod_id(pod) for pod in cluster.pods],
        [pod["metadata"]["uid"] for pod in cluster.pods],
        [node["metadata"]["name"] for node in cluster.nodes],
    ):
        assert len(set(values)) == len(values)


def test_expressions_are_valid() -> None:
    seen = set()
    for item in itertools.chain(*(cluster.nodes + cluster.pods for cluster in CLUSTERS.values())):
        for expression in _expressions(item):
            operator, values = expression["operator"], expression.get("values", [])
            seen.add(operator)
            if operator in {"In", "NotIn"}:
                assert values
            elif operator in {"Gt", "Lt"}:
                assert len(values) == 1
            else:
                assert operator in {"Exists", "DoesNotExist"}
                assert not values
    assert seen == {"In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"}


def test_spread_constraints_are_valid() -> None:
    for pod in PODS:
        constraints = pod["spec"].get("topologySpreadConstraints", [])
        pairs = [(item["topologyKey"], item["whenUnsatisfiable"]) for item in constraints]
        assert len(set(pairs)) == len(pairs)
        for constraint in constraints:
            assert constraint["maxSkew"] >= 1
            if "minDomains" in constraint:
                assert constraint["whenUnsatisfiable"] == "DoNotSchedule"
            assert "matchLabelKeys" not in constraint or "labelSelector" in constraint


def test_label_keys_of_affinity_terms_are_merged_as_the_api_server_does() -> None:
    merged = 0
    for pod in PODS:
        labels = pod["metadata"]["labels"]
        for term in _terms(pod):
            for name, operator in (("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")):
                for key in term.get(name, []):
                    wanted = {"key": key, "operator": operator, "values": [labels.get(key)]}
                    assert (wanted in term["labelSelector"].get("matchExpressions", [])) == (key in labels)
                    merged += key in labels
    assert merged


def test_what_is_limited_is_asked_for() -> None:
    for pod in PODS:
        for holder in (pod["spec"], *_containers(pod)):
            resources = holder.get("resources", {})
            for name, amount in resources.get("limits", {}).items():
                assert resources["requests"][name] == amount


def test_pod_level_requests_are_no_less_than_those_of_containers() -> None:
    compared = 0
    for pod in PODS:
        level = pod["spec"].get("resources", {}).get("requests", {})
        for name, amount in level.items():
            asked = [item.get("resources", {}).get("requests", {}).get(name, 0) for item in pod["spec"]["containers"]]
            assert parse_quantity(amount) >= sum(map(parse_quantity, asked)) - 1e-9
            compared += 1
    assert compared


FEATURES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "node selector": lambda pod: "nodeSelector" in pod["spec"],
    "required node affinity": lambda pod: REQUIRED in _affinity(pod, "nodeAffinity"),
    "preferred node affinity": lambda pod: PREFERRED in _affinity(pod, "nodeAffinity"),
    "match fields": lambda pod: "matchFields" in json.dumps(_affinity(pod, "nodeAffinity")),
    "tolerations": lambda pod: len(pod["spec"].get("tolerations", [])) > 2,
    "affinity": lambda pod: REQUIRED in _affinity(pod, "podAffinity"),
    "anti-affinity": lambda pod: REQUIRED in _affinity(pod, "podAntiAffinity"),
    "namespaces": lambda pod: any("namespaces" in term for term in _terms(pod)),
    "namespace selector": lambda pod: any("namespaceSelector" in term for term in _terms(pod)),
    "any namespace": lambda pod: any(term.get("namespaceSelector") == {} for term in _terms(pod)),
    "no pod selector": lambda pod: any("labelSelector" not in term for term in _terms(pod)),
    "any pod selector": lambda pod: any(term.get("labelSelector") == {} for term in _terms(pod)),
    "spread": lambda pod: "topologySpreadConstraints" in pod["spec"],
    "minimum of domains": lambda pod: "minDomains" in _spread(pod),
    "affinity policy": lambda pod: "nodeAffinityPolicy" in _spread(pod),
    "taints policy": lambda pod: "nodeTaintsPolicy" in _spread(pod),
    "label keys of spread": lambda pod: "matchLabelKeys" in _spread(pod),
    "host ports": lambda pod: "hostPort" in json.dumps(pod["spec"]),
    "address of a port": lambda pod: "127.0.0.1" in json.dumps(pod["spec"]),
    "overhead": lambda pod: "overhead" in pod["spec"],
    "pod-level resources": lambda pod: "resources" in pod["spec"],
    "init container": lambda pod: any("restartPolicy" not in c for c in pod["spec"].get("initContainers", [])),
    "sidecar": lambda pod: any("restartPolicy" in c for c in pod["spec"].get("initContainers", [])),
    "no requests": lambda pod: not any(c.get("resources", {}).get("requests") for c in _containers(pod)),
    "extended resource": lambda pod: "example.com/gpu" in json.dumps(pod["spec"]),
    "huge pages": lambda pod: "hugepages-2Mi" in json.dumps(pod["spec"]),
    "resize": lambda pod: "allocatedResources" in json.dumps(pod["status"]),
    "infeasible resize": lambda pod: "Infeasible" in json.dumps(pod["status"]),
    "pod of a DaemonSet": lambda pod: pod["metadata"]["ownerReferences"][0]["kind"] == "DaemonSet",
    "pending pod of a DaemonSet": lambda pod: pod["metadata"]["labels"]["app"] == "agent" and is_pending(pod),
    "static pod": lambda pod: "annotations" in pod["metadata"],
    "terminating": lambda pod: "deletionTimestamp" in pod["metadata"] and "nodeName" in pod["spec"],
    "terminating without a node": lambda pod: "deletionTimestamp" in pod["metadata"] and "nodeName" not in pod["spec"],
    "finished": lambda pod: pod["status"].get("phase") == "Succeeded",
    "node that is gone": lambda pod: pod["spec"].get("nodeName") == "gone",
    "negative priority": lambda pod: pod["spec"]["priority"] < 0,
    "volume of a claim": lambda pod: "persistentVolumeClaim" in json.dumps(pod["spec"]),
    "gate": lambda pod: "schedulingGates" in pod["spec"],
}


@pytest.mark.parametrize("name", FEATURES)
def test_pods_have_every_feature(name: str) -> None:
    having = [bool(FEATURES[name](pod)) for pod in PODS]
    assert any(having)
    assert not all(having)


def test_nodes_have_every_feature() -> None:
    nodes = [node for cluster in CLUSTERS.values() for node in cluster.nodes]
    effects = collections.Counter(taint["effect"] for node in nodes for taint in node["spec"].get("taints", []))
    assert set(effects) == {"NoSchedule", "PreferNoSchedule", "NoExecute"}
    assert any(node["spec"].get("unschedulable") for node in nodes)
    assert any(not node["status"]["allocatable"] for node in nodes)
    assert any("example.com/gpu" in node["status"]["allocatable"] for node in nodes)
    assert any("kubernetes.io/hostname" not in node["metadata"]["labels"] for node in nodes)


def test_half_of_the_pods_wait() -> None:
    assert 0.3 < sum(map(is_pending, PODS)) / len(PODS) < 0.6


def test_shrinking_leaves_what_is_needed() -> None:
    cluster = next(cluster for cluster in CLUSTERS.values() if any("nodeSelector" in p["spec"] for p in cluster.pods))
    before = copy.deepcopy(cluster)

    def wrong(smaller: Cluster) -> bool:
        return bool(smaller.nodes) and any("nodeSelector" in pod["spec"] for pod in smaller.pods)

    smallest = shrink(cluster, wrong)
    assert cluster == before
    assert len(smallest.nodes) == 1
    (pod,) = smallest.pods
    spec = {key: value for key, value in pod["spec"].items() if key != "nodeName"}
    assert spec == {"containers": [], "nodeSelector": {}}


def test_shrinking_takes_an_exception_for_a_no() -> None:
    def wrong(smaller: Cluster) -> bool:
        return len(smaller.nodes[1]["metadata"]["labels"]) >= 0

    assert len(shrink(CLUSTERS[1], wrong).nodes) == 2


def _affinity(pod: dict[str, Any], kind: str) -> dict[str, Any]:
    affinity: dict[str, Any] = pod["spec"].get("affinity", {}).get(kind, {})
    return affinity


def _terms(pod: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for kind in TERM_KINDS:
        yield from _affinity(pod, kind).get(REQUIRED, [])
        for weighted in _affinity(pod, kind).get(PREFERRED, []):
            assert 1 <= weighted["weight"] <= 100
            yield weighted["podAffinityTerm"]


def _spread(pod: dict[str, Any]) -> set[str]:
    return {key for constraint in pod["spec"].get("topologySpreadConstraints", []) for key in constraint}


def _containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod["spec"]["containers"], *pod["spec"].get("initContainers", [])]


def _expressions(item: Any) -> Iterator[dict[str, Any]]:
    if isinstance(item, dict):
        for key, value in item.items():
            if key in {"matchExpressions", "matchFields"}:
                yield from value
            else:
                yield from _expressions(value)
    elif isinstance(item, list):
        for value in item:
            yield from _expressions(value)
