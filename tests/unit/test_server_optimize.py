"""`/api/v1/optimize` through the whole application: answers, rights, the cache, the bound, callers who go away."""

from __future__ import annotations

import asyncio
import dataclasses
import json

import pytest
from server_optimize_world import ASK, URL, Api, fields, kind, run
from server_stand_in import (
    solved,
    until,
)

from engine_ops.api.reasons import Reason
from engine_ops.engine.request import SolvedBy
from engine_ops.server.bridge import EngineGone
from engine_ops.server.callers import Right
from engine_ops.server.optimize_models import OptimizeJob, OptimizeResponse
from engine_ops.server.questions import Question, Reply

# Answers


def test_an_answer_and_what_the_engine_was_asked() -> None:
    async def body(api: Api) -> None:
        reply = await api.ask(constraints={"maxNodes": 3}, plugin="none", searchSeconds=0, timeoutSeconds=5)
        assert reply.status == 200
        assert reply.json() == {
            "requestId": "a",
            "success": True,
            "reason": "Solved",
            "result": {"data": {"items": []}},
            "metrics": {"durationMs": 7, "score": 0.75},
            "solvedBy": {"algorithm": "ffd", "version": "1"},
        }
        question = api.engine.asked[0].question
        assert question == Question(
            id="a",
            namespace="shop",
            username="system:serviceaccount:shop:ada",
            type="resource",
            data=b'{"items":[]}',
            constraints=b'{"maxNodes":3}',
            plugin="none",
            search_seconds=0,
            timeout_seconds=5,
        )
        await api.ada.post(URL + "?namespace=lab", json=ASK | {"timeoutSeconds": 1, "constraints": None})
        question = api.engine.asked[1].question
        assert (question.namespace, question.constraints, question.plugin) == ("lab", b"{}", None)
        assert (question.search_seconds, question.timeout_seconds) == (1.0, 1.0)
        await api.ask(data={"items": [1]})
        assert api.engine.asked[2].question.search_seconds == 1.0
        assert api.engine.asked[2].question.timeout_seconds == 30.0

    run(body)


@pytest.mark.parametrize("old", ["genetic", "simulated-annealing"])
def test_old_types_are_treated_as_resource_and_that_is_said(old: str) -> None:
    async def body(api: Api) -> None:
        reply = await api.ask(type=old)
        assert reply.json()["warnings"] == [f"type {old} is treated as resource"]
        assert api.engine.asked[0].question.type == "resource"
        # One answer in the cache for both; who asked for resource is told nothing.
        again = await api.ask()
        assert again.headers["cache-status"] == "engine-ops; hit"
        assert "warnings" not in again.json()

    run(body)


def test_a_question_without_an_answer_is_answered_so() -> None:
    async def body(api: Api) -> None:
        api.engine.reply = lambda _: Reply(
            success=False, reason=Reason.NOT_ENOUGH_DATA, message="the history is short", duration_ms=1, waiting=True
        )
        reply = await api.ask()
        assert reply.status == 200
        assert reply.json() == {
            "requestId": "a",
            "success": False,
            "reason": "NotEnoughData",
            "result": None,
            "error": "the history is short",
            "metrics": {"durationMs": 1},
        }
        assert api.optimizer.numbers()["requests"]["unsolved"] == 1

    run(body)


def test_a_fault_of_the_data_is_named_with_its_path() -> None:
    faulty = Reply(
        success=False,
        reason=Reason.INVALID_DATA,
        message="data.items[0].cpu: must be above 0",
        duration_ms=1,
        faults=(("data.items[0].cpu", "must be above 0"),),
        cacheable=True,
    )

    async def body(api: Api) -> None:
        api.engine.reply = lambda _: faulty
        reply = await api.ask()
        assert (reply.status, kind(reply)) == (422, "invalid")
        assert fields(reply) == {"data.items[0].cpu": "must be above 0"}
        assert (reply.json()["requestId"], reply.json()["reason"]) == ("a", "InvalidData")
        assert len(api.optimizer.cache) == 0
        later = await api.ask_later()
        assert later.status == 202
        await until(lambda: api.state() == (0, 0))
        job = (await api.ada.get(f"{URL}/a")).json()
        assert job["response"]["errors"] == [{"field": "data.items[0].cpu", "detail": "must be above 0"}]
        assert (job["status"], job["response"]["success"]) == ("done", False)

    run(body)


def test_everything_that_is_sent_is_what_the_document_says() -> None:
    full = Reply(
        success=False,
        reason=Reason.BEST_SO_FAR,
        message="cut off",
        duration_ms=3,
        result=b'{"nodes": []}',
        score=1.0,
        solved_by=SolvedBy(
            plugin="p", role="advice", model_id="m", confidence=0.75, claimed_confidence=0.5, fallback_reason="x"
        ),
        faults=(("constraints", "odd"),),
        cut_off="time",
    )

    async def body(api: Api) -> None:
        for reply in (full, dataclasses.replace(full, result=None, score=None, solved_by=None, success=True)):
            api.engine.reply = lambda _, reply=reply: dataclasses.replace(reply, faults=())  # type: ignore[misc]
            response = OptimizeResponse.model_validate_json((await api.ask(type="genetic")).body)
            assert response.solved_by == reply.solved_by
            api.engine.reply = lambda _, reply=reply: reply  # type: ignore[misc]
            OptimizeJob.model_validate_json((await api.ask_later()).body)
            await until(lambda: api.state() == (0, 0))
            job = OptimizeJob.model_validate_json((await api.ada.get(f"{URL}/a")).body)
            assert job.response is not None
            assert job.response.errors is not None
            assert job.response.errors[0].field == "constraints"
        api.hold()
        await api.ask_later()
        await until(lambda: not api.engine.asked[-1].ended)
        api.engine.asked[-1].improve(3, None, float("nan"))
        running = OptimizeJob.model_validate_json((await api.ada.get(f"{URL}/a")).body)
        assert running.progress is not None
        assert (running.progress.objective, running.progress.gap) == (3.0, None)
        cancelled = OptimizeJob.model_validate_json((await api.ada.delete(f"{URL}/a")).body)
        assert cancelled.status == "cancelled"

    run(body)


def test_a_defect_is_told_as_one_and_frees_its_place() -> None:
    async def body(api: Api) -> None:
        def fail(question: Question) -> Reply:
            raise ZeroDivisionError("secret")

        api.engine.reply = fail
        reply = await api.ask()
        assert (reply.status, kind(reply)) == (500, "internal")
        assert b"secret" not in reply.body
        await api.ask_later()
        await until(lambda: api.state() == (0, 0))
        job = (await api.ada.get(f"{URL}/a")).json()
        assert job["response"]["reason"] == "InternalError"
        assert "secret" not in json.dumps(job)

        def gone(question: Question) -> Reply:
            raise EngineGone("gone")

        api.engine.reply = gone
        reply = await api.ask()
        assert (reply.status, kind(reply)) == (503, "unavailable")
        assert int(reply.headers["retry-after"]) > 0
        assert api.state() == (0, 0)

    run(body)


def test_a_reply_that_cannot_be_encoded_is_a_defect_and_no_hang() -> None:
    async def body(api: Api) -> None:
        api.engine.reply = lambda question: dataclasses.replace(solved(question), message="\ud800", success=False)
        reply = await api.ask()
        assert reply.status == 500
        assert api.state() == (0, 0)

    run(body)


# Rights


def test_rights_are_asked_for_before_the_body_is_read() -> None:
    asked: list[Right] = []

    def refuse(right: Right) -> bool:
        asked.append(right)
        return False

    async def body(api: Api) -> None:
        api.stand_ins.access.rights["system:serviceaccount:shop:ada"] = refuse
        for url in (URL, URL + "?namespace=lab"):
            reply = await api.ada.post(url, body=b"no json", content_type="application/json")
            assert (reply.status, kind(reply)) == (403, "forbidden")
        assert asked == [Right("create", "optimizationrequests", namespace=name) for name in ("shop", "lab")]
        assert api.engine.asked == []

    run(body)


def test_a_job_belongs_to_its_user_and_needs_the_right_still() -> None:
    async def body(api: Api) -> None:
        engine = api.hold()
        await api.ada.post(URL + "?namespace=lab", json=ASK, prefer="respond-async")
        for reply in [
            await api.bob.get(f"{URL}/a"),
            await api.bob.delete(f"{URL}/a"),
            await api.bob.get(f"{URL}/a/events"),
            await api.ada.get(f"{URL}/b"),
        ]:
            assert (reply.status, kind(reply)) == (404, "not-found")
        assert (await api.bob.post(URL, json=ASK, prefer="respond-async")).status == 202
        api.stand_ins.access.rights["system:serviceaccount:shop:ada"] = lambda right: right.namespace != "lab"
        for reply in [
            await api.ada.get(f"{URL}/a"),
            await api.ada.delete(f"{URL}/a"),
            await api.ada.get(f"{URL}/a/events"),
        ]:
            assert reply.status == 403
        await until(lambda: len(engine.asked) == 2)
        for asked in engine.asked:
            asked.answer()
        await until(lambda: api.state() == (0, 0))

    run(body)


# The cache


def test_an_answer_of_the_cache_takes_no_place_and_asks_nobody() -> None:
    async def body(api: Api) -> None:
        first = await api.ask()
        assert first.headers["cache-status"] == "engine-ops; fwd=miss"
        api.hold(workers=1)
        waiting = [api.ada.start("POST", URL, json=ASK | {"data": {"n": n}}) for n in range(2)]
        await until(lambda: api.state() == (2, 0))
        hit = await api.ask(id="another")
        assert hit.headers["cache-status"] == "engine-ops; hit"
        assert hit.json() == first.json() | {"requestId": "another"}
        later = await api.ask_later("later")
        assert (later.status, later.json()["status"]) == (202, "done")
        assert later.json()["response"] == first.json() | {"requestId": "later"}
        assert (await api.ada.get(f"{URL}/later/events")).body.count(b"event: answer") == 1
        assert len(api.engine.asked) == 3
        assert api.state() == (2, 0)
        for asked in api.engine.asked[1:]:
            asked.answer()
        for exchange in waiting:
            assert (await exchange.reply()).status == 200
        assert api.optimizer.numbers()["requests"]["cached"] == 2

    run(body)


def test_when_the_cache_is_not_read_or_not_written() -> None:
    async def body(api: Api) -> None:
        async def status(**headers: str) -> str:
            return (await api.ada.post(URL, json=ASK, **headers)).headers["cache-status"]

        assert await status(cache_control="no-store") == "engine-ops; fwd=request"
        assert len(api.optimizer.cache) == 0
        assert await status(cache_control="max-age=0, No-Cache") == "engine-ops; fwd=request"
        assert len(api.optimizer.cache) == 1
        assert await status(cache_control="max-age=5") == "engine-ops; hit"
        assert len(api.engine.asked) == 2
        api.engine.reply = lambda question: dataclasses.replace(solved(question), cacheable=False)
        await api.ask(data={"n": 1})
        assert len(api.optimizer.cache) == 1

    run(body)


def test_a_hit_tells_nobody_what_is_asked_in_another_namespace() -> None:
    async def body(api: Api) -> None:
        async def status(namespace: str) -> str:
            return (await api.ada.post(f"{URL}?namespace={namespace}", json=ASK)).headers["cache-status"]

        miss, hit = "engine-ops; fwd=miss", "engine-ops; hit"
        assert [await status(namespace) for namespace in ("shop", "lab", "shop", "lab")] == [miss, miss, hit, hit]

    run(body)


def test_a_change_of_the_lineup_makes_cached_answers_useless() -> None:
    async def body(api: Api) -> None:
        await api.ask()
        api.engine.lineups["resource"] = "trees/2"
        assert (await api.ask()).headers["cache-status"] == "engine-ops; fwd=miss"
        assert (await api.ask()).headers["cache-status"] == "engine-ops; hit"
        elsewhere = await api.ada.post(URL + "?namespace=lab", json=ASK)
        assert elsewhere.headers["cache-status"] == "engine-ops; fwd=miss"

    run(body)


def test_an_answer_during_which_the_lineup_changed_is_not_kept() -> None:
    async def body(api: Api) -> None:
        engine = api.hold()
        exchange = api.ada.start("POST", URL, json=ASK)
        await until(lambda: len(engine.asked) == 1)
        engine.lineups["resource"] = "trees/2"
        engine.asked[0].answer()
        assert (await exchange.reply()).status == 200
        assert len(api.optimizer.cache) == 0

    run(body)


def test_without_a_cache_nothing_is_said_of_one() -> None:
    async def body(api: Api) -> None:
        for _ in range(2):
            assert "cache-status" not in (await api.ask()).headers
        assert len(api.engine.asked) == 2

    run(body, cache_entries=0)


# The bound, and callers who go away


def test_more_than_the_bound_are_told_to_come_later() -> None:
    async def body(api: Api) -> None:
        engine = api.hold(workers=1)
        first = api.ada.start("POST", URL, json=ASK)
        await until(lambda: api.state() == (1, 0))
        assert (await api.ask_later("job")).status == 202
        for reply in (await api.ask(id="third"), await api.ask_later("third")):
            assert (reply.status, kind(reply)) == (503, "busy")
            assert int(reply.headers["retry-after"]) >= 1
        assert (await api.ada.get(f"{URL}/third")).status == 404
        engine.asked[0].answer()
        assert (await first.reply()).status == 200
        second = api.ada.start("POST", URL, json=ASK | {"data": {"n": 2}})
        await until(lambda: len(engine.asked) == 3)
        for asked in engine.asked[1:]:
            asked.answer()
        assert (await second.reply()).status == 200
        assert api.state() == (0, 0)
        assert api.optimizer.in_flight.refused == 2

    run(body)


def test_a_caller_who_goes_away_ends_the_work() -> None:
    async def body(api: Api) -> None:
        engine = api.hold()
        exchange = api.ada.start("POST", URL, json=ASK)
        await until(lambda: len(engine.asked) == 1)
        exchange.disconnect()
        await until(lambda: engine.asked[0].cancelled and api.state() == (0, 0))
        await until(exchange.task.done)
        assert exchange.status is None
        assert api.optimizer.numbers()["requests"]["abandoned"] == 1

    run(body)


def test_a_caller_who_goes_away_at_any_moment_frees_the_place_once() -> None:
    async def body(api: Api) -> None:
        engine = api.hold()
        for steps in range(25):
            before = len(engine.asked)
            exchange = api.ada.start("POST", URL, json=ASK | {"data": {"n": steps}})
            for _ in range(steps):
                await asyncio.sleep(0)
            if steps % 2 and len(engine.asked) > before:
                engine.asked[-1].answer()
            exchange.disconnect()
            await until(exchange.task.done)
            exchange.task.result()
            await until(lambda: api.state() == (0, 0))
            assert all(asked.ended for asked in engine.asked)

    run(body)


def test_a_handler_that_is_cancelled_ends_the_work() -> None:
    async def body(api: Api) -> None:
        engine = api.hold()
        exchange = api.ada.start("POST", URL, json=ASK)
        await until(lambda: len(engine.asked) == 1)
        exchange.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await exchange.task
        await until(lambda: engine.asked[0].cancelled and api.state() == (0, 0))

    run(body)


def test_a_body_that_never_ends_well() -> None:
    async def body(api: Api) -> None:
        exchange = api.ada.start("POST", URL, body=[b'{"id"', b""], content_type="application/json")
        exchange._pieces = [b'{"id"']  # the rest does not come
        exchange.disconnect()
        await until(exchange.task.done)
        assert api.engine.asked == []

    run(body)
