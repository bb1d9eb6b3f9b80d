"""From history to a plugin that answers, in one process: collect, look, register, train, ask, score, save, load.

python examples/python_example.py
"""

from __future__ import annotations

import json
import random
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pydantic

from engine_ops import EngineConfig, OptimizationEngine, OptimizationRequest, PluginConfig, plugin_registry
from engine_ops.ml import (
    BaseMLModel,
    MLPluginInterface,
    PluginMetadata,
    PredictionResult,
    WorkloadDataPoint,
    WorkloadDataset,
)
from engine_ops.ml.keys import workload_key
from engine_ops.ml.scoring import DURATION, RecentOutcomes, actual_values, loss, skill

HOUR_MS = 3_600_000
START_MS = 1_767_225_600_000  # 2026-01-01 00:00 UTC
JOBS = {"report": 40, "import": 90, "train": 350}
"""Milliseconds a row, which the model does not know."""


class RatePerRow(BaseMLModel):
    """Duration and memory per row, each workload's own median.

    Medians, so that a few runs that hung do not spoil it; failures are left out, they end early.
    """

    def __init__(self) -> None:
        super().__init__("rate-per-row")
        self.rates: dict[str, dict[str, float]] = {}

    def train(self, data: list[WorkloadDataPoint]) -> None:
        """Learn the rates."""
        if not self.validate_training_data(data, "duration"):
            raise ValueError("fewer than 10 runs whose duration is known")
        by_workload: defaultdict[str, list[WorkloadDataPoint]] = defaultdict(list)
        for point in data:
            key = workload_key(point)
            if key is not None and point.success:
                by_workload[key].append(point)
        self.rates = {
            key: {
                "duration": statistics.median(each.duration / _rows(each) for each in points),
                "memory": statistics.median(each.resource_usage["memory"] / _rows(each) for each in points),
            }
            for key, points in by_workload.items()
        }
        self.is_trained = True
        self.training_metadata = {"samples": len(data), "workloads": len(self.rates)}

    def predict(self, input_data: dict[str, Any]) -> PredictionResult:
        """Scale the workload's rates to the request's rows."""
        workload = input_data["workload"]
        rates = self.rates["{namespace}/{kind}/{name}".format(**workload)]
        rows = input_data["rows"]
        return PredictionResult(
            {
                "expected_duration": rates["duration"] * rows,
                "recommended_resources": {"memory": rates["memory"] * rows},
            },
            confidence=None,  # how often it is right is measured, not claimed
            model_id=self.model_id,
        )

    def save(self) -> dict[str, Any] | None:
        """Return the rates: plain JSON."""
        return {"rates": self.rates, "training_metadata": self.training_metadata}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take the rates over."""
        self.rates = dict(state["rates"])
        self.training_metadata = dict(state["training_metadata"])
        self.is_trained = True


class Config(pydantic.BaseModel, extra="forbid"):
    """What a user may set."""

    headroom: float = pydantic.Field(default=1.2, ge=1, description="Memory recommended, as a multiple of the expected")


class RatePlugin(MLPluginInterface):
    """Recommends memory with headroom, and says no about workloads that it has not seen."""

    config_schema = Config

    def __init__(self) -> None:
        metadata = PluginMetadata("rate-plugin", "1.0.0", "Scales with the rows", supported_types=["ml-driven"])
        super().__init__(metadata, RatePerRow())

    def optimize(
        self, request_data: dict[str, Any], historical_data: list[WorkloadDataPoint] | None = None
    ) -> dict[str, Any]:
        """Answer with what the model predicts, and headroom."""
        try:
            answer = super().optimize(request_data, historical_data)
        except KeyError as error:
            return {"success": False, "error": f"nothing is known of {error}"}
        if answer["success"]:
            answer["result"]["recommended_resources"]["memory"] *= self.config["headroom"]
        return answer


def made_up_run(chance: random.Random, hour: int) -> WorkloadDataPoint:
    """Return one run of a job."""
    name, rows = chance.choice(sorted(JOBS)), chance.choice((100, 200, 400, 800))
    return WorkloadDataPoint(
        START_MS + hour * HOUR_MS,
        "ml-driven",
        {"cpu": 1.0, "memory": rows * 2.0**20 * chance.lognormvariate(0, 0.1)},
        JOBS[name] * rows * chance.lognormvariate(0, 0.15),
        chance.random() < 0.95,
        {"workload": {"namespace": "shop", "kind": "Job", "name": name}, "request": {"rows": rows}},
    )


def request_of(point: WorkloadDataPoint) -> dict[str, Any]:
    """Return the request that was made before the run: nothing of its outcome."""
    return {"type": point.request_type, "workload": point.metadata["workload"], **point.metadata["request"]}


def _rows(point: WorkloadDataPoint) -> float:
    return float(point.metadata["request"]["rows"])


def collected() -> WorkloadDataset:
    """Return the history of an engine that was told what became of 250 runs."""
    chance = random.Random(7)  # noqa: S311 -- made-up data, no secret
    with OptimizationEngine(EngineConfig(enable_workload_collection=True)) as engine:
        for hour in range(250):
            engine.record(made_up_run(chance, hour))
        collector = engine.collector
        return collector.dataset() if collector is not None else WorkloadDataset()


def skill_of(plugin: MLPluginInterface, past: WorkloadDataset, later: WorkloadDataset) -> float | None:
    """Return how much better the plugin is than the median of the workload's last five; 1 is perfect, 0 as good."""
    baseline = RecentOutcomes()
    for point in past:
        baseline.observe(workload_key(point), point.request_type, actual_values(point))
    losses, baseline_losses = [], []
    for point in later:
        guess = baseline.predict(workload_key(point), point.request_type, DURATION)
        expected = plugin.predict(request_of(point)).prediction[DURATION]
        if guess is not None:
            losses.append(loss(DURATION, expected, point.duration))
            baseline_losses.append(loss(DURATION, guess, point.duration))
        baseline.observe(workload_key(point), point.request_type, actual_values(point))
    return skill(losses, baseline_losses)


def main() -> None:
    """Go through the whole of it."""
    data = collected()
    figures = data.get_statistics()
    print(f"history: {figures['total_requests']} runs, {figures['success_rate']:.0%} succeeded")
    past, later = WorkloadDataset(data.data_points[:200]), WorkloadDataset(data.data_points[200:])

    plugin = RatePlugin()
    config = {"headroom": 1.5}
    plugin_registry.register(plugin, PluginConfig(priority=10, config=config))  # calls init with it
    data_of_request = {"workload": {"namespace": "shop", "kind": "Job", "name": "import"}, "rows": 500}
    request = OptimizationRequest(id="how-long", type="ml-driven", data=data_of_request)

    def names() -> list[str]:
        return [entry.name for entry in plugin_registry.select(request)]

    print("asked in this order:", names())
    question = {"type": request.type, "constraints": {}, **request.data}
    print("untrained:", plugin.optimize(question, past.data_points))

    plugin.train_model(past.data_points)
    print("trained:", plugin.get_info()["model"])
    answer = plugin.optimize(question, past.data_points)
    print(f"a run of 500 rows: {answer['result'][DURATION] / 1000:.1f} s")
    print(f"memory for it: {answer['result']['recommended_resources']['memory'] / 2**20:.0f} MiB")
    stranger = {**question, "workload": {"namespace": "shop", "kind": "Job", "name": "new"}}
    print("a workload never seen:", plugin.optimize(stranger, past.data_points))
    print(f"skill on the next {len(later)} runs: {skill_of(plugin, past, later):.2f}")

    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "model.json"
        file.write_text(json.dumps(plugin.model.save()), encoding="utf-8")
        restored = RatePlugin()
        restored.init(config)
        restored.model.load(json.loads(file.read_text(encoding="utf-8")))
    print("loaded from a file, it answers the same:", restored.optimize(question) == answer)
    try:
        plugin_registry.update_config("rate-plugin", {"config": {"headroom": 0.5}})
    except ValueError as error:
        print("a configuration that is refused:", error)
    print("left out until it has another:", names())
    plugin_registry.update_config("rate-plugin", {"config": config})
    print("with the old one:", names())
    plugin_registry.disable("rate-plugin")
    print("disabled:", names())
    plugin_registry.unregister("rate-plugin")


if __name__ == "__main__":
    main()
