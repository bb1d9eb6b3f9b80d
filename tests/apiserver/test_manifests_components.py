"""manifests/components in an installation: what they add, and that it is the operator's alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from manifest_files import MANIFESTS, namespaced_overlay, rendered, users_overlay

from engine_ops.devcluster.pytest_plugin import Kubectl

Objects = dict[tuple[str, str], dict[str, Any]]


def by_name(objects: list[dict[str, Any]]) -> Objects:
    return {(document["kind"], document["metadata"]["name"]): document for document in objects}


def pod_of(objects: Objects) -> dict[str, Any]:
    spec: dict[str, Any] = objects["Deployment", "engine-ops"]["spec"]["template"]["spec"]
    return spec


def options_of(container: dict[str, Any]) -> dict[str, str]:
    return dict(argument.removeprefix("--").split("=", 1) for argument in container["args"][1:])


def test_a_volume_for_large_models_is_the_operators_alone(kubectl: Kubectl, namespace: str, tmp_path: Path) -> None:
    overlay = namespaced_overlay(tmp_path, namespace, "plugin-state")
    kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "-k", str(overlay))
    objects = by_name(rendered(kubectl, overlay))
    claim = objects["PersistentVolumeClaim", "engine-ops-models"]["metadata"]
    assert claim["namespace"] == namespace
    pod = pod_of(objects)
    (volume,) = (volume for volume in pod["volumes"] if "persistentVolumeClaim" in volume)
    assert volume["persistentVolumeClaim"]["claimName"] == claim["name"]
    operator, host = pod["containers"]
    (mount,) = (mount for mount in operator["volumeMounts"] if mount["name"] == volume["name"])
    assert f"--plugin-state-dir={mount['mountPath']}" in operator["args"]
    assert volume["name"] not in [mount["name"] for mount in host["volumeMounts"]]


@pytest.fixture(params=["base", "namespaced"])
def with_rest_api(request: pytest.FixtureRequest, kubectl: Kubectl, tmp_path: Path) -> Objects:
    if request.param == "base":
        return by_name(rendered(kubectl, users_overlay(tmp_path, "base", "rest-api")))
    return by_name(rendered(kubectl, namespaced_overlay(tmp_path, "shop", "rest-api")))


def test_the_api_is_served_with_the_certificate_of_a_secret_that_plugins_do_not_see(with_rest_api: Objects) -> None:
    pod = pod_of(with_rest_api)
    operator, host = pod["containers"]
    # One address: the base's is replaced, and nothing but that.
    assert [argument for argument in operator["args"] if argument.startswith("--api=")] == [
        "--api=https://0.0.0.0:3443"
    ]
    assert len([argument for argument in operator["args"] if argument.startswith("--plugin-host=")]) == 1
    (volume,) = (volume for volume in pod["volumes"] if "secret" in volume)
    assert volume["secret"] == {"secretName": "engine-ops-api-tls", "defaultMode": 0o440}
    (mount,) = (mount for mount in operator["volumeMounts"] if mount["name"] == volume["name"])
    assert mount["readOnly"] is True
    options = options_of(operator)
    # The names that Kubernetes gives the parts of a Secret of type kubernetes.io/tls.
    assert options["api-tls-cert"] == f"{mount['mountPath']}/tls.crt"
    assert options["api-tls-key"] == f"{mount['mountPath']}/tls.key"
    assert volume["name"] not in [mount["name"] for mount in host["volumeMounts"]]


def test_the_service_and_the_policy_lead_to_the_port_of_the_api(with_rest_api: Objects) -> None:
    labels = with_rest_api["Deployment", "engine-ops"]["spec"]["template"]["metadata"]["labels"]
    service = with_rest_api["Service", "engine-ops"]["spec"]
    assert service["selector"].items() <= labels.items()
    (port,) = service["ports"]
    ports = {port["name"]: port["containerPort"] for port in pod_of(with_rest_api)["containers"][0]["ports"]}
    assert (port["port"], ports[port["targetPort"]]) == (443, 3443)
    policy = with_rest_api["NetworkPolicy", "engine-ops-api"]["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    (rule,) = policy["ingress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": 3443}]
    assert rule["from"] == [{"namespaceSelector": {"matchLabels": {"engineops.dev/api-client": "true"}}}]
    # What else comes in is what the base says: nothing.
    assert "ingress" not in with_rest_api["NetworkPolicy", "engine-ops"]["spec"]
    namespaces = {name: found["metadata"]["namespace"] for name, found in with_rest_api.items() if name[0] == "Service"}
    assert set(namespaces.values()) == {with_rest_api["Deployment", "engine-ops"]["metadata"]["namespace"]}


@pytest.mark.usefixtures("installed")
def test_an_installation_with_the_api_is_accepted_and_restricted(kubectl: Kubectl, tmp_path: Path) -> None:
    overlay = users_overlay(tmp_path, "base", "rest-api", "plugin-state")
    applied = kubectl(
        "apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-k", str(overlay)
    )
    assert "Warning" not in applied.stderr
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "with-tls", "namespace": "engine-ops-system"}}
    spec = pod_of(by_name(rendered(kubectl, overlay)))
    assert "created" in kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps({**pod, "spec": spec})).stdout


def test_the_sample_of_a_certificate_is_for_the_service_and_fills_its_secret(with_rest_api: Objects) -> None:
    path = MANIFESTS / "components" / "rest-api" / "certificate.yaml"
    certificate = yaml.safe_load(path.read_text())
    assert certificate["metadata"]["namespace"] == "engine-ops-system"
    spec = certificate["spec"]
    assert spec["dnsNames"][0] == "engine-ops.engine-ops-system.svc"
    (volume,) = (volume for volume in pod_of(with_rest_api)["volumes"] if "secret" in volume)
    assert spec["secretName"] == volume["secret"]["secretName"]
    assert ("Service", spec["dnsNames"][0].split(".")[0]) in with_rest_api


def test_the_component_fails_aloud_where_the_base_has_moved(kubectl: Kubectl, tmp_path: Path) -> None:
    """It names the argument by its place: another one there must not be replaced."""
    other = {
        "patches": [
            {
                "target": {"kind": "Deployment"},
                "patch": '[{"op": "replace", "path": "/spec/template/spec/containers/0/args/4", "value": "--verbose"}]',
            }
        ]
    }
    (tmp_path / "inner").mkdir()
    users_overlay(tmp_path / "inner", "base", **other)
    (tmp_path / "outer").mkdir()
    outer = users_overlay(tmp_path / "outer", "base", "rest-api")
    text = yaml.safe_load((outer / "kustomization.yaml").read_text())
    text["resources"] = ["../inner"]
    (outer / "kustomization.yaml").write_text(yaml.safe_dump(text))
    failed = kubectl("kustomize", str(outer), check=False)
    assert failed.returncode != 0
    assert "/spec/template/spec/containers/0/args/4" in failed.stderr
