"""The view is a sequence; it decodes what is read, and refuses what is damaged."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine_ops.history import part as parts
from engine_ops.history import view as views
from engine_ops.history.feed import Cursor, HistoryFeed, HistoryUpdate
from engine_ops.history.ring import LogCollector
from engine_ops.history.runs import Run
from engine_ops.history.view import DamagedHistoryError, HistoryView
from engine_ops.ml.data_point import WorkloadDataPoint


def point(number: int) -> WorkloadDataPoint:
    metadata = {"number": number, "namespace": f"team-{number % 3}", "uid": f"uid-{number}", "generation": 1, "run": 1}
    return WorkloadDataPoint(number, f"t{number % 2}", {"cpu": 0.5}, float(number), number % 2 == 0, metadata)


class World:
    """A collector and a view of it, whose parts are as small as they like."""

    def __init__(self, count: int = 0, capacity: int = 1_000) -> None:
        self.collector = LogCollector(capacity, auto_seal=False)
        self.feed = HistoryFeed(self.collector)
        self.cursor = Cursor()
        self.view = HistoryView()
        self.count = 0
        self.record(count)

    def record(self, count: int, *, seal: bool = False, write: bool = False) -> World:
        for _ in range(count):
            self.collector.record(point(self.count))
            self.count += 1
        if seal or write:
            block = self.collector.seal()
            if write:
                list(block.chunks())
        return self.update()

    def update(self) -> World:
        for update in self.feed.updates_for(self.cursor):
            self.view.apply(update)
        return self

    @property
    def points(self) -> list[WorkloadDataPoint]:
        return list(self.collector.select().points())


def mixed() -> World:
    """7 points in columns, 5 squeezed, 4 as they were packed."""
    world = World(capacity=14)
    world.cursor = Cursor()
    world.view = HistoryView()
    for count, options in ((7, {"write": True}), (5, {"seal": True}), (4, {})):
        for _ in range(count):
            world.collector.record(point(world.count))
            world.count += 1
        if options:
            block = world.collector.seal()
            if "write" in options:
                list(block.chunks())
    return world.update()


indices = st.none() | st.integers(-20, 20)


@settings(max_examples=200)
@given(indices, indices, indices.filter(lambda step: step != 0), st.booleans())
def test_it_is_a_sequence(start: int | None, stop: int | None, step: int | None, again: bool) -> None:
    world = mixed()
    view, points = world.view, world.points
    assert len(points) == 14
    for _ in range(1 + again):
        assert view[start:stop:step] == points[start:stop:step]
        assert list(view) == points
        assert list(reversed(view)) == points[::-1]
        assert [view[index] for index in range(-14, 14)] == [points[index] for index in range(-14, 14)]
    assert len(view) == 14
    assert points[3] in view
    assert view.index(points[3]) == 3
    assert point(0) not in view, "it lies outside the capacity"
    for index in (14, -15):
        with pytest.raises(IndexError, match="14 points"):
            view[index]
    wrong: Any = "a"
    with pytest.raises(TypeError):
        view[wrong]


def test_an_empty_view() -> None:
    view = HistoryView()
    assert not view
    assert list(view) == view[:] == list(reversed(view)) == []
    assert list(view.since(0) or ()) == []
    assert repr(view) == "<HistoryView of 0 points>"


def test_nothing_is_decoded_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World().record(5, write=True).record(5, seal=True).record(5)
    world.view, world.cursor = HistoryView(), Cursor()
    for name in ("decode_chunk", "unsqueezed", "unpacked_point"):
        monkeypatch.setattr(parts, name, None)
    world.update()
    assert len(world.view) == 15
    monkeypatch.undo()
    calls: list[int] = []
    unpacked = parts.unpacked_point
    monkeypatch.setattr(parts, "unpacked_point", lambda *facts: calls.append(1) or unpacked(*facts))
    assert world.view[-1] == point(14)
    assert len(calls) == 1


def test_what_is_read_twice_is_kept() -> None:
    world = mixed()
    first, second, third = list(world.view), list(world.view), list(world.view)
    assert [a is b for a, b in zip(first, second, strict=True)] == [False] * 14
    assert [a is b for a, b in zip(second, third, strict=True)] == [True] * 14
    world.record(1)
    kept = list(world.view)[:-1]
    assert [a is b for a, b in zip(kept, third[1:], strict=True)] == [True] * 13, "new points cost old ones"
    assert [a is b for a, b in zip(world.view.since(world.view.start) or (), kept, strict=False)] == [True] * 13
    world.view.forget_decoded()
    assert next(iter(world.view)) is not kept[0]


def test_looking_for_what_is_new_keeps_nothing() -> None:
    world = mixed()
    for _ in range(3):
        assert list(world.view.since(world.view.start) or ()) == world.points
    assert not any(part.kept for part in world.view._parts)


def test_only_so_many_are_kept_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "MAX_KEPT", 10)
    world = World()
    for _ in range(6):
        world.record(4, write=True)
    for _ in range(4):
        assert list(world.view) == world.points
        assert list(reversed(world.view)) == world.points[::-1]
    assert [len(part.kept) for part in world.view._parts] == [0, 0, 0, 0, 4, 4]
    assert world.view._kept == 8
    world.collector.capacity = 6
    world.record(1)
    assert world.view._kept == sum(len(part.kept) for part in world.view._parts)


def test_points_that_come_one_by_one_become_few_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "MAX_PACKED", 10)
    world = World(capacity=35)
    for _ in range(100):
        world.record(1)
    assert list(world.view) == world.points
    assert len(world.view._parts) <= 5


def test_a_reader_takes_what_is_new() -> None:
    world = World(5)
    view = world.view
    place = view.added
    assert list(view.since(0) or ()) == world.points
    assert list(view.since(place) or ()) == []
    world.record(3)
    assert [each.timestamp for each in view.since(place) or ()] == [5, 6, 7]
    assert (view.start, view.added) == (0, 8)
    assert view.since(9) is None, "nobody can have seen that"


def test_a_reader_that_missed_some_is_told() -> None:
    world = World(5, capacity=6)
    place = world.view.added
    world.record(6)
    assert [each.timestamp for each in world.view.since(place) or ()] == list(range(5, 11))
    world.record(1)
    assert world.view.since(place) is None, "one has come and gone"
    assert (world.view.start, len(world.view)) == (6, 6)


def test_a_reader_is_told_that_all_are_others() -> None:
    world = World(5)
    place = world.view.added
    world.collector.rebuild([], world.collector.head)
    world.update()
    assert list(world.view) == world.points
    assert world.view.since(place) is None
    assert list(world.view.since(world.view.start) or ()) == world.points


def test_points_may_be_dropped_though_there_is_room() -> None:
    world = World().record(5, seal=True).record(2)
    place = world.view.added
    world.collector.drop_oldest()
    world.update()
    assert list(world.view) == world.points
    assert len(world.view) == 2
    assert list(world.view.since(place) or ()) == []


def test_it_can_be_copied_and_sent() -> None:
    world = mixed()
    for other in (copy.deepcopy(world.view), pickle.loads(pickle.dumps(world.view))):  # noqa: S301 - our own
        assert list(other) == world.points


# --- damage


def update_of(change: Callable[[Run], Run], form: int) -> HistoryUpdate:
    world = mixed()
    (update,) = HistoryFeed(world.collector).updates_for(Cursor())
    runs = list(update.runs)
    runs[form] = change(runs[form])
    return msgspec.structs.replace(update, runs=tuple(runs))


def put(**fields: Any) -> Callable[[Run], Run]:
    return lambda run: msgspec.structs.replace(run, **fields)


@pytest.mark.parametrize("form", [0, 1, 2])
@pytest.mark.parametrize(
    "change",
    [
        put(timestamps=b"1234567"),
        put(durations=b""),
        put(types=b"\xff" * 14),
        put(types=b"\xff" * 10),
        put(types=b"\xff" * 8),
        put(type_names=()),
        put(successes=b""),
        put(skip=-1),
        put(skip=99),
        put(chunk=b"", squeezed=b"", packed=()),
        put(chunk=b"1", squeezed=b"1", packed=(b"1",)),
    ],
)
def test_an_update_that_is_not_whole_changes_nothing(change: Callable[[Run], Run], form: int) -> None:
    world = mixed()
    with pytest.raises(DamagedHistoryError):
        world.view.apply(update_of(change, form))
    assert list(world.view) == world.points


def test_a_size_that_cannot_be() -> None:
    with pytest.raises(DamagedHistoryError, match="-1"):
        HistoryView().apply(HistoryUpdate(-1))


@settings(max_examples=150)
@given(st.integers(0, 2), st.data())
def test_damaged_bytes_are_said_to_be(form: int, data: st.DataObject) -> None:
    """Flipped bits are found when points are read, or give other points: never another exception."""

    def damage(run: Run) -> Run:
        name = ("chunk", "squeezed", "packed")[form]
        body = run.packed[0] if run.packed else getattr(run, name)
        place = data.draw(st.integers(0, len(body) - 1))
        cut = data.draw(st.booleans())
        bad = body[:place] if cut else body[:place] + bytes([data.draw(st.integers(0, 255))]) + body[place + 1 :]
        return msgspec.structs.replace(run, **{name: (bad, *run.packed[1:]) if run.packed else bad})

    view = HistoryView()
    try:
        view.apply(update_of(damage, form))
        points = list(view)
    except DamagedHistoryError:
        return
    assert all(isinstance(each, WorkloadDataPoint) for each in points)
    assert len(points) == 14
