"""Code that users wrote for the guide of the system before this one runs as it is.

The documents are no part of the repository: they lie beside it. Without them these tests are skipped. Blocks that call
the HTTP client are left out: test_guide_client.py runs them, against a server.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine_ops.ml import BaseMLModel, MLPluginInterface, WorkloadDataset
from engine_ops.ml.testing import PluginContract, check_answer, sample_history

REFERENCE = Path(__file__).parents[3] / "shared" / "reference"
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LEFT_OUT = ("EngineOpsClient",)


@dataclasses.dataclass(frozen=True)
class Block:
    page: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    blocks = [
        Block(page.stem, text.count("\n", 0, match.start(1)) + 1, match.group(1)) for match in PYTHON.finditer(text)
    ]
    return [block for block in blocks if not any(name in block.text for name in LEFT_OUT)]


PAGES = sorted(REFERENCE.glob("*.txt"))
BLOCKS = [block for page in PAGES for block in blocks_of(page)]

pytestmark = pytest.mark.skipif(not PAGES, reason="the guide is not there: ../shared/reference")


class _Sequential:
    def __init__(self, layers: list[Any]) -> None:
        self.layers = layers
        self.fitted: tuple[Any, Any] | None = None

    def fit(self, features: Any, labels: Any) -> None:
        self.fitted = (features, labels)


@pytest.fixture(autouse=True)
def tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in for TensorFlow, which is a gigabyte: it records what it is given."""
    module = types.ModuleType("tensorflow")
    module.keras = types.SimpleNamespace(Sequential=_Sequential)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorflow", module)


def run(*wanted: str) -> dict[str, Any]:
    """Run the blocks that hold one of these words, in their order, as one program. Return its names."""
    names: dict[str, Any] = {
        "__name__": "guide",
        "historical_data": sample_history(40, ("resource",)),
        "historical_workload_data": sample_history(40),
    }
    chosen = [block for block in BLOCKS if any(word in block.text for word in wanted)]
    assert chosen
    for block in chosen:
        exec(compile(block.text, str(block), "exec"), names)  # noqa: S102 -- the guide's code is what we test
    return names


def test_the_blocks_are_found() -> None:
    assert len(BLOCKS) == 7


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_every_block_runs(block: Block) -> None:
    # A block goes on where the first ones stopped.
    run("class MyMLModel", block.text)


@pytest.fixture
def plugin() -> MLPluginInterface:
    made: MLPluginInterface = run("class MyMLModel", "class MyPlugin")["MyPlugin"]()
    return made


def test_the_plugin_trains_in_optimize(plugin: MLPluginInterface) -> None:
    plugin.init()
    request = {"type": "ml-driven", "constraints": {}, "workload_size": 100, "priority": "high"}
    no = {"success": False, "error": "Model not trained"}
    assert plugin.optimize(request) == no
    assert plugin.optimize(request, sample_history(9)) == no
    assert plugin.optimize(request, sample_history(10)) == {
        "success": True,
        "result": {
            "expected_duration": 100.0,
            "recommended_resources": {"cpu": 4, "memory": 8192},
            "confidence": 0.85,
        },
        "confidence": 0.85,
        "model_id": "my-model",
    }
    assert plugin.model.training_metadata == {"training_samples": 10, "model_type": "custom"}
    info = plugin.get_info()
    assert info["plugin"]["supported_types"] == ["ml-driven", "resource"]
    assert json.loads(json.dumps(info)) == info


def test_the_plugin_trained_aside_does_not_train_again(plugin: MLPluginInterface) -> None:
    plugin.init()
    plugin.train_model(sample_history(20))
    assert plugin.optimize({"type": "ml-driven"}, sample_history(40))["success"]
    assert plugin.model.training_metadata["training_samples"] == 20


def test_the_plugin_needs_init(plugin: MLPluginInterface) -> None:
    with pytest.raises(RuntimeError, match="not initialized"):
        plugin.optimize({"type": "ml-driven"}, sample_history(10))


def test_the_model_refuses_what_is_too_little(plugin: MLPluginInterface) -> None:
    plugin.init()
    with pytest.raises(ValueError, match="Insufficient training data"):
        plugin.train_model(sample_history(9))
    with pytest.raises(RuntimeError, match="Model not trained"):
        plugin.predict({})


class TestTheGuidesPlugin(PluginContract):
    def make_plugin(self) -> MLPluginInterface:
        made: MLPluginInterface = run("class MyMLModel", "class MyPlugin")["MyPlugin"]()
        return made


def test_a_random_forest_is_fitted() -> None:
    model: BaseMLModel = run("class SkLearnModel")["SkLearnModel"]()
    history = sample_history(40)
    np.random.seed(0)  # noqa: NPY002 -- the guide's forest takes numpy's shared numbers
    model.train(history)
    assert model.is_trained
    features, labels = model.preprocess_data(history)
    assert labels == WorkloadDataset(history).to_features_labels()[1]
    # A forest knows what it was shown nearly by heart; one that was shown other labels would not.
    assert model.model.score(features, labels) > 0.5  # type: ignore[attr-defined]
    assert 0 <= model.model.predict([model.feature_vector({}, history)])[0] <= 1  # type: ignore[attr-defined]
    with pytest.raises(NotImplementedError, match="sklearn-rf"):
        model.predict({})


def test_a_network_is_fitted_on_finite_numbers() -> None:
    model: BaseMLModel = run("class TFModel")["TFModel"]()
    history = sample_history(40)
    model.train(history)
    features, labels = model.model.fitted  # type: ignore[attr-defined]
    assert len(features) == len(labels) == 40
    assert all(math.isfinite(number) for row in features for number in row)


def test_models_without_predict_make_plugins_that_say_no() -> None:
    for word in ("SkLearnModel", "TFModel"):
        model = run(f"class {word}")[word]()
        plugin = run("class MyMLModel", "class MyPlugin")["MyPlugin"]()
        plugin.model = model
        plugin.init()
        plugin.train_model(sample_history(20))
        answer = MLPluginInterface.optimize(plugin, {"type": "ml-driven"}, sample_history(20))
        check_answer(answer)
        assert not answer["success"]


@pytest.mark.parametrize("name", ["SimplePredictorPlugin", "ResourceOptimizerPlugin"])
def test_the_models_that_come_with_it_answer(name: str) -> None:
    answer = run(name)["result"]
    check_answer(answer)
    assert answer["success"], answer
