"""Nodes are given to whoever asked for them when pods may be placed on them, and not before."""

from __future__ import annotations

from typing import Any

import pytest

from engine_ops.devcluster import nodes
from engine_ops.devcluster.errors import DevClusterError

NEW = {"taints": [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]}
CORDONED = {"taints": [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]}


def node(spec: dict[str, Any], *, ready: str = "True") -> dict[str, Any]:
    return {"metadata": {"name": "a"}, "spec": spec, "status": {"conditions": [{"type": "Ready", "status": ready}]}}


class Server:
    """Shows a node as it is from one look to the next; as it was last, from then on."""

    def __init__(self, *states: dict[str, Any]) -> None:
        self._states = list(states)
        self.looks = 0

    def request(self, method: str, path: str) -> dict[str, Any]:
        self.looks += 1
        state = self._states.pop(0) if len(self._states) > 1 else self._states[0]
        return {"items": [state]}


def looks_at(*states: dict[str, Any], has_controllers: bool, timeout_seconds: float = 60.0) -> int:
    server: Any = Server(*states)
    nodes.wait_until_nodes_ready(server, ["a"], timeout_seconds=timeout_seconds, has_controllers=has_controllers)
    return int(server.looks)


def test_a_node_that_is_ready_is_awaited_until_its_first_taint_has_gone() -> None:
    assert looks_at(node({}, ready="False"), node(NEW), node(NEW), node({}), has_controllers=True) == 4
    assert looks_at(node(CORDONED), has_controllers=True) == 1


def test_where_nobody_takes_the_taint_away_it_is_not_waited_for() -> None:
    assert looks_at(node(NEW, ready="False"), node(NEW), has_controllers=False) == 2


def test_a_node_that_keeps_the_taint_is_told_of() -> None:
    with pytest.raises(DevClusterError, match="1 of 1 nodes are not Ready"):
        looks_at(node(NEW), has_controllers=True, timeout_seconds=0.0)
