"""Who would change a plugin back, by what stands in its managedFields."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine_ops.api.plugin_change import PluginChange, PluginManaged
from engine_ops.kube.errors import ApiError
from engine_ops.kube.plugin_patch import Owner, field_faults, owners_of


def plugin(*entries: tuple[str, str, dict[str, Any]], **spec: Any) -> dict[str, Any]:
    fields = [
        {"manager": manager, "operation": operation, "fieldsType": "FieldsV1", "fieldsV1": owned}
        for manager, operation, owned in entries
    ]
    return {"metadata": {"managedFields": fields}, "spec": {"enabled": True, "priority": 0} | spec}


ENABLED = {"f:spec": {"f:enabled": {}}}
OFF = PluginChange(enabled=False)


@pytest.mark.parametrize(
    ("manager", "operation", "bound"),
    [
        ("anybody", "Apply", True),
        ("kubectl", "Apply", True),
        ("argocd-controller", "Apply", True),
        ("argocd-controller", "Update", True),
        ("argocd-application-controller", "Update", True),
        ("kustomize-controller", "Update", True),
        ("flux-client-side-apply", "Update", True),
        ("helm", "Update", True),
        ("fleetagent", "Update", True),
        ("anybody", "Update", False),
        ("kubectl-patch", "Update", False),
        ("kubectl-edit", "Update", False),
        ("kubectl-client-side-apply", "Update", False),
        ("before-first-apply", "Update", False),
        ("argocd-server", "Update", False),  # a person at its user interface
        ("engine-ops-api", "Update", False),
        ("engine-ops-cli", "Apply", False),
        ("engine-ops", "Apply", False),
    ],
)
def test_who_changes_it_back(manager: str, operation: str, bound: bool) -> None:
    found = owners_of(plugin((manager, operation, ENABLED)), OFF)
    assert found == ((Owner(manager, operation, ("spec.enabled",)),) if bound else ())


@pytest.mark.parametrize(
    ("fields", "edit", "owned"),
    [
        (ENABLED, OFF, ("spec.enabled",)),
        (ENABLED, PluginChange(priority=1), ()),
        (ENABLED, PluginChange(enabled=True), ()),  # as it is
        (ENABLED, PluginChange(), ()),
        ({"f:spec": {"f:config": {}}}, PluginChange(config={"a": 2}), ("spec.config",)),
        ({"f:spec": {"f:config": {".": {}, "f:a": {}}}}, PluginChange(config={"a": 2}), ("spec.config",)),
        ({"f:spec": {"f:config": {}}}, PluginChange(config={"a": 1}), ()),  # as it is
        ({"f:spec": {"f:config": {}}}, PluginChange(config={"a": True}), ("spec.config",)),  # 1 in Python only
        ({"f:spec": {}}, PluginChange(enabled=False, priority=1), ("spec.enabled", "spec.priority")),
        ({"f:spec": {".": {}}}, OFF, ()),
        ({"f:metadata": {"f:labels": {"f:enabled": {}}}, "f:status": {}}, OFF, ()),
        ({}, OFF, ()),
    ],
)
def test_what_of_it_they_own(fields: dict[str, Any], edit: PluginChange, owned: tuple[str, ...]) -> None:
    found = owners_of(plugin(("gitops", "Apply", fields), config={"a": 1}), edit)
    assert [owner.fields for owner in found] == ([owned] if owned else [])


def test_server_side_apply_is_named_first() -> None:
    both = plugin(("helm", "Update", ENABLED), ("pipeline", "Apply", ENABLED))
    assert [owner.manager for owner in owners_of(both, OFF)] == ["pipeline", "helm"]


JSON_TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["f:spec", "f:enabled", "f:config", ".", "k:{}"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(JSON_TREES)
def test_no_set_of_fields_breaks_it(fields: Any) -> None:
    found = owners_of(plugin(("gitops", "Apply", fields)), OFF)
    assert len(found) <= 1


def test_faults_of_an_error_without_details() -> None:
    assert field_faults(ApiError(422, {})) == ()


def test_the_sentence_counts_the_fields() -> None:
    assert str(PluginManaged("helm", ("spec.enabled",))) == (
        "spec.enabled is managed by helm, which would change it back"
    )
    both = ("spec.priority", "spec.config")
    assert str(PluginManaged("helm", both)) == (
        "spec.priority, spec.config are managed by helm, which would change them back"
    )
