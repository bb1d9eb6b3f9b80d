"""What the tests of the command line share."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from engine_ops.cli.main import main
from engine_ops.workers import early_pool
from engine_ops.workers.messages import Outcome, Solved, SolveTask
from engine_ops.workers.solve import evaluate

DATA = Path(__file__).parents[1] / "data" / "cli"
PROGRAM = [sys.executable, "-c", "from engine_ops.cli.main import main; main(prog_name='engine-ops')"]
"""`engine-ops` as a process of its own, whether or not its script is on the PATH."""

REQUESTS = DATA / "requests.yaml"


class InProcessPool:
    """A pool that solves in this process: the same answers, without the second that processes take to start."""

    def __init__(self, size: int, *, memory_limit_bytes: int, reserve: bool) -> None:
        assert size > 0
        assert memory_limit_bytes > 0
        assert not reserve, "nobody else asks"

    async def start(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def run(self, task: SolveTask, *, timeout_seconds: float, on_incumbent: object = None) -> Outcome:
        assert timeout_seconds > 0
        return evaluate(task)


def use_pool(monkeypatch: pytest.MonkeyPatch, pool: Callable[..., Any]) -> None:
    monkeypatch.setattr(early_pool, "WorkerPool", pool)


def pool_that_raises(error: Exception, incumbent: Solved | None = None) -> type[InProcessPool]:
    """A pool whose every task ends in an error, after an answer where one is given."""

    class Failing(InProcessPool):
        async def run(self, task: SolveTask, *, timeout_seconds: float, on_incumbent: object = None) -> Outcome:
            del task, timeout_seconds
            error.incumbent = incumbent  # type: ignore[attr-defined]
            raise error

    return Failing


def engine_ops(*arguments: str | Path, stdin: str | bytes | None = None) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=stdin)


def request(name: str = "a", **spec: Any) -> dict[str, Any]:
    spec.setdefault("type", "resource")
    if "dataFrom" not in spec:
        spec.setdefault("data", packing())
    spec.setdefault("searchSeconds", 0)
    return {
        "apiVersion": "engineops.dev/v1alpha1",
        "kind": "OptimizationRequest",
        "metadata": {"name": name},
        "spec": {key: value for key, value in spec.items() if value is not None},
    }


def config_map(name: str, **fields: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, **fields}


def cluster_request(name: str = "live", kind: str = "scheduling", **spec: Any) -> dict[str, Any]:
    """A question about a cluster; further fields are those of ``dataFrom.cluster``."""
    data = spec.pop("data", None)
    found = request(name, type=kind, dataFrom={"cluster": spec})
    return found if data is None else {**found, "spec": {**found["spec"], "data": data}}


def live_node(name: str, *, cpu: str = "4", labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    """A v1.Node."""
    status = {"allocatable": {"cpu": cpu, "memory": "16Gi", "pods": "110"}}
    metadata = {"name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}}
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": spec, "status": status}


def live_pod(name: str, node: str = "", *, cpu: str = "1", namespace: str = "shop", **spec: Any) -> dict[str, Any]:
    """A v1.Pod, pending where there is no node; the part of its name before a hyphen is its label ``app``."""
    container = {"name": "main", "image": "pause", "resources": {"requests": {"cpu": cpu}}}
    metadata = {"name": name, "namespace": namespace, "labels": {"app": name.partition("-")[0]}}
    body = {"containers": [container], **({"nodeName": node} if node else {}), **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": body, "status": {}}


def live_workload(name: str, replicas: int, *, kind: str = "Deployment", cpu: str = "1") -> dict[str, Any]:
    """A Deployment in the namespace default."""
    labels = {"app": name}
    pod = {"containers": [{"name": "main", "image": "pause", "resources": {"requests": {"cpu": cpu}}}]}
    template = {"metadata": {"labels": labels}, "spec": pod}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
    }


def dump(path: Path, *objects: dict[str, Any]) -> Path:
    """Write objects as kubectl prints them."""
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": list(objects)}))
    return path


def packing(count: int = 3, cpu: str = "1") -> dict[str, Any]:
    items = [{"id": "web", "cpu": cpu, "memory": "1Gi", "count": count}]
    return {"items": items, "nodeCapacity": {"cpu": 2, "memory": "8Gi"}}


def stream(*documents: dict[str, Any]) -> str:
    """Documents as a YAML stream; JSON is YAML."""
    return "".join(f"---\n{json.dumps(document)}\n" for document in documents)


def normalise(text: str) -> str:
    """Replace what differs from run to run."""
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "2026-01-02T03:04:05Z", text)
    return re.sub(r'(durationMs"?: )\d+', r"\g<1>0", text)
