"""The contract tests for plugin authors: a good plugin passes, and each fault is found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pydantic
import pytest

from engine_ops.ml import BaseMLModel, MLPluginInterface, PluginMetadata, PredictionResult, WorkloadDataPoint
from engine_ops.ml.testing import NOON_MS, PluginContract, check_answer, check_state, sample_history


class Model(BaseMLModel):
    """Predicts the mean duration for the size, and keeps its state."""

    def __init__(self) -> None:
        super().__init__("mean-by-size")
        self.rate = 0.0

    def train(self, data: list[WorkloadDataPoint]) -> None:
        if not self.validate_training_data(data, "duration"):
            raise ValueError("too few points")
        self.rate = float(np.mean([point.duration / point.metadata["request"]["workload_size"] for point in data]))
        self.is_trained = True

    def predict(self, input_data: dict[str, Any]) -> PredictionResult:
        duration_ms = self.rate * input_data["workload_size"]
        return PredictionResult({"expected_duration": duration_ms}, 0.8, self.model_id)

    def save(self) -> dict[str, Any] | None:
        return {"rate": np.array([self.rate]), "version": 1}

    def load(self, state: Mapping[str, Any]) -> None:
        self.rate = float(state["rate"][0])
        self.is_trained = True


class Config(pydantic.BaseModel):
    factor: float


class Plugin(MLPluginInterface):
    config_schema: ClassVar[type[pydantic.BaseModel] | None] = Config

    def __init__(self, model: BaseMLModel | None = None) -> None:
        types = ["ml-driven", "resource"]
        super().__init__(PluginMetadata("good", "1.0.0", "Good.", "me", types), model or Model())


class TestAGoodPlugin(PluginContract):
    config: ClassVar[Mapping[str, Any]] = {"factor": 2}

    def make_plugin(self) -> MLPluginInterface:
        return Plugin()


class TestAPluginWithoutSavedForm(PluginContract):
    """As the guide writes them: trained in optimize, no state, every type."""

    def make_plugin(self) -> MLPluginInterface:
        return GuideStyle()


class Stateless(Model):
    def save(self) -> dict[str, Any] | None:
        return None


class GuideStyle(MLPluginInterface):
    def __init__(self) -> None:
        super().__init__(PluginMetadata("guide-style", "1.0.0", "Trains itself."), Stateless())

    def optimize(
        self, request_data: dict[str, Any], historical_data: list[WorkloadDataPoint] | None = None
    ) -> dict[str, Any]:
        if historical_data and len(historical_data) >= 10 and not self.model.is_trained:
            self.train_model(historical_data)
        return super().optimize(request_data, historical_data)


# --- plugins with one fault each, and the test that finds it


class BadName(Plugin):
    def __init__(self) -> None:
        super().__init__()
        self.metadata.name = "Bad Name"


class ReservedName(Plugin):
    def __init__(self) -> None:
        super().__init__()
        self.metadata.name = "none"


class TypesAsAString(Plugin):
    def __init__(self) -> None:
        super().__init__()
        self.metadata.supported_types = "ml-driven"


class RaisesOnShutdown(Plugin):
    def shutdown(self) -> None:
        if not self.is_initialized:
            raise RuntimeError("not initialized")
        super().shutdown()


class TrainsBeforeInit(Plugin):
    def train_model(self, data: list[WorkloadDataPoint]) -> None:
        self.model.train(data)


class NeedsMoreConfig(Plugin):
    class Schema(pydantic.BaseModel):
        needed: str

    config_schema = Schema

    def init(self, config: Mapping[str, Any] | None = None) -> None:
        self.is_initialized = True


class HandlesNothing(Plugin):
    def can_handle(self, request_type: str) -> bool:
        return False


class ReturnsNone(Plugin):
    def optimize(self, request_data: Any, historical_data: Any = None) -> Any:
        return None


class RaisesUntrained(Plugin):
    def optimize(self, request_data: Any, historical_data: Any = None) -> Any:
        return {"success": True, "result": self.predict(request_data).prediction["missing"]}


class SaysNo(Plugin):
    def optimize(self, request_data: Any, historical_data: Any = None) -> Any:
        return {"success": False, "error": "no"}


class ChangesTheRequest(Plugin):
    def optimize(self, request_data: Any, historical_data: Any = None) -> Any:
        request_data["seen"] = True
        return super().optimize(request_data, historical_data)


class ChangesTheHistory(Plugin):
    def train_model(self, data: list[WorkloadDataPoint]) -> None:
        super().train_model(data)
        data[0].metadata["seen"] = True


class SharesItsModel(Plugin):
    shared = Model()

    def __init__(self) -> None:
        super().__init__(self.shared)


class HalfTrained(Model):
    def train(self, data: list[WorkloadDataPoint]) -> None:
        self.is_trained = True
        super().train(data)


class NeverTrained(Model):
    def train(self, data: list[WorkloadDataPoint]) -> None:
        del data


class Forgetful(Model):
    def load(self, state: Mapping[str, Any]) -> None:
        self.is_trained = True


class SavesAnObject(Model):
    def save(self) -> dict[str, Any] | None:
        return {"model": self}


class StrangeInfo(Model):
    def train(self, data: list[WorkloadDataPoint]) -> None:
        super().train(data)
        self.training_metadata = {"data": data}


FAULTS: list[tuple[Any, str, str]] = [
    (BadName, "test_metadata", "metadata.name must be lower-case"),
    (ReservedName, "test_metadata", "'none': it is reserved"),
    (TypesAsAString, "test_metadata", "supported_types must be a list"),
    (RaisesOnShutdown, "test_starting_and_stopping", "not initialized"),
    (TrainsBeforeInit, "test_nothing_is_done_before_init", "train_model before init must raise RuntimeError"),
    (NeedsMoreConfig, "test_config_schema", "needed"),
    (HandlesNothing, "test_types", r"can_handle\('ml-driven'\) must be True"),
    (ReturnsNone, "test_without_history_it_answers_or_says_no", "must return a dict, not NoneType"),
    (RaisesUntrained, "test_without_history_it_answers_or_says_no", "missing"),
    (SaysNo, "test_trained_it_answers", "said: no"),
    (ChangesTheRequest, "test_what_it_is_given_stays_as_it_is", "changes the request"),
    (ChangesTheHistory, "test_what_it_is_given_stays_as_it_is", "changes the history"),
    (SharesItsModel, "test_plugins_share_nothing", "they share a model"),
    (lambda: Plugin(HalfTrained()), "test_too_little_to_learn_from", "must stay False where training failed"),
    (lambda: Plugin(NeverTrained()), "test_trained_it_answers", "train must set is_trained"),
    (lambda: Plugin(Forgetful()), "test_a_saved_model_answers_the_same", "after load the answer is"),
    (lambda: Plugin(SavesAnObject()), "test_a_saved_model_answers_the_same", r"state\['model'\] is no JSON"),
    (lambda: Plugin(StrangeInfo()), "test_info", r"get_info\(\) is no JSON"),
]


@pytest.mark.parametrize(("make", "name", "message"), FAULTS, ids=[f"{fault[1]}-{fault[2]}" for fault in FAULTS])
def test_faults_are_found(make: Any, name: str, message: str) -> None:
    contract = TestAGoodPlugin()
    contract.make_plugin = make  # type: ignore[method-assign]
    with pytest.raises((AssertionError, RuntimeError, KeyError, ValueError), match=message):
        getattr(contract, name)()


def test_every_test_of_the_contract_can_fail() -> None:
    tests = {name for name in vars(PluginContract) if name.startswith("test_")}
    assert {name for _, name, _ in FAULTS} == tests


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([], "must return a dict"),
        ({}, "'success'"),
        ({"success": 1, "result": {}}, "'success'"),
        ({"success": False}, "'error'"),
        ({"success": True}, "'result'"),
        ({"success": True, "result": {"x": float("nan")}}, "no JSON"),
        ({"success": True, "result": (x for x in ())}, "no JSON"),
        ({"success": True, "result": {}, "confidence": 1.5}, "0 to 1"),
        ({"success": True, "result": {}, "confidence": True}, "0 to 1"),
        ({"success": True, "result": {}, "model_id": 3}, "'model_id'"),
    ],
)
def test_answers_that_are_none(answer: Any, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_answer(answer)


def test_numbers_of_numpy_are_numbers() -> None:
    answer = {"success": np.bool_(True), "result": {"a": np.arange(2)}, "confidence": np.float32(0.5)}
    check_answer(answer)
    with pytest.raises(AssertionError, match="no JSON"):
        check_answer({**answer, "result": np.array([0.0, np.nan])})
    with pytest.raises(AssertionError, match="0 to 1"):
        check_answer({**answer, "confidence": np.float32(1.5)})


def test_states() -> None:
    check_state({"trees": [{"left": np.arange(3), "depth": 2}], "name": "x", "nothing": None})
    for state, message in [
        ({"a": np.array([object()])}, r"state\['a'\]: an array of object"),
        ({"a": [1, {2: 3}]}, r"state\['a'\]\[1\]: keys must be strings"),
        ({"a": float("inf")}, r"state\['a'\] is no JSON"),
    ]:
        with pytest.raises(AssertionError, match=message):
            check_state(state)


def test_sample_history() -> None:
    points = sample_history(60, ("resource", "ml-driven"), seed=3)
    assert points == sample_history(60, ("resource", "ml-driven"), seed=3)
    assert points != sample_history(60, ("resource", "ml-driven"), seed=4)
    assert {point.request_type for point in points} == {"resource", "ml-driven"}
    assert {point.success for point in points} == {True, False}
    assert all(point.metadata["outcome"]["closedAt"] < NOON_MS for point in points)
