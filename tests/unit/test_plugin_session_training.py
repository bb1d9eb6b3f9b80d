"""Training through a session: what the model is given, what is kept of it, and what it does afterwards."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np
import pytest
from plugin_stand_ins import Algorithm
from test_plugin_session import Saying, asked, session_of, tell

from engine_ops.ml import BaseMLModel, MLPluginInterface, PluginMetadata, PredictionResult, WorkloadDataPoint
from engine_ops.ml.testing import sample_history
from engine_ops.plugins import MLOptimizationPlugin, session_training
from engine_ops.plugins.messages import Ask, Broken, Open, Opened, Train, Trained
from engine_ops.plugins.model_state import decode_state, digest_of, encode_state
from engine_ops.plugins.session import PluginSession

REPLAY = Ask("shop/r1", "ml-driven", b'{"workload_size": 100}')
HISTORY = sample_history(40)


class Flexible(BaseMLModel):
    """Does at training what it is told to."""

    def __init__(self, then: Callable[[Flexible], None] = lambda _: None, state: Any = None) -> None:
        super().__init__("flexible")
        self.then = then
        self.state = state
        self.points: list[WorkloadDataPoint] | None = None
        self.loaded: Any = None

    def train(self, data: list[WorkloadDataPoint]) -> None:
        self.points = data
        self.is_trained = True
        self.then(self)

    def predict(self, input_data: dict[str, Any]) -> PredictionResult:
        return PredictionResult({"expected_duration": 5}, None, self.model_id)

    def save(self) -> Any:
        if isinstance(self.state, BaseException):
            raise self.state
        return self.state

    def load(self, state: Mapping[str, Any]) -> None:
        if "unlucky" in state:
            raise ValueError("it was not mine")
        self.loaded = state
        self.is_trained = True


class Trainable(MLPluginInterface):
    def __init__(self, model: Any) -> None:
        super().__init__(PluginMetadata("trainable", "1.0.0", "A test"), model)
        self.seen: list[int] = []

    def optimize(self, request_data: dict[str, Any], historical_data: Any = None) -> dict[str, Any]:
        self.seen.append(len(historical_data or ()))
        return super().optimize(request_data, historical_data)


def trained(make: Callable[[], Any], *, replay: Ask | None = None, count: int = 40) -> tuple[PluginSession, Trained]:
    session = session_of(make)
    tell(session, HISTORY[:count])
    answer = session.handle(Train(replay))
    assert isinstance(answer, Trained), answer
    return session, answer


def broken(make: Callable[[], Any], *, replay: Ask | None = None, count: int = 40) -> str:
    session = session_of(make)
    tell(session, HISTORY[:count])
    answer = session.handle(Train(replay))
    assert isinstance(answer, Broken)
    assert answer.stage == "train"
    return answer.message


SHIPPED = ["SimplePredictorPlugin", "ResourceOptimizerPlugin"]


@pytest.mark.parametrize("name", [*(f"engine_ops.ml.examples:{name}" for name in SHIPPED)])
def test_what_is_trained_is_the_same_where_its_state_is_loaded(name: str) -> None:
    session = PluginSession()
    assert isinstance(session.handle(Open(name, "p")), Opened)
    tell(session, HISTORY)
    answer = session.handle(Train())
    assert isinstance(answer, Trained)
    assert (answer.samples, answer.is_trained) == (40, True)
    assert answer.digest == digest_of(answer.state)
    assert msgspec.json.decode(answer.training_metadata)["training_samples"] == 40

    restarted = PluginSession()
    opened = restarted.handle(Open(name, "p", state=answer.state))
    assert isinstance(opened, Opened)
    assert opened.is_trained is True
    tell(restarted, HISTORY)
    data = {"workload_size": 200}
    assert asked(restarted, data).envelope == asked(session, data).envelope != b""
    assert asked(restarted, data).scored.keys() >= {"expected_duration", "success_rate"}


def test_the_model_gets_points_of_its_own() -> None:
    def spoil(model: Flexible) -> None:
        assert isinstance(model.points, list)
        assert model.points == HISTORY
        for point in model.points:
            point.duration = -1.0
            point.metadata.clear()

    session = session_of(lambda: saying_with(Flexible(spoil)))
    tell(session, HISTORY)
    asked(session)
    plugin = session._plugin
    assert isinstance(plugin, Saying)
    history = plugin.given[-1][1]
    for _ in range(3):
        assert list(history) == HISTORY  # what is read again and again is kept
    assert isinstance(session.handle(Train()), Trained)
    assert list(history) == HISTORY


def saying_with(model: BaseMLModel) -> Saying:
    plugin = Saying()
    plugin.model = model
    return plugin


def test_training_takes_the_history_as_it_is() -> None:
    session, answer = trained(lambda: Trainable(Flexible()), count=12)
    assert answer.samples == 12
    tell(session, sample_history(5, seed=1))  # a reset
    again = session.handle(Train())
    assert isinstance(again, Trained)
    assert again.samples == 5


def test_what_cannot_be_trained_is_broken() -> None:
    assert broken(Algorithm) == "it cannot be trained: it has no train_model"
    assert broken(lambda: Trainable(Flexible()), count=0) == "there is no history to train on"
    session = session_of(lambda: Trainable(Flexible()))
    assert session.handle(Train()) == Broken("train", "there is no history to train on")


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit("no"), KeyboardInterrupt("no"), MemoryError("no")])
def test_a_training_that_fails_is_told(error: BaseException) -> None:
    def fail(_: Flexible) -> None:
        raise error

    assert broken(lambda: Trainable(Flexible(fail))) == f"train_model failed: {type(error).__name__}: no"


def test_the_model_has_seen_the_history_when_its_training_is_over() -> None:
    shown: list[int] = []

    class Looking(Flexible):
        def use_history(self, historical_data: Any) -> None:
            assert self.is_trained
            shown.append(len(historical_data))

    trained(lambda: Trainable(Looking()))
    assert shown == [40]


# -- its state


@pytest.mark.parametrize("plugin_class", [Trainable, MLOptimizationPlugin])
def test_the_state_is_saved_and_loaded(plugin_class: Any) -> None:
    state = {"weights": np.arange(6.0).reshape(2, 3), "names": ["a", "b"]}
    _, answer = trained(lambda: plugin_class(Flexible(state=state)))
    assert decode_state(answer.state)["weights"].tolist() == [[0, 1, 2], [3, 4, 5]]
    session = PluginSession(lambda: plugin_class(Flexible()))
    opened = session.handle(Open("", "p", state=answer.state))
    assert isinstance(opened, Opened)
    assert opened.is_trained is True
    assert asked(session).scored == {"expected_duration": 5.0}


@pytest.mark.parametrize(
    ("make", "state", "problem"),
    [
        (lambda: Trainable(Flexible()), encode_state({"unlucky": True}), "load failed: ValueError: it was not mine"),
        (lambda: Trainable(Flexible()), b"rubbish", "no saved state"),
        (lambda: Trainable(Flexible()), encode_state({"a": 1})[:-1], "state of a model"),
        (Saying, encode_state({}), "has no load method"),
        (Algorithm, encode_state({}), "has no attribute 'load'"),
    ],
)
def test_a_state_that_cannot_be_loaded(make: Any, state: bytes, problem: str) -> None:
    session = PluginSession(make)
    answer = session.handle(Open("", "p", state=state))
    assert isinstance(answer, Broken)
    assert answer.stage == "load"
    assert problem in answer.message
    assert asked(session).failed


@pytest.mark.parametrize(
    ("state", "word"),
    [
        (None, None),
        (RuntimeError("disk"), "save failed: RuntimeError: disk"),
        (SystemExit(), "save failed: SystemExit"),
        ([1], "must return a dict or None, not list"),
        ({"model": object()}, "neither a JSON value nor"),
        ({"a": np.zeros(10_000, dtype=np.uint8) + np.arange(10_000) % 251}, "at most 100 are"),
    ],
)
def test_a_state_that_cannot_be_kept_is_no_fault_of_the_training(
    state: Any, word: str | None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_training, "MAX_STATE_BYTES", 100)
    with caplog.at_level(logging.WARNING):
        _, answer = trained(lambda: Trainable(Flexible(state=state)))
    assert answer.state == b""
    assert answer.digest.startswith("sha256:")
    if word is None:
        assert not caplog.records
    else:
        assert word in caplog.text


def test_a_model_without_a_state_is_named_by_how_it_came_to_be() -> None:
    def digest(first: int = 0, last: int = 40, config: bytes = b"{}") -> str:
        session = session_of(lambda: Trainable(Flexible()), config)
        tell(session, HISTORY[first:last])
        answer = session.handle(Train())
        assert isinstance(answer, Trained)
        return answer.digest

    assert digest() == digest()
    assert len({digest(), digest(first=1), digest(first=1, last=39), digest(last=39), digest(config=b'{"a": 1}')}) == 5


# -- what it tells


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ({"loss": np.float32(0.5), "by": np.array([1, 2])}, {"loss": 0.5, "by": [1, 2]}),
        ({"a": float("nan")}, {}),
        ({"a": "x" * 20_000}, {}),
        ({"a": ["\x00" * 1000] * 10}, {}),
        ({"a": object()}, {}),
        (None, {}),
        ([1], {}),
    ],
)
def test_what_a_model_tells_of_its_training(told: Any, kept: Any) -> None:
    def tell_it(model: Flexible) -> None:
        model.training_metadata = told

    _, answer = trained(lambda: Trainable(Flexible(tell_it)))
    assert msgspec.json.decode(answer.training_metadata) == kept


# -- models that do not show whether they are trained


class Silent:
    """No `BaseMLModel`: it has what the plugin calls, and nothing else."""

    def __init__(self) -> None:
        self.points = 0


class TrainsInOptimize(MLPluginInterface):
    """As many were written: it trains at its first request that comes with enough history."""

    def __init__(self, *, is_trained: bool | None = None, works: bool = True) -> None:
        super().__init__(PluginMetadata("in-optimize", "1.0.0", "A test"), Silent())  # type: ignore[arg-type]
        self.works = works
        if is_trained is not None:
            self.model.is_trained = is_trained
        self.requests: list[dict[str, Any]] = []

    def train_model(self, data: Any) -> None:
        pass

    def optimize(self, request_data: dict[str, Any], historical_data: Any = None) -> dict[str, Any]:
        self.requests.append(request_data)
        if historical_data and len(historical_data) >= 10 and self.works:
            self.model.points = len(historical_data)  # type: ignore[attr-defined]
            return {"success": True, "result": {"expected_duration": 5}}
        return {"success": False, "error": "Model not trained"}


def test_it_is_warmed_with_a_request_that_was_made_before() -> None:
    session, answer = trained(TrainsInOptimize, replay=REPLAY)
    plugin = session._plugin
    assert isinstance(plugin, TrainsInOptimize)
    assert plugin.requests == [{"workload_size": 100, "type": "ml-driven", "constraints": {}}]
    assert plugin.model.points == 40  # type: ignore[attr-defined]
    assert answer.is_trained is None
    assert answer.model_id == ""


def test_without_such_a_request_it_is_as_it_is() -> None:
    session, answer = trained(TrainsInOptimize)
    assert answer.is_trained is None
    plugin = session._plugin
    assert isinstance(plugin, TrainsInOptimize)
    assert plugin.requests == []


def test_one_that_shows_it_is_not_warmed() -> None:
    session, answer = trained(lambda: Trainable(Flexible()), replay=REPLAY)
    plugin = session._plugin
    assert isinstance(plugin, Trainable)
    assert plugin.seen == []
    assert answer.is_trained is True


def test_one_that_says_that_it_is_not_trained_afterwards() -> None:
    # Its word is not enough: it answers.
    _, answer = trained(lambda: TrainsInOptimize(is_trained=False), replay=REPLAY)
    assert answer.is_trained is False
    problem = broken(lambda: TrainsInOptimize(is_trained=False, works=False), replay=REPLAY)
    assert problem == "after its training it says that it is not trained: Model not trained"
    # One that says nothing may only have disliked that request.
    _, answer = trained(lambda: TrainsInOptimize(works=False), replay=REPLAY)
    assert answer.is_trained is None


def test_a_replay_that_fails_is_the_plugins_matter() -> None:
    class Failing(TrainsInOptimize):
        def optimize(self, request_data: dict[str, Any], historical_data: Any = None) -> dict[str, Any]:
            raise KeyboardInterrupt

    assert "optimize failed: KeyboardInterrupt" in broken(lambda: Failing(is_trained=False), replay=REPLAY)
    _, answer = trained(Failing, replay=REPLAY)
    assert answer.samples == 40


class EatsItsPoints(Flexible):
    def train(self, data: list[WorkloadDataPoint]) -> None:
        super().train(list(data))
        data.clear()


def test_a_training_may_do_with_its_points_as_it_likes() -> None:
    _, answer = trained(lambda: Trainable(EatsItsPoints()), count=12)
    assert answer.samples == 12
    assert answer.digest.startswith("sha256:")


class HidesItsSave(Flexible):
    @property
    def save(self) -> Any:
        raise KeyboardInterrupt


def test_a_save_that_cannot_be_had_is_none() -> None:
    _, answer = trained(lambda: Trainable(HidesItsSave()))
    assert answer.state == b""
