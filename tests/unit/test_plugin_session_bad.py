"""What a session makes of bad plugins, as far as its process outlives them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from bad_plugins import CASES, SECRET_WORDS, Case

from engine_ops.plugins.answers import Refusal, question_of, read_reply
from engine_ops.plugins.checked import Checked
from engine_ops.plugins.messages import Ask, Broken, Close, Open, Opened, Replied, Train
from engine_ops.plugins.session import PluginSession

PACKING = {
    "items": [{"id": "web", "cpu": 0.5, "memory": "1Gi", "count": 3}, {"id": "db", "cpu": "1500m", "memory": "3Gi"}],
    "nodeCapacity": {"cpu": 2, "memory": "4Gi"},
}
PLACEMENT = {
    "task": {"id": "t1", "cpuRequired": 10, "memoryRequired": 10},
    "nodes": [{"id": "n1", "cpuLoad": 20, "memoryLoad": 20}],
}
DATA: dict[str, dict[str, Any]] = {"resource": PACKING, "scheduling": PLACEMENT}

HARMLESS = [each for each in CASES if each.how == "at once" and not each.name.startswith("Forks")]


@pytest.fixture(autouse=True)
def no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what a real plugin's process does not get."""
    for name in list(os.environ):
        if any(word in name.upper() for word in SECRET_WORDS):
            monkeypatch.delenv(name)


def ask(request_type: str) -> Ask:
    return Ask("shop/r1", request_type, msgspec.json.encode(DATA[request_type]))


def opened(entry_point: str, **fields: Any) -> PluginSession:
    session = PluginSession()
    answer = session.handle(Open(entry_point, "p", **fields))
    assert isinstance(answer, Opened), answer
    return session


@pytest.mark.parametrize("case", [each for each in HARMLESS if each.when == "asked"], ids=lambda case: case.name)
def test_what_fails_when_asked_is_an_answer(case: Case) -> None:
    session = opened(case.entry_point)
    for _ in range(3):
        reply = session.handle(ask(case.request_type))
        assert isinstance(reply, Replied)
        assert re.search(case.reason, reply.no or "", re.IGNORECASE), reply
        assert reply.envelope == b""
        assert reply.scored == {}
        # It goes over the wire as it is.
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(reply), type=Replied) == reply
    assert session.handle(Close()) is None


@pytest.mark.parametrize("case", [each for each in HARMLESS if each.when == "judged"], ids=lambda case: case.name)
def test_what_is_wrong_for_the_request_is_left_to_the_judge(case: Case) -> None:
    reply = opened(case.entry_point).handle(ask(case.request_type))
    assert isinstance(reply, Replied)
    assert reply.no is None
    question = question_of(case.request_type, DATA[case.request_type], {})
    said = read_reply(msgspec.json.decode(reply.envelope), question, algorithm="bad").said
    assert isinstance(said, Refusal)
    assert not said.by_plugin
    assert re.search(case.reason, said.reason or "", re.IGNORECASE), said


@pytest.mark.parametrize("case", [each for each in HARMLESS if each.when == "opened"], ids=lambda case: case.name)
def test_what_fails_when_opened_is_broken(case: Case) -> None:
    session = PluginSession()
    broken = session.handle(Open(case.entry_point, "p"))
    assert isinstance(broken, Broken)
    assert re.search(case.reason, broken.message or "", re.IGNORECASE), broken
    reply = session.handle(ask(case.request_type))
    assert isinstance(reply, Replied)
    assert reply.failed
    assert isinstance(session.handle(Train()), Broken)


def test_who_is_at_fault() -> None:
    said_no = {"PrintsToStdout", "MutatesItsInput", "ReadsSecrets"}
    for case in HARMLESS:
        if case.when == "asked":
            reply = opened(case.entry_point).handle(ask(case.request_type))
            assert isinstance(reply, Replied)
            assert reply.failed is (case.name not in said_no), case


@pytest.mark.parametrize("name", ["Good", "Sleepy"])
def test_the_good_ones_pack(name: str) -> None:
    reply = opened(f"bad_plugins:{name}").handle(ask("resource"))
    assert isinstance(reply, Replied)
    said = read_reply(msgspec.json.decode(reply.envelope), question_of("resource", PACKING, {}), algorithm="good").said
    assert isinstance(said, Checked)
    assert said.answer.complete
    assert said.answer.result["nodeCount"] == 2


def test_the_table_is_in_order() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
    text = (Path(__file__).parent / "bad_plugins.py").read_text(encoding="utf-8")
    for case in CASES:
        assert f"class {case.name}(" in text or case.name == "ImportsForAMinute"


def test_a_secret_is_found_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINE_OPS_TOKEN", "x")
    reply = opened("bad_plugins:ReadsSecrets").handle(ask("resource"))
    assert isinstance(reply, Replied)
    assert reply.no == "found ENGINE_OPS_TOKEN"
