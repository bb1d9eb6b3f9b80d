"""Killed with signal 9 while requests come in: the operator, the plugin host, a plugin. Every request is answered."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from operator_process import OperatorProcess
from plugin_objects import (
    World,
    alive,
    assert_answered_once,
    by,
    descendants,
    host_pid,
    plugin_world,
    wait_until,
)

from engine_ops.devcluster import DevCluster

REQUESTS = 12


@pytest.fixture
def world(cluster: DevCluster, operator_kubeconfig: Path) -> Iterator[World]:
    with plugin_world(cluster, operator_kubeconfig) as made:
        yield made


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    """Where the plugin notes its process, each time that it is asked."""
    path = tmp_path / "asked"
    path.touch()
    return path


def _kill_host(world: World, asked: Path) -> None:
    host = host_pid(world.operator.pid)
    assert host is not None
    os.kill(host, signal.SIGKILL)


def _kill_plugin(world: World, asked: Path) -> None:
    os.kill(int(asked.read_text().split()[-1]), signal.SIGKILL)


def _wait_for_marks(world: World) -> None:
    """Make requests until the plugin answers."""
    ask = world.requests.ask
    wait_until(lambda: by(ask(searchSeconds=0)).get("plugin"), lambda name: name == "marks", "it answers")


KILLS: dict[str, Callable[[World, Path], None]] = {"host": _kill_host, "plugin": _kill_plugin}


@pytest.mark.parametrize("killed", KILLS)
def test_the_end_of_a_host_or_a_plugin_costs_no_request_its_answer(world: World, asked: Path, killed: str) -> None:
    plugins, requests = world.plugins, world.requests
    hold = asked.with_name("hold")
    config = {"file": str(asked), "seconds": 0.2, "hold": str(hold)}
    plugins.running("marks", "cluster_plugins:Marks", config=config, priority=1)
    names = []
    for number in range(REQUESTS):
        if number in (3, 7):
            _wait_for_marks(world)
            hold.touch()  # or it might have answered by the time that it is killed
            seen = len(asked.read_text().split())
        names.append(requests.make(searchSeconds=0))
        if number in (3, 7):
            wait_until(lambda: len(asked.read_text().split()), lambda now, seen=seen: now > seen, "it is at work")
            doomed = int(asked.read_text().split()[-1])
            KILLS[killed](world, asked)
            wait_until(lambda pid=doomed: alive(pid), lambda is_alive: not is_alive, "it has ended")
            hold.unlink()
    found = [requests.final(name) for name in names]
    for each in found:
        assert_answered_once(each)
        assert each["status"]["result"]["nodeCount"] == 2
    told = [by(each)["fallbackReason"] for each in found if "plugin" not in by(each)]
    assert told, "nobody noticed"
    assert all(reason.startswith("marks: ") for reason in told)
    # It is there again.
    plugins.wait_reason("marks", "Running")
    _wait_for_marks(world)
    assert world.operator.returncode is None
    assert "Traceback" not in world.operator.stderr


def test_kill_9_of_the_operator_leaves_no_process_and_no_request(world: World, asked: Path) -> None:
    plugins, requests = world.plugins, world.requests
    plugins.running("marks", "cluster_plugins:Marks", config={"file": str(asked), "seconds": 0.2}, priority=1)
    plugins.running("good", "bad_plugins:Good")
    answered_first = requests.final(requests.make(searchSeconds=0))
    names = [requests.make(searchSeconds=0) for _ in range(REQUESTS // 2)]
    seen = len(asked.read_text().split())
    wait_until(lambda: len(asked.read_text().split()), lambda now: now > seen, "it is at work")
    below = descendants(world.operator.pid)
    assert sum("engine_ops.plugins.host" in command for command in below.values()) >= 3, below
    world.operator.kill9()
    names += [requests.make(searchSeconds=0) for _ in range(REQUESTS // 2)]
    wait_until(lambda: {pid: below[pid] for pid in below if alive(pid)}, lambda left: not left, "all has ended")
    world.operator = world.operators.start()
    for name in names:
        found = requests.final(name)
        assert_answered_once(found)
        assert found["status"]["result"]["nodeCount"] == 2
    again = requests.get(answered_first["metadata"]["name"])
    assert again["metadata"]["resourceVersion"] == answered_first["metadata"]["resourceVersion"]
    plugins.wait_reason("marks", "Running")
    _wait_for_marks(world)


def test_it_ends_when_told_to_though_a_plugin_does_not(world: World) -> None:
    plugins, requests = world.plugins, world.requests
    plugins.running("stuck", "bad_plugins:IgnoresSigterm", limits={"timeoutSeconds": 600})
    name = requests.make(searchSeconds=0)
    operator: OperatorProcess = world.operator
    wait_until(lambda: world.health.plugins().get("stuck", {}).get("requests"), lambda count: count == 1, "it is asked")
    below = descendants(operator.pid)
    assert operator.stop() in (0, -signal.SIGTERM), "within the 30 s that a Pod has"
    assert not [pid for pid in below if alive(pid)]
    world.operator = world.operators.start()
    plugins.patch("stuck", enabled=False)
    assert_answered_once(requests.final(name))
