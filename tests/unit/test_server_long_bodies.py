"""Long bodies: they hold up nobody, and make no objects of what is wrong anyway."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest
from server_review_world import (
    ASK,
    JSON,
    MIB,
    URL,
    peak_bytes,
    run,
)
from server_stand_in import DEADLINE_SECONDS, HttpClient, StandIns

from engine_ops.server import optimize
from engine_ops.server.nesting import is_too_deep
from engine_ops.server.plugins import MAX_PATCH_BYTES
from engine_ops.server.problems import ProblemError
from engine_ops.server.question_reading import LONG_BYTES, read_question

BRACKETS = b"[" + b"[]," * (MIB // 3) + b"[]]"


class TestLongBodies:
    @pytest.mark.parametrize(
        ("body", "field"),
        [
            pytest.param(b'{"id":"","type":"resource","data":{"a":%s}}' % BRACKETS, "id", id="id"),
            pytest.param(b'{"id":"a","type":"x","data":{"a":%s}}' % BRACKETS, "type", id="type"),
            pytest.param(b'{"id":"a","type":"resource","data":%s}' % BRACKETS, "data", id="data"),
            pytest.param(b'{"id":%s,"type":"resource","data":{}}' % BRACKETS, "id", id="no id"),
            pytest.param(b'{"id":"%s","type":"resource","data":{}}' % (b"x" * MIB), "id", id="long id"),
            pytest.param(b'{"type":"resource","data":{"a":%s}}' % BRACKETS, "id", id="absent"),
            pytest.param(b'{"id":"a","type":"resource","data":{},"no":%s}' % BRACKETS, "no", id="unknown"),
            pytest.param(
                b'{"id":"a","type":"resource","data":{},%s}' % b",".join(b'"k%d":1' % n for n in range(10**5)),
                "k0",
                id="many unknown",
            ),
            pytest.param(
                b'{"id":"a","type":"resource","searchSeconds":%s,"data":{"a":%s}}' % (b"31", BRACKETS),
                "searchSeconds",
                id="seconds",
            ),
        ],
    )
    def test_what_is_wrong_with_one_is_found_without_making_it_objects(self, body: bytes, field: str) -> None:
        assert len(body) > LONG_BYTES
        found: list[ProblemError] = []

        def read() -> None:
            with pytest.raises(ProblemError) as problem:
                read_question(body, namespace="shop", username="ada")
            found.append(problem.value)

        # As objects it would take 20 times as much, and seconds in which nothing else runs.
        assert peak_bytes(read) < 6 * len(body)
        assert found[0].status == 422
        assert field in [path for path, _ in found[0].errors]
        assert len(found[0].response().body) < 10_000

    @pytest.mark.parametrize("body", [b"[" + BRACKETS, b'{"id":3%s}' % (b" " * MIB), b'{"id":%s}' % (b"1" * MIB)])
    def test_what_is_no_json_or_no_question(self, body: bytes) -> None:
        with pytest.raises(ProblemError) as problem:
            read_question(body, namespace="shop", username="ada")
        assert problem.value.status in {400, 422}

    def test_no_object_is_no_question(self) -> None:
        with pytest.raises(ProblemError, match="must be an object") as problem:
            read_question(BRACKETS, namespace="shop", username="ada")
        assert problem.value.status == 422

    def test_its_depth_is_found_in_little_memory(self) -> None:
        assert peak_bytes(lambda: is_too_deep(BRACKETS)) < 4 * len(BRACKETS)

    def test_brackets_are_counted_across_pieces(self) -> None:
        flat = b"[]," * 200_000
        text = b"[" * 50 + flat + b"[" * 50 + flat + b"[]" + flat + b"]" * 100
        assert is_too_deep(text, 100)
        assert not is_too_deep(text, 101)

    def test_others_are_answered_while_one_is_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        reading, go_on = threading.Event(), threading.Event()

        def slowly(body: bytes, **whose: str) -> Any:
            if len(body) > LONG_BYTES:
                reading.set()
                assert go_on.wait(DEADLINE_SECONDS)
            return read_question(body, **whose)

        monkeypatch.setattr(optimize, "read_question", slowly)

        async def body(_stand_ins: StandIns, app: Any) -> None:
            long = json.dumps(ASK | {"data": {"a": "x" * LONG_BYTES}}).encode()
            one = asyncio.create_task(HttpClient(app, "a").post(URL, body=long, **JSON))
            try:
                await asyncio.to_thread(reading.wait, DEADLINE_SECONDS)
                assert (await HttpClient(app, "b").post(URL, json=ASK)).status == 200
                assert not one.done()
            finally:
                go_on.set()
            assert (await one).status == 200

        run(body)

    @pytest.mark.parametrize("padding", [MAX_PATCH_BYTES, 8 * MIB])
    def test_no_plugin_is_changed_by_one(self, padding: int) -> None:
        async def body(stand_ins: StandIns, app: Any) -> None:
            change = {"config": {"a": "x" * padding}}
            reply = await HttpClient(app, "a").patch("/api/v1/plugins/oracle", json=change)
            assert reply.status == 413
            assert not stand_ins.switch.changes

        run(body)

    def test_of_a_change_with_thousands_of_unknown_fields_some_are_named(self) -> None:
        async def body(_stand_ins: StandIns, app: Any) -> None:
            change = {f"k{number}": 1 for number in range(50_000)} | {"priority": "x"}
            reply = await HttpClient(app, "a").patch("/api/v1/plugins/oracle", json=change)
            assert reply.status == 422
            errors = {error["field"] for error in reply.json()["errors"]}
            assert {"priority", "k0"} <= errors
            assert len(errors) <= 50

        run(body)
