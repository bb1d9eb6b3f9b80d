"""Plugins and live clusters: what they see, and that their placements pass the cluster's own filters."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_asking import Scripted, World, by, run
from test_cluster_placement import WEB, cluster, kind, near, node, pod, rules

from engine_ops.controllers.cluster_input import ClusterInput
from engine_ops.engine.cluster.records import ClusterSnapshot, TaintRecord
from engine_ops.engine.cluster.selection import ClusterSelection
from engine_ops.engine.scheduling.model import SchedulingData
from engine_ops.plugins.judging import respond
from engine_ops.workers.messages import PluginReply, Solved, SolveTask
from engine_ops.workers.solve import evaluate

ANTI = rules(
    affinity={
        "podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "host", "labelSelector": WEB}]
        }
    }
)


def task(snapshot: ClusterSnapshot, data: dict[str, Any] | None = None, **chosen: Any) -> SolveTask:
    given_to = ClusterInput.of(snapshot, ClusterSelection.model_validate(chosen), "scheduling", data)
    encoded = json.dumps(data or {}).encode()
    return SolveTask("t", "scheduling", encoded, cluster=given_to.snapshot, selection=given_to.selection)


def solved(of: SolveTask, result: Any = None) -> Solved:
    if result is not None:
        reply = PluginReply("p", "1", msgspec.json.encode({"success": True, "result": result}))
        of = msgspec.structs.replace(of, reply=reply)
    outcome = evaluate(of, respond=respond)
    assert isinstance(outcome, Solved), outcome
    return outcome


def described(of: SolveTask) -> dict[str, Any]:
    return dict(json.loads(solved(msgspec.structs.replace(of, describe=True)).result))


def placements(found: Solved) -> dict[str, Any]:
    return {item["taskId"]: item.get("nodeId") for item in json.loads(found.result)["placements"]}


def test_a_plugin_sees_the_cluster_in_the_shapes_of_the_type() -> None:
    there = kind(requests={"cpu": 300, "memory": 2**20})
    new = kind(app="batch", written=rules(nodeSelector={"host": "a"}), requests={"cpu": 50, "gpu": 1000}, priority=7)
    offer = {"gpu": 2000}
    nodes = [
        node("a", offer=offer, taints=(TaintRecord("k", "v", "NoSchedule"),)),
        node("b", labels={"zone": "x"}, unschedulable=True),
        node("left-out", labels={"spare": "yes"}),
    ]
    snapshot = cluster(pod("x", "a", there), pod("y", "a", there), pod("z", "", new), nodes=nodes)
    seen = described(task(snapshot, nodes={"labelSelector": {"matchExpressions": [_NO_SPARE]}}))
    assert seen == {
        "tasks": [
            {
                "id": "red/z",
                "cpuRequired": 0.05,
                "memoryRequired": 0,
                "resourcesRequired": {"gpu": 1},
                "priority": 7,
                "labels": {"app": "batch"},
                "nodeSelector": {"host": "a"},
            }
        ],
        "nodes": [
            {
                "id": "a",
                "cpuLoad": 0.6,
                "memoryLoad": 2**21,
                "podCount": 2,
                "capacity": {"cpu": 1, "memory": 2**30, "pods": 10, "resources": {"gpu": 2}},
                "labels": {"host": "a"},
                "taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}],
            },
            {
                "id": "b",
                "cpuLoad": 0,
                "memoryLoad": 0,
                "podCount": 0,
                "capacity": {"cpu": 1, "memory": 2**30, "pods": 10},
                "labels": {"host": "b", "zone": "x"},
                "unschedulable": True,
            },
        ],
    }
    SchedulingData.model_validate(seen)


_NO_SPARE = {"key": "spare", "operator": "DoesNotExist"}


def test_one_given_task_is_seen_as_one() -> None:
    given_task = {"id": "t", "cpuRequired": 0.1, "memoryRequired": 0}
    seen = described(task(cluster(), {"task": given_task}))
    assert seen["task"] == given_task
    found = solved(task(cluster(), {"task": given_task}), {"nodeId": "a"})
    assert (found.plugin_role, json.loads(found.result)["nodeId"]) == ("answer", "a")


def test_a_placement_must_pass_the_filters_of_the_cluster() -> None:
    snapshot = cluster(pod("x", "a", kind()), pod("z", "", kind(written=ANTI)))
    refused = solved(task(snapshot), {"placements": [{"taskId": "red/z", "nodeId": "a"}]})
    assert (refused.plugin_role, refused.plugin_unusable, placements(refused)) == ("", True, {"red/z": "b"})
    assert "didn't match pod anti-affinity rules" in refused.plugin_no
    accepted = solved(task(snapshot), {"placements": [{"taskId": "red/z", "nodeId": "b"}]})
    assert (accepted.plugin_role, accepted.algorithm, placements(accepted)) == ("answer", "p", {"red/z": "b"})
    own = solved(task(snapshot))
    without = {"algorithm": None}
    assert json.loads(accepted.result) | without == json.loads(own.result) | without
    assert (accepted.score, accepted.message) == (own.score, own.message)


def test_nodes_with_the_highest_scores_are_chosen_where_that_is_no_worse() -> None:
    snapshot = cluster(pod("z", "", kind()))
    found = solved(task(snapshot), {"node_scores": {"b": 2, "a": 1}, "expected_duration": 4})
    assert (found.plugin_role, found.algorithm, placements(found)) == ("advice", "filter-and-advice", {"red/z": "b"})
    assert json.loads(found.result)["advice"] == {"expectedDurationMs": 4.0}
    assert placements(solved(task(snapshot))) == {"red/z": "a"}


def test_pods_that_are_not_modelled_are_placed_by_nobody() -> None:
    strange = kind(app="strange", not_modelled=("volumes",))
    snapshot = cluster(pod("odd", "", strange), pod("z", "", kind()))
    assert [entry["id"] for entry in described(task(snapshot))["tasks"]] == ["red/z"]
    whole = {"placements": [{"taskId": "red/z", "nodeId": "a"}]}
    found = solved(task(snapshot), whole)
    assert (found.plugin_role, placements(found)) == ("answer", {"red/z": "a", "red/odd": None})
    refused = solved(task(snapshot), {"placements": [*whole["placements"], {"taskId": "red/odd", "nodeId": "a"}]})
    assert (refused.plugin_role, refused.plugin_unusable) == ("", True)
    assert refused.plugin_no == "result.placements[1].nodeId: task 'red/odd' is not modelled: volumes"


_KINDS = [kind(), kind(written=ANTI), kind(app="db", requests={"cpu": 400}), kind(written=near(labelSelector=WEB))]


@settings(max_examples=100)
@given(st.lists(st.tuples(st.sampled_from(["", "", "a", "b", "c"]), st.sampled_from(_KINDS)), min_size=1, max_size=9))
def test_the_built_ins_own_placement_holds_its_own(pods: list[tuple[str, Any]]) -> None:
    nodes = [node("a"), node("b"), node("c", labels={"host": "b"})]
    snapshot = cluster(*(pod(f"p{i}", where, of) for i, (where, of) in enumerate(pods)), nodes=nodes)
    own = solved(task(snapshot))
    if not described(task(snapshot))["tasks"]:
        return
    found = solved(task(snapshot), json.loads(own.result))
    assert (found.plugin_role, found.plugin_no, found.score) == ("answer", "", own.score)
    assert placements(found) == placements(own)


def test_a_plugin_is_asked_about_what_it_is_shown() -> None:
    snapshot = cluster(pod("z", "", kind()))

    async def test() -> None:
        plugin = Scripted("p", {"result": {"placements": [{"taskId": "red/z", "nodeId": "a"}]}})
        world = World([plugin])
        assert by(await world.ask_of_cluster(snapshot, "scheduling"))["plugin"] == "p"
        (ask,) = plugin.asks
        assert json.loads(ask.data) == described(task(snapshot))

    run(test)


@pytest.mark.parametrize(
    ("request_type", "snapshot", "reason"),
    [
        ("scheduling", cluster(), None),
        ("resource", cluster(pod("z", "a", kind())), "p: plugins are not asked about packing a live cluster anew"),
    ],
)
def test_a_plugin_is_not_asked_where_there_is_nothing_for_it(
    request_type: str, snapshot: ClusterSnapshot, reason: str | None
) -> None:
    async def test() -> None:
        world = World([Scripted("p", {"result": {}})])
        assert by(await world.ask_of_cluster(snapshot, request_type)).get("fallbackReason") == reason
        assert world.plugins[0].asks == []

    run(test)
