"""The table of bad plugins through the whole operator: the next in line answers, and the reason is told."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from plugin_objects import (
    PluginObjects,
    World,
    assert_answered_once,
    bad_plugins,
    by,
    own_errors,
    plugin_world,
    wait_until,
)
from request_objects import SMALL, answered, condition

from engine_ops.devcluster import DevCluster

OPENED = ("Running", "LoadFailed")
PLACES = {
    "task": {"id": "t", "cpuRequired": 5, "memoryRequired": 5},
    "nodes": [{"id": "n1", "cpuLoad": 10, "memoryLoad": 10}],
}
DATA = {"resource": SMALL, "scheduling": PLACES}
MEMORY = "100Mi"
"""Enough for what the good ones take, and soon reached by the one that allocates."""


@pytest.fixture(scope="module")
def whole(cluster: DevCluster, operator_kubeconfig: Path) -> Iterator[World]:
    with plugin_world(cluster, operator_kubeconfig) as made:
        made.plugins.running("good", "bad_plugins:Good")
        made.resident = 1
        yield made


@pytest.fixture
def world(whole: World) -> Iterator[World]:
    yield whole
    for name in set(whole.plugins.applied) - {"good"}:
        whole.plugins.delete(name)
    # Nothing is left: not of those that were killed, nor what they forked.
    wait_until(whole.plugin_pids, lambda pids: len(pids) <= whole.resident, "the processes of plugins end")
    assert whole.operator.returncode is None
    assert not own_errors(whole.operator)


def _apply(plugins: PluginObjects, bad: Any) -> str:
    name = bad.name.lower()
    limits = {"timeoutSeconds": 1 if bad.how == "waits" else 30, "memory": MEMORY}
    # They have models, of no use: in shadow, nobody would hear what they answer.
    training = {"minSamples": 1_000_000}
    plugins.apply(name, bad.entry_point, priority=10, limits=limits, training=training)
    return name


@pytest.mark.parametrize(
    "bad", [each for each in bad_plugins.CASES if each.name != "ImportsForAMinute"], ids=lambda each: each.name
)
def test_a_bad_plugin_costs_no_request_its_answer(world: World, bad: Any) -> None:
    plugins, name = world.plugins, _apply(world.plugins, bad)
    shown = plugins.wait(name, lambda found: condition(found, "Ready").get("reason") in OPENED)
    found = plugins.requests.ask(DATA[bad.request_type], bad.request_type, searchSeconds=0)
    assert_answered_once(found)
    # Good packs, and does nothing else; of the rest the built-in answers.
    assert by(found).get("plugin") == ("good" if bad.request_type == "resource" else None)
    if bad.when == "opened":
        assert condition(shown, "Ready")["reason"] == "LoadFailed"
        assert re.search(bad.reason, condition(shown, "Ready")["message"], re.IGNORECASE)
        assert "fallbackReason" not in by(found)
        return
    reason = by(found)["fallbackReason"]
    assert reason.startswith(f"{name}: ")
    assert re.search(bad.reason, reason, re.IGNORECASE), reason
    plugins.patch(name, enabled=False)  # a change is told at once, and the numbers with it
    status = plugins.wait_reason(name, "Disabled")["status"]
    assert (status["counts"]["requests"], status["counts"]["answers"]) == (1, 0)
    says_no = bad.name in ("PrintsToStdout", "MutatesItsInput", "ReadsSecrets", "Forks", "ForksAway")
    assert status["counts"]["failures"] == (0 if says_no else 1), (status, reason)
    assert ("lastError" in status) is not says_no
    if not says_no:
        assert re.search(bad.reason, status["lastError"], re.IGNORECASE), status["lastError"]


def test_one_that_imports_for_a_minute_holds_up_nobody(world: World) -> None:
    plugins, name = world.plugins, _apply(world.plugins, bad_plugins.case("ImportsForAMinute"))
    shown = plugins.wait_reason(name, "Starting")
    assert condition(shown, "Reconciling")["status"] == "True"
    found = plugins.requests.ask(searchSeconds=0)
    assert by(found) == {"name": "good", "plugin": "good", "role": "answer", "version": "1.0.0"}
    plugins.patch(name, source={"entryPoint": "bad_plugins:Good"})
    plugins.wait_reason(name, "Running")  # nobody waits for the end of the first import
    assert by(plugins.requests.ask(searchSeconds=0))["plugin"] == name


def test_one_that_crashes_again_and_again_is_left_out_and_seen_in_health(world: World) -> None:
    plugins, name = world.plugins, _apply(world.plugins, bad_plugins.case("Exits"))
    plugins.wait_reason(name, "Running")
    reasons: list[str] = []
    # Where two seconds pass between two requests, the later one tries it again: that is one more crash.
    while len(reasons) < 7 or "left out after" not in reasons[-1]:
        found = plugins.requests.ask(searchSeconds=0)
        assert_answered_once(found)
        assert by(found)["plugin"] == "good"
        reasons.append(by(found)["fallbackReason"])
        assert len(reasons) < 50, reasons
    crashes = sum("left out after" not in reason for reason in reasons)
    assert crashes >= 5, reasons
    assert not any("left out after" in reason for reason in reasons[:5]), reasons
    assert re.search(f"left out after {crashes} crashes", reasons[-1]), reasons
    shown = plugins.wait_reason(name, "CrashLooping", "Degraded")
    assert condition(shown, "Degraded")["status"] == "True"
    assert "lastError" in shown["status"]
    shown = world.health.wait_for(name, lambda shown: shown["requests"] == len(reasons))
    assert (shown["failures"], shown["fallbacks"]) == (crashes, len(reasons))
    assert shown["lastError"]
    # What is mended is asked again at once.
    plugins.patch(name, source={"entryPoint": "bad_plugins:Good"})
    shown = plugins.wait_reason(name, "Running")
    wait_until(lambda: condition(plugins.get(name), "Degraded"), lambda seen: not seen, "no longer degraded")
    assert by(plugins.requests.ask(searchSeconds=0))["plugin"] == name


def test_all_of_them_at_once(world: World) -> None:
    """Those that fail at once, each asked before the next, by every request."""
    plugins = world.plugins
    names = [_apply(plugins, each) for each in bad_plugins.CASES if each.how == "at once" and each.when != "opened"]
    for name in names:
        plugins.wait_reason(name, "Running")
    # Each has to hear a dozen plugins, one of which sends 100 MB: more than 30 s where the machine is busy.
    made = [plugins.requests.make(searchSeconds=0, timeoutSeconds=600) for _ in range(5)]
    for found in [plugins.requests.wait(name, answered, 120) for name in made]:
        assert_answered_once(found)
        assert by(found)["plugin"] == "good"
        assert len(by(found)["fallbackReason"]) <= 1024
        assert by(found)["fallbackReason"].startswith(f"{min(names)}: ")
