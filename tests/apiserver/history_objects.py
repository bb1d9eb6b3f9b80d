"""The history of an operator, as `engine-ops history export` gives it to its user."""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine_ops.devcluster import DevCluster

ENGINE_OPS = str(Path(sysconfig.get_path("scripts"), "engine-ops"))
WAIT_SECONDS = 90.0
"""The operator waits up to 30 s between two tries to flush, and samples usage only while its workload runs."""

Point = dict[str, Any]


class HistoryObjects:
    """The history in a namespace of the cluster.

    Parameters
    ----------
    cluster
        Where.
    namespace
        The operator's own.
    of
        Only points whose ``metadata.namespace`` is this one.
    """

    def __init__(self, cluster: DevCluster, of: str, namespace: str = "engine-ops-system") -> None:
        self._cluster = cluster
        self._of = of
        self.namespace = namespace

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run ``engine-ops history``, reading from the cluster."""
        command = [ENGINE_OPS, "history", *arguments, "--namespace", self.namespace]
        environment = {**os.environ, **self._cluster.environment()}
        return subprocess.run(command, env=environment, text=True, capture_output=True, timeout=60, check=False)

    def points(self) -> list[Point]:
        """Return every point of the requests' namespace."""
        done = self.run("export", "--format", "jsonl")
        if done.returncode == 1 and "there is no history in namespace" in done.stderr:
            return []  # the operator has not written its first point yet
        assert done.returncode == 0, done.stderr
        points = [json.loads(line) for line in done.stdout.splitlines()]
        return [point for point in points if point["metadata"].get("namespace") == self._of]

    def wait(self, until: Callable[[list[Point]], bool], seconds: float = WAIT_SECONDS) -> list[Point]:
        """Wait until the points are as told, and return them."""
        deadline = time.monotonic() + seconds
        while True:
            points = self.points()
            if until(points):
                return points
            if time.monotonic() > deadline:
                raise AssertionError(f"the history is not as awaited after {seconds} s: {json.dumps(points, indent=1)}")
            time.sleep(0.5)

    def wait_for(self, name: str, seconds: float = WAIT_SECONDS) -> Point:
        """Wait until a request has a point, and return its last one."""
        found = self.wait(lambda points: any(point["metadata"]["name"] == name for point in points), seconds)
        return [point for point in found if point["metadata"]["name"] == name][-1]


def key_of(point: Point) -> tuple[str, int, int]:
    """Return what a point is unique by."""
    metadata = point["metadata"]
    return metadata["uid"], metadata["generation"], metadata["run"]


def job(name: str, run_for: str, outcome: str | None = None, **annotations: str) -> dict[str, Any]:
    """Return a Job of one pod that runs for so long and ends so, by the stages of the local control plane."""
    said = {"engineops.dev/run-for": run_for, **{f"engineops.dev/{key}": value for key, value in annotations.items()}}
    if outcome is not None:
        said["engineops.dev/outcome"] = outcome
    resources = {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}}
    container = {"name": "main", "image": "registry.k8s.io/pause", "resources": resources}
    template = {"metadata": {"annotations": said}, "spec": {"restartPolicy": "Never", "containers": [container]}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"backoffLimit": 0, "template": template},
    }
