"""The naive model: whose outcomes it takes, in which order, and its saved state."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import pytest
from growing_list import GrowingList
from hypothesis import given
from hypothesis import strategies as st

from engine_ops.ml import WorkloadDataPoint, scoring
from engine_ops.ml.keys import known_at
from engine_ops.ml.models import SeasonalNaiveModel, SeasonalNaivePlugin
from engine_ops.ml.models.seasonal_naive import DAY_MS, HOUR_MS
from engine_ops.ml.request import Request
from engine_ops.ml.testing import PluginContract

START = 1_700_006_400_000  # 00:00 UTC


class TestContract(PluginContract):
    def make_plugin(self) -> SeasonalNaivePlugin:
        return SeasonalNaivePlugin()


def point(timestamp: int, duration: float, name: str | None = "a", **changes: Any) -> WorkloadDataPoint:
    metadata = {} if name is None else {"workload": {"namespace": "ns", "kind": "Job", "name": name}}
    values = {"resource_usage": {"cpu": duration / 1000}, "success": True, "request_type": "batch", **changes}
    return WorkloadDataPoint(timestamp=timestamp, duration=duration, metadata=metadata, **values)


def trained(points: list[WorkloadDataPoint], season_ms: int | None = DAY_MS) -> SeasonalNaiveModel:
    model = SeasonalNaiveModel(season_ms=season_ms)
    model.train(points)
    return model


def predict(model: SeasonalNaiveModel, timestamp: int, name: str = "a", kind: str = "batch") -> Any:
    workload = {"namespace": "ns", "kind": "Job", "name": name}
    return model.predict({"type": kind, "timestamp": timestamp, "workload": workload}).prediction


# A workload that takes 1 s by day and 60 s at night, for a week, and some of another name.
DAYS = [point(START + day * DAY_MS + 12 * HOUR_MS, 1000.0) for day in range(7)]
NIGHTS = [point(START + day * DAY_MS, 60_000.0) for day in range(7)]
WEEK_LATER = START + 7 * DAY_MS


def test_the_same_hour_of_the_same_workload_counts_first() -> None:
    model = trained(DAYS + NIGHTS)
    assert predict(model, WEEK_LATER)["expected_duration"] == 60_000
    assert predict(model, WEEK_LATER + 12 * HOUR_MS)["expected_duration"] == 1000
    assert predict(model, WEEK_LATER + 12 * HOUR_MS)["recommended_resources"] == {"cpu": 1.0}


def test_in_another_hour_the_workloads_last_five_count() -> None:
    # The last five to be known: two days and three nights, or the other way round.
    assert predict(trained(DAYS + NIGHTS), WEEK_LATER + 5 * HOUR_MS)["expected_duration"] == 1000
    few = [*DAYS, *NIGHTS[:2], point(START + 3 * HOUR_MS, 1000.0)]
    assert predict(trained(few), WEEK_LATER)["expected_duration"] == 1000  # two nights are too few


def test_an_unknown_workload_is_taken_by_its_type() -> None:
    model = trained(DAYS + NIGHTS)
    assert predict(model, WEEK_LATER, name="new")["expected_duration"] == 60_000
    assert predict(model, WEEK_LATER, kind="other", name="new") == {}


def test_success_is_a_mean_and_unknown_outcomes_are_left_out() -> None:
    points = [point(START + index, 1000.0, success=index % 2 == 0) for index in range(11)]
    points.append(point(START + 99, math.nan, name="b"))
    model = trained(points)
    assert predict(model, WEEK_LATER)["success_rate"] == pytest.approx(3 / 5)
    assert predict(model, WEEK_LATER, name="b") == {"success_rate": 1.0} | {
        key: value for key, value in predict(model, WEEK_LATER).items() if key != "success_rate"
    }


POINTS = st.builds(
    point,
    st.integers(START, START + 3 * DAY_MS),
    st.floats(0, 1e7),
    st.sampled_from(["a", "b", None]),
    success=st.booleans(),
    request_type=st.sampled_from(["batch", "resource"]),
)


@given(st.lists(POINTS, min_size=10, max_size=60))
def test_without_a_season_it_is_the_baseline(points: list[WorkloadDataPoint]) -> None:
    model = trained(points, season_ms=None)
    baseline = scoring.RecentOutcomes()
    for each in sorted(points, key=known_at):
        baseline.observe(Request.of_point(each).workload, each.request_type, scoring.actual_values(each))
    for name in ("a", "b", "c"):
        for kind in ("batch", "resource"):
            expected = {
                key: value
                for key in (scoring.DURATION, scoring.SUCCESS, "recommended_resources.cpu")
                if (value := baseline.predict(f"ns/Job/{name}", kind, key)) is not None
            }
            assert predict(model, WEEK_LATER, name, kind) == scoring.nested(expected)


@given(st.lists(POINTS, min_size=10, max_size=60))
def test_saved_as_json_it_predicts_the_same(points: list[WorkloadDataPoint]) -> None:
    model = trained(points)
    again = SeasonalNaiveModel(season_ms=None)
    again.load(json.loads(json.dumps(model.save(), allow_nan=False)))
    assert again.get_metadata() == model.get_metadata()
    for hour in range(24):
        assert predict(again, WEEK_LATER + hour * HOUR_MS) == predict(model, WEEK_LATER + hour * HOUR_MS)


def test_a_longer_history_is_taken_over_and_an_unchanged_one_is_not_read_again() -> None:
    model = trained(DAYS + NIGHTS)
    longer = [*DAYS, *NIGHTS, *(point(WEEK_LATER + index, 5000.0) for index in range(5))]
    model.use_history(longer)
    assert predict(model, WEEK_LATER + DAY_MS)["expected_duration"] == 5000
    digests: list[int] = []
    model._digest = lambda points: digests.append(len(points))  # type: ignore[method-assign]
    model.use_history(copy.copy(longer))
    model.use_history([])
    model.use_history(None)
    assert digests == []
    model.use_history(longer[1:])
    model.use_history([NIGHTS[0], *longer[2:]])
    assert digests == [len(longer) - 1] * 2


def in_order(points: list[WorkloadDataPoint]) -> list[WorkloadDataPoint]:
    return sorted(points, key=known_at)


@given(st.lists(POINTS, min_size=1, max_size=60), st.integers(1, 30), st.integers(1, 9), st.booleans())
def test_it_keeps_up_with_a_history(points: list[WorkloadDataPoint], capacity: int, step: int, saved: bool) -> None:
    """It knows what a model knows that took the whole history over, and reads what is new only."""
    points = in_order(points)
    history = GrowingList(points[:step])
    model = SeasonalNaiveModel()
    model.is_trained = True
    for first in range(step, len(points) + step, step):
        model.use_history(history)
        fresh = SeasonalNaiveModel()
        fresh.is_trained = True
        fresh.use_history(history.points)
        assert model.save() == fresh.save()
        for hour in (0, 12):
            assert predict(model, WEEK_LATER + hour * HOUR_MS) == predict(fresh, WEEK_LATER + hour * HOUR_MS)
        if saved:
            model.load(json.loads(json.dumps(model.save())))
        history.read = 0
        new = points[first : first + step]
        history.grow(new, capacity)
        model.use_history(history)
        if not saved:
            assert history.read == min(len(new), capacity)
        model.use_history(history)
    assert len(model._recent) <= 16 * len(history), "something is kept of what is gone"


@given(st.lists(POINTS, min_size=1, max_size=40), st.integers(1, 9))
def test_an_outcome_may_be_recorded_later_than_a_newer_one(points: list[WorkloadDataPoint], step: int) -> None:
    history = GrowingList(points[:step])
    model = SeasonalNaiveModel()
    for first in range(step, len(points) + step, step):
        model.use_history(history)
        history.grow(points[first : first + step])
    fresh = SeasonalNaiveModel()
    fresh.use_history(in_order(points))
    assert model.save() == fresh.save()


def test_a_history_of_other_points_is_taken_over_as_a_whole() -> None:
    history = GrowingList(DAYS)
    model = trained(DAYS + NIGHTS)
    model.use_history(history)
    history.replace(NIGHTS)
    model.use_history(history)
    assert predict(model, WEEK_LATER + 12 * HOUR_MS)["expected_duration"] == 60_000
    other = GrowingList(DAYS)
    model.use_history(other)
    assert predict(model, WEEK_LATER)["expected_duration"] == 1_000
    model.use_history(GrowingList())
    assert predict(model, WEEK_LATER)["expected_duration"] == 1_000


def test_trained_on_a_list_it_goes_on_with_the_same_history() -> None:
    history = GrowingList(DAYS + NIGHTS)
    model = trained(history.points)
    history.grow([point(WEEK_LATER, 5.0)])
    model.use_history(history)
    assert history.read == len(history), "these are other points"
    model = trained(list(history.points))
    history.read = 0
    model.use_history(history)
    assert history.read == 2, "more than its ends was read"
    history.grow([point(WEEK_LATER + 1, 5.0)])
    model.use_history(history)
    assert history.read == 3
    by_view = SeasonalNaiveModel()
    by_view.train(history)
    history.read = 0
    by_view.use_history(history)
    assert history.read == 0


def test_what_fails_in_the_middle_is_taken_over_again(monkeypatch: pytest.MonkeyPatch) -> None:
    history = GrowingList(DAYS)
    model = trained(DAYS + NIGHTS)
    model.use_history(history)
    history.grow(NIGHTS)
    observe = SeasonalNaiveModel.observe

    def fails(self: SeasonalNaiveModel, each: WorkloadDataPoint) -> None:
        observe(self, each)
        if each is NIGHTS[2]:
            raise ValueError("no")

    with monkeypatch.context() as patch:
        patch.setattr(SeasonalNaiveModel, "observe", fails)
        with pytest.raises(ValueError, match="no"):
            model.use_history(history)
    model.use_history(history)
    assert model.save() == trained([*DAYS, *NIGHTS]).save()


def test_too_little_is_refused_and_an_untrained_model_says_so() -> None:
    with pytest.raises(ValueError, match="10"):
        SeasonalNaiveModel().train(DAYS)
    with pytest.raises(RuntimeError, match="not trained"):
        SeasonalNaiveModel().predict({"type": "batch"})


@pytest.mark.parametrize("season_ms", [0, 1, -HOUR_MS, HOUR_MS + 1, 2.5, True])
def test_a_season_is_whole_hours(season_ms: Any) -> None:
    with pytest.raises(ValueError, match="season_ms"):
        SeasonalNaiveModel(season_ms=season_ms)


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"format": 2}, "format"),
        ({"recent": {}}, "recent"),
        ({"trainingMetadata": None}, "trainingMetadata"),
        ({"seasonMs": 7}, "season_ms"),
        ({"recent": [["workload", "a", 0]]}, r"recent\[0\]"),
        ({"recent": [["workload", "a", 0, "expected_duration", [math.nan]]]}, "values"),
        ({"recent": [["workload", "a", 0, "expected_duration", []]]}, "values"),
        ({"recent": [["workload", "a", 0.5, "expected_duration", [1]]]}, "hour"),
        ({"recent": [["workload", 1, 0, "expected_duration", [1]]]}, "strings"),
    ],
)
def test_other_states_are_refused_and_change_nothing(changes: dict[str, Any], where: str) -> None:
    model = trained(DAYS + NIGHTS)
    state = model.save()
    with pytest.raises(ValueError, match=where):
        model.load({**state, **changes})
    assert model.save() == state
