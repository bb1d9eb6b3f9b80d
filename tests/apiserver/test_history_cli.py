"""`engine-ops history` against a real API server, with the user's own rights."""

from __future__ import annotations

import json
import subprocess
import sysconfig
import time
from pathlib import Path
from typing import Any

import pytest
from rights_in_effect import wait_for_rights

from engine_ops.devcluster import DevCluster

PROGRAM = str(Path(sysconfig.get_path("scripts")) / "engine-ops")
LOG = "; UnixStartTime: 1000000000\n" + "".join(
    f"{job} {job * 60} -1 {30 + job % 7} 8 -1 -1 8 600 -1 {1 if job % 3 else 0} {job % 5} 1 {job % 4} -1 1 -1 -1\n"
    for job in range(1, 1201)
)


class Place:
    """The history of one namespace."""

    def __init__(self, cluster: DevCluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace

    def run(self, *arguments: str | Path, code: int = 0, kubeconfig: Path | None = None) -> Any:
        place = ["--kubeconfig", str(kubeconfig or self.cluster.kubeconfig), "--namespace", self.namespace]
        command = [PROGRAM, "history", *map(str, arguments), *place]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120, check=False)
        assert done.returncode == code, done.stderr
        return done

    def config_maps(self) -> dict[str, str]:
        """Name and version of each; but for that of the controller manager, which may be late with it."""
        listed = self.cluster.kubectl("get", "configmaps", "-n", self.namespace, "-o", "json")
        found = {item["metadata"]["name"]: item["metadata"] for item in json.loads(listed.stdout)["items"]}
        return {name: item["resourceVersion"] for name, item in found.items() if name != "kube-root-ca.crt"}

    def allow(self, *verbs: str) -> Path:
        """Let the namespace's ServiceAccount do so much with ConfigMaps; return its kubeconfig."""
        self.cluster.kubectl(
            "create", "role", "history", f"--verb={','.join(verbs)}", "--resource=configmaps", "-n", self.namespace
        )
        self.cluster.kubectl(
            "create",
            "rolebinding",
            "history",
            "--role=history",
            f"--serviceaccount={self.namespace}:default",
            "-n",
            self.namespace,
        )
        wait_for_rights(self.cluster, self.namespace, "default")
        return self.cluster.service_account_kubeconfig(self.namespace, "default")


@pytest.fixture
def place(cluster: DevCluster, namespace: str) -> Place:
    return Place(cluster, namespace)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log.swf"
    path.write_text(LOG)
    return path


def test_a_log_goes_into_config_maps_and_comes_out_again(place: Place, log: Path, tmp_path: Path) -> None:
    assert place.run("import", log).stdout == "1,200 points read: 1,200 added, 0 there already\n"
    before = place.config_maps()
    assert {"engine-ops-history-head", "engine-ops-history-00000001"} < before.keys()  # and a second segment
    assert place.run("import", log).stdout == "1,200 points read: 0 added, 1,200 there already\n"
    found = json.loads(place.run("stats", "-o", "json").stdout)
    assert (found["count"], found["succeeded"], found["failures"]) == (1200, 800, {"Failed": 400})
    assert (found["avgDurationMs"], found["store"]["damaged"]) == (pytest.approx(32_997.5, abs=5), [])
    assert "observed-job   1,200    66.7%" in place.run("stats").stdout
    assert "user-0/Executable/0" in place.run("show").stdout
    exported = tmp_path / "out.jsonl"
    place.run("export", "-o", exported)
    assert len(exported.read_text().splitlines()) == 1200
    assert "0 added, 1,200 there already" in place.run("import", exported).stdout
    # Whoever reads writes nothing, nor does an import that adds nothing.
    assert place.config_maps() == before


def test_room_in_the_cluster(place: Place, log: Path) -> None:
    assert "1,000 added, 0 there already, 200 left out" in place.run("import", log, "--max-points", "1000").stdout
    lines = place.run("export").stdout.splitlines()
    assert min(json.loads(line)["metadata"]["job"] for line in lines) == 201


def test_what_the_operator_says_is_told(place: Place, log: Path) -> None:
    place.run("import", log)
    assert "the operator says" not in place.run("stats").stdout
    conditions = [
        {"type": "HistoryWritable", "status": "False", "reason": "Refused", "message": "exceeded quota"},
        {"type": "HistoryLoaded", "status": "True", "reason": "Loaded", "message": "the history was read"},
    ]
    status = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "engine-ops-status", "namespace": place.namespace},
        "data": {"conditions": json.dumps(conditions)},
    }
    place.cluster.kubectl("apply", "-f", "-", stdin=json.dumps(status))
    text = place.run("stats").stdout
    assert "the operator says: Refused: exceeded quota\n" in text
    assert "the history was read" not in text
    told = json.loads(place.run("stats", "-o", "json").stdout)["store"]
    assert told["conditions"] == conditions
    assert abs(told["writtenMs"] - time.time() * 1000) < 600_000


def test_there_is_no_history(place: Place) -> None:
    for name in ("stats", "show", "export"):
        assert f"there is no history in namespace {place.namespace}" in place.run(name, code=1).stderr


def test_rights_that_are_missing(place: Place, log: Path) -> None:
    place.run("import", log)
    nobody = place.cluster.service_account_kubeconfig(place.namespace, "default")
    refused = place.run("stats", code=1, kubeconfig=nobody).stderr
    assert f"the history in namespace {place.namespace} cannot be used: configmaps is forbidden" in refused
    assert "reading it needs get and list of ConfigMaps" in refused
    assert 'cannot list resource "configmaps"' in refused
    assert refused.count("\n") == 1
    reader = place.allow("get", "list")
    assert "1,200 points" in place.run("stats", kubeconfig=reader).stdout
    before = place.config_maps()
    log.write_text(LOG.replace("1000000000", "1100000000"))
    refused = place.run("import", log, code=1, kubeconfig=reader).stderr
    assert "import also create, update and delete" in refused
    assert refused.count("\n") == 1
    assert place.config_maps() == before


def test_a_segment_that_was_edited_is_told_and_left_alone(place: Place, log: Path) -> None:
    place.run("import", log)
    name = "engine-ops-history-head"
    place.cluster.kubectl(
        "patch", "configmap", name, "-n", place.namespace, "--type=merge", "-p", '{"binaryData":{"points":"AAAA"}}'
    )
    before = place.config_maps()
    assert f"damaged: {name}: " in place.run("stats").stdout
    assert f"left out: {name} is damaged" in place.run("export").stderr
    assert place.config_maps() == before
