"""Each rule of the CRDs at a real API server: accepted, refused with the field's name, and offline alike."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from crd_cases import (
    ABSENT,
    CASES,
    PHRASES,
    PLUGIN,
    REQUEST,
    RULE_CASES,
    Case,
    RuleCase,
    base,
    base_status,
    change,
    walk,
)
from pydantic import ValidationError

from engine_ops.api.crd import RESOURCES, Resource
from engine_ops.api.faults import faults_of
from engine_ops.devcluster import DevCluster
from engine_ops.devcluster.client import ApiClient, ApiError

_STRICT = "fieldValidation=Strict"
_OBJECT = {"metadata", "kind", "apiVersion"}


class Server:
    """The API server, asked whether it would take an object."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        for resource in RESOURCES:
            client.request("POST", f"{self._path(resource)}?{_STRICT}", change(base(resource), _named("existing")))
        self._existing = {
            resource.kind: client.request("GET", f"{self._path(resource)}/existing") for resource in RESOURCES
        }

    def close(self) -> None:
        for resource in RESOURCES:
            self._client.request("DELETE", f"{self._path(resource)}/existing")

    def refusal(self, resource: Resource, target: dict[str, Any]) -> str | None:
        """Return why the API server refuses an object, or None."""
        try:
            if "status" in target:
                # Only the subresource takes a status.
                path = f"{self._path(resource)}/existing/status"
                body = self._existing[resource.kind] | {"status": target["status"]}
                self._client.request("PUT", f"{path}?dryRun=All&{_STRICT}", body)
            else:
                self._client.request("POST", f"{self._path(resource)}?dryRun=All&{_STRICT}", target)
        except ApiError as error:
            if error.status not in (400, 422):
                raise
            return str(error)
        return None

    @staticmethod
    def _path(resource: Resource) -> str:
        where = "namespaces/default/" if resource.scope == "Namespaced" else ""
        return f"/apis/engineops.dev/v1alpha1/{where}{resource.plural}"


def _named(name: str) -> dict[str, str]:
    return {"metadata.name": name}


@pytest.fixture(scope="module")
def server(cluster: DevCluster) -> Iterator[Server]:
    with cluster.client() as client:
        server = Server(client)
        yield server
        server.close()


def _target(resource: Resource, path: str, value: Any) -> dict[str, Any]:
    target = base(resource, path)
    if path.startswith("status"):
        target["status"] = base_status(resource)
    return change(target, {path: value})


def _offline_faults(resource: Resource, target: dict[str, Any]) -> list[str]:
    try:
        resource.model.model_validate(target)
    except ValidationError as error:
        return [str(fault) for fault in faults_of(error)]
    return []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_keyword(server: Server, case: Case) -> None:
    accepted = _target(case.resource, case.path, case.accepted)
    rejected = _target(case.resource, case.path, case.rejected)

    assert server.refusal(case.resource, accepted) is None
    refusal = server.refusal(case.resource, rejected)
    assert refusal is not None
    assert case.path in refusal
    assert PHRASES[case.keyword] in refusal

    assert _offline_faults(case.resource, accepted) == []
    # The API server alone keeps lists free of duplicates.
    if case.keyword != "x-kubernetes-list-type":
        assert any(fault.startswith(case.path) for fault in _offline_faults(case.resource, rejected))


@pytest.mark.parametrize("case", RULE_CASES, ids=lambda case: case.id)
def test_cel_rule(server: Server, case: RuleCase) -> None:
    for changes in case.accepted:
        target = change(base(case.resource), changes)
        assert server.refusal(case.resource, target) is None, changes
        assert _offline_faults(case.resource, target) == [], changes
    for changes in case.rejected:
        target = change(base(case.resource), changes)
        refusal = server.refusal(case.resource, target)
        assert refusal is not None, changes
        assert case.message in refusal, changes
        assert case.path in refusal, changes
        expected = f"{case.path}: {case.message}" if case.path else case.message
        assert expected in _offline_faults(case.resource, target), changes


def test_every_broken_rule_is_told_at_once(server: Server) -> None:
    changes = {"data": ABSENT, "searchSeconds": 31, "timeoutSeconds": 30, "intervalSeconds": 10}
    changes |= {"ttlSecondsAfterFinished": 1}
    target = change(base(REQUEST), {f"spec.{name}": value for name, value in changes.items()})
    names = ("exactly-one-source-of-data", "search-within-timeout", "no-ttl-with-interval")
    messages = [case.message for case in RULE_CASES if case.name in names]

    refusal = server.refusal(REQUEST, target)
    assert refusal is not None
    assert all(message in refusal for message in messages)
    assert len(_offline_faults(REQUEST, target)) == len(messages) == 3


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.kind)
def test_every_rule_has_a_case(resource: Resource) -> None:
    schema = resource.to_schema()
    keywords = {
        (path, keyword)
        for path, node in walk(schema)
        for keyword in PHRASES
        if path not in _OBJECT and keyword in node and keyword != "required"
        # Integers carry a format too, which says no more than their bounds.
        if keyword != "format" or node["format"] == "date-time"
        if node.get(keyword) != "atomic"  # refuses nothing
    }
    required = {
        (f"{path}.{name}".removeprefix("."), "required")
        for path, node in [("", schema), *walk(schema)]
        for name in node.get("required", ())
    }
    assert {(case.path, case.keyword) for case in CASES if case.resource is resource} == keywords | required

    messages = {
        rule["message"]
        for _, node in [("", schema), *walk(schema)]
        for rule in node.get("x-kubernetes-validations", ())
    }
    assert {case.message for case in RULE_CASES if case.resource is resource} == messages


def _typed_nodes() -> Iterator[Any]:
    wrong = {"object": "text", "array": "text", "string": 7, "integer": "7", "number": "7", "boolean": "true"}
    for resource in RESOURCES:
        for path, node in walk(resource.to_schema()):
            if path not in _OBJECT | {"status"}:
                value = wrong[node["type"]] if "type" in node else {}
                yield pytest.param(resource, path, value, id=f"{resource.short_name}-{path}")


@pytest.mark.parametrize(("resource", "path", "value"), list(_typed_nodes()))
def test_a_wrong_type_is_refused(server: Server, resource: Resource, path: str, value: Any) -> None:
    target = _target(resource, path, value)
    refusal = server.refusal(resource, target)
    assert refusal is not None
    assert f"{path}: " in refusal
    assert "in body must be of type" in refusal
    assert any(fault.startswith(path) for fault in _offline_faults(resource, target))


def _objects(*, free_form: bool) -> Iterator[Any]:
    for resource in RESOURCES:
        for path, node in walk(resource.to_schema()):
            if "additionalProperties" in node:
                continue  # any name is a field of a map
            is_free_form = bool(node.get("x-kubernetes-preserve-unknown-fields"))
            if path not in _OBJECT and node.get("type") == "object" and is_free_form is free_form:
                yield pytest.param(resource, path, id=f"{resource.short_name}-{path}")


@pytest.mark.parametrize(("resource", "path"), list(_objects(free_form=False)))
def test_an_unknown_field_is_refused(server: Server, resource: Resource, path: str) -> None:
    target = _target(resource, f"{path}.searchSecond", 1)
    refusal = server.refusal(resource, target)
    assert refusal is not None
    assert f'unknown field "{path}.searchSecond"' in refusal
    assert f"{path}.searchSecond: unknown field" in _offline_faults(resource, target)


@pytest.mark.parametrize(("resource", "path"), list(_objects(free_form=True)))
def test_a_free_form_object_takes_everything(server: Server, resource: Resource, path: str) -> None:
    anything = {"nodes": [{"a": None, "b": [1, 2.5, "x", {}]}], "": {"deep": {"deeper": True}}}
    target = _target(resource, path, anything)
    assert server.refusal(resource, target) is None
    assert _offline_faults(resource, target) == []


@pytest.mark.parametrize(
    ("resource", "path"),
    [
        (REQUEST, "spec.searchSeconds"),
        (REQUEST, "spec.constraints"),
        (REQUEST, "spec.intervalSeconds"),
        (PLUGIN, "spec.limits"),
    ],
)
def test_null_counts_as_absent(server: Server, resource: Resource, path: str) -> None:
    target = change(base(resource), {path: None})
    assert server.refusal(resource, target) is None
    assert _offline_faults(resource, target) == []


@pytest.mark.parametrize(("resource", "path"), [(REQUEST, "spec.searchSeconds"), (PLUGIN, "spec.limits.memory")])
def test_a_fraction_is_refused(server: Server, resource: Resource, path: str) -> None:
    target = change(base(resource), {path: 0.5})
    refusal = server.refusal(resource, target)
    assert refusal is not None
    assert path in refusal
    assert any(fault.startswith(path) for fault in _offline_faults(resource, target))


@pytest.mark.parametrize(("resource", "path"), [(REQUEST, "spec.searchSeconds"), (PLUGIN, "spec.limits.memory")])
def test_kubectl_makes_an_integer_of_a_whole_float(cluster: DevCluster, resource: Resource, path: str) -> None:
    target = change(base(resource), {path: 5.0})
    cluster.kubectl("create", "--dry-run=server", "--validate=strict", "-f", "-", stdin=yaml.safe_dump(target))
    assert _offline_faults(resource, target) == []
