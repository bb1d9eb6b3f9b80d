"""Models that are kept: whole or not at all, the last three, and nothing that was tampered with."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import msgspec
import pytest
from hosted_world import on_a_loop, stage
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_instances import Clock, World, digest_of, spec_of

from engine_ops.api.optimizerplugin import PluginSource
from engine_ops.ml.scoring import RecentOutcomes
from engine_ops.plugins.hosting import Hosting
from engine_ops.plugins.model_keeper import ModelKeeper
from engine_ops.plugins.model_shelf import ModelShelf, Roles
from engine_ops.plugins.model_store import (
    DirectoryModelStore,
    MemoryModelStore,
    ModelRecord,
    ModelStore,
    ModelStoreError,
    SavedModels,
    circumstances,
)
from engine_ops.plugins.scored import Kept, Pairs, Scored
from engine_ops.plugins.skill import SAVED_PENDING, SAVED_SCORED, SkillTracker
from engine_ops.plugins.trained_model import TrainedModel

DURATION = "expected_duration"


def record(name: str, passed: str = "", made_with: str = "now") -> ModelRecord:
    return ModelRecord(digest_of(name), name, 10, 1_800_000_000_000, made_with, passed)


def model(name: str, passed: str = "", made_with: str = "now") -> TrainedModel:
    return TrainedModel(record(name, passed, made_with), SkillTracker(RecentOutcomes()), state=name.encode())


def saved(*names: str) -> SavedModels:
    return SavedModels(
        records=tuple(record(name) for name in names),
        active=digest_of(names[0]),
        candidate="",
        states={digest_of(name): name.encode() for name in names},
        trackers={digest_of(names[0]): b"tracker"},
        points_since=7,
    )


@pytest.fixture(params=["memory", "directory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ModelStore:
    return MemoryModelStore() if request.param == "memory" else DirectoryModelStore(tmp_path / "models")


@on_a_loop
async def test_what_was_saved_is_there_again(store: ModelStore) -> None:
    assert await store.load("a") == SavedModels()
    await store.save("a", saved("one", "two"))
    await store.save("b", saved("other"))
    assert await store.load("a") == saved("one", "two")
    await store.save("a", saved("three"))
    assert await store.load("a") == saved("three")
    await store.forget("a")
    await store.forget("a")
    assert await store.load("a") == SavedModels()
    assert await store.load("b") == saved("other")


@on_a_loop
async def test_states_that_nobody_names_are_removed(tmp_path: Path) -> None:
    store = DirectoryModelStore(tmp_path)
    await store.save("a", saved("one", "two"))
    await store.save("a", saved("two", "three"))
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert names == {"head", *(digest_of(name).replace(":", "-") for name in ("two", "three"))}
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o700


@on_a_loop
async def test_a_directory_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = DirectoryModelStore(tmp_path / "file")
    with pytest.raises(ModelStoreError, match="file"):
        await store.save("a", saved("one"))
    with pytest.raises(ModelStoreError, match="no name"):
        await DirectoryModelStore(tmp_path).save("../a", saved("one"))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "head").write_bytes(b"rubbish")
    with pytest.raises(ModelStoreError, match="cannot be read"):
        await DirectoryModelStore(tmp_path).load("b")


@given(st.binary(max_size=200))
def test_rubbish_is_no_head(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"cannot be read|incompletely|format"):
        SavedModels.of(content, {})


@given(st.integers(0, 200), st.binary(min_size=1, max_size=4))
def test_a_damaged_head_is_told_or_read(at: int, damage: bytes) -> None:
    head = bytearray(saved("one", "two").head())
    head[at % len(head) : at % len(head) + len(damage)] = damage
    # Nothing but a ValueError comes out of it.
    with contextlib.suppress(ValueError):
        assert SavedModels.of(bytes(head), {}).records == saved("one", "two").records


def test_a_model_whose_state_is_missing_is_not_restored() -> None:
    whole = saved("one", "two")
    shelf = ModelShelf()
    shelf.restore(SavedModels.of(whole.head(), {digest_of("two"): b"two"}), RecentOutcomes())
    assert [each.digest for each in shelf] == [digest_of("two")]


def test_circumstances_are_of_code_and_settings() -> None:
    code, other = PluginSource(entry_point="a:B"), PluginSource(entry_point="a:C")
    assert circumstances(code, {"x": 1, "y": 2}) == circumstances(code, {"y": 2, "x": 1})
    assert circumstances(code, None) == circumstances(code, {})
    assert len({circumstances(code, None), circumstances(other, None), circumstances(code, {"x": 1})}) == 3


def test_roles() -> None:
    shelf = ModelShelf()
    old, proven, newer = model("old", "proven"), model("proven", "proven"), model("newer")
    shelf.add(old)
    assert shelf.roles("now") == Roles(old)
    shelf.add(proven)
    shelf.add(newer)
    assert shelf.roles("now") == Roles(proven, newer)
    assert shelf.roles("now", gated=False) == Roles(newer)
    assert shelf.roles("now", pinned=old.digest[:19]) == Roles(old)
    assert shelf.roles("now", pinned="sha256:0") == Roles(proven, newer)
    assert shelf.roles("other") == Roles()
    shelf.promote(newer, "proven")
    assert shelf.roles("now") == Roles(newer)
    assert (old.passed, proven.passed) == ("", "")
    shelf.demote(newer)
    assert shelf.roles("now") == Roles(None, newer)


def test_the_last_three_are_kept_and_those_in_use_in_any_case() -> None:
    shelf = ModelShelf()
    in_use = model("0", "proven")
    in_use.instance = World().make("a", spec_of(), b"", lambda: None)
    shelf.add(in_use)
    for name in "12345":
        shelf.add(model(name))
    assert [each.record.model_id for each in shelf] == ["5", "4", "0"]
    again = model("4")
    shelf.add(again)
    assert [each.record.model_id for each in shelf] == ["4", "5", "0"]


KEYS = st.sampled_from([DURATION, "success_rate", "recommended_resources.cpu"])
VALUES = st.floats(0, 1)


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.dictionaries(KEYS, VALUES), st.dictionaries(KEYS, VALUES), st.booleans()), max_size=40),
    st.integers(0, 40),
    st.integers(0, 40),
)
def test_a_restored_tracker_goes_on_as_the_saved_one(
    steps: list[tuple[dict[str, float], dict[str, float], bool]], marked_at: int, promoted_at: int
) -> None:
    baseline = RecentOutcomes()
    first = SkillTracker(baseline)
    for number, (predicted, actual, is_known) in enumerate(steps):
        if number == marked_at:
            first.mark()
        if number == promoted_at:
            first.promoted()
        first.asked(str(number), None, "resource", nested(predicted))
        baseline.observe(None, "resource", actual)
        if is_known:
            first.known(str(number), actual)
    second = SkillTracker.of_state(first.to_state(), baseline)
    for tracker in (first, second):
        for number, (_, actual, _) in enumerate(steps):
            tracker.known(str(number), actual)
    assert second.scored == first.scored
    assert second.skills() == first.skills()
    assert second.since_mark == first.since_mark
    assert (second.has_drifted, second.knows_its_loss) == (first.has_drifted, first.knows_its_loss)
    assert second.pending == first.pending


def nested(predicted: dict[str, float]) -> dict[str, object]:
    from engine_ops.ml.scoring import nested as of_scoring

    return of_scoring(predicted)


def test_a_saved_tracker_is_bounded_and_small() -> None:
    baseline = RecentOutcomes()
    baseline.observe(None, "resource", {DURATION: 1.0})
    tracker = SkillTracker(baseline)
    for number in range(2 * SAVED_SCORED + 2 * SAVED_PENDING):
        key = number.to_bytes(16, "big").hex()
        tracker.asked(key, None, "resource", {DURATION: float(number)})
        if number < 2 * SAVED_SCORED:
            tracker.known(key, {DURATION: 1.0})
    state = tracker.to_state()
    restored = SkillTracker.of_state(state, baseline)
    assert (len(restored.scored), restored.pending) == (SAVED_SCORED, SAVED_PENDING)
    assert list(restored.scored) == list(tracker.scored)[-SAVED_SCORED:]
    assert len(state) < 300_000


@given(st.binary(max_size=100))
def test_rubbish_is_no_tracker(content: bytes) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        SkillTracker.of_state(content, RecentOutcomes())


NAN = Pairs.of((DURATION,), {DURATION: float("nan")}, {DURATION: 1.0})


@pytest.mark.parametrize(
    "losses", [NAN, Pairs((DURATION,), b"12345678"), Pairs((DURATION,), b"1"), Pairs((), b"")], ids=str
)
def test_losses_that_are_none_are_not_restored(losses: Pairs) -> None:
    tracker = SkillTracker(RecentOutcomes())
    tracker._scored.append(Kept("a", losses, 1))
    with pytest.raises(ValueError, match="not finite, or not paired"):
        SkillTracker.of_state(tracker.to_state(), RecentOutcomes())
    tracker = SkillTracker(RecentOutcomes())
    tracker._pending["a"] = losses
    with pytest.raises(ValueError, match="not finite, or not paired"):
        SkillTracker.of_state(tracker.to_state(), RecentOutcomes())


@given(st.dictionaries(st.text(max_size=3), st.tuples(st.floats(), st.floats(), st.booleans()), min_size=1))
def test_what_was_scored_is_kept_as_it_is(values: dict[str, tuple[float, float, bool]]) -> None:
    losses, baseline, within = ({key: value[place] for key, value in values.items()} for place in range(3))
    scored = Scored("a", losses, baseline, within)  # type: ignore[arg-type]  # one type for the three
    assert repr(Kept.of(scored, tuple(values)).scored) == repr(scored)


def test_a_tracker_of_an_older_format_is_told_from_rubbish() -> None:
    with pytest.raises(ValueError, match="format 1"):
        SkillTracker.of_state(msgspec.msgpack.encode({"format": 1, "scored": []}), RecentOutcomes())


class FailingStore(MemoryModelStore):
    def __init__(self) -> None:
        super().__init__()
        self.failing = True
        self.calls = 0

    async def load(self, plugin: str) -> SavedModels:
        await self._fail()
        return await super().load(plugin)

    async def save(self, plugin: str, models: SavedModels) -> None:
        await self._fail()
        await super().save(plugin, models)

    async def forget(self, plugin: str) -> None:
        await self._fail()
        await super().forget(plugin)

    async def _fail(self) -> None:
        self.calls += 1
        if self.failing:
            raise ModelStoreError("the quota is used up")


@on_a_loop
async def test_a_store_that_fails_is_told_and_tried_again() -> None:
    clock, store = Clock(), FailingStore()
    keeper = ModelKeeper("a", Hosting(World().make, store=store, now=clock, sleep=clock.sleep))
    loading = asyncio.create_task(keeper.load())
    await clock.pass_by(20)
    assert await loading == SavedModels()
    assert keeper.problem == "its models cannot be read: the quota is used up"
    keeper.changed(soon=True)
    calls = store.calls
    await keeper.save(lambda: saved("one"))
    assert store.calls == calls + 1
    assert keeper.problem == "its models cannot be kept: the quota is used up"
    await keeper.save(lambda: saved("one"))
    assert store.calls == calls + 1, "not at once"
    store.failing = False
    clock.now += 61
    await keeper.save(lambda: saved("one"))
    assert keeper.problem is None
    assert await store.load("a") == saved("one")


@on_a_loop
async def test_skill_is_saved_at_most_once_a_minute_and_at_the_end() -> None:
    clock, store = Clock(), FailingStore()
    store.failing = False
    keeper = ModelKeeper("a", Hosting(World().make, store=store, now=clock, sleep=clock.sleep))
    for _ in range(120):
        keeper.changed(soon=False)
        await keeper.save(lambda: saved("one"))
        clock.now += 1
    assert store.calls == 1
    keeper.changed(soon=False)
    await keeper.save(lambda: saved("two"), at_last=True)
    assert store.calls == 2
    await keeper.save(lambda: saved("three"), at_last=True)
    assert store.calls == 2, "there was nothing new"


@on_a_loop
async def test_models_that_cannot_be_removed_are_told_once_the_plugin_has_ended() -> None:
    store = FailingStore()
    store.failing = False
    async with stage(store=store) as on:
        await on.apply()
        store.failing = True
        with pytest.raises(ModelStoreError, match="quota"):
            await on.manager.remove("a")
        assert on.world.alive == []
        assert on.manager.names() == []
