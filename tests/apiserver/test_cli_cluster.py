"""`engine-ops status, requests, plugins, enable, disable, doctor` against a control plane of their own.

Of its own, because the worst that can be wrong is wrong for the whole cluster: no definitions, no rights, no server.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import shutil
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from operator_process import OperatorProcess
from rights_in_effect import wait_until_installed

from engine_ops.devcluster import COMPONENTS, DevCluster
from engine_ops.devcluster.binaries import Binaries

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(sysconfig.get_path("scripts"))
NAMESPACE = "engine-ops-system"
DATA = {
    "items": [{"id": "web", "cpu": "500m", "memory": "1Gi", "count": 6}],
    "nodeCapacity": {"cpu": 2, "memory": "8Gi"},
}
WAIT_SECONDS = 60.0


@dataclasses.dataclass(frozen=True)
class Home:
    """A cluster with the operator installed, and one that serves it."""

    cluster: DevCluster
    directory: Path

    def run(self, *arguments: str, kubeconfig: Path | None = None, code: int | None = 0) -> Any:
        environment = {**os.environ, "KUBECONFIG": str(kubeconfig or self.cluster.kubeconfig)}
        done = subprocess.run(
            [str(SCRIPTS / "engine-ops"), *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert "Traceback" not in done.stderr
        if code is not None:
            assert done.returncode == code, done.stdout + done.stderr
        return done

    def json(self, *arguments: str, **options: Any) -> Any:
        return json.loads(self.run(*arguments, "-o", "json", **options).stdout)

    def apply(self, *objects: dict[str, Any]) -> None:
        whole = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(whole))

    def checks(self, *arguments: str, level: str = "finding", **options: Any) -> dict[str, dict[str, Any]]:
        """What the doctor says of this level, by check."""
        found = self.json("doctor", *arguments, **{"code": None, **options})
        return {one["check"]: one for one in found["checks"] if one["level"] == level}

    def history_is_well(self) -> bool:
        told = [one["status"] for one in self.json("status")["history"]["conditions"]]
        return bool(told) and set(told) == {"True"}

    def wait_for(self, condition: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + WAIT_SECONDS
        while not (found := condition()):
            assert time.monotonic() < deadline, "it did not come true in time"
            time.sleep(0.1)
        return found


def request(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "engineops.dev/v1alpha1",
        "kind": "OptimizationRequest",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"type": "resource", "searchSeconds": 0, "data": DATA, **spec},
    }


def plugin(name: str, **spec: Any) -> dict[str, Any]:
    entry_point = "engine_ops.ml.examples.resource_optimizer:ResourceOptimizerPlugin"
    return {
        "apiVersion": "engineops.dev/v1alpha1",
        "kind": "OptimizerPlugin",
        "metadata": {"name": name},
        "spec": {"source": {"entryPoint": entry_point}, "enabled": False, **spec},
    }


def install(cluster: DevCluster) -> None:
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "crds"))
    cluster.kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", str(ROOT / "crds"))
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-k", str(ROOT / "manifests/base"))
    wait_until_installed(cluster, NAMESPACE)


@pytest.fixture(scope="module")
def home(devcluster_binaries: Binaries, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    with DevCluster.start(components=COMPONENTS, binaries=devcluster_binaries) as cluster:
        install(cluster)
        cluster.add_nodes(1, cpu="16", memory="64Gi")
        cluster.kubectl("rollout", "status", "-n", NAMESPACE, "deployment/engine-ops", "--timeout=60s")
        rights = cluster.service_account_kubeconfig(NAMESPACE, "engine-ops")
        pods = cluster.kubectl("get", "pods", "-n", NAMESPACE, "-o", "name").stdout.split()
        with OperatorProcess(
            rights,
            "--workers=1",
            "--probes=none",
            environment={"POD_NAME": pods[0].partition("/")[2], "POD_NAMESPACE": NAMESPACE},
        ):
            found = Home(cluster, tmp_path_factory.mktemp("home"))
            found.apply(request("pack"), plugin("size"))
            cluster.kubectl("wait", "--for=condition=Ready", "--timeout=60s", "optreq/pack", "optplug/size")
            found.wait_for(found.history_is_well)
            yield found


@contextlib.contextmanager
def gone(home: Home, *resource: str) -> Iterator[None]:
    """Take an object away for a while."""
    found = json.loads(home.cluster.kubectl("get", *resource, "-o", "json").stdout)
    home.cluster.kubectl("delete", *resource)
    found["metadata"] = {key: found["metadata"].get(key) for key in ("name", "namespace", "labels")}
    try:
        yield
    finally:
        home.apply({key: value for key, value in found.items() if key != "status"})


def test_a_healthy_cluster(home: Home) -> None:
    found = home.json("doctor")
    assert found["healthy"], found
    assert found["counts"]["finding"] == found["counts"]["unknown"] == 0
    levels = {one["check"]: one["level"] for one in found["checks"] if one["level"] == "ok"}
    checks = ("server", "definitions", "operator", "version", "lease", "operator's rights", "history", "plugins")
    assert set(levels) >= {*checks, "requests", "own rights"}
    text = home.run("doctor").stdout
    assert text.endswith("\nhealthy\n")
    assert "\x1b" not in text
    assert yaml.safe_load(home.run("doctor", "-o", "yaml").stdout)["healthy"] is True


def test_status(home: Home) -> None:
    found = home.json("status")
    assert (found["deployment"]["version"], found["deployment"]["readyReplicas"]) == ("0.1.0", 1)
    assert found["lease"]["held"]
    assert found["lease"]["holder"] == found["pods"][0]["name"]
    assert found["requests"]["byState"]["ready"] == 1
    assert found["plugins"]["plugins"][0]["name"] == "size"
    assert {one["type"] for one in found["history"]["conditions"]} >= {"HistoryLoaded", "HistoryWritable"}
    assert found["refused"] == {}
    text = home.run("status").stdout
    assert "operator     engine-ops:0.1.0, 1/1 ready, in namespace engine-ops-system" in text
    assert f"lease        held by {found['lease']['holder']}, renewed " in text
    assert "requests     1: 1 ready\n" in text
    assert "\nsize " in text


def test_requests(home: Home) -> None:
    assert [row["name"] for row in home.json("requests")["requests"]] == ["pack"]
    table = home.run("requests").stdout.splitlines()
    assert table[0].split() == ["NAME", "TYPE", "STATE", "REASON", "SOLVED-BY", "SCORE", "GAP", "AGE"]
    assert table[1].split()[:4] == ["pack", "resource", "ready", "Solved"]
    assert home.run("requests", "-A").stdout.startswith("NAMESPACE   NAME")
    assert home.json("requests", "-l", "a=b") == {"requests": [], "count": 0}
    assert home.run("requests", "-n", "kube-system").stderr == "no requests in namespace kube-system\n"
    assert home.json("requests", "--state", "stalled")["count"] == 0


def test_watched_requests(home: Home) -> None:
    environment = {**os.environ, "KUBECONFIG": str(home.cluster.kubeconfig)}
    command = [str(SCRIPTS / "engine-ops"), "requests", "--watch"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as watching:
        try:
            assert watching.stdout is not None
            assert watching.stdout.readline().startswith("NAME ")
            assert watching.stdout.readline().startswith("pack ")
            home.apply(request("late"))
            while "ready" not in (line := watching.stdout.readline()):
                assert line.startswith("late "), line
        finally:
            watching.terminate()
            home.cluster.kubectl("delete", "optreq", "late")


def test_a_request_is_explained(home: Home) -> None:
    assert "Score 1, gap 0.0 %, solved by " in home.run("explain", "pack").stdout


def test_plugins(home: Home) -> None:
    found = home.json("plugins")
    assert found["count"] == 1
    assert found["plugins"][0]["config"] == {"enabled": False, "priority": 0}
    assert home.json("plugins", "size") == found["plugins"][0]
    text = home.run("plugins", "size").stdout
    assert text.startswith("size: Disabled\n")
    assert "\nReady " in text
    assert 'optimizerplugins.engineops.dev "none-such" not found' in home.run("plugins", "none-such", code=1).stderr


def test_a_plugin_is_switched_in_the_users_name(home: Home) -> None:
    home.apply(plugin("mine"))
    home.cluster.kubectl("patch", "optplug", "mine", "--type=merge", "-p", '{"spec":{"enabled":true}}')
    try:
        assert home.run("disable", "mine", "--force").stdout == "plugin mine disabled\n"
        assert home.run("disable", "mine").stdout == "plugin mine is disabled already\n"
        shown = home.cluster.kubectl("get", "optplug", "mine", "-o", "json", "--show-managed-fields").stdout
        managers = {entry["manager"]: entry for entry in json.loads(shown)["metadata"]["managedFields"]}
        assert managers["engine-ops-cli"]["fieldsV1"]["f:spec"] == {"f:enabled": {}}
    finally:
        home.cluster.kubectl("delete", "optplug", "mine")


def test_a_plugin_that_another_manages_is_left_alone(home: Home) -> None:
    manifest = json.dumps(plugin("theirs"))
    home.cluster.kubectl("apply", "--server-side", "--field-manager=flux", "-f", "-", stdin=manifest)
    try:
        refused = home.run("enable", "theirs", code=1).stderr
        assert refused.startswith("Error: ")
        assert "flux" in refused
        assert "--force" in refused
        assert home.json("plugins", "theirs")["config"]["enabled"] is False
        assert home.run("enable", "theirs", "--force").stdout == "plugin theirs enabled\n"
        assert home.json("plugins", "theirs")["config"]["enabled"] is True
    finally:
        home.cluster.kubectl("delete", "optplug", "theirs")


def test_what_is_stalled_or_waits_is_named_with_its_fix(home: Home) -> None:
    wrong = request("wrong", data={**DATA, "items": [{"id": "web", "cpu": -1, "memory": "1Gi"}]})
    home.apply(wrong, request("waits", plugin="nobody"))
    try:
        home.wait_for(lambda: {row["state"] for row in home.json("requests")["requests"]} >= {"stalled", "waiting"})
        stalled = home.checks(code=1)["requests"]
        assert "default/wrong: spec.data.items[0].cpu: must not be negative" in stalled["message"]
        assert stalled["fix"].startswith("correct the data")
        waiting = home.checks(level="note")["requests"]
        assert waiting["message"] == "1 waiting, NoPlugin: default/waits"
        assert "It waits for a plugin: enable one" in home.run("explain", "waits", code=1).stdout
    finally:
        home.cluster.kubectl("delete", "optreq", "wrong", "waits")


def test_a_plugin_that_cannot_be_loaded_is_named_with_its_fix(home: Home) -> None:
    home.apply(plugin("broken", enabled=True, source={"entryPoint": "none.such:Plugin"}))
    try:
        home.cluster.kubectl(
            "wait",
            "optplug/broken",
            "--timeout=60s",
            '--for=jsonpath={.status.conditions[?(@.type=="Ready")].reason}=LoadFailed',
        )
        found = home.checks(code=1)["plugins"]
        assert found["message"].startswith("broken: LoadFailed: ")
        assert "kubectl logs -n engine-ops-system deployment/engine-ops -c plugin-host" in found["fix"]
    finally:
        home.cluster.kubectl("delete", "optplug", "broken")


def test_rights_that_the_operator_lacks(home: Home) -> None:
    with (
        gone(home, "clusterrolebinding", "engine-ops-plugins"),
        gone(home, "clusterrolebinding", "engine-ops-cluster-data"),
    ):
        home.wait_for(lambda: "operator's rights" in home.checks())
        found = home.checks(code=1)["operator's rights"]
        assert "for plugins it lacks get optimizerplugins.engineops.dev" in found["message"]
        assert found["fix"] == "kubectl apply --server-side -f manifests/base/rbac_plugins.yaml"
        # Whoever leaves this one out may want it so. It was taken away last, and the API server heeds it last.
        noted = home.wait_for(lambda: home.checks(level="note").get("operator's rights"))
        assert "dataFrom.cluster" in noted["message"]
    home.wait_for(lambda: "operator's rights" not in home.checks())


def test_a_user_without_rights(home: Home) -> None:
    nobody = home.cluster.service_account_kubeconfig("default", "default", home.directory / "nobody")
    unknown = home.checks(level="unknown", kubeconfig=nobody, code=2)
    assert set(unknown) == {"operator", "lease", "history", "plugins", "requests"}
    assert 'cannot get resource "deployments"' in unknown["operator"]["message"]
    told = home.checks(level="note", kubeconfig=nobody)
    assert "you may not read requests in default" in told["own rights"]["message"]
    assert "is served" in told["definitions"]["message"]
    text = home.run("doctor", kubeconfig=nobody, code=2).stdout
    assert text.endswith("5 checks could not be made\n")
    refused = home.run("status", kubeconfig=nobody, code=1).stdout
    assert refused.count("cannot be read: ") == 5
    assert "is forbidden" in home.run("requests", kubeconfig=nobody, code=1).stderr
    assert "is forbidden" in home.run("plugins", kubeconfig=nobody, code=1).stderr
    assert "is forbidden" in home.run("enable", "size", kubeconfig=nobody, code=1).stderr


def test_a_viewer_sees_and_switches_nothing(home: Home) -> None:
    home.cluster.kubectl("create", "serviceaccount", "viewer", "-n", "default")
    home.cluster.kubectl(
        "create", "clusterrolebinding", "viewer", "--clusterrole=engine-ops-view", "--serviceaccount=default:viewer"
    )
    viewer = home.cluster.service_account_kubeconfig("default", "viewer", home.directory / "viewer")
    home.wait_for(lambda: home.run("requests", kubeconfig=viewer, code=None).returncode == 0)
    assert home.json("plugins", kubeconfig=viewer)["count"] == 1
    refused = home.run("enable", "size", kubeconfig=viewer, code=1).stderr
    assert 'cannot patch resource "optimizerplugins"' in refused
    assert home.json("plugins", "size")["config"]["enabled"] is False


def test_nobody_answers(home: Home) -> None:
    kubeconfig = home.directory / "elsewhere"
    shutil.copy(home.cluster.kubeconfig, kubeconfig)
    content = yaml.safe_load(kubeconfig.read_text())
    content["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    kubeconfig.write_text(yaml.safe_dump(content))
    done = home.run("doctor", kubeconfig=kubeconfig, code=2)
    assert done.stdout.startswith("unknown  server             cannot be looked at: https://127.0.0.1:1: ")
    assert "fix: see that it runs" in done.stdout
    for command in ("status", "requests", "plugins"):
        assert home.run(command, kubeconfig=kubeconfig, code=1).stderr.startswith("Error: https://127.0.0.1:1")
    assert "no credentials" in home.run("doctor", kubeconfig=home.directory / "none-such", code=2).stdout


def test_a_token_that_is_none(home: Home) -> None:
    stranger = home.cluster.create_kubeconfig_for_token("nonsense", home.directory / "stranger")
    assert "Unauthorized" in home.run("doctor", kubeconfig=stranger, code=2).stdout


def test_kubectl_finds_the_commands(home: Home) -> None:
    environment = {**home.cluster.environment(), "KUBECONFIG": str(home.cluster.kubeconfig)}
    environment["PATH"] = f"{SCRIPTS}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(
        ["kubectl", "engine-ops", "requests"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "\npack " in done.stdout


def test_no_operator_is_installed(home: Home) -> None:
    found = home.checks("-n", "default", code=1)
    assert "there is no Deployment engine-ops in namespace default" in found["operator"]["message"]
    assert "there is no Lease default/engine-ops" in found["lease"]["message"]


# What follows breaks the cluster for good, and comes last.


def test_a_lease_that_nobody_renews(home: Home) -> None:
    long_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=9)
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "engine-ops", "namespace": "kube-public"},
        "spec": {
            "holderIdentity": "engine-ops-0",
            "leaseDurationSeconds": 15,
            "renewTime": long_ago.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        },
    }
    home.apply(lease)
    found = home.checks("-n", "kube-public", code=1)["lease"]
    assert found["message"] == "engine-ops-0 held it last, and it was renewed 9h ago: no operator serves"
    assert "run out: engine-ops-0 had it, renewed 9h ago" in home.run("status", "-n", "kube-public").stdout
    assert home.json("status", "-n", "kube-public")["lease"]["held"] is False


def test_a_deployment_that_is_not_ready(home: Home) -> None:
    try:
        home.cluster.kubectl("scale", "-n", NAMESPACE, "deployment/engine-ops", "--replicas=0")
        found = home.checks(code=1)["operator"]
        assert found["message"] == "the Deployment is scaled to 0: nobody answers requests"
        assert found["fix"] == "kubectl scale -n engine-ops-system deployment/engine-ops --replicas=1"
    finally:
        home.cluster.kubectl("scale", "-n", NAMESPACE, "deployment/engine-ops", "--replicas=1")
        home.cluster.kubectl("rollout", "status", "-n", NAMESPACE, "deployment/engine-ops", "--timeout=60s")


def test_an_operator_of_another_version(home: Home) -> None:
    def say(version: str | None) -> None:
        merge = json.dumps({"data": {"version": version}})
        home.cluster.kubectl("patch", "-n", NAMESPACE, "cm/engine-ops-status", "--type=merge", "-p", merge)

    patch = [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "engine-ops:9.9.9"}]
    home.cluster.kubectl("patch", "-n", NAMESPACE, "deployment/engine-ops", "--type=json", "-p", json.dumps(patch))
    try:
        assert "version" not in home.checks(), "what the operator says itself counts, not the tag of its image"
        say("9.9.8")
        assert home.checks(code=1)["version"]["message"] == "the operator is 9.9.8, this command line 0.1.0"
        say(None)
        assert home.checks(code=1)["version"]["message"] == "the operator is 9.9.9, this command line 0.1.0"
    finally:
        install(home.cluster)
        say("0.1.0")


def test_definitions_of_another_version(home: Home) -> None:
    name = "crd/optimizationrequests.engineops.dev"
    at = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties"
    older = [{"op": "remove", "path": f"{at}/ttlSecondsAfterFinished"}]
    rule = json.loads(home.cluster.kubectl("get", name, "-o", "json").stdout)
    spec = rule["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    rules = [one for one in spec["x-kubernetes-validations"] if "ttlSeconds" not in one["rule"]]
    at_rules = f"{at.removesuffix('/properties')}/x-kubernetes-validations"
    older.append({"op": "replace", "path": at_rules, "value": rules})  # type: ignore[dict-item]
    home.cluster.kubectl("patch", name, "--type=json", "-p", json.dumps(older))
    found = home.checks(code=1)["definitions"]
    assert "optimizationrequests.engineops.dev is of another version than engine-ops 0.1.0" in found["message"]
    assert "lacks spec.ttlSecondsAfterFinished" in found["message"]
    assert found["fix"] == "engine-ops crds | kubectl apply --server-side --force-conflicts -f -"
    home.cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "crds"))
    newer = [{"op": "add", "path": f"{at}/later", "value": {"type": "string"}}]
    home.cluster.kubectl("patch", name, "--type=json", "-p", json.dumps(newer))
    found = home.checks(code=1)["definitions"]
    assert "is of a later version than engine-ops 0.1.0: it has spec.later" in found["message"]
    # The fix of the doctor is one.
    crds = home.run("crds").stdout
    home.cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=crds)
    assert "definitions" not in home.checks()


def test_no_definitions(home: Home) -> None:
    home.cluster.kubectl("delete", "-f", str(ROOT / "crds"))
    both = "the API server does not know optimizationrequests.engineops.dev, optimizerplugins.engineops.dev"
    home.wait_for(lambda: home.checks().get("definitions", {"message": ""})["message"].startswith(both))
    found = home.checks(code=1)["definitions"]
    assert found["fix"] == "engine-ops crds | kubectl apply --server-side --force-conflicts -f -"
    assert "the custom resource definitions are missing" in home.run("status").stdout
    for command in (("requests",), ("plugins",), ("disable", "size")):
        assert "the custom resource definitions are missing" in home.run(*command, code=1).stderr
