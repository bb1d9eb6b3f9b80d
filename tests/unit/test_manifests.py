"""manifests/ and the Dockerfile, as files: what no API server is needed for."""

from __future__ import annotations

import importlib
import itertools
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from demo_cluster import demo_input

from engine_ops import OptimizationEngine
from engine_ops import OptimizationRequest as Question
from engine_ops.api.optimizationrequest import OptimizationRequest
from engine_ops.api.optimizerplugin import OptimizerPlugin
from engine_ops.api.quantity import parse_quantity
from engine_ops.cli.main import main
from engine_ops.controllers.solving import task_for
from engine_ops.kube.connection import NAMESPACE_FILE
from engine_ops.kube.preflight import (
    NEEDED_FOR_CLUSTER_DATA,
    NEEDED_FOR_OBSERVING,
    NEEDED_FOR_OUTCOMES,
    NEEDED_FOR_PLUGINS,
    NEEDED_FOR_THE_HISTORY,
    NEEDED_FOR_THE_LEASE,
    NEEDED_FOR_THE_MODELS,
    NEEDED_IN_WATCHED_NAMESPACES,
    Right,
)
from engine_ops.workers.messages import Solved
from engine_ops.workers.solve import evaluate

ROOT = Path(__file__).parents[2]
BASE = ROOT / "manifests" / "base"
SAMPLES = sorted((ROOT / "manifests" / "samples").glob("*.yaml"))

ANSWERS = {
    "resource-node-capacity.yaml": "Solved",
    "resource-node-types.yaml": "Solved",
    "resource-unplaceable.yaml": "Unplaceable",
    "resource-from-config-map.yaml": "Solved",
    "scheduling-one-task.yaml": "Solved",
    "scheduling-many-tasks.yaml": "Solved",
    "scheduling-infeasible.yaml": "Unplaceable",
    "performance-samples.yaml": "Solved",
    "ml-driven.yaml": "NoPlugin",
    "standing-request.yaml": "Solved",
    "ttl-after-finished.yaml": "Solved",
    "suspended.yaml": "Solved",
    "workload-outcome.yaml": "Solved",
}
"""What becomes of each sample when it is solved; the suspended one, when it is resumed."""

LIVE_ANSWERS = {
    "cluster-pending-pods.yaml": ("Unplaceable", "placed 0 of 1 pending pods"),
    "cluster-repacking.yaml": ("Solved", "3 of 6 nodes in use would do (lower bound 3: proven optimal)"),
    "cluster-tasks.yaml": ("Solved", "placed 2 of 2"),
    "cluster-workload.yaml": ("Solved", "placed 2 of 2 new pods"),
}
"""What becomes of each sample about the live cluster in that of the demo."""


def documents_of(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def one(path: Path, kind: str) -> dict[str, Any]:
    (found,) = (document for document in documents_of(path) if document["kind"] == kind)
    return found


def rights_of(role: dict[str, Any]) -> Iterator[Right]:
    for rule in role["rules"]:
        assert set(rule) == {"apiGroups", "resources", "verbs"}
        for group, resource, verb in itertools.product(rule["apiGroups"], rule["resources"], rule["verbs"]):
            name, _, subresource = resource.partition("/")
            yield Right(verb, group, name, subresource)


@pytest.mark.parametrize(
    ("file", "kind", "needed"),
    [
        ("rbac_operator.yaml", "ClusterRole", NEEDED_IN_WATCHED_NAMESPACES),
        ("rbac_cluster_data.yaml", "ClusterRole", NEEDED_FOR_CLUSTER_DATA),
        ("rbac_lease.yaml", "Role", NEEDED_FOR_THE_LEASE),
        ("rbac_history.yaml", "Role", NEEDED_FOR_THE_HISTORY),
        ("rbac_outcomes.yaml", "ClusterRole", NEEDED_FOR_OUTCOMES),
        ("rbac_observe.yaml", "ClusterRole", NEEDED_FOR_OBSERVING),
        ("rbac_plugins.yaml", "ClusterRole", NEEDED_FOR_PLUGINS),
    ],
)
def test_the_operator_may_do_what_it_checks_for_and_no_more(file: str, kind: str, needed: tuple[Right, ...]) -> None:
    granted = list(rights_of(one(BASE / file, kind)))
    assert sorted(map(str, granted)) == sorted(map(str, needed))


def test_models_are_kept_with_the_rights_of_the_history() -> None:
    assert set(NEEDED_FOR_THE_MODELS) <= set(NEEDED_FOR_THE_HISTORY)


@pytest.mark.parametrize("path", sorted(BASE.glob("rbac_*.yaml")), ids=lambda path: path.name)
def test_no_role_has_a_wildcard_or_grants_the_status_with_its_object(path: Path) -> None:
    roles = [document for document in documents_of(path) if document["kind"] in {"Role", "ClusterRole"}]
    assert roles
    for role in roles:
        for rule in role["rules"]:
            assert "*" not in json.dumps(rule)
            assert len({"/" in resource for resource in rule.get("resources", [])}) <= 1, rule
            assert rule.get("resources") or rule.get("nonResourceURLs"), rule


def test_the_image_is_the_version_of_the_package() -> None:
    from engine_ops import __version__

    (image,) = yaml.safe_load((BASE / "kustomization.yaml").read_text())["images"]
    assert image == {"name": "engine-ops", "newTag": __version__}


def pod_spec() -> dict[str, Any]:
    spec: dict[str, Any] = one(BASE / "deployment.yaml", "Deployment")["spec"]["template"]["spec"]
    return spec


def containers() -> dict[str, dict[str, Any]]:
    return {container["name"]: container for container in pod_spec()["containers"]}


def options_of(container: dict[str, Any]) -> dict[str, str]:
    return dict(argument.removeprefix("--").split("=", 1) for argument in container["args"][1:])


def mounts_of(container: dict[str, Any]) -> dict[str, str]:
    return {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}


def test_memory_limit_holds_the_operator_and_its_workers() -> None:
    container = containers()["operator"]
    options = options_of(container)
    workers = int(options["workers"]) * parse_quantity(options["worker-memory"])
    itself = parse_quantity(container["resources"]["requests"]["memory"])
    assert parse_quantity(container["resources"]["limits"]["memory"]) >= itself + workers


def test_memory_limit_of_the_plugin_host_holds_one_plugin_and_its_training() -> None:
    resources = containers()["plugin-host"]["resources"]
    source = {"entryPoint": "a:B"}
    plugin = OptimizerPlugin.model_validate({"metadata": {"name": "p"}, "spec": {"source": source}})
    needed = parse_quantity(resources["requests"]["memory"]) + 2 * plugin.spec.limits.memory_bytes
    volumes = {volume["name"]: volume for volume in pod_spec()["volumes"]}
    mounted = mounts_of(containers()["plugin-host"])
    needed += sum(parse_quantity(volumes[name]["emptyDir"]["sizeLimit"]) for name in mounted)
    assert parse_quantity(resources["limits"]["memory"]) > needed - 2 * 2**20  # the socket's takes next to nothing


def test_a_plugin_that_fills_its_volumes_does_not_have_the_pod_evicted() -> None:
    """What is in memory is full at its limit; what is on disk is measured, and the Pod evicted, operator and all."""
    volumes = {volume["name"]: volume for volume in pod_spec()["volumes"]}
    for name in mounts_of(containers()["plugin-host"]):
        assert volumes[name]["emptyDir"]["medium"] == "Memory"
        assert "sizeLimit" in volumes[name]["emptyDir"]


def test_plugins_run_as_another_user_in_the_group_of_the_socket() -> None:
    pod = pod_spec()["securityContext"]
    host = containers()["plugin-host"]["securityContext"]
    assert host["runAsUser"] not in {0, pod["runAsUser"]}
    assert pod["fsGroup"] == pod["runAsGroup"]
    assert "runAsGroup" not in host


def test_plugins_have_no_token_and_share_nothing_with_the_operator_but_the_socket() -> None:
    pod = pod_spec()
    assert pod["automountServiceAccountToken"] is False
    assert one(BASE / "service_account.yaml", "ServiceAccount")["automountServiceAccountToken"] is False
    assert "shareProcessNamespace" not in pod
    operator, host = containers()["operator"], containers()["plugin-host"]
    assert "env" not in host
    shared = set(mounts_of(operator)) & set(mounts_of(host))
    assert shared == {"plugins"}
    sockets = {options_of(operator)["plugin-host"], options_of(host)["socket"]}
    assert sockets == {f"{mounts_of(host)['plugins']}/plugins.sock"}
    assert mounts_of(operator)["plugins"] == mounts_of(host)["plugins"]
    (tokens,) = (volume for volume in pod["volumes"] if "projected" in volume)
    assert tokens["name"] in mounts_of(operator)
    # A mounted volume of another sort could hold the token as well.
    kinds = {volume["name"]: set(volume) - {"name"} for volume in pod["volumes"]}
    assert all(kinds[name] == {"emptyDir"} for name in mounts_of(host))


def test_the_operator_finds_what_a_mounted_token_has() -> None:
    (tokens,) = (volume["projected"] for volume in pod_spec()["volumes"] if "projected" in volume)
    paths = [
        item["path"] for source in tokens["sources"] for kind in source.values() for item in kind.get("items", [kind])
    ]
    place = Path(mounts_of(containers()["operator"])["token"])
    assert place == NAMESPACE_FILE.parent
    assert sorted(paths) == ["ca.crt", "namespace", "token"]


def test_both_containers_are_as_restricted_as_each_other() -> None:
    operator, host = containers()["operator"], containers()["plugin-host"]
    assert operator["securityContext"] | {"runAsUser": 65533} == host["securityContext"]
    assert host["securityContext"]["readOnlyRootFilesystem"] is True
    assert operator["image"] == host["image"]


def test_the_crds_are_named_in_their_kustomization() -> None:
    # It has no suffix, so that `kubectl apply -f crds/` leaves it out.
    kustomization = yaml.safe_load((ROOT / "crds" / "Kustomization").read_text())
    assert sorted(kustomization["resources"]) == sorted(path.name for path in (ROOT / "crds").glob("*.yaml"))


def instructions_of(word: str) -> list[str]:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    joined = re.sub(r"\\\n\s*", "", text)
    return [line.removeprefix(f"{word} ") for line in joined.splitlines() if line.startswith(f"{word} ")]


def test_the_image_runs_as_the_user_that_the_deployment_names() -> None:
    pod = pod_spec()
    (user,) = instructions_of("USER")
    context = pod["securityContext"]
    assert user == f"{context['runAsUser']}:{context['runAsGroup']}"


def test_the_deployment_calls_the_images_entry_point_with_options_that_exist() -> None:
    (entry_point,) = instructions_of("ENTRYPOINT")
    assert json.loads(entry_point) == ["engine-ops"]
    (default,) = instructions_of("CMD")
    for arguments in (json.loads(default), *(container["args"] for container in containers().values())):
        # As the program does: a command keeps the names of its option for help, which it has from the first parent.
        with main.make_context("engine-ops", list(arguments)) as context:
            name, command, rest = main.resolve_command(context, list(arguments))
            assert command is not None
            command.make_context(name, rest, parent=context)
    assert [container["args"][0] for container in containers().values()] == ["run", "plugin-host"]


def test_the_image_installs_nothing_that_is_not_locked() -> None:
    installs = [step for command in instructions_of("RUN") for step in command.split("&&") if " install " in step]
    assert len(installs) == 3
    assert all("--require-hashes" in step or "--no-index" in step for step in installs)


def pins_of(lock: str) -> set[str]:
    return set(re.findall(r"^[^\s#]+==[^\s]+", (ROOT / lock).read_text(encoding="utf-8"), re.MULTILINE))


def test_the_wheel_is_built_with_what_is_developed_with_and_nothing_else() -> None:
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    pins = pins_of("requirements-build.lock")
    assert {re.split(r"[<>=~]", name)[0] for name in needed} <= {pin.partition("==")[0] for pin in pins}
    assert pins <= pins_of("requirements-dev.lock")
    assert len(pins) < 10  # a build backend and what it needs


def test_the_build_context_has_what_the_dockerfile_copies() -> None:
    kept = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    copied = {
        source for copy in instructions_of("COPY") if not copy.startswith("--from=") for source in copy.split()[:-1]
    }
    assert {f"!{source}" for source in copied} == {line for line in kept if line.startswith("!")}
    assert all((ROOT / source).exists() for source in copied)


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_a_sample_says_what_it_shows_and_stays_in_the_users_namespace(path: Path) -> None:
    first, second = path.read_text(encoding="utf-8").splitlines()[:2]
    assert first.startswith("# ")
    assert not second.startswith("#")
    assert all("namespace" not in document["metadata"] for document in documents_of(path))


def test_sample_names_are_unique() -> None:
    keys = [(document["kind"], document["metadata"]["name"]) for path in SAMPLES for document in documents_of(path)]
    assert len(set(keys)) == len(keys)


def test_every_sample_of_a_request_has_an_expected_answer() -> None:
    with_requests = {
        path.name
        for path in SAMPLES
        if any(document["kind"] == "OptimizationRequest" for document in documents_of(path))
    }
    assert with_requests == {*ANSWERS, *LIVE_ANSWERS}


@pytest.mark.parametrize("name", ANSWERS)
def test_a_sample_is_answered_as_its_comment_says(name: str) -> None:
    path = ROOT / "manifests" / "samples" / name
    request = OptimizationRequest.model_validate(one(path, "OptimizationRequest"))
    spec = request.spec
    data: Any = spec.data
    if spec.data_from is not None:
        ref = spec.data_from.config_map_key_ref
        config_map = one(path, "ConfigMap")
        assert config_map["metadata"]["name"] == ref.name
        data = yaml.safe_load(config_map["data"][ref.key])
    question = Question(
        id=request.metadata["name"], type=spec.type.value, data=data, constraints=spec.constraints, search_seconds=0
    )
    result = OptimizationEngine().optimize(question)
    assert result.reason == ANSWERS[name], result.error


@pytest.mark.parametrize("name", LIVE_ANSWERS)
def test_a_sample_about_the_live_cluster_is_answered(name: str) -> None:
    spec = OptimizationRequest.model_validate(one(ROOT / "manifests" / "samples" / name, "OptimizationRequest")).spec
    data = msgspec.json.encode(spec.data or {})
    outcome = evaluate(task_for(spec, data, task_id=name, cluster=demo_input(spec)))
    assert isinstance(outcome, Solved), outcome
    reason, message = LIVE_ANSWERS[name]
    assert outcome.reason == reason
    assert message in outcome.message


@pytest.mark.parametrize("name", ["optimizerplugin.yaml", "optimizerplugin-service.yaml"])
def test_the_samples_of_plugins_are_valid_and_off(name: str) -> None:
    plugin = OptimizerPlugin.model_validate(one(ROOT / "manifests" / "samples" / name, "OptimizerPlugin"))
    assert not plugin.spec.enabled


def test_the_sample_of_a_plugin_names_one_that_comes_with_the_image_and_takes_its_settings() -> None:
    path = ROOT / "manifests" / "samples" / "optimizerplugin.yaml"
    spec = OptimizerPlugin.model_validate(one(path, "OptimizerPlugin")).spec
    assert spec.source.entry_point is not None
    assert spec.supported_types is not None
    module, _, name = spec.source.entry_point.partition(":")
    plugin = getattr(importlib.import_module(module), name)()
    plugin.init(spec.config)
    assert plugin.config == {"baseline_workload_size": 100}
    assert all(plugin.can_handle(type_.value) for type_ in spec.supported_types)
