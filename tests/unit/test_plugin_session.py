"""A session: what a plugin is given, what is told of it, and what becomes of what it returns."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import numpy as np
import pydantic
import pytest
from plugin_stand_ins import Algorithm, Model, ModelPlugin

from engine_ops import OptimizationRequest
from engine_ops.history.collector import WorkloadCollector
from engine_ops.history.feed import Cursor, HistoryFeed
from engine_ops.history.part import DamagedHistoryError
from engine_ops.history.view import HistoryView
from engine_ops.ml import MLPluginInterface, PluginMetadata, WorkloadDataPoint
from engine_ops.ml.testing import sample_history
from engine_ops.plugins import BaseOptimizationPlugin
from engine_ops.plugins.messages import Ask, Broken, Close, HistoryUpdate, Open, Opened, Replied
from engine_ops.plugins.session import PluginSession


def session_of(make: Callable[[], Any], config: bytes = b"{}") -> PluginSession:
    session = PluginSession(make)
    answer = session.handle(Open("", "p", config))
    assert isinstance(answer, Opened), answer
    return session


def opened(make: Callable[[], Any], config: bytes = b"{}") -> Opened | Broken:
    answer = PluginSession(make).handle(Open("", "p", config))
    assert isinstance(answer, Opened | Broken)
    return answer


def asked(session: PluginSession, data: Any = None, request_type: str = "ml-driven", **fields: Any) -> Replied:
    encoded = data if isinstance(data, bytes) else msgspec.json.encode({} if data is None else data)
    reply = session.handle(Ask("shop/r1", request_type, encoded, **fields))
    assert isinstance(reply, Replied)
    return reply


def tell(session: PluginSession, points: Iterable[WorkloadDataPoint]) -> None:
    collector = WorkloadCollector()
    collector.record_many(points)
    for update in HistoryFeed(collector).updates_for(Cursor()):
        assert session.handle(update) is None


class Saying(MLPluginInterface):
    """Returns what it was made with, and keeps what it was given."""

    def __init__(self, returned: Any = None) -> None:
        super().__init__(PluginMetadata("saying", "1.0.0", "A test"), Model("m"))
        self.returned = {"success": True, "result": {"a": 1}} if returned is None else returned
        self.given: list[tuple[dict[str, Any], Any]] = []

    def optimize(self, request_data: dict[str, Any], historical_data: Any = None) -> dict[str, Any]:
        self.given.append((request_data, historical_data))
        returned: dict[str, Any] = self.returned
        return returned


# -- opening


def test_an_entry_point_is_opened() -> None:
    session = PluginSession()
    answer = session.handle(Open("plugin_stand_ins:ModelPlugin", "p"))
    assert answer == Opened(
        "model",
        "1.0.0",
        "A test",
        ("resource", "scheduling", "performance", "ml-driven"),
        has_model=True,
        is_trained=False,
        model_id="model",
    )
    assert asked(session).no == "Model not trained"


def test_an_algorithm_is_opened() -> None:
    answer = opened(lambda: Algorithm(types=["scheduling"]), b'{"scale": 2}')
    assert isinstance(answer, Opened)
    assert answer.types == ("scheduling",)
    assert not answer.has_model
    assert answer.is_trained is None
    assert answer.model_id == ""
    assert msgspec.json.decode(answer.config_schema)["properties"]["scale"]["type"] == "number"


@pytest.mark.parametrize(
    ("entry_point", "stage", "problem"),
    [
        ("no_such_module_at_all:Plugin", "import", "No module named"),
        ("plugin_stand_ins:NoSuchPlugin", "import", "NoSuchPlugin"),
        ("plugin_stand_ins", "import", "package.module:Class"),
        ("plugin_stand_ins:Settings", "import", "must be a subclass"),
        ("engine_ops.plugins:BaseOptimizationPlugin", "import", "abstract"),
        ("engine_ops.plugins:MLOptimizationPlugin", "init", "without arguments"),
    ],
)
def test_what_cannot_be_opened_is_broken(entry_point: str, stage: str, problem: str) -> None:
    answer = PluginSession().handle(Open(entry_point, "p"))
    assert isinstance(answer, Broken)
    assert answer.stage == stage
    assert problem in answer.message


def test_settings_that_the_schema_rejects_are_named() -> None:
    answer = opened(Algorithm, b'{"scale": "much", "other": 1}')
    assert isinstance(answer, Broken)
    assert answer.stage == "config"
    assert dict(answer.faults) == {
        "config.scale": "Input should be a valid number, unable to parse string as a number",
        "config.other": "unknown field",
    }
    assert "config.other: unknown field" in answer.message


@pytest.mark.parametrize("config", [b"[]", b"{", b"\xff"])
def test_settings_that_are_no_object_are_rejected(config: bytes) -> None:
    answer = opened(Algorithm, config)
    assert isinstance(answer, Broken)
    assert answer.stage == "config"
    assert answer.faults[0][0] == "config"


class Failing(ModelPlugin):
    def init(self, config: Any = None) -> None:
        raise SystemExit(f"no\ud800 {'x' * 5000}")


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(1), KeyboardInterrupt(), GeneratorExit()])
def test_whatever_init_raises_is_told(error: BaseException) -> None:
    def make() -> Algorithm:
        plugin = Algorithm()
        plugin.failing = {"init": error}
        return plugin

    answer = opened(make)
    assert isinstance(answer, Broken)
    assert answer.stage == "init"
    assert "init failed" in answer.message
    assert type(error).__name__ in answer.message


def test_what_is_told_is_short_and_can_be_sent() -> None:
    answer = opened(Failing)
    assert isinstance(answer, Broken)
    assert len(answer.message) <= 1024
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(answer), type=Broken) == answer


class Vain(Saying):
    config_schema = pydantic.create_model("Large", __doc__="x" * 40_000)

    def __init__(self) -> None:
        super().__init__()
        self.metadata = PluginMetadata("n" * 300, 7, "Says\nmuch\ud800 " * 500, author=None)  # type: ignore[arg-type]
        self.model.model_id = object()  # type: ignore[assignment]
        self.model.is_trained = "yes"  # type: ignore[assignment]


def test_what_a_plugin_says_of_itself_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    answer = opened(Vain)
    assert isinstance(answer, Opened)
    assert answer.name == "n" * 252 + "…"
    assert answer.version == ""
    assert answer.description.startswith("Says much? Says")
    assert len(answer.description) == 1024
    assert answer.model_id == ""
    assert answer.is_trained is None
    assert answer.config_schema == b""
    assert "JSON schema" in caplog.text
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(answer), type=Opened) == answer


class NoPlugin:
    metadata = PluginMetadata("x", "1", "x")
    config_schema = None

    def init(self, config: Any) -> None:
        pass


def test_what_is_no_plugin_is_broken() -> None:
    answer = opened(NoPlugin)
    assert isinstance(answer, Broken)
    assert answer.stage == "init"
    assert "neither an MLPluginInterface nor" in answer.message


class Choosy(Algorithm):
    """Says what it is told to; shown an empty request, and shown one with data."""

    def __init__(self, types: list[str] | None, empty: Any, full: Any = True) -> None:
        super().__init__("choosy", types)
        self.answers = {False: empty, True: full}

    def can_handle(self, request: OptimizationRequest) -> bool:
        answer = self.answers[bool(request.data)]
        if isinstance(answer, BaseException):
            raise answer
        said: bool = answer
        return said


ALL = ("resource", "scheduling", "performance", "ml-driven")


@pytest.mark.parametrize(
    ("listed", "empty", "types"),
    [
        (None, True, ALL),
        (None, False, ()),
        (["resource"], True, ALL),
        # It may look for a field, and is asked again with each request.
        (["resource"], False, ("resource",)),
        (["resource", "telepathy"], KeyError("items"), ("resource",)),
        (None, SystemExit(), ALL),
        (["scheduling"], "yes", ("scheduling",)),
        (["scheduling"], None, ("scheduling",)),
    ],
)
def test_the_types_of_an_algorithm(listed: list[str] | None, empty: Any, types: tuple[str, ...]) -> None:
    answer = opened(lambda: Choosy(listed, empty))
    assert isinstance(answer, Opened)
    assert answer.types == types


def test_an_algorithm_is_asked_whether_it_takes_a_request() -> None:
    session = session_of(lambda: Choosy(None, empty=True, full=False))
    reply = asked(session, {"items": []})
    assert reply.no == "it does not take this request"
    assert not reply.failed
    session = session_of(lambda: Choosy(None, empty=True, full=ZeroDivisionError()))
    reply = asked(session, {"items": []})
    assert reply.no == "can_handle failed: ZeroDivisionError"
    assert reply.failed


def test_the_types_of_a_model() -> None:
    class Able(ModelPlugin):
        def can_handle(self, request_type: str) -> bool:
            return request_type in ("resource", "scheduling") or bool(1 / 0)

    answer = opened(lambda: Able(types=["ml-driven"]))
    assert isinstance(answer, Opened)
    assert answer.types == ("resource", "scheduling", "ml-driven")


# -- what a plugin is given


def given_to(session: PluginSession) -> list[tuple[dict[str, Any], Any]]:
    plugin = session._plugin
    assert isinstance(plugin, Saying)
    return plugin.given


def test_what_a_model_is_given() -> None:
    session = session_of(Saying)
    data = {"workload_size": 100, "type": "mine", "constraints": "mine", "timestamp": 5}
    extra = b'{"timestamp": 7, "workload": {"namespace": "a", "name": "b"}, "type": "x", "constraints": "x"}'
    asked(session, data, "resource", extra=extra, constraints=b'{"maxNodes": 3}')
    assert given_to(session) == [
        (
            {
                "workload_size": 100,
                "timestamp": 5,
                "workload": {"namespace": "a", "name": "b"},
                "type": "resource",
                "constraints": {"maxNodes": 3},
            },
            None,
        )
    ]


def test_yaml_is_read_where_the_user_wrote_it() -> None:
    session = session_of(Saying)
    asked(session, b"workload_size: 100\n", data_format="json-or-yaml")
    assert given_to(session)[0][0] == {"workload_size": 100, "type": "ml-driven", "constraints": {}}


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"data": b"workload_size: 100\n"}, "data"),
        ({"data": b"[]"}, "data"),
        ({"data": b"{}", "constraints": b"7"}, "constraints"),
    ],
)
def test_what_the_user_did_wrong_is_not_the_plugins_fault(fields: dict[str, bytes], path: str) -> None:
    session = session_of(Saying)
    reply = asked(session, **fields)
    assert reply.no is not None
    assert reply.no.startswith(path)
    assert not reply.failed
    assert given_to(session) == []


class Algorithmic(BaseOptimizationPlugin):
    metadata = PluginMetadata("algorithmic", "1.0.0", "A test")

    def optimize(self, request: OptimizationRequest, historical_data: Any = None) -> Any:
        said = {"id": request.id, "data": dict(request.data), "constraints": request.constraints}
        request.data.clear()
        return self.answer(request, said)


class WithModel(Algorithmic):
    def train_model(self, data: Any) -> None:
        pass


def test_what_an_algorithm_is_given() -> None:
    fields: Any = {"data": {"a": 1}, "request_type": "resource", "extra": b'{"a": 2, "timestamp": 7}'}
    for _ in range(2):
        reply = asked(session_of(Algorithmic), **fields)
        said = msgspec.json.decode(reply.envelope)["result"]
        assert said == {"id": "shop/r1", "data": {"a": 1}, "constraints": None}
    # A model takes its features of what stands beside the data.
    reply = asked(session_of(WithModel), **fields, constraints=b'{"c": 1}')
    said = msgspec.json.decode(reply.envelope)["result"]
    assert said == {"id": "shop/r1", "data": {"a": 1, "timestamp": 7}, "constraints": {"c": 1}}


def test_a_type_that_does_not_exist() -> None:
    reply = asked(session_of(Algorithmic), request_type="telepathy")
    assert reply.no is not None
    assert reply.no.startswith("type: ")
    assert not reply.failed


def test_a_long_id_is_cut_and_none_is_made_up() -> None:
    session = session_of(Algorithmic)
    for request_id, expected in (("n" * 300 + "uid", "n" * 250 + "uid"), ("", "request")):
        reply = session.handle(Ask(request_id, "resource", b"{}"))
        assert isinstance(reply, Replied)
        assert msgspec.json.decode(reply.envelope)["result"]["id"] == expected


# -- the history


def test_the_history_is_given_once_there_is_one() -> None:
    session = session_of(Saying)
    asked(session)
    points = sample_history(30)
    tell(session, points)
    asked(session)
    (_, before), (_, after) = given_to(session)
    assert before is None
    assert isinstance(after, HistoryView)
    assert list(after) == points


def test_a_history_without_points_is_given_too() -> None:
    session = session_of(Saying)
    assert session.handle(HistoryUpdate(0, reset=True)) is None
    asked(session)
    assert len(given_to(session)[0][1]) == 0


def test_a_damaged_update_ends_the_process() -> None:
    session = session_of(Saying)
    with pytest.raises(DamagedHistoryError):
        session.handle(HistoryUpdate(-1))


class Looking(Model):
    def __init__(self) -> None:
        super().__init__("looking")
        self.shown: list[Any] = []

    def use_history(self, historical_data: Any) -> None:
        self.shown.append(historical_data)


@pytest.mark.parametrize("is_trained", [False, True])
def test_the_model_of_an_optimize_of_its_own_sees_the_newest_outcomes(is_trained: bool) -> None:
    def make() -> Saying:
        plugin = Saying()
        plugin.model = Looking()
        plugin.model.is_trained = is_trained
        return plugin

    session = session_of(make)
    asked(session)
    plugin = session._plugin
    assert isinstance(plugin, Saying)
    assert isinstance(plugin.model, Looking)
    assert plugin.model.shown == []
    tell(session, sample_history(12))
    # It may take its time over it, which no request is to wait for.
    assert [len(each) for each in plugin.model.shown] == [12] * is_trained
    asked(session)
    assert [len(each) for each in plugin.model.shown] == [12, 12] * is_trained


def test_a_model_that_cannot_take_the_history_fails_in_a_request() -> None:
    class Blind(Looking):
        def use_history(self, historical_data: Any) -> None:
            raise SystemExit("too dark")

    def make() -> Saying:
        plugin = Saying()
        plugin.model = Blind()
        plugin.model.is_trained = True
        return plugin

    session = session_of(make)
    tell(session, sample_history(12))
    assert asked(session).no == "optimize failed: SystemExit: too dark"


# -- what it returns


def test_an_answer() -> None:
    session = session_of(lambda: ModelPlugin("m"))
    plugin = session._plugin
    assert isinstance(plugin, ModelPlugin)
    plugin.model.is_trained = True
    reply = asked(session, {"workload_size": 3})
    assert msgspec.json.decode(reply.envelope) == {
        "success": True,
        "result": {"expected_duration": 7.0, "asked": {"workload_size": 3, "type": "ml-driven", "constraints": {}}},
        "confidence": 0.5,
        "model_id": "m",
    }
    assert reply.no is None
    assert reply.scored == {"expected_duration": 7.0}
    assert (reply.model_id, reply.claimed_confidence, reply.is_trained) == ("m", 0.5, True)


def test_numpys_numbers_and_arrays_are_numbers_and_lists() -> None:
    result = {
        "expected_duration": np.float32(12.5),
        "success_rate": np.float64(0.75),
        "recommended_resources": {"cpu": "500m", "memory": np.int64(2**30), "gpu": "many", "disk": -1},
        "order": np.array([1, 2]),
        "yes": np.bool_(True),
        "pair": (1, 2),
    }
    reply = asked(session_of(lambda: Saying({"success": np.bool_(True), "result": result})))
    assert reply.no is None
    assert msgspec.json.decode(reply.envelope)["result"] == {
        "expected_duration": 12.5,
        "success_rate": 0.75,
        "recommended_resources": {"cpu": "500m", "memory": 2**30, "gpu": "many", "disk": -1},
        "order": [1, 2],
        "yes": True,
        "pair": [1, 2],
    }
    assert reply.scored == {
        "expected_duration": 12.5,
        "success_rate": 0.75,
        "recommended_resources.cpu": 0.5,
        "recommended_resources.memory": 2**30,
    }


def test_amounts_by_item_are_not_scored() -> None:
    result = {"recommended_resources": {"web": {"cpu": 1}, "db": {"cpu": 2}}, "expected_duration": {"web": 5}}
    assert asked(session_of(lambda: Saying({"success": True, "result": result}))).scored == {}


@pytest.mark.parametrize(
    ("returned", "no", "failed"),
    [
        ({"success": False, "error": "too little data"}, "too little data", False),
        ({"success": False}, "the plugin said no and gave no reason", False),
        ({"success": False, "error": "x" * 5000}, "x" * 1023 + "…", False),
        ({"success": True}, "result: required with success, but absent", True),
        ({}, "result: required with success, but absent", True),
        ({"success": "yes", "result": 1}, "success: must be true or false, not 'yes'", True),
        ({"result": 1, "confidence": 7}, "confidence: must be a number from 0 to 1, not 7", True),
        ({"result": 1, "model_id": ""}, "model_id: must be a text of 1 to 253 characters, not ''", True),
        ({"result": {"a": {1, 2}}}, "result.a: a value of type set is no JSON value", True),
        ({"result": {1: 2}}, "result: a key of type int is no string", True),
        ([1], "what the plugin returned: must be a dict, not [1]", True),
        (np.zeros(3), "what the plugin returned: must be a dict, not [0.0, 0.0, 0.0]", True),
    ],
)
def test_what_is_no_answer(returned: Any, no: str, failed: bool) -> None:
    reply = asked(session_of(lambda: Saying(returned)))
    assert (reply.no, reply.failed, reply.envelope) == (no, failed, b"")
    assert reply.model_id == "m"


def test_a_bare_result_and_one_that_is_no_object() -> None:
    reply = asked(session_of(lambda: Saying({"expected_duration": 5})))
    assert reply.scored == {"expected_duration": 5.0}
    reply = asked(session_of(lambda: Saying({"success": True, "result": 5})))
    assert msgspec.json.decode(reply.envelope) == {"success": True, "result": 5}


def test_too_much_is_refused_however_it_is_made_up() -> None:
    million = {"result": {"expected_duration": 5.0, "list": ["\x00" * 1000] * 2000}}  # six bytes each, as JSON
    reply = asked(session_of(lambda: Saying(million)))
    assert reply.failed
    assert reply.no is not None
    assert "bytes long as JSON" in reply.no
    assert reply.scored == {}


def test_an_algorithms_result() -> None:
    session = session_of(lambda: Algorithm("a"))
    reply = asked(session, {"x": 1}, "resource")
    assert reply.no is None
    assert msgspec.json.decode(reply.envelope)["success"] is True


class Refusing(Algorithmic):
    partial: Any = None

    def optimize(self, request: OptimizationRequest, historical_data: Any = None) -> Any:
        no = self.refuse(request, "one item is too big")
        return no.model_copy(update={"result": self.partial})


class Partial(Refusing):
    partial = {"nodes": []}  # noqa: RUF012


def test_an_algorithms_no_and_what_it_could_place() -> None:
    reply = asked(session_of(Refusing))
    assert (reply.no, reply.failed) == ("one item is too big", False)
    reply = asked(session_of(Partial))
    assert reply.no is None
    assert msgspec.json.decode(reply.envelope) == {"success": True, "result": {"nodes": []}}


# -- the end


def test_closing_shuts_the_plugin_down() -> None:
    session = session_of(Algorithm)
    plugin = session._plugin
    assert isinstance(plugin, Algorithm)
    assert session.handle(Close()) is None
    assert plugin.calls[-1] == "shutdown"
    reply = asked(session)
    assert reply.failed
    assert session.handle(Close()) is None


def test_a_shutdown_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def make() -> Algorithm:
        plugin = Algorithm()
        plugin.failing = {"shutdown": GeneratorExit("not yet")}
        return plugin

    with caplog.at_level(logging.WARNING):
        assert session_of(make).handle(Close()) is None
    assert "shutdown failed: GeneratorExit: not yet" in caplog.text


def test_opening_again_takes_the_new_settings() -> None:
    session = session_of(Algorithm)
    first = session._plugin
    assert isinstance(first, Algorithm)
    assert isinstance(session.handle(Open("", "p", b'{"scale": 3}')), Opened)
    assert first.calls[-1] == "shutdown"
    assert session._plugin is not first
    assert isinstance(session.handle(Open("", "p", b'{"scale": "x"}')), Broken)
    assert asked(session).failed
