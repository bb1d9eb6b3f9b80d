"""Plugins that users wrote for the guide of the system before this one, through a session; see `test_guide_code`."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from test_guide_code import PAGES, run, tensorflow
from test_plugin_session import asked, session_of, tell

from engine_ops.ml import BaseMLModel, MLPluginInterface
from engine_ops.ml.testing import sample_history
from engine_ops.plugins import MLOptimizationPlugin
from engine_ops.plugins.messages import Ask, Broken, Train, Trained
from engine_ops.plugins.session import PluginSession

pytestmark = pytest.mark.skipif(not PAGES, reason="the guide is not there: ../shared/reference")

__all__ = ["tensorflow"]  # a fixture that is always in use

REQUEST = {"workload_size": 200, "priority": "high"}


def plugin_of_the_guide() -> MLPluginInterface:
    made: MLPluginInterface = run("class MyMLModel", "class MyPlugin")["MyPlugin"]()
    return made


def trained(session: PluginSession, *, replay: Ask | None = None) -> Trained | Broken:
    tell(session, sample_history(40))
    answer = session.handle(Train(replay))
    assert isinstance(answer, Trained | Broken)
    return answer


def test_trained_aside_it_answers_and_does_not_train_again() -> None:
    session = session_of(plugin_of_the_guide)
    assert asked(session, REQUEST, "resource").no == "Model not trained"
    answer = trained(session)
    assert isinstance(answer, Trained)
    assert (answer.model_id, answer.samples, answer.is_trained) == ("my-model", 40, True)
    assert msgspec.json.decode(answer.training_metadata) == {"training_samples": 40, "model_type": "custom"}
    tell(session, sample_history(60, seed=1))
    reply = asked(session, REQUEST, "resource")
    assert reply.scored == {
        "expected_duration": 100.0,
        "recommended_resources.cpu": 4.0,
        "recommended_resources.memory": 8192.0,
    }
    assert (reply.model_id, reply.claimed_confidence) == ("my-model", 0.85)
    plugin = session._plugin
    assert isinstance(plugin, MLPluginInterface)
    assert plugin.model.training_metadata["training_samples"] == 40


def test_given_a_history_it_trains_in_a_request_as_it_was_written() -> None:
    session = session_of(plugin_of_the_guide)
    tell(session, sample_history(9))
    assert asked(session, REQUEST).no == "Model not trained"
    tell(session, sample_history(10))
    assert asked(session, REQUEST).no is None


def test_too_little_to_train_on_is_told() -> None:
    session = session_of(plugin_of_the_guide)
    tell(session, sample_history(9))
    assert session.handle(Train()) == Broken("train", "train_model failed: ValueError: Insufficient training data")


@pytest.mark.parametrize("name", ["SkLearnModel", "TFModel"])
def test_a_model_without_predict_is_trained_and_says_no(name: str) -> None:
    np.random.seed(0)  # noqa: NPY002 -- the guide's forest takes numpy's shared numbers

    def make() -> MLOptimizationPlugin:
        model: BaseMLModel = run(f"class {name}")[name]()
        return MLOptimizationPlugin(model)

    session = session_of(make)
    answer = trained(session)
    assert isinstance(answer, Trained)
    assert answer.is_trained is True
    assert answer.state == b""
    reply = asked(session, REQUEST)
    assert reply.no is not None
    assert "has no predict method" in reply.no
    assert not reply.failed


@pytest.mark.parametrize("name", ["SimplePredictorPlugin", "ResourceOptimizerPlugin"])
def test_the_models_that_come_with_it_answer(name: str) -> None:
    session = session_of(run(name)[name])
    assert isinstance(trained(session), Trained)
    reply = asked(session, REQUEST)
    assert reply.no is None
    assert "expected_duration" in reply.scored
