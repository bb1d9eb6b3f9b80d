"""What `engine-ops status, requests, plugins, doctor, completion` make of what they read; no cluster is needed."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from cli_support import PROGRAM, engine_ops
from hypothesis import given
from hypothesis import strategies as st

from engine_ops.api.crd import RESOURCES
from engine_ops.api.reasons import WAITING, Reason
from engine_ops.cli import names
from engine_ops.cli.ages import format_age, seconds_since
from engine_ops.cli.checks.content import check_plugins, check_requests
from engine_ops.cli.checks.definitions import differences
from engine_ops.cli.checks.finding import Finding, Level, finding, note, ok
from engine_ops.cli.checks.operator import check_deployment, check_history, check_lease, check_version
from engine_ops.cli.checkup import Report
from engine_ops.cli.colours import Colour, Painted, show
from engine_ops.cli.explaining import tell_conditions
from engine_ops.cli.hints import PLUGIN_HINTS, REQUEST_HINTS
from engine_ops.cli.overview import Overview
from engine_ops.cli.place import Place
from engine_ops.cli.plugin_rows import format_plugin, format_plugins, is_well, plugin_to_dict, state_of
from engine_ops.cli.printing import format_table
from engine_ops.cli.request_rows import Changes
from engine_ops.kube.errors import ApiError
from engine_ops.kube.glance import DeploymentGlance, Glance, LeaseGlance, Part, pod_troubles
from engine_ops.kube.operator_status import ToldStatus
from engine_ops.kube.reading import RequestRow
from engine_ops.kube.rights import how_to_grant, needs_of

ROOT = Path(__file__).parents[2]
NOW = datetime.datetime(2026, 1, 2, 12, tzinfo=datetime.UTC)
FORBIDDEN = ApiError(403, {"message": "it is forbidden", "reason": "Forbidden"})


def ago(seconds: float) -> str:
    return (NOW - datetime.timedelta(seconds=seconds)).isoformat()


def row(
    name: str = "pack",
    reason: str | None = "Solved",
    *,
    ready: bool = True,
    true: tuple[str, ...] = (),
    generation: int = 1,
    age: float = 30,
    **status: Any,
) -> RequestRow:
    """A request as the API server sends it; without a reason the operator has not spoken."""
    conditions = []
    if reason is not None:
        conditions = [
            {"type": type_, "status": value, "reason": reason, "message": "told", "observedGeneration": 1}
            for type_, value in (("Ready", "True" if ready else "False"), *((one, "True") for one in true))
        ]
    body = {
        "metadata": {"name": name, "namespace": "shop", "generation": generation, "creationTimestamp": ago(age)},
        "spec": {"type": "resource", "data": {"items": []}},
        "status": {"observedGeneration": generation, "conditions": conditions, **status},
    }
    return msgspec.convert(body, RequestRow, strict=False)


STALLED = row("wrong", "InvalidData", ready=False, true=("Stalled",))
WAITS = row("waits", "NoPlugin", ready=False, true=("Reconciling",))


@pytest.mark.parametrize(
    ("request_", "state"),
    [
        (row(), "ready"),
        (STALLED, "stalled"),
        (WAITS, "waiting"),
        (row(reason="Solving", ready=False, true=("Reconciling",)), "solving"),
        (row(reason="Suspended", ready=False), "suspended"),
        (row(reason=None), "unseen"),
        (row(generation=2), "unseen"),
        # A standing request that is solved again has its last answer.
        (row(true=("Reconciling",)), "ready"),
    ],
)
def test_the_state_of_a_request(request_: RequestRow, state: str) -> None:
    assert request_.state == state


@pytest.mark.parametrize("reason", sorted(WAITING))
def test_every_reason_to_wait_is_one(reason: str) -> None:
    assert row(reason=reason, ready=False, true=("Reconciling",)).state == "waiting"


def test_a_row_has_the_numbers_of_the_answer() -> None:
    shown = row(
        metrics={"durationMs": 12, "score": 1},
        solvedBy={"name": "first-fit", "fallbackReason": "size: crashed"},
        result={"gap": 0, "nodes": [{"id": "a"}]},
    ).to_dict()
    assert (shown["score"], shown["gap"], shown["durationMs"]) == (1, 0, 12)
    assert (shown["solvedBy"], shown["fallbackReason"]) == ("first-fit", "size: crashed")


def test_a_row_of_a_search_has_its_progress() -> None:
    searching = row(reason="Solving", ready=False, true=("Reconciling",), progress={"gap": 0.25}, result={"gap": 0.5})
    assert searching.to_dict()["gap"] == 0.25


@pytest.mark.parametrize("gap", ["wide", True, None, [1], {"a": 1}])
def test_a_plugins_gap_that_is_no_number_is_none(gap: Any) -> None:
    assert row(result={"gap": gap}).to_dict()["gap"] is None


def test_changes_are_told_once_and_below_the_same_headers() -> None:
    changes = Changes("shop", frozenset())
    first = changes.tell([row("a-long-name"), row("b", None)]).splitlines()
    assert first[0].startswith("NAME          TYPE")
    assert len(first) == 3
    assert changes.tell([row("a-long-name", age=99), row("b", None)]) == ""
    (again,) = changes.tell([row("a-long-name"), row("b")]).splitlines()
    assert again.startswith("b             resource   ready")


def test_changes_of_one_state_only() -> None:
    changes = Changes("", frozenset({"stalled"}))
    assert "wrong" in changes.tell([row(), STALLED])
    assert changes.tell([row("other")]) == ""


def test_ages() -> None:
    texts = [format_age(seconds) for seconds in (0, 119, 120, 599, 600, 3 * 3600, 8 * 3600, 86_400 * 2, 86_400 * 9)]
    assert texts == ["0s", "119s", "2m", "9m59s", "10m", "3h", "8h", "2d", "9d"]
    assert format_age(None) == ""
    assert format_age(-5) == "0s"


@given(st.floats(0, 1e9))
def test_an_age_is_never_more_than_the_time(seconds: float) -> None:
    units = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
    text, total = format_age(seconds), 0
    number = ""
    for char in text:
        if char.isdigit():
            number += char
        else:
            total += int(number) * units[char]
            number = ""
    assert total <= seconds < total + max(1.0, seconds * 0.125)


@pytest.mark.parametrize("text", [None, "", "yesterday", "2026-01-02T03:04:05"])
def test_a_time_that_is_none(text: str | None) -> None:
    assert seconds_since(text, NOW) is None


class _Terminal:
    def isatty(self) -> bool:
        return True


def test_colours_are_for_terminals_whose_user_wants_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    word = Painted("stalled", Colour.BAD)
    assert show(word) == "stalled"
    monkeypatch.setattr(sys, "stdout", _Terminal())
    assert show(word) == "\x1b[31mstalled\x1b[0m"
    assert show("plain") == "plain"
    monkeypatch.setenv("TERM", "dumb")
    assert show(word) == "stalled"
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert show(word) == "stalled"


def test_a_coloured_table_has_the_columns_of_a_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [["a", Painted("bad", Colour.BAD), "x"], ["long", Painted("", Colour.BAD), Painted("end", Colour.GOOD)]]
    plain = format_table(["A", "STATE", "C"], rows)
    assert plain.splitlines()[1] == "a      bad     x"
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", _Terminal())
        coloured = format_table(["A", "STATE", "C"], rows)
    assert "\x1b[31mbad\x1b[0m" in coloured
    for code in ("\x1b[31m", "\x1b[32m", "\x1b[0m"):
        coloured = coloured.replace(code, "")
    assert coloured == plain


def test_a_name_cannot_colour_a_table() -> None:
    assert "\x1b" not in format_table(["A"], [["\x1b[31mred"], [Painted("\x1b]0;title", Colour.GOOD)]])


def deployment(*arguments: str, image: str = "engine-ops:0.1.0", ready: int = 1, replicas: int = 1) -> DeploymentGlance:
    body = {
        "metadata": {"creationTimestamp": ago(60)},
        "spec": {
            "replicas": replicas,
            "template": {
                "spec": {
                    "serviceAccountName": "engine-ops",
                    "containers": [
                        {"name": "plugin-host", "image": "other:1.1.1"},
                        {"name": "operator", "image": image, "args": ["run", *arguments]},
                    ],
                }
            },
        },
        "status": {
            "readyReplicas": ready,
            "conditions": [
                {"type": "Available", "status": "True" if ready else "False", "message": "minimum not there"},
                {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"} if not ready else {},
            ],
        },
    }
    return DeploymentGlance.of(body, "ops")


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("engine-ops:0.1.0", "0.1.0"),
        ("registry.example:5000/team/engine-ops:v1.2.3-rc.1", "1.2.3-rc.1"),
        ("engine-ops:0.1.0@sha256:" + "a" * 64, "0.1.0"),
        ("registry.example:5000/engine-ops", None),
        ("engine-ops@sha256:" + "a" * 64, None),
        ("engine-ops:latest", None),
    ],
)
def test_the_version_of_an_image(image: str, version: str | None) -> None:
    assert deployment(image=image).version == version


def test_the_arguments_of_the_operator() -> None:
    found = deployment("--namespace=$(POD_NAMESPACE)", "-n", "shop", "--no-history", "--observe=a=b")
    assert found.watched == ("ops", "shop")
    assert found.has("--no-history")
    assert found.has("--observe")
    assert not found.has("--no-plugins")
    assert deployment().watched == ()


def glance(
    deployment_: DeploymentGlance | None = None,
    lease: LeaseGlance | None = None,
    conditions: list[dict[str, Any]] | None = None,
    pods: list[dict[str, Any]] | None = None,
    error: ApiError | None = None,
    version: str | None = None,
) -> Glance:
    return Glance(
        "ops",
        Part(deployment_, error),
        Part(pods or [], error),
        Part(lease, error),
        Part(ToldStatus(conditions or [], version), error),
    )


def lease(holder: str = "pod-0", seconds: float = 3) -> LeaseGlance:
    renewed = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=seconds)
    return LeaseGlance(holder, renewed.isoformat(), 15, "7")


def test_the_doctor_on_the_deployment() -> None:
    (well,) = check_deployment(glance(deployment()), serving=True)
    assert well.level is Level.OK
    (broken,) = check_deployment(glance(deployment(ready=0)), serving=False)
    assert (broken.level, "0 of 1 Pods are ready: exceeded quota" in broken.message) == (Level.FINDING, True)
    (idle,) = check_deployment(glance(deployment(ready=0, replicas=0)), serving=False)
    assert "--replicas=1" in idle.fix
    assert check_deployment(glance(deployment(ready=2, replicas=2)), serving=True)[1].level is Level.NOTE
    # An operator on somebody's machine holds the Lease, and has no Deployment.
    assert check_deployment(glance(), serving=True)[0].level is Level.NOTE
    assert check_deployment(glance(), serving=False)[0].level is Level.FINDING
    assert check_deployment(glance(error=FORBIDDEN), serving=False)[0].level is Level.UNKNOWN


def test_troubles_of_pods() -> None:
    waiting = {
        "name": "operator",
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
        "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}},
    }
    status = {
        "containerStatuses": [waiting, {"name": "plugin-host", "ready": False, "restartCount": 3}],
        "conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes"}],
    }
    assert pod_troubles([{"metadata": {"name": "p"}, "status": status}, {"metadata": {"name": "q"}}]) == [
        "p, container operator: CrashLoopBackOff: back-off; before that it ended with exit code 1 (Error)",
        "p, container plugin-host is not ready (restarts: 3)",
        "p is not scheduled: 0/1 nodes",
    ]


@pytest.mark.parametrize(
    ("tag", "level"), [("0.1.0", Level.OK), ("0.1.7", Level.NOTE), ("0.2.0", Level.FINDING), ("main", Level.NOTE)]
)
def test_the_doctor_on_versions(tag: str, level: Level) -> None:
    found = check_version(glance(deployment(image=f"engine-ops:{tag}")))
    assert found is not None
    assert found.level is level
    assert check_version(glance()) is None


@pytest.mark.parametrize(
    ("told", "image", "level"),
    [
        ("0.1.0", "engine-ops@sha256:" + "a" * 64, Level.OK),
        ("0.1.0", "engine-ops:latest", Level.OK),
        ("0.2.0", "engine-ops:0.1.0", Level.FINDING),
        (None, "engine-ops:0.2.0", Level.FINDING),
        (None, "engine-ops:latest", Level.NOTE),
    ],
)
def test_what_the_operator_says_of_its_version_counts_before_its_images_tag(
    told: str | None, image: str, level: Level
) -> None:
    at = glance(deployment(image=image), version=told)
    found = check_version(at)
    assert found is not None
    assert found.level is level
    shown = overview(glance=at).to_dict()["deployment"]
    tag = deployment(image=image).version
    assert shown["version"] == (told or tag)
    named = f"{image}, version {told}, " if told not in (None, tag) else f"{image}, 1/1"
    assert overview(glance=at).to_text().splitlines()[0].startswith(f"operator     {named}")


def test_a_version_that_nobody_keeps_true_does_not_count() -> None:
    # Without a history nothing writes the ConfigMap: it is an earlier operator's.
    assert glance(deployment("--no-history", image="engine-ops:0.2.0"), version="0.1.0").version == "0.2.0"
    # One that runs outside of the cluster has no image.
    found = check_version(glance(version="0.1.0"))
    assert found is not None
    assert found.level is Level.OK


def test_the_doctor_on_the_lease() -> None:
    def level(found: LeaseGlance | None, *, held: bool) -> Level:
        return check_lease(glance(lease=found), found, held=held).level

    assert level(lease(), held=True) is Level.OK
    # Renewed before our eyes, though long ago by our clock.
    assert level(lease(seconds=4000), held=True) is Level.NOTE
    assert level(lease(seconds=4000), held=False) is Level.FINDING
    assert level(lease(holder=""), held=False) is Level.FINDING
    assert level(None, held=False) is Level.FINDING
    assert check_lease(glance(error=FORBIDDEN), None, held=False).level is Level.UNKNOWN


@pytest.mark.parametrize("renewed", ["", "never", "2026-01-02T03:04:05"])
def test_a_lease_without_a_time_is_not_fresh(renewed: str) -> None:
    found = LeaseGlance("pod-0", renewed, 15, "1")
    assert found.age_seconds(NOW) is None
    assert not found.fresh(NOW)


def test_the_doctor_on_the_history() -> None:
    good = {"type": "HistoryLoaded", "status": "True", "reason": "Loaded", "message": ""}
    bad = {"type": "HistoryWritable", "status": "False", "reason": "Refused", "message": "exceeded quota"}
    assert check_history(glance(conditions=[good]), serving=True) == [ok("history", "loaded")]
    assert check_history(glance(conditions=[good]), serving=False)[0].level is Level.NOTE
    (found,) = check_history(glance(conditions=[good, bad]), serving=True)
    assert (found.level, found.message) == (Level.FINDING, "HistoryWritable: Refused: exceeded quota")
    assert check_history(glance(), serving=True)[0].level is Level.FINDING
    assert check_history(glance(deployment("--no-history")), serving=True)[0].level is Level.NOTE


def plugin(name: str = "size", reason: str | None = "Running", ready: str = "True", **spec: Any) -> dict[str, Any]:
    conditions = [] if reason is None else [{"type": "Ready", "status": ready, "reason": reason, "message": "m"}]
    return {
        "metadata": {"name": name, "creationTimestamp": ago(60)},
        "spec": {"source": {"entryPoint": "a:B"}, "config": {"depth": 3}, **spec},
        "status": {"conditions": conditions, "version": "1.2.0", "types": ["resource"], "skill": "0.41"},
    }


def test_the_table_of_plugins_begins_with_the_one_that_is_asked_first() -> None:
    table = format_plugins(
        [plugin("off", "Disabled", enabled=False, priority=99), plugin("low"), plugin("high", priority=5)]
    )
    assert [line.split()[0] for line in table.splitlines()] == ["NAME", "high", "low", "off"]
    assert format_plugins([]) == ""


def test_all_of_a_plugin() -> None:
    text = format_plugin(plugin(priority=5))
    for part in (
        "size 1.2.0: Running\n",
        "priority     5\n",
        "source       a:B\n",
        "\nconfig\n  depth: 3\n",
        "\nReady ",
    ):
        assert part in text
    shown = plugin_to_dict(plugin())
    assert shown["config"] == {"enabled": True, "priority": 0}
    assert shown["settings"] == {"depth": 3}
    assert "Service shop/web, port 80" in format_plugin(
        plugin(source={"service": {"name": "web", "namespace": "shop"}})
    )


def test_a_plugin_that_nobody_has_seen() -> None:
    bare = {"metadata": {"name": "new"}, "spec": {"source": {"entryPoint": "a:B"}}}
    assert state_of(bare) == "Unseen"
    assert not is_well(bare)
    assert "new " in format_plugins([bare])
    assert format_plugin(bare).startswith("new: Unseen\n")


def test_a_degraded_plugin_is_not_well() -> None:
    found = plugin()
    found["status"]["conditions"].append({"type": "Degraded", "status": "True", "reason": "CrashLooping"})
    assert (state_of(found), is_well(found)) == ("CrashLooping", False)


def test_the_doctor_on_plugins() -> None:
    (well,) = check_plugins(Part([plugin(), plugin("off", "Disabled", enabled=False)]), "ops")
    assert well == ok("plugins", "2, 1 of them enabled")
    broken, unseen = check_plugins(Part([plugin("a", "LoadFailed", "False"), plugin("b", None)]), "ops")
    assert broken.message == "a: LoadFailed: m"
    assert "kubectl logs -n ops deployment/engine-ops -c plugin-host" in broken.fix
    assert "has not spoken of it" in unseen.message
    assert check_plugins(Part(error=FORBIDDEN), "ops")[0].level is Level.UNKNOWN


def test_the_doctor_on_requests() -> None:
    assert check_requests(Part([]), "", NOW) == [ok("requests", "there are none")]
    assert check_requests(Part([row(), row("new", None, age=5)]), "", NOW) == [ok("requests", "2, 2 as they should be")]
    stalled, unseen, waiting = check_requests(Part([STALLED, WAITS, row("old", None, age=3600)]), "", NOW)
    assert (stalled.level, stalled.message) == (Level.FINDING, "1 stalled, InvalidData: shop/wrong: told")
    assert unseen.message == "1 without a word from the operator for 60m: shop/old"
    assert (waiting.level, waiting.message) == (Level.NOTE, "1 waiting, NoPlugin: shop/waits")
    many = [row(f"r{number}", "InvalidData", ready=False, true=("Stalled",)) for number in range(5)]
    assert "5 stalled, InvalidData: shop/r0, shop/r1, shop/r2 and 2 more; the first: told" in [
        one.message for one in check_requests(Part(many), "", NOW)
    ]
    assert "in namespace shop, the only one" in check_requests(Part([]), "shop", NOW)[0].message


def test_every_reason_of_a_request_has_a_hint() -> None:
    ours = {*WAITING, Reason.INVALID_SPEC, Reason.INVALID_DATA, Reason.UNPLACEABLE, Reason.TIMED_OUT}
    assert ours <= {*REQUEST_HINTS}
    assert all(hint.format(name="x", namespace="y") for hint in PLUGIN_HINTS.values())


def test_the_exit_code_of_the_doctor() -> None:
    unknown = Finding("a", Level.UNKNOWN, "m")
    assert Report([ok("a", "m"), note("b", "m")]).exit_code == 0
    assert Report([ok("a", "m"), unknown]).exit_code == 2
    assert Report([unknown, finding("b", "m", "f")]).exit_code == 1


def test_a_report() -> None:
    report = Report([ok("server", "v1"), finding("lease", "gone\x1b[2J", "start it")])
    assert report.to_text() == (
        "ok       server             v1\n"
        "finding  lease              gone\\x1b[2J\n"
        "                            fix: start it\n"
        "\n1 finding\n"
    )
    shown = report.to_dict()
    assert (shown["healthy"], shown["counts"]["finding"]) == (False, 1)
    assert shown["checks"][0] == {"check": "server", "level": "ok", "message": "v1", "fix": None}


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.kind)
def test_a_schema_does_not_differ_from_itself(resource: Any) -> None:
    schema = resource.to_schema()
    assert list(differences(schema, json.loads(json.dumps(schema)))) == []


def test_differences_of_schemas() -> None:
    ours = {"properties": {"a": {"type": "string", "description": "x"}, "b": {"items": {"maximum": 3}}}}
    there = {"properties": {"a": {"type": "string", "description": "y"}, "b": {"items": {"maximum": 4}}, "c": {}}}
    assert list(differences(ours, there)) == [("differs in", "b[]"), ("has", "c")]
    assert list(differences({"properties": {"a": {}}}, {})) == [("lacks", "a")]
    assert list(differences({"items": {}}, {})) == [("differs in", ".")]
    assert list(differences(True, False, "x")) == [("differs in", "x")]


def test_the_rights_that_are_asked_for_are_those_of_the_manifests() -> None:
    for need in needs_of("ops", ()).values():
        text = (ROOT / "manifests/base" / need.file).read_text()
        granted = {
            (verb, group, resource)
            for document in yaml.safe_load_all(text)
            for rule in document.get("rules") or ()
            for verb in rule["verbs"]
            for group in rule.get("apiGroups", ())
            for resource in rule.get("resources", ())
        }
        if "name: system:auth-delegator" in text:  # Kubernetes' own ClusterRole, bound in the file
            granted |= {("create", "authentication.k8s.io", "tokenreviews")}
            granted |= {("create", "authorization.k8s.io", "subjectaccessreviews")}
        for right in need.rights:
            name = f"{right.resource}/{right.subresource}" if right.subresource else right.resource
            assert (right.verb, right.group, name) in granted


def test_rights_in_watched_namespaces() -> None:
    needs = needs_of("ops", ("a", "b"))
    assert {right.namespace for right in needs["requests"].rights} == {"a", "b"}
    assert {right.namespace for right in needs["lease"].rights} == {"ops"}
    assert {right.namespace for right in needs["plugins"].rights} == {None}


def test_the_doctor_names_the_manifests_that_the_operator_is_of() -> None:
    overlay = ROOT / "manifests/overlays/namespaced/kustomization.yaml"
    for name, need in needs_of("ops", ()).items():
        assert how_to_grant(need, "ops", ()) == f"kubectl apply --server-side -f manifests/base/{need.file}"
        own = how_to_grant(need, "ops", ("ops",))
        assert "manifests/overlays/namespaced" in own
        assert ("leaves it out on purpose" in own) == (name in {"cluster data", "observing"})
        assert ("by a cluster administrator" in own) == (name in {"plugins", "api"})
        assert ("manifests/components/plugin-status" in own) == (name == "plugin statuses")
        some = how_to_grant(need, "ops", ("a", "b"))
        assert some.startswith("in a, b: a Role with") == (name in {"requests", "outcomes"})
        assert some.endswith(f"manifests/base/{need.file}") or f"manifests/base/{need.file}, and a RoleBinding" in some
    patches = yaml.safe_load(overlay.read_text())["patches"]
    dropped = {patch["target"].get("labelSelector", "") for patch in patches if "$patch: delete" in patch["patch"]}
    assert {"app.kubernetes.io/component=cluster-data", "app.kubernetes.io/component=observe"} <= dropped
    assert (ROOT / "manifests/components/plugin-status/kustomization.yaml").exists()


@pytest.mark.parametrize("kind", ["HistoryLoaded", "OutcomesReadable"])
def test_the_fix_of_a_history_is_of_the_same_manifests(kind: str) -> None:
    bad = {"type": kind, "status": "False", "reason": "Refused", "message": "m"}
    (everywhere,) = check_history(glance(deployment(), conditions=[bad]), serving=True)
    (own,) = check_history(glance(deployment("--namespace=$(POD_NAMESPACE)"), conditions=[bad]), serving=True)
    assert "manifests/base/rbac_" in everywhere.fix
    assert "manifests/overlays/namespaced" in own.fix


def overview(**parts: Any) -> Overview:
    shown = {
        "glance": glance(deployment(), LeaseGlance("pod-0", ago(3), 15, "1")),
        "requests": Part([row(), STALLED, WAITS]),
        "plugins": Part([plugin("a", "LoadFailed", "False")]),
        "counted": "",
        "now": NOW,
    }
    return Overview(**{**shown, **parts})


def test_the_status() -> None:
    text = overview().to_text()
    assert text.splitlines()[:8] == [
        "operator     engine-ops:0.1.0, 1/1 ready, in namespace ops, 60s old",
        "lease        held by pod-0, renewed 3s ago",
        "history      the operator has said nothing of it",
        "requests     3: 1 ready, 1 waiting, 1 stalled",
        "             waiting: 1 NoPlugin",
        "             stalled: 1 InvalidData",
        "plugins      1: 1 enabled, 1 not ready",
        "",
    ]
    shown = overview().to_dict()
    assert shown["requests"]["byReason"] == {"waiting": {"NoPlugin": 1}, "stalled": {"InvalidData": 1}}
    assert json.loads(json.dumps(shown)) == shown


def test_the_status_of_what_may_not_be_read() -> None:
    refused: Part[Any] = Part(error=FORBIDDEN)
    blind = overview(glance=Glance("ops", refused, refused, refused, refused), requests=refused, plugins=refused)
    assert blind.nothing_readable
    assert blind.to_text().count("cannot be read: it is forbidden") == 5
    assert set(blind.to_dict()["refused"]) == {"deployment", "pods", "lease", "history", "requests", "plugins"}
    assert not overview(requests=refused).nothing_readable


def answering(monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    def ask(self: Place, question: Callable[..., Awaitable[Any]]) -> Any:
        del self, question
        return answer

    monkeypatch.setattr(Place, "ask", ask)


def test_the_exit_codes_and_shapes_of_the_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, overview())
    assert engine_ops("status").exit_code == 0
    assert yaml.safe_load(engine_ops("status", "-o", "yaml").stdout)["namespace"] == "ops"
    answering(monkeypatch, Report([finding("a", "m", "f")]))
    assert (engine_ops("doctor").exit_code, engine_ops("doctor", "-o", "json").exit_code) == (1, 1)
    assert json.loads(engine_ops("doctor", "-o", "json").stdout)["counts"]["finding"] == 1
    answering(monkeypatch, [plugin()])
    assert json.loads(engine_ops("plugins", "size", "-o", "json").stdout)["name"] == "size"
    assert json.loads(engine_ops("plugins", "-o", "json").stdout)["count"] == 1
    answering(monkeypatch, [])
    assert (engine_ops("plugins").stdout, engine_ops("plugins").exit_code) == ("", 0)


@pytest.mark.parametrize(
    "arguments",
    [
        ("requests", "-A", "-n", "shop"),
        ("requests", "--watch", "-o", "json"),
        ("requests", "--state", "odd"),
        ("enable",),
        ("status", "-o", "xml"),
        ("completion", "powershell"),
    ],
)
def test_usage_errors(arguments: tuple[str, ...]) -> None:
    assert engine_ops(*arguments).exit_code == 2


@pytest.mark.parametrize("command", ["status", "requests", "plugins", "doctor"])
def test_no_credentials(command: str, tmp_path: Path) -> None:
    result = engine_ops(command, "--kubeconfig", tmp_path / "none-such")
    assert result.exit_code == (2 if command == "doctor" else 1)
    said = result.stdout if command == "doctor" else result.stderr
    assert f"no credentials from {tmp_path}/none-such: there is no such file; KUBECONFIG or --kubeconfig" in said
    said = engine_ops(command, "--kubeconfig", tmp_path / "none-such", "--context", "a").output
    assert f"no credentials from {tmp_path}/none-such: there is no such file" in said
    if command == "doctor":
        shown = json.loads(engine_ops("doctor", "--kubeconfig", tmp_path / "none-such", "-o", "json").stdout)
        assert (shown["healthy"], shown["checks"][0]["level"]) == (False, "unknown")


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"current-context": "a", "contexts": [{"name": "a"}]}', "a: 1"])
@pytest.mark.parametrize("options", [(), ("--context", "b")])
def test_a_kubeconfig_that_is_none(text: str, options: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    result = engine_ops("status", "--kubeconfig", path, *options)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: no credentials from ")


def complete(line: str, shell: str = "bash") -> list[str]:
    words = line.split(" ")
    environment = {"_ENGINE_OPS_COMPLETE": f"{shell}_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    done = subprocess.run(
        PROGRAM, env={"PATH": "", **environment}, capture_output=True, text=True, check=True, timeout=60
    )
    return [entry.partition(",")[2] for entry in done.stdout.splitlines() if entry]


def test_commands_and_values_are_completed() -> None:
    assert complete("engine-ops d") == ["disable", "doctor", "devcluster"]
    assert complete("engine-ops requests --state s") == ["solving", "stalled", "suspended"]
    assert complete("engine-ops status --o") == ["--output"]
    # Without kubectl there are no names, and no noise.
    assert complete("engine-ops explain a") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell(shell: str) -> None:
    script = engine_ops("completion", shell).stdout
    assert f"_ENGINE_OPS_COMPLETE={shell}_complete" in script
    assert "engine-ops" in script


def test_names_are_those_that_kubectl_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(
        f"#!/bin/sh\necho \"$@\" > {tmp_path}/called\nprintf 'optreq/pack\\noptreq/size\\noptreq/pad\\n'\n"
    )
    kubectl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(names, "_SECONDS", 60.0)  # people would not wait so long
    import click

    context = click.Context(click.Command("explain"))
    context.params = {"namespace": "shop", "kubeconfig": None, "context": "prod"}
    parameter = click.Argument(["name"])
    assert names.complete_requests(context, parameter, "pa") == ["pack", "pad"]
    called = (tmp_path / "called").read_text().split()
    assert called[:2] == ["get", "optimizationrequests.engineops.dev"]
    assert {"--namespace=shop", "--context=prod"} <= set(called)
    names.complete_plugins(context, parameter, "")
    assert "--namespace=shop" not in (tmp_path / "called").read_text()


def test_kubectl_is_answered_in_its_own_words() -> None:
    code = "from engine_ops.cli.completion import kubectl_complete; kubectl_complete()"
    done = subprocess.run(
        [sys.executable, "-c", code, "requests", "--state", "st"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == "stalled\n:4\n"


def test_the_commands_load_no_client_for_their_help() -> None:
    code = (
        "import sys\nfrom engine_ops.cli.main import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "sys.stderr.write(repr({'kubernetes', 'aiohttp', 'pydantic', 'numpy', 'yaml', 'asyncio'} & set(sys.modules)))"
    )
    for command in ("status", "requests", "plugins", "enable", "doctor", "explain", "completion"):
        done = subprocess.run(
            [sys.executable, "-c", code, command, "--help"], capture_output=True, text=True, check=True, timeout=60
        )
        assert done.stderr == "set()", command


def test_a_request_without_an_answer_says_how_far_it_is_and_what_it_waits_for() -> None:
    def told(reason: str, **status: Any) -> str:
        condition = {"type": "Ready", "status": "False", "reason": reason, "message": "m"}
        return tell_conditions("pack", {"conditions": [condition], **status}).text

    searching = told("Solving", progress={"objective": 9.0, "lowerBound": 8.0, "gap": 0.125})
    assert "\nThe best answer so far: objective 9, lower bound 8, gap 12.5 %.\n" in searching
    assert told("DataNotFound").endswith(
        "\nIt waits for what spec.dataFrom names: create it in the request's namespace.\n"
    )
    assert told("OfALaterVersion").endswith("m\n")
