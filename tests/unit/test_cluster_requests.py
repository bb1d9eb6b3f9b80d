"""Effective requests, case by case as ``PodRequests`` of kube-scheduler 1.36 and its ``NodeInfo`` decide them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine_ops.engine.cluster.apiobjects import Pod
from engine_ops.engine.cluster.requests import LARGEST, allocatable_units, effective_requests
from engine_ops.engine.units import MAX_UNITS

MI = 2**20
GI = 2**30


def container(name: str = "c", requests: Any = None, limits: Any = None, **more: Any) -> dict[str, Any]:
    return {"name": name, "resources": {"requests": requests, "limits": limits}, **more}


def sidecar(name: str, requests: Any) -> dict[str, Any]:
    return container(name, requests, restartPolicy="Always")


def state(name: str, actuated: Any, allocated: Any) -> dict[str, Any]:
    return {"name": name, "resources": {"requests": actuated}, "allocatedResources": allocated}


def requests_of(spec: dict[str, Any], status: dict[str, Any] | None = None) -> dict[str, int]:
    requests, sound = _effective(spec, status)
    assert sound
    return requests


def _effective(spec: dict[str, Any], status: dict[str, Any] | None) -> tuple[dict[str, int], bool]:
    raw = msgspec.json.encode({"metadata": {"name": "p"}, "spec": spec, "status": status})
    pod = msgspec.json.decode(raw, type=Pod)
    assert pod.spec is not None
    return effective_requests(pod.spec, pod.status)


INFEASIBLE = [{"type": "PodResizePending", "status": "True", "reason": "Infeasible"}]
DEFERRED = [{"type": "PodResizePending", "status": "True", "reason": "Deferred"}]

CASES: dict[str, tuple[dict[str, Any], dict[str, Any] | None, dict[str, int]]] = {
    "no containers": ({}, None, {}),
    "null containers": ({"containers": None, "initContainers": None, "overhead": None, "resources": None}, None, {}),
    "no requests": ({"containers": [container()]}, None, {}),
    "zeros are left out": ({"containers": [container(requests={"cpu": "0", "memory": "0"})]}, None, {}),
    "containers are summed": (
        {"containers": [container("a", {"cpu": "100m", "memory": "1Gi"}), container("b", {"cpu": "1.5"})]},
        None,
        {"cpu": 1600, "memory": GI},
    ),
    "sums are exact before they are rounded": (
        {"containers": [container("a", {"memory": "1500m"}), container("b", {"memory": "500m"})]},
        None,
        {"memory": 2},
    ),
    "what is left is rounded up": ({"containers": [container(requests={"memory": "1500m"})]}, None, {"memory": 2}),
    "nanos are rounded up to milli for each container": (
        {"containers": [container("a", {"cpu": "1n"}), container("b", {"cpu": "1n"})]},
        None,
        {"cpu": 2},
    ),
    "a limit stands for an absent request": (
        {"containers": [container(requests={"cpu": "1"}, limits={"cpu": "2", "memory": "1Mi"})]},
        None,
        {"cpu": 1000, "memory": MI},
    ),
    "a request of zero beside a limit is zero": (
        {"containers": [container(requests={"cpu": "0"}, limits={"cpu": "2"})]},
        None,
        {},
    ),
    "every kind of resource": (
        {
            "containers": [
                container(
                    requests={
                        "hugepages-2Mi": "4Mi",
                        "ephemeral-storage": "1Ki",
                        "nvidia.com/gpu": "2",
                        "attachable-volumes-aws-ebs": "1",
                    }
                )
            ]
        },
        None,
        {
            "hugepages-2Mi": 4 * MI,
            "ephemeral-storage": 1024,
            "nvidia.com/gpu": 2000,
            "attachable-volumes-aws-ebs": 1000,
        },
    ),
    "names that the scheduler compares with nothing": (
        {"containers": [container(requests={"storage": "1", "pods": "3", "requests.example.com/x": "1"})]},
        None,
        {},
    ),
    "an init container is a minimum": (
        {
            "containers": [container(requests={"cpu": "1", "memory": "1Mi"})],
            "initContainers": [container("i", {"cpu": "3"}), container("j", {"memory": "1Ki"})],
        },
        None,
        {"cpu": 3000, "memory": MI},
    ),
    "init containers run one after another": (
        {
            "containers": [container()],
            "initContainers": [container("i", {"cpu": "3"}), container("j", {"cpu": "2"})],
        },
        None,
        {"cpu": 3000},
    ),
    "sidecars go on running": (
        {"containers": [container(requests={"cpu": "1"})], "initContainers": [sidecar("s", {"cpu": "2"})]},
        None,
        {"cpu": 3000},
    ),
    "an init container runs beside the sidecars before it": (
        {
            "containers": [container(requests={"cpu": "1"})],
            "initContainers": [sidecar("s", {"cpu": "2"}), container("i", {"cpu": "5"}), sidecar("t", {"cpu": "1"})],
        },
        None,
        {"cpu": 7000},
    ),
    "and not beside those after it": (
        {
            "containers": [container(requests={"cpu": "1"})],
            "initContainers": [container("i", {"cpu": "5"}), sidecar("s", {"cpu": "2"})],
        },
        None,
        {"cpu": 5000},
    ),
    "overhead comes on top": (
        {
            "containers": [container(requests={"cpu": "1"})],
            "initContainers": [container("i", {"cpu": "2"})],
            "overhead": {"cpu": "250m", "memory": "1Mi"},
        },
        None,
        {"cpu": 2250, "memory": MI},
    ),
    "pod-level requests replace the sum": (
        {
            "containers": [container(requests={"cpu": "3", "memory": "1Mi", "nvidia.com/gpu": "1"})],
            "resources": {"requests": {"cpu": "2"}},
            "overhead": {"cpu": "1"},
        },
        None,
        {"cpu": 3000, "memory": MI, "nvidia.com/gpu": 1000},
    ),
    "pod-level requests of what has no pod level": (
        {
            "containers": [container(requests={"ephemeral-storage": "1Ki"})],
            "resources": {"requests": {"ephemeral-storage": "1Mi"}},
        },
        None,
        {"ephemeral-storage": 1024},
    ),
    "a pod-level limit is the request where containers have none": (
        {"containers": [container(requests={"cpu": "1"})], "resources": {"limits": {"cpu": "2", "memory": "1Gi"}}},
        None,
        {"cpu": 1000, "memory": GI},
    ),
    "growing: the desired amount counts": (
        {"containers": [container(requests={"cpu": "2"})]},
        {"containerStatuses": [state("c", {"cpu": "1"}, {"cpu": "1"})]},
        {"cpu": 2000},
    ),
    "shrinking: the allocated amount counts": (
        {"containers": [container(requests={"cpu": "1"})]},
        {"containerStatuses": [state("c", {"cpu": "1"}, {"cpu": "3"})]},
        {"cpu": 3000},
    ),
    "shrinking: the actual amount counts": (
        {"containers": [container(requests={"cpu": "1"})]},
        {"containerStatuses": [state("c", {"cpu": "2"}, {"cpu": "1"})]},
        {"cpu": 2000},
    ),
    "an infeasible resize does not count": (
        {"containers": [container(requests={"cpu": "9"})]},
        {"containerStatuses": [state("c", {"cpu": "1"}, {"cpu": "1"})], "conditions": INFEASIBLE},
        {"cpu": 1000},
    ),
    "a deferred one does": (
        {"containers": [container(requests={"cpu": "9"})]},
        {"containerStatuses": [state("c", {"cpu": "1"}, {"cpu": "1"})], "conditions": DEFERRED},
        {"cpu": 9000},
    ),
    "a status without resources says nothing": (
        {"containers": [container(requests={"cpu": "1"})]},
        {"containerStatuses": [{"name": "c", "allocatedResources": {"cpu": "3"}}]},
        {"cpu": 1000},
    ),
    "a status of another container says nothing": (
        {"containers": [container(requests={"cpu": "1"})]},
        {"containerStatuses": [state("other", {"cpu": "3"}, {"cpu": "3"})]},
        {"cpu": 1000},
    ),
    "sidecars are resized too": (
        {"containers": [container()], "initContainers": [sidecar("s", {"cpu": "1"})]},
        {"initContainerStatuses": [state("s", {"cpu": "2"}, {"cpu": "2"})]},
        {"cpu": 2000},
    ),
    "other init containers are not": (
        {"containers": [container()], "initContainers": [container("i", {"cpu": "1"})]},
        {"initContainerStatuses": [state("i", {"cpu": "2"}, {"cpu": "2"})]},
        {"cpu": 1000},
    ),
    "a pod-level resize": (
        {"containers": [container(requests={"cpu": "1"})], "resources": {"requests": {"cpu": "2"}}},
        {"resources": {"requests": {"cpu": "3"}}, "allocatedResources": {"cpu": "4"}},
        {"cpu": 4000},
    ),
    "a pod-level resize that is infeasible": (
        {"containers": [container(requests={"cpu": "1"})], "resources": {"requests": {"cpu": "9", "memory": "1Mi"}}},
        {
            "resources": {"requests": {"cpu": "3"}},
            "allocatedResources": {"cpu": "3"},
            "conditions": INFEASIBLE,
        },
        {"cpu": 3000},
    ),
    "a pod-level status without resources says nothing": (
        {"containers": [container()], "resources": {"requests": {"cpu": "2"}}},
        {"allocatedResources": {"cpu": "4"}},
        {"cpu": 2000},
    ),
}


@pytest.mark.parametrize(("spec", "status", "expected"), CASES.values(), ids=CASES.keys())
def test_effective_requests(spec: dict[str, Any], status: dict[str, Any] | None, expected: dict[str, int]) -> None:
    assert requests_of(spec, status) == expected


@pytest.mark.parametrize(
    ("amount", "counted"),
    [("-1", {}), ("lots", {}), ("", {}), ("9Ei", {"memory": LARGEST}), ("1e40", {"memory": LARGEST})],
)
def test_odd_amounts_are_brought_into_range_and_told(amount: str, counted: dict[str, int]) -> None:
    requests, sound = _effective({"containers": [container(requests={"memory": amount})]}, None)
    assert requests == counted
    assert not sound


def test_a_sum_beyond_the_range_is_told() -> None:
    half = {"memory": str(MAX_UNITS // 2)}
    requests, sound = _effective({"containers": [container("a", half), container("b", half)]}, None)
    assert requests == {"memory": LARGEST}
    assert not sound


def test_allocatable() -> None:
    raw = msgspec.json.encode(
        {"cpu": "3920m", "memory": "8Gi", "pods": "110", "nvidia.com/gpu": "4", "hugepages-1Gi": "0", "odd": "1"}
    )
    assert allocatable_units(raw) == (
        {"cpu": 3920, "memory": 8 * GI, "pods": 110, "nvidia.com/gpu": 4000, "hugepages-1Gi": 0},
        (),
    )


def test_odd_allocatable_is_brought_into_range_and_named() -> None:
    raw = msgspec.json.encode({"cpu": "-4", "memory": "8Ei", "pods": "many", "example.com/x": "1"})
    assert allocatable_units(raw) == (
        {"cpu": 0, "memory": LARGEST, "pods": 0, "example.com/x": 1000},
        ("cpu", "memory", "pods"),
    )


@pytest.mark.parametrize("raw", [b"", b"null", b"{}"])
def test_nothing_allocatable(raw: bytes) -> None:
    assert allocatable_units(raw) == ({}, ())


milli = st.integers(0, 64_000)


@given(st.lists(milli, max_size=4), st.lists(st.tuples(milli, st.booleans()), max_size=5), milli)
def test_never_below_what_runs_at_any_moment(app: list[int], init: list[tuple[int, bool]], overhead: int) -> None:
    """Replay the pod's life: the request is the most that it needs at one moment."""
    spec = {
        "containers": [container(f"c{i}", {"cpu": f"{cpu}m"}) for i, cpu in enumerate(app)],
        "initContainers": [
            sidecar(f"i{i}", {"cpu": f"{cpu}m"}) if stays else container(f"i{i}", {"cpu": f"{cpu}m"})
            for i, (cpu, stays) in enumerate(init)
        ],
        "overhead": {"cpu": f"{overhead}m"},
    }
    moments = []
    running = 0
    for cpu, stays in init:
        moments.append(running + cpu)
        running += cpu if stays else 0
    moments.append(running + sum(app))
    assert requests_of(spec).get("cpu", 0) == max(moments) + overhead


@given(st.integers(0, 2**43), st.sampled_from(["", "m", "k", "Ki"]))
def test_memory_is_exact(number: int, suffix: str) -> None:
    factor = {"": 1000, "m": 1, "k": 1_000_000, "Ki": 1_024_000}[suffix]
    units = -(-number * factor // 1000)
    requests, sound = _effective({"containers": [container(requests={"memory": f"{number}{suffix}"})]}, None)
    assert requests.get("memory", 0) == min(units, LARGEST)
    assert sound == (units <= LARGEST)
