"""Killed, deleted, replaced, in the middle of a solve: every request is answered, each generation once."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from operator_process import OperatorProcess
from request_objects import SMALL, WAIT_SECONDS, RequestObjects, answered, condition, hard
from waiting import wait_until

ENDLESS = {"searchSeconds": 600, "timeoutSeconds": 600}
"""It is under way whenever a test looks, and nothing comes in time that waits for its end."""


@pytest.fixture
def requests(cluster, namespace: str) -> RequestObjects:
    return RequestObjects(cluster, namespace)


def _solving(found: dict) -> bool:
    return condition(found, "Reconciling").get("reason") == "Solving"


def _busy_worker(operator_pid: int) -> int:
    """Return the process that burns CPU below the operator, more than any start takes: the worker at the solve."""
    deadline = time.monotonic() + WAIT_SECONDS
    before = {pid: _ticks(pid) for pid in _descendants(operator_pid)}
    while time.monotonic() < deadline:
        for pid, ticks in before.items():
            if _ticks(pid) - ticks >= 4 * os.sysconf("SC_CLK_TCK"):
                return pid
        time.sleep(0.1)
    raise AssertionError("no worker is busy")


def _descendants(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, stack = [], [root]
    while stack:
        below = children.get(stack.pop(), [])
        found += below
        stack += below
    return found


def _ticks(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])


def _is_alive(pid: int) -> bool:
    """Whether it runs: who has ended stays in the list until somebody asks how."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in {"Z", "X"}


def test_kill_9_in_the_middle_loses_nothing(start_operator, requests: RequestObjects) -> None:
    first: OperatorProcess = start_operator()
    for number in range(30):
        requests.resource(f"small-{number}", searchSeconds=0)
    requests.resource("long", hard(), searchSeconds=15)
    requests.wait("long", _solving)
    first.kill9()
    requests.resource("made-meanwhile")
    changed = {**SMALL, "nodeCapacity": {"cpu": 1, "memory": "8Gi"}}
    requests.resource("small-0", changed, searchSeconds=0)
    start_operator()
    requests.wait_reason("made-meanwhile", "Solved")
    requests.wait_reason("long", "Solved")
    wait_until(requests.list, lambda there: all(map(answered, there)), "all are answered", WAIT_SECONDS)
    for found in requests.list():
        assert found["status"]["run"] == 1, "each generation is answered once"
        assert condition(found, "Ready")["status"] == "True"
        assert not condition(found, "Reconciling")
    assert requests.get("small-0")["status"]["result"]["nodeCount"] == 3


def test_a_restart_answers_nothing_twice(start_operator, requests: RequestObjects) -> None:
    first: OperatorProcess = start_operator()
    requests.resource("a")
    before = requests.wait_reason("a", "Solved")
    first.kill9()
    start_operator()
    requests.resource("b")
    requests.wait_reason("b", "Solved")
    assert requests.get("a")["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


def test_the_best_answer_so_far_is_served_when_the_worker_dies(
    operator: OperatorProcess, requests: RequestObjects
) -> None:
    requests.resource("a", hard(), **ENDLESS)
    requests.wait("a", lambda found: found["status"].get("progress") is not None)
    os.kill(_busy_worker(operator.pid), signal.SIGKILL)
    found = requests.wait_reason("a", "BestSoFar")
    assert condition(found, "Ready")["status"] == "True"
    assert "died" in condition(found, "Ready")["message"]
    assert found["status"]["result"]["nodeCount"] >= found["status"]["result"]["lowerBound"]
    requests.resource("b")
    requests.wait_reason("b", "Solved")


def test_deleted_in_mid_solve(operator: OperatorProcess, requests: RequestObjects) -> None:
    requests.resource("a", hard(), **ENDLESS)
    requests.wait("a", _solving)
    requests.kubectl("delete", "optreq", "a", "--timeout=60s")
    requests.resource("b")
    requests.wait_reason("b", "Solved")  # the one worker is free again


def test_an_old_answer_never_lands_on_a_new_object_of_the_name(
    operator: OperatorProcess, requests: RequestObjects
) -> None:
    requests.resource("a", hard(), searchSeconds=20)
    old = requests.wait("a", _solving)
    requests.kubectl("delete", "optreq", "a", "--timeout=60s")
    requests.resource("a")
    new = requests.wait_reason("a", "Solved")
    assert new["metadata"]["uid"] != old["metadata"]["uid"]
    assert new["status"]["result"]["nodeCount"] == 2


def test_changed_in_mid_solve(operator: OperatorProcess, requests: RequestObjects) -> None:
    requests.resource("a", hard(), **ENDLESS)
    requests.wait("a", _solving)
    requests.resource("a", SMALL, searchSeconds=1)
    found = requests.wait("a", answered)
    assert found["status"]["result"]["nodeCount"] == 2


def test_a_namespace_on_its_way_out(start_operator, requests: RequestObjects, cluster) -> None:
    doomed = f"{requests.namespace}-doomed"
    cluster.kubectl("create", "namespace", doomed)
    operator: OperatorProcess = start_operator(namespaces=(requests.namespace, doomed))
    inside = RequestObjects(cluster, doomed)
    inside.resource("a", hard(items=1500), searchSeconds=20)
    inside.wait("a", _solving)
    cluster.kubectl("delete", "namespace", doomed, "--timeout=60s")
    requests.resource("b")
    requests.wait_reason("b", "Solved")
    assert operator.returncode is None
    assert "Traceback" not in operator.stderr


def test_it_ends_when_told_to(operator: OperatorProcess, requests: RequestObjects, cluster) -> None:
    requests.resource("a", hard(), **ENDLESS)
    requests.wait("a", _solving)
    below = _descendants(operator.pid)
    os.kill(operator.pid, signal.SIGTERM)
    assert operator.wait_for_exit() in (0, -signal.SIGTERM)
    wait_until(lambda: list(filter(_is_alive, below)), lambda alive: not alive, "what it started ends", WAIT_SECONDS)
    lease = json.loads(cluster.kubectl("-n", "engine-ops-system", "get", "lease", "engine-ops", "-o", "json").stdout)
    assert not lease["spec"].get("holderIdentity"), "given back"


def test_a_second_operator_waits_for_the_first(start_operator, requests: RequestObjects) -> None:
    first: OperatorProcess = start_operator(environment={"POD_NAME": "engine-ops-first"})
    second: OperatorProcess = start_operator(environment={"POD_NAME": "engine-ops-second"}, wait=False)
    second.wait_for_line("engine-ops-first holds the Lease")
    requests.resource("a")
    requests.wait_reason("a", "Solved")
    first.stop()
    second.wait_for_line("watching optimizationrequests")
    requests.resource("b")
    requests.wait_reason("b", "Solved")


def test_two_of_one_identity_on_one_machine(operator: OperatorProcess, start_operator) -> None:
    second: OperatorProcess = start_operator(wait=False)
    assert second.wait_for_exit() == 1
    assert "another engine-ops of this user" in second.stderr


def test_a_lost_lease_ends_the_process(operator: OperatorProcess, cluster) -> None:
    cluster.kubectl(
        "-n", "engine-ops-system", "patch", "lease", "engine-ops", "--type=merge",
        "-p", '{"spec": {"holderIdentity": "somebody-else"}}',
    )  # fmt: skip
    assert operator.wait_for_exit(30) == 1
    assert "somebody-else holds the Lease" in operator.stderr
    cluster.kubectl("-n", "engine-ops-system", "delete", "lease", "engine-ops")
