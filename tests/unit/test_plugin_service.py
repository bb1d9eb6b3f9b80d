"""A plugin that is served over HTTP, asked as the operator asks it."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, ClassVar

import aiohttp
import pydantic
import pytest
from plugin_services import ask, feed, history, point, run, serving, started, until
from plugin_stand_ins import Algorithm, ModelPlugin

from engine_ops.ml import BaseMLModel, MLPluginInterface, PluginMetadata, PredictionResult, WorkloadDataPoint
from engine_ops.plugins.instance import PluginBrokenError, PluginUnavailableError, Unanswered
from engine_ops.plugins.messages import Replied
from reserved_port import reserved_port


class Scale(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    scale: float = pydantic.Field(gt=0)


class MeanModel(BaseMLModel):
    """Predicts the mean duration, and keeps it over restarts."""

    mean = 0.0

    def train(self, data: list[WorkloadDataPoint]) -> None:
        if len(data) < 3:
            raise ValueError("fewer than 3 points")
        self.mean = sum(point.duration for point in data) / len(data)
        self.is_trained = True
        self.training_metadata = {"samples": len(data)}

    def predict(self, input_data: dict[str, Any]) -> PredictionResult:
        return PredictionResult({"expected_duration": self.mean}, 0.5, self.model_id)

    def save(self) -> dict[str, Any]:
        return {"mean": self.mean}

    def load(self, state: dict[str, Any]) -> None:
        self.mean = state["mean"]
        self.is_trained = True


class MeanPlugin(MLPluginInterface):
    config_schema: ClassVar[type[pydantic.BaseModel] | None] = Scale

    def __init__(self) -> None:
        super().__init__(PluginMetadata("mean", "1.2.3", "Means", "A. Author", ["ml-driven"]), MeanModel("mean-model"))

    def optimize(
        self, request_data: dict[str, Any], historical_data: list[WorkloadDataPoint] | None = None
    ) -> dict[str, Any]:
        if request_data.get("say") == "numbers":
            numbers = [] if historical_data is None else [each.metadata["number"] for each in historical_data]
            return {"success": True, "result": {"numbers": numbers, "scale": self.config["scale"]}}
        if request_data.get("say") == "request":
            return {"success": True, "result": dict(request_data)}
        return super().optimize(request_data, historical_data)


class Odd(MLPluginInterface):
    """Does what the request says."""

    let_go = threading.Event()
    began = threading.Event()

    def __init__(self) -> None:
        super().__init__(PluginMetadata("odd", "1", "Odd"), MeanModel("odd"))

    def optimize(
        self, request_data: dict[str, Any], historical_data: list[WorkloadDataPoint] | None = None
    ) -> dict[str, Any]:
        match request_data["do"]:
            case "raise":
                raise KeyError("nodes")
            case "exit":
                raise SystemExit(3)
            case "nothing":
                return None  # type: ignore[return-value]
            case "nan":
                return {"success": True, "result": {"expected_duration": float("nan")}}
            case "wait":
                type(self).began.set()
                assert type(self).let_go.wait(30)
            case "no":
                return {"success": False, "error": "not today"}
        return {"success": True, "result": {"expected_duration": 1.0}}


@pytest.fixture
def odd() -> type[Odd]:
    """A class of its own, so that no test lets another one's calls go."""

    class Own(Odd):
        let_go = threading.Event()
        began = threading.Event()

    return Own


def numbers_of(reply: Replied) -> list[int]:
    import json

    found: list[int] = json.loads(reply.envelope)["result"]["numbers"]
    return found


async def answered(instance: Any) -> Replied:
    """Ask until there is an answer."""
    async with asyncio.timeout(30):
        while True:
            reply = await instance.ask(ask())
            if isinstance(reply, Replied):
                return reply
            await asyncio.sleep(0.01)


def test_a_plugin_is_opened_trained_and_asked() -> None:
    async def main() -> None:
        points = history(1, 2, 3)
        async with (
            serving(MeanPlugin, config={"scale": 1}) as port,
            started(port, config={"scale": 2}, feed=feed(points)) as instance,
        ):
            opened = instance.opened
            assert (opened.name, opened.version, opened.author) == ("mean", "1.2.3", "A. Author")
            assert (opened.types, opened.has_model, opened.is_trained) == (("ml-driven",), True, False)
            assert b'"scale"' in opened.config_schema
            untrained = await instance.ask(ask())
            assert (untrained.no, untrained.failed, untrained.is_trained) == ("Model not trained", False, False)

            trained = await instance.train(10)
            assert (trained.samples, trained.model_id, trained.is_trained) == (3, "mean-model", True)
            assert trained.state
            assert trained.digest.startswith("sha256:")
            assert instance.opened.is_trained is True

            reply = await instance.ask(ask())
            assert reply.scored == {"expected_duration": 20.0}
            assert (reply.model_id, reply.claimed_confidence, reply.no) == ("mean-model", 0.5, None)
            assert instance.counters.answered == 1
            assert instance.counters.said_no == 1

    run(main())


def test_the_request_arrives_as_in_a_process() -> None:
    async def main() -> None:
        async with serving(MeanPlugin, config={"scale": 1}) as port, started(port, config={"scale": 1}) as instance:
            extra = b'{"timestamp":5,"namespace":"shop","workload":{"namespace":"shop","kind":"Job","name":"w"}}'
            reply = await instance.ask(ask({"say": "request"}, constraints=b'{"maxNodes":3}', extra=extra))
            assert b'"constraints":{"maxNodes":3}' in reply.envelope
            assert b'"timestamp":5' in reply.envelope
            assert b'"workload":{"namespace":"shop","kind":"Job","name":"w"}' in reply.envelope
            yaml = ask()
            yaml = type(yaml)("x", "ml-driven", b"say: request\nrows: [1, 2]\n", data_format="json-or-yaml")
            assert b'"rows":[1,2]' in (await instance.ask(yaml)).envelope
            bad = await instance.ask(type(yaml)("x", "ml-driven", b"[1]"))
            assert bad.no == "data: must be an object, is a list"
            assert not bad.failed

    run(main())


def test_only_what_is_new_of_the_history_is_sent() -> None:
    async def main() -> None:
        points = history(1, 2, capacity=4)
        async with (
            serving(MeanPlugin, config={"scale": 1}) as port,
            started(port, config={"scale": 1}, feed=feed(points)) as instance,
        ):
            numbers = ask({"say": "numbers"})
            assert numbers_of(await instance.ask(numbers)) == [1, 2]
            points.record(point(3))
            assert numbers_of(await instance.ask(numbers)) == [1, 2, 3]
            points.record_many(point(number) for number in (4, 5, 6))
            assert numbers_of(await instance.ask(numbers)) == [3, 4, 5, 6]

    run(main())


def test_two_who_feed_a_service_do_not_mix() -> None:
    async def main() -> None:
        one, two = history(1, 2), history(7, 8)
        options: dict[str, Any] = {"config": {"scale": 1}}
        async with serving(MeanPlugin, config={"scale": 1}) as port, started(port, feed=feed(one), **options) as first:
            async with started(port, feed=feed(two), **options) as second:
                numbers = ask({"say": "numbers"})
                assert numbers_of(await second.ask(numbers)) == [7, 8]
                one.record(point(3))
                assert numbers_of(await first.ask(numbers)) == [1, 2, 3]
            two.record(point(9))

    run(main())


def test_faults_of_the_settings_name_their_path() -> None:
    async def main() -> None:
        async with serving(MeanPlugin) as port:
            with pytest.raises(PluginBrokenError) as caught:
                async with started(port, config={"scale": -1, "other": 2}):
                    pass
            assert caught.value.stage == "config"
            assert dict(caught.value.faults).keys() == {"config.scale", "config.other"}
            async with started(port, config={"scale": 3}) as instance:
                assert instance.opened.name == "mean"

    run(main())


def test_rejected_settings_leave_those_before() -> None:
    async def main() -> None:
        async with serving(MeanPlugin, config={"scale": 1}) as port, started(port, config={"scale": 5}) as instance:
            with pytest.raises(PluginBrokenError, match=r"config\.scale"):
                async with started(port, config={"scale": 0}):
                    pass
            reply = await instance.ask(ask({"say": "numbers"}))
            assert b'"scale":5' in reply.envelope

    run(main())


def test_an_object_is_initialised_again_for_other_settings() -> None:
    async def main() -> None:
        plugin = Algorithm()
        async with serving(plugin) as port:
            async with started(port, config={"scale": 4}) as instance:
                assert plugin.config == {"scale": 4.0}
                assert (await instance.ask(ask())).no is None
            assert "shutdown" not in plugin.calls
        assert plugin.calls[-1] == "shutdown"

    run(main())


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("raise", "optimize failed: KeyError: 'nodes'"),
        ("exit", "optimize failed: SystemExit: 3"),
        ("nothing", "must be a dict"),
        ("nan", "nan is not a finite number"),
    ],
)
def test_a_plugin_that_fails_is_at_fault_and_asked_again(what: str, says: str, odd: type[Odd]) -> None:
    async def main() -> None:
        async with serving(odd) as port, started(port) as instance:
            failed = await instance.ask(ask({"do": what}))
            assert failed.failed
            assert says in failed.no
            assert instance.counters.failures == 1
            assert instance.counters.crashes == 0
            assert (await instance.ask(ask({"do": "well"}))).no is None

    run(main())


def test_a_no_is_no_fault(odd: type[Odd]) -> None:
    async def main() -> None:
        async with serving(odd) as port, started(port) as instance:
            said = await instance.ask(ask({"do": "no"}))
            assert (said.no, said.failed) == ("not today", False)
            assert instance.counters.said_no == 1

    run(main())


def test_a_slow_plugin_is_not_waited_for_and_its_service_lives(odd: type[Odd]) -> None:
    async def main() -> None:
        async with serving(odd) as port, started(port) as instance:
            for tries, seconds in enumerate((0.3, 3.0, 30.0), 1):
                slow = await instance.ask(ask({"do": "wait"}), timeout_seconds=seconds)
                assert slow == Unanswered(f"no answer within {seconds:g} s", "timeout")
                assert instance.counters.timeouts == tries
                if odd.began.is_set():  # else the time was over before the plugin had it
                    break
            async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/healthz") as health:
                assert health.status == 200
                assert (await health.json())["busySeconds"] > 0
            odd.let_go.set()
            assert (await instance.ask(ask({"do": "well"}))).no is None

    run(main())


def test_a_plugin_that_is_stuck_shows_in_its_health(odd: type[Odd]) -> None:
    async def main() -> None:
        async with (
            serving(odd, stuck_after_seconds=0) as port,
            aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session,
        ):
            body = {"id": "x", "type": "ml-driven", "data": {"do": "wait"}}
            asking = asyncio.create_task(session.post("/optimize", json=body))
            await until(odd.began.is_set, "the plugin is at work")
            async with session.get("/healthz") as health:
                assert health.status == 503
            odd.let_go.set()
            assert (await asking).status == 200
            async with session.get("/healthz") as health:
                assert health.status == 200

    run(main())


def test_a_full_queue_says_when_to_come_again(odd: type[Odd]) -> None:
    async def main() -> None:
        async with (
            serving(odd) as port,
            started(port) as instance,
            aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session,
        ):
            body = {"id": "x", "type": "ml-driven", "data": {"do": "wait"}}
            asking = [asyncio.create_task(session.post("/optimize", json=body)) for _ in range(17)]
            await until(odd.began.is_set, "the plugin is at work")

            async def waiting() -> int:
                async with session.get("/healthz") as health:
                    return int((await health.json()).get("waiting", 0))

            while await waiting() < 16:
                pass
            refused = await instance.ask(ask({"do": "well"}))
            assert refused == Unanswered("too many requests wait already", "busy")
            assert instance.degraded is None
            async with session.post("/optimize", json=body) as response:
                assert (response.status, response.headers["Retry-After"]) == (503, "1")
            odd.let_go.set()
            assert {(await each).status for each in asking} == {200}

    run(main())


def test_a_call_whose_sender_has_gone_is_not_made(odd: type[Odd]) -> None:
    async def main() -> None:
        async with serving(odd) as port, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            wait = {"id": "x", "type": "ml-driven", "data": {"do": "wait"}}
            first = asyncio.create_task(session.post("/optimize", json=wait))
            await until(odd.began.is_set, "the plugin is at work")
            second = asyncio.create_task(session.post("/optimize", json=wait))

            async def waiting(count: int) -> None:
                while True:
                    async with session.get("/healthz") as health:
                        if (await health.json()).get("waiting", 0) == count:
                            return

            await waiting(1)
            second.cancel()
            await waiting(0)
            odd.let_go.set()
            assert (await first).status == 200

    run(main())


def test_a_service_that_starts_anew_gets_settings_model_and_history_again() -> None:
    async def main() -> None:
        points = history(1, 2, 3)
        async with serving(MeanPlugin, kept) as port:
            instance = started(port, config={"scale": 2}, feed=feed(points))
            opened = await instance.__aenter__()
            await opened.train(10)
        async with serving(MeanPlugin, port):
            reply = await answered(opened)
            assert reply.scored == {"expected_duration": 20.0}, "the model's state came back"
            points.record(point(4))
            said = await opened.ask(ask({"say": "numbers"}))
            assert numbers_of(said) == [1, 2, 3, 4]
            assert b'"scale":2' in said.envelope
            assert opened.counters.restarts == 0, "the model is not lost"
            await instance.__aexit__(None, None, None)

    with reserved_port() as kept:
        run(main())


def test_a_model_without_a_saved_form_is_lost_with_the_service() -> None:
    async def main() -> None:
        points = history(1, 2, 3)
        async with serving(ModelPlugin, kept) as port:
            instance = started(port, feed=feed(points))
            opened = await instance.__aenter__()
            assert (await opened.train(10)).state == b""
            assert opened.opened.is_trained is True
        async with serving(ModelPlugin, port):
            await answered(opened)
            assert opened.counters.restarts == 1
            assert opened.opened.is_trained is False
            await instance.__aexit__(None, None, None)

    with reserved_port() as kept:
        run(main())


def test_a_training_that_fails_says_why() -> None:
    async def main() -> None:
        async with (
            serving(MeanPlugin, config={"scale": 1}) as port,
            started(port, config={"scale": 1}, feed=feed(history(1))) as instance,
        ):
            with pytest.raises(PluginBrokenError, match="fewer than 3 points") as caught:
                await instance.train(10)
            assert caught.value.stage == "train"
            assert "fewer than 3 points" in instance.last_error.message

    run(main())


def test_a_plugin_that_is_being_trained_is_not_asked() -> None:
    let_go, began = threading.Event(), threading.Event()

    class Slow(ModelPlugin):
        def train_model(self, data: list[WorkloadDataPoint]) -> None:
            began.set()
            assert let_go.wait(30)
            super().train_model(data)

    async def main() -> None:
        async with serving(Slow) as port, started(port, feed=feed(history(1, 2))) as instance:
            training = asyncio.create_task(instance.train(30))
            await until(began.is_set, "it is being trained")
            assert await instance.ask(ask()) == Unanswered("its model is being trained", "busy")
            async with (
                aiohttp.ClientSession() as session,
                session.post(
                    f"http://127.0.0.1:{port}/optimize", json={"id": "x", "type": "ml-driven", "data": {}}
                ) as response,
            ):
                assert response.status == 503
            let_go.set()
            assert (await training).samples == 2
            assert (await instance.ask(ask())).no is None

            let_go.clear()
            began.clear()
            with pytest.raises(PluginBrokenError, match=r"no model within 0.2 s \(training.timeoutSeconds\)"):
                await instance.train(0.2)
            let_go.set()

    run(main())


def test_cancelling_a_training_and_closing_during_one() -> None:
    let_go, began = threading.Event(), threading.Event()

    class Slow(ModelPlugin):
        def train_model(self, data: list[WorkloadDataPoint]) -> None:
            began.set()
            assert let_go.wait(30)

    async def main() -> None:
        async with serving(Slow) as port, started(port, feed=feed(history(1, 2))) as instance:
            training = asyncio.create_task(instance.train(30))
            await until(began.is_set, "it is being trained")
            training.cancel()
            with pytest.raises(asyncio.CancelledError):
                await training
            training = asyncio.create_task(instance.train(30))
            await asyncio.sleep(0)
            await instance.close()
            with pytest.raises(PluginUnavailableError):
                await training
            assert await instance.ask(ask()) == Unanswered("it is being replaced or removed", "closing")
            let_go.set()

    run(main())


def test_a_plugin_that_is_none_is_not_served() -> None:
    from engine_ops.plugins.serving import application

    with pytest.raises(TypeError, match="neither an MLPluginInterface nor"):
        application(object())  # type: ignore[arg-type]
