"""What goes over HTTP means what it meant before; and nothing is left behind by services that fail."""

from __future__ import annotations

import asyncio
import gc
import json
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st
from plugin_services import INFO, REPLY, Scripted, ask, response, run, started, until

from engine_ops.plugins.breaker import BreakerPolicy
from engine_ops.plugins.instance import Unanswered
from engine_ops.plugins.messages import Ask, Replied
from engine_ops.plugins.service_messages import Optimize, Reply
from engine_ops.plugins.service_translation import ask_of, encoded_ask, replied, reply_of
from engine_ops.plugins.session_envelope import replied_of
from engine_ops.plugins.session_request import request_data_of

NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(TEXTS, below, max_size=3),
    max_leaves=10,
)
RESULTS = st.fixed_dictionaries(
    {},
    optional={
        "expected_duration": NUMBERS,
        "success_rate": st.floats(0, 1),
        "recommended_resources": st.dictionaries(TEXTS, NUMBERS | st.sampled_from(["500m", "2Gi"]), max_size=3),
        "anything": VALUES,
    },
)
ENVELOPES = st.fixed_dictionaries(
    {"success": st.booleans(), "result": RESULTS | st.lists(VALUES, max_size=3) | NUMBERS},
    optional={
        "error": TEXTS,
        "confidence": st.none() | st.floats(0, 1),
        "model_id": st.none() | st.text(st.characters(codec="ascii"), min_size=1, max_size=20),
    },
)


def over_http(said: Replied) -> Replied:
    sent = msgspec.json.encode(reply_of(said, "5f0c"))
    return asyncio.run(replied(msgspec.json.decode(sent, type=Reply)))


@given(ENVELOPES, st.none() | st.booleans(), st.integers(0, 2**40), st.booleans())
@example({"success": False, "result": {}, "error": " "}, None, 0, False)
def test_a_reply_means_the_same_over_http(
    envelope: dict[str, Any], is_trained: bool | None, duration_us: int, failed: bool
) -> None:
    said = msgspec.structs.replace(
        replied_of(envelope, msgspec.json.encode(envelope)), is_trained=is_trained, duration_us=duration_us
    )
    if failed:
        said = Replied(no="it raised", failed=True, is_trained=is_trained, duration_us=duration_us)
    arrived = over_http(said)
    assert msgspec.structs.replace(arrived, envelope=b"") == msgspec.structs.replace(said, envelope=b"")
    assert bool(arrived.envelope) == bool(said.envelope)
    if said.envelope:
        assert msgspec.json.decode(arrived.envelope)["result"] == envelope["result"]


@given(RESULTS.filter(bool))
def test_a_bare_result_is_one_over_http_too(result: dict[str, Any]) -> None:
    arrived = over_http(replied_of(result, msgspec.json.encode(result)))
    assert msgspec.json.decode(arrived.envelope)["result"] == result


@given(
    st.dictionaries(TEXTS, VALUES, max_size=4),
    st.dictionaries(TEXTS, VALUES, max_size=2),
    st.fixed_dictionaries(
        {},
        optional={
            "timestamp": st.integers(0, 2**53),
            "namespace": TEXTS,
            "workload": st.fixed_dictionaries({}, optional={"namespace": TEXTS, "kind": TEXTS, "name": TEXTS}),
        },
    ),
)
def test_a_request_means_the_same_over_http(data: Any, constraints: Any, extra: Any) -> None:
    asked = Ask("a/b", "ml-driven", *(json.dumps(each).encode() for each in (data, constraints)))
    asked = msgspec.structs.replace(asked, extra=json.dumps(extra).encode())
    arrived = ask_of(msgspec.json.decode(encoded_ask(asked), type=Optimize))
    there, here = request_data_of(arrived), request_data_of(asked)
    if "workload" in extra and "workload" not in data:
        # Empty names are left out.
        here["workload"] = {name: value for name, value in here["workload"].items() if value}
    assert there == here


AT_ONCE = (
    b"",
    b"rubbish\r\n\r\n",
    response(200, "no JSON"),
    response(200, {"success": 1}),
    response(200, REPLY, kind="text/plain"),
    response(302, "", "Location: /x"),
    response(500, {"detail": "no"}),
    response(503, "", "Retry-After: 1"),
    response(200, {"success": False, "failed": True}),
)


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_nothing_is_left_of_a_thousand_failures() -> None:
    async def main() -> None:
        service = Scripted()
        kept = BreakerPolicy(crashes=10**6)
        async with service.listening() as port, started(port, breaker_policy=kept) as instance:

            async def round_of(script: Any, timeout_seconds: float) -> None:
                service.script["/optimize"] = script
                said = await instance.ask(ask(), timeout_seconds=timeout_seconds)
                assert isinstance(said, Unanswered) or said.failed

            for script in AT_ONCE:
                await round_of(script, 10)
            await asyncio.sleep(0)
            gc.collect()
            descriptors, tasks = open_descriptors(), len(asyncio.all_tasks())
            for number in range(1_000):
                await round_of(AT_ONCE[number % len(AT_ONCE)], 10)
            let_go = asyncio.Event()

            async def late(_asked: dict[str, Any]) -> bytes:
                await let_go.wait()
                return b""

            for _ in range(20):
                await round_of(late, 0.05)
            let_go.set()
            service.script["/optimize"] = response(200, REPLY)
            assert isinstance(await instance.ask(ask()), Replied)
            gc.collect()
            # One connection is kept alive, and has a task at its server.
            await until(lambda: open_descriptors() <= descriptors + 2, "the connections are closed")
            await until(lambda: len(asyncio.all_tasks()) <= tasks + 1, "nobody is at work")
            assert instance.counters.asked == 1_000 + 20 + 1 + len(AT_ONCE)

    run(main())


def test_a_service_that_comes_and_goes_leaves_nothing() -> None:
    async def main() -> None:
        service = Scripted()
        before = asyncio.all_tasks()
        for name in ("one", "two", "three"):
            service.script["/validate"] = response(200, {**INFO, "instance": name})
            async with service.listening() as port, started(port) as instance:
                assert isinstance(await instance.ask(ask()), Replied)
        await until(lambda: not asyncio.all_tasks() - before, "nobody is at work")

    run(main())
