"""Plugins whose objects lie, or fail, wherever they are looked at: each message has an answer that can be sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from engine_ops import OptimizationRequest, OptimizationResult
from engine_ops.history.collector import WorkloadCollector
from engine_ops.history.feed import HistoryFeed
from engine_ops.ml import BaseMLModel, MLPluginInterface, PluginMetadata, WorkloadDataPoint
from engine_ops.ml.testing import sample_history
from engine_ops.plugins import BaseOptimizationPlugin
from engine_ops.plugins.base import PluginError
from engine_ops.plugins.messages import Answer, Ask, Open, Train
from engine_ops.plugins.session import PluginSession

ASK = Ask("shop/r1", "resource", b"{}")


class _Model(BaseMLModel):
    def train(self, data: list[WorkloadDataPoint]) -> None:
        self.is_trained = True


class Honest(MLPluginInterface):
    def __init__(self) -> None:
        super().__init__(PluginMetadata("honest", "1.0.0", "A test"), _Model("model"))

    def optimize(self, request_data: dict[str, Any], historical_data: Any = None) -> dict[str, Any]:
        return {"success": True, "result": {"expected_duration": 1.0}}


class RaisesForItsClass(BaseOptimizationPlugin):
    metadata = PluginMetadata("classless", "1.0.0", "A test")

    @property
    def __class__(self) -> type:  # type: ignore[override]
        if getattr(self, "asked", False):
            raise KeyboardInterrupt
        return type(self)

    def optimize(self, request: OptimizationRequest, historical_data: Any = None) -> OptimizationResult:
        return self.refuse(request, "no")

    def init(self, config: Any = None) -> None:
        self.asked = True


class _LikeABoolean:
    @property
    def __class__(self) -> type:  # type: ignore[override]
        return bool


class IsTrainedSomehow(Honest):
    def __init__(self) -> None:
        super().__init__()
        self.model.is_trained = _LikeABoolean()  # type: ignore[assignment]


class _UntoldError(PluginError):
    def __str__(self) -> str:
        raise SystemExit("no text")


class RaisesUntold(Honest):
    def optimize(self, request_data: dict[str, Any], historical_data: Any = None) -> dict[str, Any]:
        raise _UntoldError


class RaisesUntoldInInit(Honest):
    def init(self, config: Any = None) -> None:
        raise _UntoldError


class _Schema:
    @staticmethod
    def model_json_schema() -> dict[str, Any]:
        schema: dict[str, Any] = {}
        schema["properties"] = schema
        return schema

    @staticmethod
    def model_validate(value: Any) -> Any:
        return value


class HasAnEndlessSchema(Honest):
    config_schema: Any = _Schema


class HasLoneSurrogates(Honest):
    def __init__(self) -> None:
        MLPluginInterface.__init__(
            self, PluginMetadata("a\ud800b", "1\udfff", "x" * 5000 + "\ud800", "\ud800"), _Model("\udc00" * 1000)
        )


class _Meta(type):
    def __getattribute__(cls, name: str) -> Any:
        if name in {"optimize", "can_handle", "__name__"}:
            raise OSError(name)
        return super().__getattribute__(name)


class HasAHostileMetaclass:
    """Returns an object of such a class, and a subclass of str that says something else each time."""

    def __new__(cls) -> Any:
        class _Odd(metaclass=_Meta):
            pass

        class Returns(Honest):
            def optimize(self, request_data: dict[str, Any], historical_data: Any = None) -> Any:
                return {"success": True, "result": {"x": _Odd()}}

        return Returns()


class HugeNumbers(Honest):
    def optimize(self, request_data: dict[str, Any], historical_data: Any = None) -> dict[str, Any]:
        amounts = {f"r{number}": 1e308 for number in range(1000)}
        return {
            "confidence": 1.0,
            "result": {"expected_duration": 1.7976931348623157e308, "recommended_resources": amounts},
        }


class EatsItsPoints(_Model):
    def train(self, data: list[WorkloadDataPoint]) -> None:
        super().train(data)
        data.clear()


class RaisesAfterItsTraining(_Model):
    def train(self, data: list[WorkloadDataPoint]) -> None:
        super().train(data)
        self.done = True

    def __getattribute__(self, name: str) -> Any:
        if name in {"save", "training_metadata", "use_history", "model_id"} and "done" in object.__getattribute__(
            self, "__dict__"
        ):
            raise KeyboardInterrupt
        return super().__getattribute__(name)


def with_model(model: Callable[[str], Any]) -> Callable[[], Any]:
    def make() -> Any:
        plugin = Honest()
        plugin.model = model("model")
        return plugin

    return make


LIARS: list[Callable[[], Any]] = [
    Honest,
    RaisesForItsClass,
    IsTrainedSomehow,
    RaisesUntold,
    RaisesUntoldInInit,
    HasAnEndlessSchema,
    HasLoneSurrogates,
    HasAHostileMetaclass,
    HugeNumbers,
    with_model(EatsItsPoints),
    with_model(RaisesAfterItsTraining),
]


@pytest.mark.parametrize("make", LIARS)
def test_every_message_is_answered(make: Callable[[], Any]) -> None:
    session = PluginSession(make)
    history = WorkloadCollector()
    for point in sample_history(40):
        history.record(point)
    feed = HistoryFeed(history)
    messages = [Open("", "p"), *feed.updates_for(feed.cursor()), ASK, Train(ASK), ASK]
    answers = [answer for message in messages if (answer := session.handle(message)) is not None]
    assert len(answers) == 4
    decode = msgspec.msgpack.Decoder(Answer).decode
    for answer in answers:
        # What an honest session says is within the bounds that the operator decodes with.
        assert decode(msgspec.msgpack.encode(answer)) == answer
