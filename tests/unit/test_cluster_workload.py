"""The pods that a workload lacks, and the selection that a request's spec asks for."""

from __future__ import annotations

from typing import Any

import pytest

from engine_ops.api.cluster_source import ClusterSource
from engine_ops.api.faults import InvalidDataError
from engine_ops.controllers.cluster_input import selection_of
from engine_ops.engine.cluster.records import PodKind, PodRecord, snapshot_of
from engine_ops.engine.cluster.workload import missing_pods

WEB = PodKind("shop", {"app": "web"}, {})
DEPLOYMENT: dict[str, Any] = {
    "kind": "Deployment",
    "metadata": {"namespace": "shop", "name": "web"},
    "spec": {
        "replicas": 4,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}},
    },
}
SNAPSHOT = snapshot_of(
    [],
    [
        PodRecord("web-1", "1", "node", WEB),
        PodRecord("web-2", "2", "node", WEB, terminating=True),
        PodRecord("web-3", "3", "", WEB),
        PodRecord("web-4", "4", "node", PodKind("other", {"app": "web"}, {})),
        PodRecord("db-1", "5", "node", PodKind("shop", {"app": "db"}, {})),
    ],
    {},
)


def changed(**spec: Any) -> dict[str, Any]:
    return {**DEPLOYMENT, "spec": {**DEPLOYMENT["spec"], **spec}}


@pytest.mark.parametrize(("replicas", "count"), [(None, 3), (10, 9), (1, 0), (0, 0)])
def test_those_on_nodes_count_and_no_others(replicas: int | None, count: int) -> None:
    found = missing_pods(DEPLOYMENT, SNAPSHOT, replicas)
    assert (found.name, found.count) == ("shop/web", count)
    assert found.pod["metadata"] == {"labels": {"app": "web"}, "namespace": "shop", "name": "web"}
    assert found.pod["spec"] == {"containers": []}


def test_a_deployment_without_replicas_has_one_and_a_job_has_its_parallelism() -> None:
    spec = {key: value for key, value in DEPLOYMENT["spec"].items() if key != "replicas"}
    assert missing_pods({**DEPLOYMENT, "spec": spec}, SNAPSHOT, None).count == 0
    assert missing_pods({**DEPLOYMENT, "kind": "Job", "spec": {**spec, "parallelism": 3}}, SNAPSHOT, None).count == 2


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"template": None}, "Deployment shop/web has no pod template"),
        ({"template": {"metadata": {}}}, "Deployment shop/web has no pod template"),
        ({"selector": None}, "Deployment shop/web has no selector"),
        ({"selector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}, "needs at least one of values"),
    ],
)
def test_what_is_no_workload(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidDataError, match=message):
        missing_pods(changed(**spec), SNAPSHOT, None)


def test_every_selector_of_the_spec_reaches_the_engine() -> None:
    requirement = {"key": "a", "operator": "In", "values": ["b"]}
    selector = {"matchLabels": {"c": "d"}, "matchExpressions": [requirement]}
    written = {
        "nodes": {"labelSelector": selector, "fieldSelector": "metadata.name=a"},
        "pods": {
            "namespaces": ["shop"],
            "namespaceSelector": selector,
            "labelSelector": selector,
            "fieldSelector": "spec.nodeName=a",
        },
    }
    assert selection_of(ClusterSource.model_validate(written), "shop").to_manifest() == {**written, "namespace": "shop"}


def test_an_empty_source_selects_everything_and_a_workload_goes_with_it() -> None:
    assert selection_of(ClusterSource(), "shop").to_manifest() == {
        "namespace": "shop",
        "nodes": {"fieldSelector": ""},
        "pods": {"fieldSelector": "", "namespaces": []},
    }
    source = {"workload": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}
    pods = missing_pods(DEPLOYMENT, SNAPSHOT, None)
    assert selection_of(ClusterSource.model_validate(source), "shop", pods).workload == pods
