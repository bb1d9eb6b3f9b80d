"""docs/gitops.md at an API server: its plugin is applied as the tools do it, and who owns what comes of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from engine_ops.api.plugin_change import PluginChange
from engine_ops.devcluster.pytest_plugin import Kubectl
from engine_ops.kube.plugin_patch import owners_of

GUIDE = Path(__file__).parents[2] / "docs" / "gitops.md"
OFF = PluginChange(enabled=False)


def guide_plugin() -> dict[str, Any]:
    blocks = re.findall(r"^```yaml\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    (plugin,) = (found for found in map(yaml.safe_load, blocks) if found["kind"] == "OptimizerPlugin")
    return dict(plugin)


@pytest.fixture
def plugin(kubectl: Kubectl, namespace: str) -> Iterator[dict[str, Any]]:
    """The guide's plugin, under a name of its own."""
    made = guide_plugin()
    made["metadata"]["name"] = namespace
    yield made
    kubectl("delete", "optimizerplugin", namespace, "--ignore-not-found")


def as_it_is(kubectl: Kubectl, plugin: dict[str, Any]) -> dict[str, Any]:
    command = ("get", "optimizerplugin", plugin["metadata"]["name"], "--show-managed-fields", "-o", "json")
    return dict(json.loads(kubectl(*command).stdout))


def server_side(kubectl: Kubectl, plugin: dict[str, Any], manager: str) -> None:
    kubectl(
        "apply", "--server-side", f"--field-manager={manager}", "--validate=strict", "-f", "-", stdin=json.dumps(plugin)
    )


@pytest.mark.parametrize("manager", ["kustomize-controller", "argocd-controller", "anybody"])
def test_a_switch_that_is_in_git_is_owned_by_whoever_applied_it(
    kubectl: Kubectl, plugin: dict[str, Any], manager: str
) -> None:
    server_side(kubectl, plugin, manager)
    assert {owner.manager for owner in owners_of(as_it_is(kubectl, plugin), OFF)} == {manager}


def test_a_switch_that_is_left_out_of_git_is_nobodys_and_stays_as_a_person_sets_it(
    kubectl: Kubectl, plugin: dict[str, Any]
) -> None:
    del plugin["spec"]["enabled"]
    server_side(kubectl, plugin, "kustomize-controller")
    found = as_it_is(kubectl, plugin)
    assert found["spec"]["enabled"] is True, "the default of the definition"
    assert owners_of(found, OFF) == ()
    patch = json.dumps({"spec": {"enabled": False}})
    kubectl("patch", "optimizerplugin", plugin["metadata"]["name"], "--type=merge", "-p", patch)
    plugin["spec"]["priority"] = 11
    server_side(kubectl, plugin, "kustomize-controller")
    found = as_it_is(kubectl, plugin)
    assert (found["spec"]["enabled"], found["spec"]["priority"]) == (False, 11)
    assert owners_of(found, PluginChange(enabled=True)) == ()


def test_argo_cd_without_server_side_apply_owns_a_default_that_no_manifest_names(
    kubectl: Kubectl, plugin: dict[str, Any]
) -> None:
    del plugin["spec"]["enabled"]
    kubectl("apply", "--field-manager=argocd-controller", "-f", "-", stdin=json.dumps(plugin))
    assert {owner.manager for owner in owners_of(as_it_is(kubectl, plugin), OFF)} == {"argocd-controller"}


def test_taking_over_from_git_and_giving_back_shows_as_drift_in_between_only(
    kubectl: Kubectl, plugin: dict[str, Any]
) -> None:
    """What a tool does each pass: a diff by server-side apply, empty while the object is as Git says."""
    command = ("diff", "--server-side", "--field-manager=kustomize-controller", "--force-conflicts", "-f", "-")
    server_side(kubectl, plugin, "kustomize-controller")
    status = {"status": {"observedGeneration": 1, "conditions": []}}
    name = plugin["metadata"]["name"]
    kubectl("patch", "optimizerplugin", name, "--subresource=status", "--type=merge", "-p", json.dumps(status))
    assert kubectl(*command, stdin=json.dumps(plugin), check=False).returncode == 0, "a status is no drift"
    kubectl("patch", "optimizerplugin", name, "--type=merge", "-p", json.dumps({"spec": {"enabled": False}}))
    drift = kubectl(*command, stdin=json.dumps(plugin), check=False)
    assert drift.returncode == 1
    assert "+  enabled: true" in drift.stdout
