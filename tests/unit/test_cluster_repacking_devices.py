"""Repacking a live cluster whose resources come in devices: no pod goes where single devices do not hold it."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine_ops.api.faults import InvalidDataError
from engine_ops.engine.cluster.records import ClusterSnapshot, NodeRecord, PodKind, PodRecord, snapshot_of
from engine_ops.engine.cluster.repacking import RepackingSolver
from engine_ops.engine.cluster.selection import ClusterSelection
from engine_ops.engine.contract import Answer, Budget

GI = 2**30
SHARE, CARD = "example.com/gpu-milli", "example.com/card"
SIZES = {SHARE: 1000, CARD: 1}
"""What one device has, in the resource's amounts."""
SHARED = [{"resource": name, "unitsPerDevice": size} for name, size in SIZES.items()]


def node(name: str, share: int = 2000, *, card: int = 0, cpu: int = 8, **fields: Any) -> NodeRecord:
    offer = {"cpu": 1000 * cpu, "memory": 64 * GI, "pods": 110, SHARE: 1000 * share, CARD: 1000 * card}
    return NodeRecord(name, {}, offer, **fields)


def kind(share: int = 0, *, card: int = 0, cpu: int = 1, **fields: Any) -> PodKind:
    asked = {"cpu": 1000 * cpu, "memory": GI, SHARE: 1000 * share, CARD: 1000 * card}
    return PodKind("shop", {}, requests={name: units for name, units in asked.items() if units}, **fields)


def cluster(nodes: Sequence[NodeRecord], pods: Mapping[str, tuple[str, PodKind]]) -> ClusterSnapshot:
    records = [PodRecord(name, f"uid-{name}", on, of) for name, (on, of) in pods.items()]
    return snapshot_of(nodes, records, {"shop": {}})


def answers(
    snapshot: ClusterSnapshot, shared: Sequence[Mapping[str, Any]] = SHARED, *, steps: int = 200, seed: int = 0
) -> list[Answer]:
    """Return every answer that was told, the last one last."""
    told: list[Answer] = []
    budget = Budget.of(60.0 if steps else 0.0, max_steps=steps, seed=seed)
    solver = RepackingSolver(snapshot, ClusterSelection())
    told.append(solver.solve({}, {"sharedDevices": shared}, budget, lambda build: told.append(build())))
    return told


def items(answer: Answer) -> dict[str, tuple[str, list[int] | None]]:
    """The node and the devices of each pod on the nodes in use."""
    return {
        item["id"]: (entry["id"], item.get("devices")) for entry in answer.result["nodes"] for item in entry["items"]
    }


def splits(parts: Sequence[int], devices: int, size: int) -> bool:
    """Whether requests can be shared out to devices, by trying everything; of 1.5 devices one is whole."""
    whole = sum(part // size for part in parts)
    small = [part % size for part in parts if part % size]
    left = devices - whole
    if left < 0:
        return False
    for choice in itertools.product(range(left), repeat=len(small)):
        loads = [0] * left
        for device, part in zip(choice, small, strict=True):
            loads[device] += part
        if all(load <= size for load in loads):
            return True
    return not small


def amounts(snapshot: ClusterSnapshot, name: str) -> dict[str, int]:
    """What each pod asks of a resource, pods that ask for nothing left out."""
    asked = {snapshot.pod_id(pod): snapshot.kinds[pod.kind].requests.get(name, 0) // 1000 for pod in snapshot.pods}
    return {pod: amount for pod, amount in asked.items() if amount}


def check(snapshot: ClusterSnapshot, answer: Answer, names: Sequence[str]) -> None:
    """What holds for every answer, by counting on single devices."""
    homes = {snapshot.pod_id(pod): pod.node for pod in snapshot.pods}
    found = items(answer)
    assert answer.result["nodeCount"] <= answer.result["currentNodeCount"]
    asking = set().union(*(amounts(snapshot, name) for name in names))
    for pod, (_, devices) in found.items():
        assert (devices is not None) == (pod in asking)
    offered = {record.name: record.allocatable for record in snapshot.nodes}
    for name in names:
        asked, size = amounts(snapshot, name), SIZES[name]
        before, after = defaultdict(list), defaultdict(list)
        for pod in asked:
            before[homes[pod]].append(pod)
            after[found[pod][0] if pod in found else homes[pod]].append(pod)
        for there, pods in after.items():
            devices = offered[there].get(name, 0) // (1000 * size)
            came = [pod for pod in pods if homes[pod] != there]
            if came:
                assert all(asked[pod] <= size or asked[pod] % size == 0 for pod in came)
                if len(names) > 1:
                    # Items do not say which of their devices is of which resource.
                    assert splits([asked[pod] for pod in pods], devices, size), (there, pods)
            else:
                assert set(pods) <= set(before[there])
            if came and len(names) == 1:
                loads = [0] * devices
                for pod in pods:
                    own, left = found[pod][1] or [], asked[pod]
                    assert len(own) == -(-left // size)
                    for device in own:
                        loads[device] += min(left, size)
                        left -= size
                assert all(load <= size for load in loads), (there, loads)


@st.composite
def clusters(draw: st.DrawFn, names: Sequence[str]) -> ClusterSnapshot:
    called = "abcde"[: draw(st.integers(2, 5))]
    nodes = [
        node(
            name,
            draw(st.sampled_from([0, 500, 1000, 2000, 2000, 3000, 2500])),
            card=draw(st.sampled_from([0, 1, 2])) if CARD in names else 0,
            cpu=draw(st.sampled_from([4, 8])),
            unschedulable=draw(st.sampled_from([False, False, False, True])),
        )
        for name in called
    ]
    kinds = [
        kind(
            draw(st.sampled_from([0, 300, 400, 600, 600, 700, 1000, 1500, 2000])),
            card=draw(st.sampled_from([0, 0, 1, 2])) if CARD in names else 0,
            owner_kind=draw(st.sampled_from(["ReplicaSet", "ReplicaSet", "ReplicaSet", "DaemonSet"])),
            not_modelled=draw(st.sampled_from([(), (), (), ("volumes",)])),
        )
        for _ in range(draw(st.integers(1, 4)))
    ]
    pods = {
        f"p{number}": (draw(st.sampled_from(called)), draw(st.sampled_from(kinds)))
        for number in range(draw(st.integers(1, 9)))
    }
    return cluster(nodes, pods)


@pytest.mark.parametrize("names", [[SHARE], [SHARE, CARD]], ids=["one resource", "two resources"])
def test_what_holds_for_every_answer(names: list[str]) -> None:
    @settings(max_examples=200)
    @given(clusters(names), st.integers(0, 3))
    def holds(snapshot: ClusterSnapshot, seed: int) -> None:
        told = answers(snapshot, SHARED[: len(names)], seed=seed)
        homes = {snapshot.pod_id(pod): pod.node for pod in snapshot.pods}
        kept: dict[str, list[int] | None] = {}
        for answer in told:
            check(snapshot, answer, names)
            for pod, (there, devices) in items(answer).items():
                if there == homes[pod]:
                    # What does not move stays on its devices, too.
                    assert kept.setdefault(pod, devices) == devices
        solver, constraints = RepackingSolver(snapshot, ClusterSelection()), {"sharedDevices": SHARED[: len(names)]}
        for pod, (there, _) in items(told[-1]).items():
            if there != homes[pod]:
                rows = solver.explain_task({}, constraints, told[-1].result, pod).rows
                assert rows[0][:3] == (f"{there}*", "yes", "yes")

    holds()


@pytest.mark.parametrize("seed", range(4))
def test_a_cluster_of_many_small_shares(seed: int) -> None:
    """Long enough a search for pods to come and go on the same devices, and to return to their own."""
    random = np.random.default_rng(seed)
    nodes = [node(f"n{number:02}", 8000, cpu=int(random.choice([8, 12, 16, 24]))) for number in range(40)]
    left = {record.name: [record.allocatable["cpu"], record.allocatable[SHARE]] for record in nodes}
    kinds = [kind(share, cpu=cpu) for share in (230, 320, 470, 550, 810, 1000, 1000, 2000) for cpu in (1, 2, 3)]
    pods = {}
    for number in range(120):
        # As kube-scheduler does it: where the sums leave most, whatever single devices have.
        of = kinds[random.integers(len(kinds))]
        chosen = max(left, key=lambda name: min(left[name][0] / 12, left[name][1] / 8))
        pods[f"p{number}"] = (chosen, of)
        left[chosen] = [left[chosen][0] - of.requests["cpu"], left[chosen][1] - of.requests[SHARE]]
    snapshot = cluster(nodes, pods)
    for answer in answers(snapshot, SHARED[:1], steps=400, seed=seed):
        check(snapshot, answer, [SHARE])


def test_three_shares_of_600_need_three_devices() -> None:
    of = kind(600)
    snapshot = cluster([node("a"), node("b")], {"1": ("a", of), "2": ("a", of), "3": ("b", of)})
    answer = answers(snapshot)[-1]
    assert items(answer) == {"shop/1": ("a", [0]), "shop/2": ("a", [1]), "shop/3": ("b", [0])}
    assert answer.result["moves"] == 0
    assert answers(snapshot, ())[-1].result["nodeCount"] == 1, "the sums would do"
    found = RepackingSolver(snapshot, ClusterSelection()).explain_task(
        {}, {"sharedDevices": SHARED}, answer.result, "shop/3"
    )
    assert found.rows[1] == ("a", "yes", "no", f"node(s) had no device with enough free {SHARE}")


def test_shares_and_whole_devices_move_to_what_is_left_of_devices() -> None:
    pods = {"1": ("a", kind(600)), "2": ("b", kind(300)), "3": ("c", kind(1000)), "plain": ("c", kind())}
    answer = answers(cluster([node("a"), node("b", 1000), node("c", 1000)], pods))[-1]
    assert answer.result["emptyNodes"] == ["b", "c"]
    assert items(answer) == {
        "shop/1": ("a", [0]),
        "shop/2": ("a", [0]),
        "shop/3": ("a", [1]),
        "shop/plain": ("a", None),
    }


def test_a_node_whose_devices_are_overcommitted_keeps_its_pods_and_takes_no_others() -> None:
    """Three shares of 600 run on two devices, for all that kube-scheduler knows."""
    of = kind(600)
    pods = {"1": ("a", of), "2": ("a", of), "3": ("a", of), "4": ("b", kind(100)), "5": ("c", kind())}
    nodes = [node("a"), node("b"), node("c", 0)]
    answer = answers(cluster(nodes, pods))[-1]
    found = items(answer)
    assert [found[f"shop/{name}"][0] for name in "1234"] == ["a", "a", "a", "b"]
    assert answer.result["emptyNodes"] == ["c"]
    held = RepackingSolver(cluster(nodes, pods), ClusterSelection()).explain_task(
        {}, {"sharedDevices": SHARED}, answer.result, "shop/4"
    )
    assert held.rows[1] == ("a", "yes", "no", "its devices are overcommitted, or taken")
    assert answers(cluster(nodes, pods), ())[-1].result["nodeCount"] == 1


def test_an_overcommitted_node_may_be_emptied() -> None:
    of = kind(600)
    pods = {"1": ("a", of), "2": ("a", of), "3": ("a", of), "4": ("b", kind(300))}
    answer = answers(cluster([node("a"), node("b", 4000)], pods))[-1]
    assert answer.result["emptyNodes"] == ["a"]
    assert items(answer) == {"shop/1": ("b", [0]), "shop/2": ("b", [1]), "shop/3": ("b", [2]), "shop/4": ("b", [0])}


def test_twins_change_places_only_with_their_devices() -> None:
    """What comes to a node may be a twin of what left it: who was there from the first is there in the end."""
    of = kind(600)
    pods = {**{f"a{i}": ("a", of) for i in range(2)}, "b": ("b", of), "c": ("c", of)}
    answer = answers(cluster([node("a"), node("b"), node("c")], pods))[-1]
    assert answer.result["nodeCount"] == 2
    assert answer.result["moves"] == 1
    assert items(answer)["shop/a0"] == ("a", [0])
    assert items(answer)["shop/a1"] == ("a", [1])


def test_pods_that_stay_name_their_devices_and_hold_them() -> None:
    pods = {"held": ("a", kind(700, not_modelled=("volumes",))), "1": ("b", kind(400)), "2": ("b", kind(300))}
    answer = answers(cluster([node("a"), node("b")], pods))[-1]
    assert items(answer) == {"shop/held": ("a", [0]), "shop/1": ("a", [1]), "shop/2": ("a", [0])}


def test_without_shared_devices_nothing_is_said_of_devices() -> None:
    answer = answers(cluster([node("a")], {"1": ("a", kind(600))}), ())[-1]
    assert answer.result["nodes"][0]["items"] == [{"id": "shop/1", "count": 1}]


@pytest.mark.parametrize(
    ("constraints", "path"),
    [
        ({"sharedDevices": SHARED, "strategy": "balanced"}, r"constraints\.strategy"),
        ({"sharedDevices": [{"resource": SHARE, "unitsPerDevice": 0}]}, r"sharedDevices\[0\]\.unitsPerDevice"),
        ({"sharedDevices": [{"resource": "cpu", "unitsPerDevice": 1}]}, r"sharedDevices\[0\]\.resource"),
        ({"sharedDevices": [*SHARED, SHARED[0]]}, r"sharedDevices\[2\]\.resource"),
        ({"sharedDevices": [{"resource": SHARE}]}, r"sharedDevices\[0\]\.unitsPerDevice"),
        ({"sharedDevices": [{"resource": SHARE, "unitsPerDevice": 1}]}, r"node a would have 2000 devices"),
    ],
)
def test_faults_are_named(constraints: dict[str, Any], path: str) -> None:
    solver = RepackingSolver(cluster([node("a")], {"1": ("a", kind(600))}), ClusterSelection())
    with pytest.raises(InvalidDataError, match=path):
        solver.solve({}, constraints, Budget.of(0), lambda _: None)


def test_a_result_without_its_devices_is_not_explained() -> None:
    snapshot = cluster([node("a"), node("b")], {"1": ("a", kind(600)), "2": ("b", kind(300))})
    answer = answers(snapshot)[-1]
    bare = {
        "nodes": [
            {**entry, "items": [{"id": item["id"], "count": 1} for item in entry["items"]]}
            for entry in answer.result["nodes"]
        ]
    }
    solver = RepackingSolver(snapshot, ClusterSelection())
    with pytest.raises(InvalidDataError, match="has not the devices"):
        solver.explain_task({}, {"sharedDevices": SHARED}, bare, "shop/1")
