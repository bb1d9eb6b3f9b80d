"""What is known of how well a model predicts."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine_ops.ml.scoring import RecentOutcomes
from engine_ops.plugins import skill as skill_module
from engine_ops.plugins.promotion import decide_promotion
from engine_ops.plugins.scored import Scored
from engine_ops.plugins.skill import SkillTracker, paired_losses

DURATION = "expected_duration"


class World:
    """One baseline, and the outcomes in order."""

    def __init__(self) -> None:
        self.baseline = RecentOutcomes()
        self.count = 0

    def outcome(self, actual: float, *predicted: tuple[SkillTracker, float]) -> list[Scored | None]:
        point = f"p{self.count}"
        self.count += 1
        for tracker, value in predicted:
            tracker.asked(point, "ns/Job/a", "resource", {DURATION: value, "note": "x"})
        self.baseline.observe("ns/Job/a", "resource", {DURATION: actual})
        return [tracker.known(point, {DURATION: actual}) for tracker, _ in predicted]


def test_skill_by_hand() -> None:
    world = World()
    tracker = SkillTracker(world.baseline)
    world.outcome(3000)
    (scored,) = world.outcome(7000, (tracker, 5000))
    assert scored is not None
    assert scored.losses[DURATION] == pytest.approx(math.log(8 / 6))
    assert scored.baseline_losses[DURATION] == pytest.approx(math.log(8 / 4))
    assert scored.within == {DURATION: False}
    (found,) = tracker.skills()
    assert found.skill == pytest.approx(1 - math.log(8 / 6) / math.log(2))
    assert (found.key, found.outcomes, found.confidence) == (DURATION, 1, None)


def test_the_baseline_knows_nothing_of_what_came_after_the_question() -> None:
    baseline = RecentOutcomes()
    tracker = SkillTracker(baseline)
    baseline.observe(None, "resource", {DURATION: 1000})
    tracker.asked("a", None, "resource", {DURATION: 1000})
    for _ in range(5):
        baseline.observe(None, "resource", {DURATION: 9000})
    scored = tracker.known("a", {DURATION: 9000})
    assert scored is not None
    assert scored.baseline_losses[DURATION] == pytest.approx(math.log(10 / 2))


def test_before_any_outcome_there_is_nothing_to_compare_with() -> None:
    world = World()
    tracker = SkillTracker(world.baseline)
    assert world.outcome(1000, (tracker, 1000)) == [None]
    assert tracker.skills() == []


def test_what_cannot_be_scored_is_told() -> None:
    tracker = SkillTracker(RecentOutcomes())
    assert not tracker.asked("a", None, "resource", {"workload": 3, DURATION: -1, "success_rate": 2})
    assert tracker.pending == 0
    assert tracker.known("a", {DURATION: 1}) is None


def test_an_outcome_counts_once_and_the_first_prediction_stands() -> None:
    world = World()
    tracker = SkillTracker(world.baseline)
    world.outcome(1000)
    tracker.asked("x", None, "resource", {DURATION: 1000})
    tracker.asked("x", None, "resource", {DURATION: 9000})
    scored = tracker.known("x", {DURATION: 1000})
    assert scored is not None
    assert scored.losses == {DURATION: 0.0}
    assert tracker.known("x", {DURATION: 1000}) is None


def test_confidence_is_there_from_thirty_on() -> None:
    world = World()
    tracker = SkillTracker(world.baseline)
    world.outcome(1000)
    for number in range(30):
        assert number == 0 or tracker.skills()[0].confidence is None
        world.outcome(1000, (tracker, 1240 if number % 3 else 2000))
    assert tracker.skills()[0].confidence == pytest.approx(20 / 30)


def test_tolerance_is_configurable() -> None:
    world = World()
    strict, lax = SkillTracker(world.baseline, tolerance=1.1), SkillTracker(world.baseline, tolerance=3)
    world.outcome(1000)
    for _ in range(30):
        world.outcome(1000, (strict, 2000), (lax, 2000))
    assert strict.skills()[0].confidence == 0
    assert lax.skills()[0].confidence == 1
    with pytest.raises(ValueError, match="tolerance"):
        SkillTracker(world.baseline, tolerance=0.9)


def test_drift_is_measured_against_the_loss_at_promotion() -> None:
    world = World()
    tracker = SkillTracker(world.baseline)
    world.outcome(1000)
    for _ in range(60):
        world.outcome(1000, (tracker, 3000))
    assert not tracker.has_drifted
    tracker.promoted()
    for _ in range(50):
        assert not tracker.has_drifted
        world.outcome(1000, (tracker, 9000))
    assert tracker.has_drifted


def test_durations_come_first_and_then_what_was_scored_most() -> None:
    baseline = RecentOutcomes()
    values = {DURATION: 1000.0, "success_rate": 1.0, "recommended_resources.cpu": 2.0}
    baseline.observe(None, "resource", values)
    tracker = SkillTracker(baseline)
    tracker.asked("a", None, "resource", {"success_rate": 0.5, "recommended_resources": {"cpu": 2}})
    tracker.known("a", values)
    tracker.asked("b", None, "resource", {DURATION: 1000, "success_rate": 1})
    tracker.known("b", values)
    assert [(s.key, s.outcomes) for s in tracker.skills()] == [
        (DURATION, 1),
        ("success_rate", 2),
        ("recommended_resources.cpu", 1),
    ]


def test_models_are_paired_on_what_both_were_asked_for() -> None:
    world = World()
    ours, theirs = SkillTracker(world.baseline), SkillTracker(world.baseline)
    world.outcome(1000)
    world.outcome(1000, (theirs, 1000))
    world.outcome(1000, (ours, 3000), (theirs, 1000))
    world.outcome(1000, (ours, 3000))
    candidate, baseline, current = paired_losses(ours.scored, theirs.scored)
    assert candidate == pytest.approx([math.log(2)])
    assert (baseline, current) == ([0.0], [0.0])
    candidate, baseline, current = paired_losses(ours.scored)
    assert candidate == pytest.approx([math.log(2)] * 2)
    assert (baseline, current) == ([0.0, 0.0], None)


def test_only_keys_that_both_predicted_are_compared() -> None:
    ours = [Scored("a", {DURATION: 5.0, "success_rate": 1.0}, {DURATION: 4.0, "success_rate": 2.0}, {})]
    theirs = [Scored("a", {"success_rate": 3.0}, {"success_rate": 2.0}, {})]
    assert paired_losses(ours, theirs) == ([1.0], [2.0], [3.0])
    assert paired_losses(ours, [Scored("a", {"recommended_resources.cpu": 3.0}, {}, {})]) == ([], [], [])


def test_a_better_model_gets_from_predictions_to_a_promotion() -> None:
    world = World()
    good, bad = SkillTracker(world.baseline), SkillTracker(world.baseline)
    for number in range(62):
        actual = 60_000.0 if number % 7 else 1000.0
        world.outcome(actual, (good, actual * 1.1), (bad, 5000.0))
    assert decide_promotion(*paired_losses(good.scored, bad.scored)).passed
    assert not decide_promotion(*paired_losses(bad.scored, good.scored)).passed


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(skill_module, "MAX_PENDING", 3)
    world = World()
    world.outcome(1000)
    tracker = SkillTracker(world.baseline)
    for number in range(5):
        tracker.asked(str(number), None, "resource", {DURATION: 1})
    assert tracker.pending == 3
    assert tracker.known("1", {DURATION: 1}) is None
    assert tracker.known("2", {DURATION: 1}) is not None


anything = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=2))
predictions = st.dictionaries(
    st.sampled_from((DURATION, "success_rate", "recommended_resources", "other")),
    st.one_of(anything, st.dictionaries(st.sampled_from(("cpu", "memory")), anything)),
)


@settings(max_examples=200)
@given(st.lists(st.tuples(predictions, st.floats(0, 1e12), st.floats(0, 1)), max_size=8))
def test_whatever_is_predicted_is_scored_finitely_or_not_at_all(
    steps: list[tuple[dict[str, object], float, float]],
) -> None:
    baseline = RecentOutcomes()
    tracker = SkillTracker(baseline)
    for number, (prediction, duration, success) in enumerate(steps):
        values = {DURATION: duration, "success_rate": success, "recommended_resources.cpu": duration}
        tracker.asked(str(number), None, "resource", prediction)
        tracker.known(str(number), values)
        baseline.observe(None, "resource", values)
    assert tracker.pending == 0
    for found in tracker.skills():
        assert math.isfinite(found.loss)
        assert -1 <= found.skill <= 1
    assert all(math.isfinite(value) for value in paired_losses(tracker.scored)[0])
