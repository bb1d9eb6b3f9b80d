"""How the API server serves the two kinds: defaults, status, names, columns, explain."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from crd_cases import CONDITION, PLUGIN, REQUEST, base, base_status, change

from engine_ops.api.crd import RESOURCES, Resource
from engine_ops.api.optimizationrequest import OptimizationRequest, OptimizationRequestStatus, SolvedBy
from engine_ops.api.optimizerplugin import OptimizerPlugin
from engine_ops.devcluster import DevCluster

_CRDS = Path(__file__).parents[2] / "crds"


def _request(name: str = "question", **spec: Any) -> dict[str, Any]:
    return change(base(REQUEST), {"metadata.name": name, "spec": {"type": "resource", "data": {}, **spec}})


def _path(namespace: str) -> str:
    return f"/apis/engineops.dev/v1alpha1/namespaces/{namespace}/{REQUEST.plural}"


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.kind)
def test_the_definition_is_accepted_without_reservations(cluster: DevCluster, resource: Resource) -> None:
    crd = json.loads(cluster.kubectl("get", "crd", resource.name, "-o", "json").stdout)
    conditions = {condition["type"]: condition["status"] for condition in crd["status"]["conditions"]}
    # NonStructuralSchema, or a schema that violates policy, would be a third condition.
    assert conditions == {"NamesAccepted": "True", "Established": "True"}


def test_the_definitions_do_not_drift_at_the_server(cluster: DevCluster) -> None:
    # What the server fills in or rewrites would show as a difference in GitOps for ever.
    # As another manager: manifests/base, which other tests apply to the same cluster, has labels of its own.
    compare = ("diff", "--server-side", "--force-conflicts", "--field-manager=drift", "-f", str(_CRDS))
    diff = cluster.kubectl(*compare, check=False)
    assert (diff.returncode, diff.stdout) == (0, "")


def test_a_new_object_has_its_defaults_and_reads_as_not_observed(cluster: DevCluster, namespace: str) -> None:
    with cluster.client() as client:
        # A status that the creator sends is dropped, not believed.
        sent = _request() | {"status": {"observedGeneration": 1, "conditions": [CONDITION]}}
        created = client.request("POST", _path(namespace), sent)
        read = client.request("GET", f"{_path(namespace)}/question")
        listed = client.request("GET", _path(namespace))
    assert created["status"] == read["status"] == listed["items"][0]["status"] == {"observedGeneration": -1}
    assert read["spec"] == {"type": "resource", "data": {}, "searchSeconds": 1, "timeoutSeconds": 30, "suspend": False}
    assert OptimizationRequest.model_validate(_request()).spec.to_manifest() == read["spec"]


def test_a_new_plugin_has_its_defaults(cluster: DevCluster) -> None:
    manifest = change(base(PLUGIN), {"spec": {"source": {"service": {"name": "a", "namespace": "b"}}}})
    with cluster.client() as client:
        created = client.request("POST", f"/apis/engineops.dev/v1alpha1/{PLUGIN.plural}?dryRun=All", manifest)
    assert created["status"] == {"observedGeneration": -1}
    assert created["spec"] == {
        "enabled": True,
        "priority": 0,
        "source": {"service": {"name": "a", "namespace": "b", "port": 80}},
        "mode": "active",
        "limits": {"timeoutSeconds": 10, "memory": "512Mi"},
        "training": {"minSamples": 10, "retrain": {"onDrift": True}, "timeoutSeconds": 120, "tolerance": "1.25"},
    }
    assert OptimizerPlugin.model_validate(manifest).spec.to_manifest() == created["spec"]


def test_status_and_spec_are_written_apart(cluster: DevCluster, namespace: str) -> None:
    path = f"{_path(namespace)}/question"
    with cluster.client() as client:
        created = client.request("POST", _path(namespace), _request())
        status = OptimizationRequestStatus(
            observed_generation=1, result={"gap": None, "nodes": []}, solved_by=SolvedBy(algorithm="first-fit")
        ).to_manifest()
        changed = change(created, {"status": status, "spec.suspend": True})
        after_status = client.request("PUT", f"{path}/status", changed)
        assert after_status["spec"]["suspend"] is False
        assert after_status["metadata"]["generation"] == 1
        assert after_status["status"] == status

        changed = change(after_status, {"status": {}, "spec.suspend": True})
        after_spec = client.request("PUT", path, changed)
    assert after_spec["status"] == status
    assert after_spec["metadata"]["generation"] == 2


def test_nothing_in_free_form_objects_is_pruned(cluster: DevCluster, namespace: str) -> None:
    anything = {"items": [{"id": "a", "count": 2, "null": None}], "deep": {"": [1.5, {"x": []}]}}
    with cluster.client() as client:
        created = client.request("POST", _path(namespace), _request(data=anything, constraints=anything))
    assert created["spec"]["data"] == created["spec"]["constraints"] == anything


def test_data_is_owned_as_a_whole(cluster: DevCluster, namespace: str) -> None:
    def apply(manager: str, data: dict[str, Any], *flags: str) -> Any:
        arguments = ("-n", namespace, "apply", "--server-side", f"--field-manager={manager}", *flags, "-f", "-")
        return cluster.kubectl(*arguments, stdin=json.dumps(_request(data=data)), check=False)

    assert apply("a", {"x": 1}).returncode == 0
    conflict = apply("b", {"y": 2})
    assert "conflict" in conflict.stderr
    assert ".spec.data" in conflict.stderr
    assert apply("b", {"y": 2}, "--force-conflicts").returncode == 0
    with cluster.client() as client:
        # One atomic value: the first manager's x is gone, not merged.
        assert client.request("GET", f"{_path(namespace)}/question")["spec"]["data"] == {"y": 2}


def test_kubectl_get_prints_the_columns(cluster: DevCluster, namespace: str) -> None:
    with cluster.client() as client:
        created = client.request("POST", _path(namespace), _request())
        status = base_status(REQUEST) | {
            "conditions": [CONDITION | {"type": "Stalled", "reason": "Other"}, CONDITION | {"message": "12 nodes"}],
            "metrics": {"durationMs": 7, "score": 0.9375},
            "solvedBy": {"name": "ratio-greedy", "algorithm": "ratio-greedy"},
        }
        client.request("PUT", f"{_path(namespace)}/question/status", created | {"status": status})

    lines = cluster.kubectl("-n", namespace, "get", "optreq").stdout.splitlines()
    assert lines[0].split() == ["NAME", "TYPE", "READY", "REASON", "SOLVEDBY", "SCORE", "AGE"]
    assert lines[1].split()[:-1] == ["question", "resource", "True", "Solved", "ratio-greedy", "0.9375"]
    wide = cluster.kubectl("-n", namespace, "get", "optreq", "-o", "wide").stdout.splitlines()
    assert wide[0].split()[-1] == "MESSAGE"
    assert wide[1].endswith("12 nodes")


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.kind)
def test_names(cluster: DevCluster, resource: Resource) -> None:
    table = cluster.kubectl("api-resources", "--api-group=engineops.dev", "-o", "wide", "--no-headers").stdout
    rows = [line.split() for line in table.splitlines()]
    row = next(row for row in rows if row[0] == resource.plural)
    assert row[1:5] == [
        resource.short_name,
        "engineops.dev/v1alpha1",
        str(resource.scope == "Namespaced").lower(),
        resource.kind,
    ]
    assert row[-1] == "engineops"


def test_the_category_lists_both_kinds(cluster: DevCluster, namespace: str) -> None:
    with cluster.client() as client:
        client.request("POST", _path(namespace), _request())
    assert f"{REQUEST.kind.lower()}.engineops.dev/question" in cluster.kubectl(
        "-n", namespace, "get", "engineops", "-o", "name"
    ).stdout.split("\n")


def test_explain_shows_the_descriptions(cluster: DevCluster) -> None:
    explained = " ".join(cluster.kubectl("explain", "optreq.spec").stdout.split())
    for name, node in REQUEST.to_schema()["properties"]["spec"]["properties"].items():
        assert f"{name} <{node['type'].replace('object', 'Object')}>" in explained
        assert node["description"] in explained
