"""The main job, through every door: manifests, kubectl, Git, curl and the Python client, on one real control plane.

The operator runs as its ServiceAccount, with what manifests/ give it and no more.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_world import ApiWorld, api_world
from git_repository import MANAGER, Applier, GitRepository
from plugin_objects import own_errors
from request_objects import SMALL, condition
from waiting import wait_until

from engine_ops import EngineOpsClient, OptimizationRequest
from engine_ops.client import ConflictError, ForbiddenError
from engine_ops.devcluster import DevCluster

PLUGIN = "places"
TASK = {"id": "t", "cpuRequired": 0.1, "memoryRequired": 0.1}
NODES = [{"id": f"node-{number}", "cpuLoad": 0.2, "memoryLoad": 0.2} for number in (1, 2, 3)]
QUESTION = OptimizationRequest.model_validate(
    {"id": "where", "type": "scheduling", "data": {"tasks": [TASK], "nodes": NODES}}
)
PLUGIN_SECONDS = 25
"""A plugin that has not answered by then is passed over; in ten seconds a busy machine may not get round to it."""


def plugin_manifest(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "engineops.dev/v1alpha1",
        "kind": "OptimizerPlugin",
        "metadata": {"name": PLUGIN},
        "spec": {
            "source": {"entryPoint": "cluster_plugins:Places"},
            "limits": {"timeoutSeconds": PLUGIN_SECONDS},
            **spec,
        },
    }


def request_manifest(namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": "engineops.dev/v1alpha1",
        "kind": "OptimizationRequest",
        "metadata": {"name": "from-git", "namespace": namespace},
        "spec": {"type": "resource", "data": SMALL},
    }


@pytest.fixture
def world(cluster: DevCluster, operator_kubeconfig: Path) -> Iterator[ApiWorld]:
    with api_world(cluster, operator_kubeconfig) as made:
        made.plugins.applied[PLUGIN] = {}  # it goes with the test, however it came
        yield made


def settled(world: ApiWorld, **spec: Any) -> dict[str, Any]:
    """Wait until the operator has said of a plugin what there is to say of this spec, and return it."""

    def is_so(found: dict[str, Any]) -> bool:
        ready = condition(found, "Ready")
        same = all(found["spec"][key] == value for key, value in spec.items())
        current = ready.get("observedGeneration") == found["metadata"]["generation"]
        return same and current and ready["reason"] == ("Running" if found["spec"]["enabled"] else "Disabled")

    return world.plugins.wait(PLUGIN, is_so, str(spec))


def placed_on(client: EngineOpsClient) -> tuple[str, str | None]:
    """Ask over HTTP where the task goes; return the node, and the plugin that said so."""
    answer = client.optimize(QUESTION)
    assert answer.success, answer.error
    (placement,) = answer.result["placements"]
    return placement["nodeId"], answer.solved_by.plugin


def managed_by(world: ApiWorld, field: str) -> set[str]:
    """Return the managers of a field of the plugin's spec."""
    entries = world.plugins.get(PLUGIN)["metadata"]["managedFields"]
    return {entry["manager"] for entry in entries if f"f:{field}" in entry["fieldsV1"].get("f:spec", {})}


def test_the_main_job(world: ApiWorld, tmp_path: Path) -> None:
    kubectl = world.cluster.kubectl
    repository = GitRepository(tmp_path / "repository")
    applier = Applier(world.cluster, repository, tmp_path)
    with contextlib.ExitStack() as stack:
        admin, editor, viewer = (
            stack.enter_context(world.client(world.users.token(name), timeout=90))
            for name in ("admin", "editor", "viewer")
        )

        # A person: applies the plugin, and patches it on. Over HTTP, too, it is an ordinary setting then.
        off = plugin_manifest(enabled=False, config={"node": "node-1"})
        kubectl("apply", "-f", "-", stdin=json.dumps(off))
        settled(world, enabled=False)
        assert placed_on(editor)[1] is None
        kubectl("patch", "optplug", PLUGIN, "--type=merge", "-p", '{"spec": {"enabled": true}}')
        settled(world, enabled=True)
        assert placed_on(editor) == ("node-1", PLUGIN)
        assert admin.disable(PLUGIN)["config"]["enabled"] is False
        settled(world, enabled=False)
        assert placed_on(editor)[1] is None
        assert managed_by(world, "enabled") == {"engine-ops-api"}

        # Git: the plugin's settings, and a request, are what the repository says, and stay so.
        on = {"enabled": True, "config": {"node": "node-2"}}
        request = request_manifest(world.namespace)
        repository.commit("Place on node 2", plugin_manifest(**on), request)
        applier.apply()
        found = settled(world, **on)
        assert placed_on(editor) == ("node-2", PLUGIN)
        answered = world.plugins.requests.final("from-git")
        assert answered["status"]["result"]["nodeCount"] == 2
        assert "last-applied" not in json.dumps(answered["metadata"].get("annotations", {}))
        assert applier.diff() == ""
        applier.apply()
        assert world.plugins.get(PLUGIN)["metadata"]["generation"] == found["metadata"]["generation"]
        again = world.plugins.requests.get("from-git")
        assert again["metadata"]["generation"] == again["status"]["observedGeneration"] == 1
        assert again["status"]["run"] == 1
        assert applier.diff() == ""

        # A commit changes what the plugin does; the same question is answered anew, and not from the cache.
        on = {"enabled": True, "config": {"node": "node-3"}}
        repository.commit("Place on node 3", plugin_manifest(**on), request)
        assert "node-3" in applier.diff()
        applier.apply()
        settled(world, **on)
        assert placed_on(editor) == ("node-3", PLUGIN)

        # Over HTTP, what Git says is Git's: 409 for those who may change it, 403 for those who may not.
        for change in (
            lambda client: client.disable(PLUGIN),
            lambda client: client.configure(PLUGIN, enabled=False),
            lambda client: client.configure(PLUGIN, config={"node": "node-1"}),
        ):
            with pytest.raises(ConflictError, match=MANAGER) as conflict:
                change(admin)
            assert (conflict.value.kind, conflict.value.problem["manager"]) == ("managed", MANAGER)
            with pytest.raises(ForbiddenError) as forbidden:
                change(viewer)
            assert MANAGER not in str(forbidden.value)
        by_curl = world.curl(world.users.token("admin"), "POST", f"/api/v1/plugins/{PLUGIN}/disable")
        assert (by_curl.status, by_curl.json["manager"], by_curl.json["fields"]) == (409, MANAGER, ["spec.enabled"])
        assert admin.enable(PLUGIN)["config"]["enabled"] is True  # it is so already
        assert applier.diff() == ""
        # What Git says nothing of is anybody's, and no drift.
        assert admin.configure(PLUGIN, priority=9)["config"]["priority"] == 9
        settled(world, priority=9)
        assert applier.diff() == ""

        # By force it is changed; Git sees it, and brings it back.
        forced = world.curl(world.users.token("admin"), "POST", f"/api/v1/plugins/{PLUGIN}/disable?force=true")
        assert (forced.status, forced.json["config"]["enabled"]) == (200, False)
        settled(world, enabled=False)
        assert placed_on(editor)[1] is None
        assert "enabled: true" in applier.diff()
        refused = applier.apply(force=False, check=False)
        assert refused.returncode != 0
        assert 'conflict with "engine-ops-api"' in refused.stderr
        applier.apply()
        settled(world, priority=9, **on)
        assert placed_on(editor) == ("node-3", PLUGIN)
        assert applier.diff() == ""
        with pytest.raises(ConflictError, match=MANAGER):
            admin.disable(PLUGIN)

        assert not own_errors(world.operator)
        assert "orbidden" not in world.operator.stderr
        wait_until(lambda: editor.health()["status"], lambda status: status == "ok", "health")


def test_the_operator_itself_may_change_no_plugin(installed: DevCluster) -> None:
    def may(verb: str, *more: str) -> bool:
        user = "--as=system:serviceaccount:engine-ops-system:engine-ops"
        said = installed.kubectl("auth", "can-i", verb, "optimizerplugins.engineops.dev", user, *more, check=False)
        assert said.stdout.strip() in {"yes", "no"}, said
        return said.stdout.strip() == "yes"

    assert may("patch", "--subresource=status")
    assert not [verb for verb in ("create", "update", "patch", "delete") if may(verb)]
