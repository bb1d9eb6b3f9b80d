"""The tables of docs/gitops.md, held against those who wait: kstatus, Flux, Argo CD's Lua and kubectl themselves.

The first three are Go modules. `status_judges/` asks them; it is built where there is a Go, and the modules come from
the Go module proxy.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from manifest_files import MANIFESTS, rendered

from engine_ops.devcluster import DevCluster
from engine_ops.devcluster.pytest_plugin import Kubectl
from engine_ops.devcluster.toolchain import machine_go
from status_readers import ARGOCD, argo_health, kstatus_of, kubectl_waits_no_longer, script_of
from status_stories import STORIES, Story

ROOT = Path(__file__).parents[2]
JUDGES = Path(__file__).parent / "status_judges"
GUIDE = ROOT / "docs" / "gitops.md"
BUILD_SECONDS = 900
API = "/apis/engineops.dev/v1alpha1"
PATHS = {"OptimizationRequest": "namespaces/{namespace}/optimizationrequests", "OptimizerPlugin": "optimizerplugins"}

Judge = Callable[[list[dict[str, Any]]], list[dict[str, Any]]]


def guide_documents() -> list[dict[str, Any]]:
    blocks = re.findall(r"^```yaml\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [document for block in blocks for document in yaml.safe_load_all(block)]


def flux_expressions() -> dict[str, dict[str, str]]:
    """Return the expressions of the guide, by kind."""
    found = [entry for each in guide_documents() for entry in each.get("spec", {}).get("healthCheckExprs", ())]
    return {entry["kind"]: {name: entry[name] for name in ("failed", "current")} for entry in found}


@pytest.fixture(scope="session")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Judge:
    """Build what asks the judges, and return how to ask them."""
    go = machine_go()
    if go is None:
        pytest.skip("no Go on PATH that is new enough: kstatus, Flux and Argo CD's Lua are not asked")
    work = shutil.copytree(JUDGES, tmp_path_factory.mktemp("judges") / "source")
    environment = {**os.environ, "GOTOOLCHAIN": "local", "GOWORK": "off", "CGO_ENABLED": "0"}

    def run_go(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(go), *arguments]
        return subprocess.run(
            command, cwd=work, env=environment, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False
        )

    fetched = run_go("mod", "download")
    if fetched.returncode != 0:
        pytest.skip(f"the Go modules cannot be had: {fetched.stderr.strip()[-300:]}")
    built = run_go("build", "-o", "judges", ".")
    assert built.returncode == 0, built.stderr

    def ask(questions: list[dict[str, Any]]) -> list[dict[str, Any]]:
        lines = "".join(json.dumps(question) + "\n" for question in questions)
        asked = subprocess.run([work / "judges"], input=lines, capture_output=True, text=True, timeout=60, check=False)
        assert asked.returncode == 0, asked.stderr
        return [json.loads(line) for line in asked.stdout.splitlines()]

    return ask


def questions_of(judged: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ask all judges of each; Flux only with a status, which the API server gives every object."""
    expressions = flux_expressions()
    return [
        {
            "object": each,
            "expressions": expressions.get(each["kind"]) if "status" in each else None,
            "script": script_of(each["kind"]),
        }
        for each in judged
    ]


def test_the_judges_read_each_story_as_the_guide_says(judge: Judge) -> None:
    answers = judge(questions_of([story.object for story in STORIES]))
    flux = {"Healthy": "Current", "Suspended": "Current", "Degraded": "Failed", "Progressing": "InProgress"}
    for story, answer in zip(STORIES, answers, strict=True):
        assert answer["kstatus"] == story.kstatus, story
        assert answer["argo"]["status"] == story.argo, story
        if story.kind == "OptimizationRequest":
            assert answer["flux"] == flux[story.argo], story
        else:
            assert story.kstatus == flux[story.argo], story


def test_the_readers_in_the_unit_tests_are_the_judges_equals(judge: Judge) -> None:
    judged = [story.object for story in STORIES]
    for story in STORIES:
        deleting, bare = story.object, story.object
        deleting["metadata"]["deletionTimestamp"] = "2026-01-02T03:04:05Z"
        del bare["status"]
        judged += [deleting, bare]
    for each, answer in zip(judged, judge(questions_of(judged)), strict=True):
        assert answer["kstatus"] == kstatus_of(each)
        if "deletionTimestamp" not in each["metadata"]:  # Argo CD asks no script then
            assert answer["argo"] == argo_health(script_of(each["kind"]), each)


def test_an_object_without_conditions_is_not_done_for_argo_cd_and_flux(judge: Judge) -> None:
    (story,) = (each for each in STORIES if str(each) == "OptimizationRequest: answered")
    broken = story.object
    broken["status"]["conditions"] = []
    (answer,) = judge(questions_of([broken]))
    assert answer["kstatus"] == "Current", "kstatus takes what has no conditions for done"
    assert answer["argo"]["status"] == "Progressing"
    assert answer["flux"] == "InProgress"


class Written:
    """Objects of stories at an API server.

    Parameters
    ----------
    cluster, namespace
        Where.
    """

    def __init__(self, cluster: DevCluster, namespace: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._made: list[str] = []

    def write(self, story: Story, name: str) -> dict[str, Any]:
        """Make an object, bring it to its generation, and write its status; return it as it is then."""
        collection = f"{API}/{PATHS[story.kind].format(namespace=self._namespace)}"
        path = f"{collection}/{name}"
        made = {**story.object, "metadata": {"name": name}}
        made.pop("status", None)
        with self._cluster.client() as client:
            found = client.request("POST", collection, made)
            self._made.append(path)
            while found["metadata"]["generation"] < story.generation:
                field = "timeoutSeconds" if story.kind == "OptimizationRequest" else "priority"
                found["spec"][field] = found["spec"].get(field, 0) + 1
                found = client.request("PUT", path, found)
            if story.name != "new":
                found["status"] = story.status
                found = client.request("PUT", f"{path}/status", found)
        return dict(found)

    def delete(self) -> None:
        """Delete what was made."""
        with self._cluster.client() as client:
            for path in self._made:
                client.request("DELETE", path)


@pytest.fixture
def written(cluster: DevCluster, namespace: str) -> Iterator[Written]:
    objects = Written(cluster, namespace)
    yield objects
    objects.delete()


@pytest.mark.parametrize("story", STORIES, ids=str)
def test_the_api_server_takes_each_status_and_kubectl_waits_as_the_guide_says(
    kubectl: Kubectl, written: Written, namespace: str, story: Story
) -> None:
    name = f"{namespace}-{STORIES.index(story)}"
    found = written.write(story, name)
    assert found["metadata"]["generation"] == story.generation
    assert found["status"] == story.status, "what the operator writes is kept whole, and a new object has the default"
    waited = kubectl(
        "wait", "-n", namespace, f"{story.kind.lower()}/{name}", "--for=condition=Ready", "--timeout=0s", check=False
    )
    assert (waited.returncode == 0) is story.kubectl, waited.stderr
    assert kubectl_waits_no_longer(found) is story.kubectl
    assert kstatus_of(found) == story.kstatus
    assert argo_health(script_of(story.kind), found)["status"] == story.argo


def test_the_component_adds_two_keys_to_argo_cds_config_map(kubectl: Kubectl, tmp_path: Path) -> None:
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "argocd-cm"}, "data": {"url": "x"}}
    (tmp_path / "argocd-cm.yaml").write_text(yaml.safe_dump(config_map))
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "argocd",
        "resources": ["argocd-cm.yaml"],
        "components": [os.path.relpath((MANIFESTS / "argocd").resolve(), tmp_path.resolve())],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    (found,) = rendered(kubectl, tmp_path)
    ours = yaml.safe_load((ARGOCD / "argocd-cm.yaml").read_text(encoding="utf-8"))["data"]
    assert found["data"] == {"url": "x", **ours}
    assert len(ours) == 2


def test_applied_at_a_running_argo_cd_it_takes_nothing_away(kubectl: Kubectl, namespace: str) -> None:
    kubectl("create", "configmap", "argocd-cm", "-n", namespace, "--from-literal=url=x")
    ours = yaml.safe_load((ARGOCD / "argocd-cm.yaml").read_text(encoding="utf-8"))
    ours["metadata"]["namespace"] = namespace
    command = ("apply", "--server-side", "--field-manager=engine-ops-health", "-f", "-")
    for _ in range(2):
        kubectl(*command, stdin=json.dumps(ours))
    found = json.loads(kubectl("get", "configmap", "argocd-cm", "-n", namespace, "-o", "json").stdout)
    assert found["data"] == {"url": "x", **ours["data"]}
