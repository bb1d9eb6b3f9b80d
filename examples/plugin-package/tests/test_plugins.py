"""What the plugins answer, and that Engine-Ops finds them where the package is installed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
from engine_ops import OptimizationRequest, PluginConfig
from engine_ops.ml import WorkloadDataPoint
from engine_ops.ml.testing import PluginContract
from engine_ops.plugins import PluginRegistry, register_installed

from engine_ops_runtimes.idle_first import IdleFirstPlugin
from engine_ops_runtimes.last_two import LastTwoPlugin


def history() -> list[WorkloadDataPoint]:
    """Return twelve jobs of two users: ann's take 1, 2, ... 6 s, bob's take 10 s each."""
    points = []
    for turn in range(6):
        for user, duration_ms in (("ann", 1000.0 * (turn + 1)), ("bob", 10_000.0)):
            fields = {"request": {"user": user}}
            points.append(WorkloadDataPoint(1000 * turn, "ml-driven", {}, duration_ms, True, fields))
    return points


class TestLastTwoKeepsTheContract(PluginContract):
    """The checks that come with Engine-Ops, on this plugin."""

    config: ClassVar[Mapping[str, Any]] = {"factor": 1.5}

    def make_plugin(self) -> LastTwoPlugin:
        return LastTwoPlugin()

    def make_history(self) -> list[WorkloadDataPoint]:
        return history()


@pytest.mark.parametrize(("user", "expected_ms"), [("ann", 11_000), ("bob", 20_000), ("eve", 15_500)])
def test_run_times(user: str, expected_ms: float) -> None:
    plugin = LastTwoPlugin()
    plugin.init({"factor": 2})
    plugin.train_model(history())
    answer = plugin.optimize({"type": "ml-driven", "user": user}, history())
    assert answer["success"]
    assert answer["result"] == {"expected_duration": expected_ms}


def test_the_time_that_an_answer_took_is_no_run_time() -> None:
    metadata = {"request": {"user": "bob"}, "outcome": {"of": "request", "state": "succeeded"}}
    answer = WorkloadDataPoint(9000, "ml-driven", {}, 1.0, True, metadata)
    plugin = LastTwoPlugin()
    plugin.init()
    plugin.train_model([*history(), answer])
    assert plugin.optimize({"type": "ml-driven", "user": "bob"})["result"] == {"expected_duration": 10_000}


def test_idle_nodes_come_first() -> None:
    nodes = [{"id": "busy", "cpuLoad": 75, "memoryLoad": 10}, {"id": "idle", "cpuLoad": 25, "memoryLoad": 50}]
    request = OptimizationRequest(id="a", type="scheduling", data={"nodes": nodes})
    assert IdleFirstPlugin().optimize(request).result == {"node_scores": {"busy": 0.25, "idle": 0.5}}


def test_engine_ops_finds_both() -> None:
    registry = PluginRegistry()
    found = register_installed(registry, PluginConfig(priority=5))
    assert {"idle-first", "last-two"} <= {entry.name for entry in found}
    nodes = [{"id": "a", "cpuLoad": 1, "memoryLoad": 1}]
    request = OptimizationRequest(id="a", type="scheduling", data={"nodes": nodes})
    assert "idle-first" in [entry.name for entry in registry.select(request)]
