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

from engine_ops.cli import early_pool
from engine_ops.cli.main import main
from engine_ops.workers.messages import Outcome, Solved, SolveTask
from engine_ops.workers.solve import evaluate

DATA = Path(__file__).parents[1] / "data" / "cli"
PROGRAM = [sys.executable, "-c", "from engine_ops.cli.main import main; main(prog_name='engine-ops')"]
"""`engine-ops` as a process of its own, whether or not its script is on the PATH."""

REQUESTS = DATA / "requests.yaml"


class InProcessPool:
    """A pool that solves in this process: the same answers, without the second that processes take to start."""

    def __init__(self, size: int) -> None:
        assert size > 0

    async def start(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def run(self, task: SolveTask, *, timeout_seconds: float, on_incumbent: object = None) -> Outcome:
        assert timeout_seconds > 0
        return evaluate(task)


def use_pool(monkeypatch: pytest.MonkeyPatch, pool: Callable[[int], Any]) -> None:
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
