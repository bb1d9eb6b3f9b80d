"""When simulated nodes are taken for ready."""

from __future__ import annotations

from typing import Any

import pytest

from engine_ops.devcluster.errors import DevClusterError
from engine_ops.devcluster.nodes import wait_until_nodes_ready

READY = {"conditions": [{"type": "Ready", "status": "True"}]}
TAINTED = {"taints": [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]}


class Told:
    """An API server that tells of one node, each time the next of these."""

    def __init__(self, *nodes: dict[str, Any]) -> None:
        self.left = list(nodes)

    def request(self, method: str, path: str) -> Any:
        assert (method, path) == ("GET", "/api/v1/nodes"), "one from a cache may be an earlier node of the same name"
        node = self.left.pop(0) if len(self.left) > 1 else self.left[0]
        return {"items": [{"metadata": {"name": "a"}, **node}]}


def test_a_node_is_awaited_until_pods_fit_on_it() -> None:
    told: Any = Told({"spec": TAINTED, "status": {}}, {"spec": TAINTED, "status": READY}, {"spec": {}, "status": READY})
    wait_until_nodes_ready(told, ["a"], timeout_seconds=60, taints_go=True)
    assert len(told.left) == 1


def test_where_nobody_takes_the_taint_off_it_is_not_awaited() -> None:
    told: Any = Told({"spec": TAINTED, "status": {}}, {"spec": TAINTED, "status": READY}, {"spec": {}, "status": READY})
    wait_until_nodes_ready(told, ["a"], timeout_seconds=60)
    assert len(told.left) == 1
    assert told.request("GET", "/api/v1/nodes")["items"][0]["spec"] == {}


def test_a_node_that_nobody_makes_ready_is_named() -> None:
    told: Any = Told({"spec": {}, "status": {}})
    with pytest.raises(DevClusterError, match="1 of 1 nodes are not Ready after 0 s, such as a"):
        wait_until_nodes_ready(told, ["a"], timeout_seconds=0)
