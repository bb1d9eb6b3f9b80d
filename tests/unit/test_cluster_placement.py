"""Placement on a live cluster by example: each rule, what is told, and explanations."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine_ops.api.faults import InvalidDataError
from engine_ops.api.reasons import Reason
from engine_ops.engine.cluster.placement import ClusterPlacementSolver
from engine_ops.engine.cluster.records import ClusterSnapshot, HostPort, NodeRecord, PodKind, PodRecord, snapshot_of
from engine_ops.engine.cluster.selection import ClusterSelection
from engine_ops.engine.cluster.solvers import cluster_solver_for
from engine_ops.engine.contract import Answer, Budget, ignore_report

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
ALL = "0.0.0.0"  # noqa: S104
NAMESPACES = {"red": {"team": "x"}, "blue": {"team": "y"}}
ANTI = "node(s) didn't match pod anti-affinity rules"
EXISTING = "node(s) didn't satisfy existing pods anti-affinity rules"
PORTS = "node(s) didn't have free ports for the requested pod ports"
SPREAD = "node(s) didn't match pod topology spread constraints"


def rules(**fields: Any) -> str:
    return json.dumps(fields, sort_keys=True)


def anti(**term: Any) -> str:
    return rules(affinity={"podAntiAffinity": {REQUIRED: [{"topologyKey": "host", **term}]}})


def near(**term: Any) -> str:
    return rules(affinity={"podAffinity": {REQUIRED: [{"topologyKey": "host", **term}]}})


WEB = {"matchLabels": {"app": "web"}}


def kind(namespace: str = "red", app: str = "web", written: str = "", **fields: Any) -> PodKind:
    return PodKind(namespace, {"app": app}, fields.pop("requests", {"cpu": 100}), written, **fields)


def node(name: str, **fields: Any) -> NodeRecord:
    offer = {"cpu": 1000, "memory": 2**30, "pods": 10} | fields.pop("offer", {})
    return NodeRecord(name, {"host": name} | fields.pop("labels", {}), offer, **fields)


def pod(name: str, where: str, of: PodKind, **fields: Any) -> PodRecord:
    return PodRecord(name, "", where, of, **fields)


def cluster(*pods: PodRecord, nodes: list[NodeRecord] | None = None) -> ClusterSnapshot:
    return snapshot_of(nodes if nodes is not None else [node("a"), node("b")], list(pods), NAMESPACES)


def solve(
    snapshot: ClusterSnapshot,
    data: dict[str, Any] | None = None,
    constraints: dict[str, Any] | None = None,
    **chosen: Any,
) -> Answer:
    solver = ClusterPlacementSolver(snapshot, ClusterSelection.model_validate(chosen))
    return solver.solve(data or {}, constraints or {}, Budget.of(0), ignore_report)


def told(answer: Answer) -> dict[str, str]:
    return {item["taskId"]: item.get("nodeId") or item["reason"] for item in answer.result["placements"]}


@pytest.mark.parametrize(
    ("term", "kept_away_from"),
    [
        ({}, {"red"}),
        ({"namespaces": ["blue"]}, {"blue"}),
        ({"namespaces": ["red", "blue"]}, {"red", "blue"}),
        ({"namespaceSelector": {}}, {"red", "blue"}),
        ({"namespaceSelector": {"matchLabels": {"team": "y"}}}, {"blue"}),
        ({"namespaces": ["red"], "namespaceSelector": {"matchLabels": {"team": "y"}}}, {"red", "blue"}),
        ({"namespaceSelector": {"matchLabels": {"team": "z"}}}, set()),
    ],
)
def test_anti_affinity_is_about_its_namespaces(term: dict[str, Any], kept_away_from: set[str]) -> None:
    hermit = kind(written=anti(labelSelector=WEB, **term), app="hermit")
    for namespace in ("red", "blue"):
        other = kind(namespace)
        fresh = solve(cluster(pod("there", "a", other), pod("new", "", hermit), nodes=[node("a")]))
        away = f"0/1 nodes are available: 1 {ANTI}."
        assert told(fresh) == {"red/new": away if namespace in kept_away_from else "a"}
        # The same term of a pod that is there already.
        existing = solve(cluster(pod("there", "a", hermit), pod("new", "", other), nodes=[node("a")]))
        away = f"0/1 nodes are available: 1 {EXISTING}."
        assert told(existing) == {f"{namespace}/new": away if namespace in kept_away_from else "a"}


def test_a_selector_that_no_labels_satisfy_finds_pods_in_every_namespace() -> None:
    # As kube-scheduler 1.36 has it for the pod to be placed, and not for pods that are there.
    term = {
        "labelSelector": WEB,
        "namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["y"]}]},
    }
    hermit, other = kind(written=anti(**term), app="hermit"), kind("blue")
    assert not solve(cluster(pod("there", "a", other), pod("new", "", hermit), nodes=[node("a")])).complete
    assert solve(cluster(pod("there", "a", hermit), pod("new", "", other), nodes=[node("a")])).complete


def test_affinity_finds_pods_of_other_namespaces() -> None:
    term = {"labelSelector": WEB, "namespaces": ["blue"]}
    there = pod("there", "b", kind("blue"))
    assert told(solve(cluster(there, pod("new", "", kind(written=near(**term)))))) == {"red/new": "b"}
    alone = solve(cluster(there, pod("new", "", kind(written=near(labelSelector={"matchLabels": {"app": "db"}})))))
    assert told(alone) == {"red/new": "0/2 nodes are available: 2 node(s) didn't match pod affinity rules."}


def test_the_first_of_its_kind_may_go_anywhere_only_if_it_is_in_its_own_terms_namespaces() -> None:
    assert told(solve(cluster(pod("new", "", kind(written=near(labelSelector=WEB)))))) == {"red/new": "a"}
    elsewhere = near(labelSelector=WEB, namespaces=["blue"])
    assert "affinity rules" in told(solve(cluster(pod("new", "", kind(written=elsewhere)))))["red/new"]


def test_who_needs_company_is_tried_again_when_it_has_come() -> None:
    follower = kind(app="db", written=near(labelSelector=WEB), priority=1)
    answer = solve(cluster(pod("follower", "", follower), pod("leader", "", kind())))
    assert list(told(answer).items()) == [("red/leader", "a"), ("red/follower", "a")]
    assert answer.complete


def test_label_keys_are_added_once() -> None:
    # As the API server stores it: the value at creation is in the selector, the label has changed since.
    stored = {
        "labelSelector": {**WEB, "matchExpressions": [{"key": "version", "operator": "In", "values": ["1"]}]},
        "matchLabelKeys": ["version"],
    }
    unmerged = {"labelSelector": WEB, "matchLabelKeys": ["version"]}
    excluding = {"labelSelector": WEB, "mismatchLabelKeys": ["version"]}

    def of(version: str, written: str = "") -> PodKind:
        return PodKind("red", {"app": "web", "version": version}, {"cpu": 100}, written)

    def placed(there: PodKind, new: PodKind) -> bool:
        return solve(cluster(pod("there", "a", there), pod("new", "", new), nodes=[node("a")])).complete

    assert not placed(of("1"), of("2", anti(**stored)))
    assert placed(of("2"), of("2", anti(**stored)))
    assert not placed(of("2"), of("2", anti(**unmerged)))
    assert placed(of("1"), of("2", anti(**unmerged)))
    assert placed(of("2"), of("2", anti(**excluding)))
    assert not placed(of("1"), of("2", anti(**excluding)))


def test_spread_counts_its_namespace_only_and_no_pods_on_their_way_out() -> None:
    constraint = {"maxSkew": 1, "topologyKey": "host", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": WEB}
    new = pod("new", "", kind(written=rules(topologySpreadConstraints=[constraint])))
    tight = [node("a"), node("b", offer={"cpu": 0})]
    refused = {"red/new": f"0/2 nodes are available: 1 Insufficient cpu, 1 {SPREAD}."}
    assert told(solve(cluster(pod("there", "a", kind()), new, nodes=tight))) == refused
    assert told(solve(cluster(pod("there", "a", kind("blue")), new, nodes=tight))) == {"red/new": "a"}
    assert told(solve(cluster(pod("there", "a", kind(), terminating=True), new, nodes=tight))) == {"red/new": "a"}


def test_terminating_pods_hold_resources_ports_and_affinity() -> None:
    only = [node("a")]
    big = kind(requests={"cpu": 1000})
    answer = solve(cluster(pod("going", "a", big, terminating=True), pod("new", "", kind()), nodes=only))
    assert told(answer) == {"red/new": "0/1 nodes are available: 1 Insufficient cpu."}
    hermit = kind(written=anti(labelSelector=WEB))
    answer = solve(cluster(pod("going", "a", hermit, terminating=True), pod("new", "", kind()), nodes=only))
    assert told(answer) == {"red/new": f"0/1 nodes are available: 1 {EXISTING}."}
    taking = kind(host_ports=(HostPort(ALL, "TCP", 80),))
    answer = solve(cluster(pod("going", "a", taking, terminating=True), pod("new", "", taking), nodes=only))
    assert told(answer) == {"red/new": f"0/1 nodes are available: 1 {PORTS}."}


@pytest.mark.parametrize(
    ("there", "new", "clash"),
    [
        ((ALL, "TCP", 80), (ALL, "TCP", 80), True),
        ((ALL, "TCP", 80), ("10.0.0.1", "TCP", 80), True),
        (("10.0.0.1", "TCP", 80), (ALL, "TCP", 80), True),
        (("10.0.0.1", "TCP", 80), ("10.0.0.1", "TCP", 80), True),
        (("10.0.0.1", "TCP", 80), ("10.0.0.2", "TCP", 80), False),
        ((ALL, "TCP", 80), (ALL, "UDP", 80), False),
        ((ALL, "TCP", 80), (ALL, "TCP", 81), False),
    ],
)
def test_host_ports(there: tuple[str, str, int], new: tuple[str, str, int], clash: bool) -> None:
    taken = pod("there", "a", kind("blue", host_ports=(HostPort(*there),)))
    wanted = pod("new", "", kind(host_ports=(HostPort(*new),)))
    answer = solve(cluster(taken, wanted, nodes=[node("a")]))
    assert told(answer) == {"red/new": f"0/1 nodes are available: 1 {PORTS}." if clash else "a"}


def test_new_pods_leave_ports_to_each_other() -> None:
    taking = kind(host_ports=(HostPort(ALL, "TCP", 80),))
    answer = solve(cluster(*(pod(f"p{i}", "", taking) for i in range(3))))
    assert sorted(told(answer).values()) == [f"0/2 nodes are available: 2 {PORTS}.", "a", "b"]


def test_preferences_of_pods_that_are_there_count() -> None:
    term = {"topologyKey": "host", "labelSelector": {"matchLabels": {"app": "db"}}, "namespaces": ["blue"]}
    shy = rules(affinity={"podAntiAffinity": {PREFERRED: [{"weight": 10, "podAffinityTerm": term}]}})
    new = pod("new", "", kind("blue", "db"))
    roomy = node("a", offer={"cpu": 64000})
    assert told(solve(cluster(new, nodes=[roomy, node("b")]))) == {"blue/new": "a"}
    there = pod("there", "a", kind(written=shy))
    assert told(solve(cluster(there, new, nodes=[roomy, node("b")]))) == {"blue/new": "b"}


def test_a_pending_daemon_pod_goes_to_its_node() -> None:
    name = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["b"]}]}
    written = rules(affinity={"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [name]}}})
    daemon = kind(written=written, owner_kind="DaemonSet", owner_name="agent")
    assert told(solve(cluster(pod("agent", "", daemon)))) == {"red/agent": "b"}


@pytest.mark.parametrize(("operator", "value", "placed"), [("Gt", "5", True), ("Lt", "5", False), ("Gt", "9", False)])
def test_numeric_tolerations(operator: str, value: str, placed: bool) -> None:
    from engine_ops.engine.cluster.records import TaintRecord

    tainted = node("a", taints=(TaintRecord("level", "7", "NoSchedule"),))
    written = rules(tolerations=[{"key": "level", "operator": operator, "value": value}])
    assert solve(cluster(pod("new", "", kind(written=written)), nodes=[tainted])).complete is placed


def test_nodes_left_out_count_for_spread_and_are_named() -> None:
    constraint = {"maxSkew": 1, "topologyKey": "host", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": WEB}
    spread = kind(written=rules(topologySpreadConstraints=[constraint]))
    snapshot = cluster(pod("there", "a", kind()), pod("new", "", spread))
    answer = solve(snapshot, nodes={"fieldSelector": "metadata.name=a"})
    # The empty node b cannot be used, but kube-scheduler would still compare a with it.
    assert told(answer) == {
        "red/new": f"0/2 nodes are available: 1 {SPREAD}, 1 node(s) were not selected by the request."
    }


def test_what_is_told_of_an_answer() -> None:
    pods = [
        pod("fits", "", kind()),
        pod("large", "", kind(requests={"cpu": 5000})),
        pod("volume", "", kind(not_modelled=("volumes",))),
    ]
    answer = solve(cluster(*pods))
    assert told(answer) == {
        "red/fits": "a",
        "red/large": "0/2 nodes are available: 2 Insufficient cpu.",
        "red/volume": "not modelled: volumes",
    }
    assert answer.message == (
        "placed 1 of 3 pending pods on 1 of 2 nodes; not placed: red/large: 0/2 nodes are available: "
        "2 Insufficient cpu.; red/volume: not modelled: volumes"
    )
    assert answer.reason is Reason.UNPLACEABLE
    assert answer.score == pytest.approx((0.9 + 1) / 2 / 3)
    assert {key: value for key, value in answer.result.items() if key != "placements"} == {
        "placedCount": 1,
        "unplacedCount": 2,
        "algorithm": "filter-and-score",
        "notModelled": [{"feature": "volumes", "pods": 1, "example": "red/volume"}],
        "cluster": {"nodes": 2, "pods": 3, "pending": 3},
    }
    json.dumps(answer.result)


@pytest.mark.parametrize(
    ("pods", "chosen", "message"),
    [
        ([], {}, "nothing to place: no pod is pending"),
        ([pod("p", "a", kind())], {}, "nothing to place: no pod is pending"),
        (
            [pod("p", "", kind())],
            {"pods": {"namespaces": ["nobody"]}},
            "nothing to place: none of the 1 pending pods is selected",
        ),
    ],
)
def test_nothing_to_place_is_an_answer(pods: list[PodRecord], chosen: dict[str, Any], message: str) -> None:
    answer = solve(cluster(*pods), **chosen)
    assert (answer.message, answer.reason, answer.score) == (message, Reason.SOLVED, None)
    assert answer.result["placements"] == []


def test_no_nodes_and_no_selected_nodes_are_answers() -> None:
    new = pod("p", "", kind())
    none = solve(cluster(new, nodes=[]))
    assert told(none) == {"red/p": "no nodes available to schedule pods"}
    assert (
        solve(cluster(nodes=[]), {"task": {"id": "t", "cpuRequired": 1, "memoryRequired": 1}}).result["nodeId"] is None
    )
    unselected = solve(cluster(new), nodes={"labelSelector": {"matchLabels": {"no": "such"}}})
    assert "spec.dataFrom.cluster.nodes selects none of the 2 nodes" in unselected.message


def test_given_tasks() -> None:
    one = {"id": "t", "cpuRequired": "500m", "memoryRequired": "1Gi", "labels": {"app": "web"}}
    snapshot = cluster(pod("there", "a", kind()), pod("waiting", "", kind()))
    assert solve(snapshot, {"task": one}).result == {
        "nodeId": "b",
        "estimatedLoadAfter": {"cpu": 0.5, "memory": 2**30},
    }
    many = solve(snapshot, {"tasks": [one, {**one, "id": "u"}, {**one, "id": "v"}]})
    assert told(many) == {
        "t": "b",
        "u": "a",
        "v": "0/2 nodes are available: 1 Insufficient cpu, 2 Insufficient memory.",
    }
    term = {"topologyKey": "host", "labelSelector": WEB, "namespaceSelector": {"matchLabels": {"team": "x"}}}
    lonely = {**one, "affinity": {"podAffinity": {REQUIRED: [term]}}}
    assert solve(snapshot, {"task": lonely}).result["nodeId"] == "a"


def test_shared_devices() -> None:
    shared = [{"resource": "example.com/gpu-milli", "unitsPerDevice": 1000}]

    def of(units: int) -> PodKind:
        return kind(requests={"example.com/gpu-milli": units * 1000})

    # Thousandths of two GPUs: 600 and 600 are taken, so that 600 are free in one piece on neither.
    gpus = [node("a", offer={"example.com/gpu-milli": 2_000_000})]
    there = [pod("x", "a", of(600)), pod("y", "a", of(600))]
    snapshot = cluster(*there, pod("new-1", "", of(300)), pod("new-2", "", of(500)), nodes=gpus)
    answer = solve(snapshot, constraints={"sharedDevices": shared})
    placements = answer.result["placements"]
    assert placements[0] == {"taskId": "red/new-1", "nodeId": "a", "devices": [0]}
    assert "reason" in placements[1]
    solver = ClusterPlacementSolver(snapshot, ClusterSelection())
    assert solver.explain({}, {"sharedDevices": shared}, answer.result).rows[0][1] == "a"
    placements[0]["devices"] = [2]
    with pytest.raises(InvalidDataError, match="cannot have these devices"):
        solver.explain({}, {"sharedDevices": shared}, answer.result)
    with pytest.raises(InvalidDataError, match="unitsPerDevice"):
        solve(snapshot, constraints={"sharedDevices": [{**shared[0], "unitsPerDevice": 0}]})


def test_pods_of_a_workload() -> None:
    template = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": "red", "labels": {"app": "web"}, "name": "web"},
        "spec": {
            "containers": [{"name": "c", "resources": {"requests": {"cpu": "300m"}}}],
            "affinity": {"podAntiAffinity": {REQUIRED: [{"topologyKey": "host", "labelSelector": WEB}]}},
        },
    }
    snapshot = cluster(pod("there", "a", kind()), pod("waiting", "", kind(requests={"cpu": 1000})))
    answer = solve(snapshot, workload={"name": "red/web", "count": 2, "pod": template})
    assert told(answer) == {"red/web-new-1": "b", "red/web-new-2": f"0/2 nodes are available: 2 {ANTI}."}
    assert answer.message.startswith("placed 1 of 2 new pods of red/web on 1 of 2 nodes")
    none = solve(snapshot, workload={"name": "red/web", "count": 0, "pod": template})
    assert none.complete
    assert none.message.startswith("nothing to place")
    template["spec"]["volumes"] = [{"name": "v", "persistentVolumeClaim": {"claimName": "v"}}]
    unmodelled = solve(snapshot, workload={"name": "red/web", "count": 1, "pod": template})
    assert told(unmodelled)["red/web-new-1"].startswith("not modelled: ")


def test_bad_data() -> None:
    task = {"id": "t", "cpuRequired": 1, "memoryRequired": 1}
    workload = {"name": "red/web", "count": 1, "pod": {}}
    for data, chosen, path in (
        ({"tasks": [task], "nodes": []}, {}, "data.nodes"),
        ({"tasks": [task], "task": task}, {}, "data"),
        ({"tasks": [task, task]}, {}, "data.tasks[1].id"),
        ({"task": {**task, "cpuRequired": -1}}, {}, "data.task.cpuRequired"),
        ({"task": task}, {"workload": workload}, "data"),
    ):
        with pytest.raises(InvalidDataError) as caught:
            solve(cluster(), data, **chosen)
        assert [fault.path for fault in caught.value.faults] == [path]


def test_explanations() -> None:
    pods = [
        pod("there", "a", kind(owner_kind="ReplicaSet", owner_name="web-1", requests={"cpu": 300})),
        pod("bare", "a", kind("blue")),
        pod("fits", "", kind(requests={"cpu": 700})),
        pod("large", "", kind(requests={"cpu": 5000})),
        pod("volume", "", kind(not_modelled=("volumes",))),
    ]
    snapshot = cluster(*pods)
    solver = ClusterPlacementSolver(snapshot, ClusterSelection())
    result = solver.solve({}, {}, Budget.of(0), ignore_report).result
    overview = solver.explain({}, {}, result)
    assert [row[:2] for row in overview.rows] == [("red/fits", "b"), ("red/large", "-"), ("red/volume", "-")]
    assert overview.rows[2][3] == "not modelled: volumes"

    fits = solver.explain_task({}, {}, result, "red/fits")
    assert [row[0] for row in fits.rows] == ["b*"]
    assert "Insufficient cpu: removed 1, 1 left" in fits.notes
    large = solver.explain_task({}, {}, result, "red/large")
    assert large.rows == [("Insufficient cpu", "2", "0", "a, b")]
    assert solver.explain_task({}, {}, result, "red/volume").rows == [("red/volume", "not modelled: volumes")]

    here = solver.explain_node({}, {}, result, "a")
    assert here.headers == ("WHAT", "TASKS", "CPU", "MEMORY")
    assert [row[:3] for row in here.rows] == [
        ("ReplicaSet red/web-1", "1", "300m"),
        ("blue/bare", "1", "100m"),
        ("free", "8", "600m"),
        ("allocatable", "-", "1"),
    ]
    assert here.notes == ["For red/large it lacks: Insufficient cpu (5 asked for, 600m free)."]
    there = solver.explain_node({}, {}, result, "b")
    assert ("new: red/fits", "1", "700m") in [row[:3] for row in there.rows]

    for call in (
        lambda: solver.explain_task({}, {}, result, "nobody"),
        lambda: solver.explain_node({}, {}, result, "nowhere"),
        lambda: solver.explain({}, {}, {"placements": []}),
    ):
        with pytest.raises(InvalidDataError):
            call()


def test_explain_task_tells_the_parts_of_the_score() -> None:
    prefer = {"weight": 1, "preference": {"matchExpressions": [{"key": "host", "operator": "In", "values": ["b"]}]}}
    written = rules(affinity={"nodeAffinity": {PREFERRED: [prefer]}})
    solver = ClusterPlacementSolver(cluster(pod("new", "", kind(written=written))), ClusterSelection())
    result = solver.solve({}, {}, Budget.of(0), ignore_report).result
    explanation = solver.explain_task({}, {}, result, "red/new")
    assert explanation.headers == ("NODE", "SCORE", "LEAST-LOADED", "2 x NODE AFFINITY")
    assert explanation.rows == [("b*", "2.950", "0.950", "1.000"), ("a", "0.950", "0.950", "0.000")]


def test_overviews_of_many_tasks_are_brief() -> None:
    small = kind(requests={"cpu": 1})
    wide = node("a", offer={"cpu": 10**6, "pods": 10**6})
    pods = [pod(f"p{i:04}", "", small) for i in range(700)] + [pod("x", "", kind(requests={"cpu": 10**7}))]
    solver = ClusterPlacementSolver(cluster(*pods, nodes=[wide]), ClusterSelection())
    result = solver.solve({}, {}, Budget.of(0), ignore_report).result
    explanation = solver.explain({}, {}, result)
    assert len(explanation.rows) == 51
    assert ("red/x", "-") in [row[:2] for row in explanation.rows]
    assert any("51 of 701 tasks have a row" in note for note in explanation.notes)


def test_types_without_a_question_about_clusters() -> None:
    assert isinstance(cluster_solver_for("scheduling", cluster(), ClusterSelection()), ClusterPlacementSolver)
    with pytest.raises(InvalidDataError, match="not performance"):
        cluster_solver_for("performance", cluster(), ClusterSelection())
