"""Learn from history with the standard library and the SDK's data classes, nothing else.

python examples/standalone_example.py
"""

from __future__ import annotations

import random
import statistics
from collections import defaultdict

from engine_ops.ml import PredictionResult, WorkloadDataPoint, WorkloadDataset

HOUR_MS = 3_600_000
START_MS = 1_767_225_600_000  # 2026-01-01 00:00 UTC


def made_up_history(count: int) -> WorkloadDataset:
    """Return an hourly run of three jobs: the seconds it takes grow with the rows, at a rate of each job's own."""
    chance = random.Random(7)  # noqa: S311 -- made-up data, no secret
    ms_per_row = {"report": 40, "import": 90, "train": 350}
    points = []
    for hour in range(count):
        name = chance.choice(sorted(ms_per_row))
        rows = chance.choice((100, 200, 400, 800))
        points.append(
            WorkloadDataPoint(
                timestamp=START_MS + hour * HOUR_MS,
                request_type="ml-driven",
                resource_usage={"cpu": 1.0, "memory": rows * 2.0**20},
                duration=ms_per_row[name] * rows * chance.lognormvariate(0, 0.15),
                success=chance.random() < 0.95,
                metadata={"workload": {"namespace": "shop", "kind": "Job", "name": name}, "request": {"rows": rows}},
            )
        )
    return WorkloadDataset(points)


def learned(data: WorkloadDataset) -> dict[str, float]:
    """Return the median of milliseconds per row, by job; failures are left out, they end early."""
    rates = defaultdict(list)
    for point in data:
        if point.success:
            rates[point.metadata["workload"]["name"]].append(point.duration / point.metadata["request"]["rows"])
    return {name: statistics.median(values) for name, values in sorted(rates.items())}


def predict(rates: dict[str, float], name: str, rows: int) -> PredictionResult:
    """Return what a run of so many rows will take."""
    return PredictionResult({"expected_duration": round(rates[name] * rows)}, confidence=None, model_id="ms-per-row")


def main() -> None:
    """Learn from the first 160 runs, predict the other 40."""
    data = made_up_history(200)
    past = data.filter_by_time_range(START_MS, START_MS + 159 * HOUR_MS)
    future = data.get_recent(40)
    rates = learned(past)
    print(f"learned from {len(past)} runs:", ", ".join(f"{name} {rate:.0f} ms/row" for name, rate in rates.items()))

    errors = []
    for point in future:
        name, rows = point.metadata["workload"]["name"], point.metadata["request"]["rows"]
        predicted = predict(rates, name, rows).prediction["expected_duration"]
        errors.append(abs(predicted - point.duration) / point.duration)
    print(f"off by {statistics.median(errors):.0%} (median of {len(future)} later runs), {max(errors):.0%} at most")
    print("a run of 500 rows:", predict(rates, "import", 500).to_dict())


if __name__ == "__main__":
    main()
