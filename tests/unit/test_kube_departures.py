"""What a watch keeps of objects that have gone, in the state of their deletion, whatever the stream does."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine_ops.kube.departures import Departures, _DepartureView
from engine_ops.kube.watch_events import ADDED, BOOKMARK, DELETED, MODIFIED, Event, GarbageError, key_of
from engine_ops.kube.watch_view import Batch


class Followed:
    """A view, what has gone from it and how often it said that something changed."""

    def __init__(self) -> None:
        self.changes = 0
        self.gone: Departures[dict[str, Any]] = Departures(lambda record: str(record["uid"]))
        self.view = _DepartureView(msgspec.json.decode, self.gone, self.note)
        self.version = 0

    def note(self) -> None:
        self.changes += 1

    def event(self, type_: str, name: str, uid: str, state: int) -> Event:
        self.version += 1
        raw = msgspec.Raw(json.dumps({"uid": uid, "state": state}).encode())
        return Event(type_, self.version, key_of("n", name), raw)

    def end_of_list(self) -> Event:
        self.version += 1
        return Event(BOOKMARK, self.version, "", msgspec.Raw(b"{}"), end_of_list=True)

    def list(self, *events: Event) -> Batch[dict[str, Any]]:
        batch: Batch[dict[str, Any]] = Batch(self.view, None)
        for event in events:
            batch.take(event)
        batch.take(self.end_of_list())
        return batch

    def claim(self) -> list[tuple[str, int]]:
        return [(record["uid"], record["state"]) for record in self.gone.claim(lambda _: True)]


def test_the_state_is_that_of_the_deletion() -> None:
    followed = Followed()
    batch = followed.list(followed.event(ADDED, "a", "1", 0))
    before = followed.changes
    batch.take(followed.event(DELETED, "a", "1", 7))
    assert followed.changes == before + 1
    assert followed.view.records == {}
    assert followed.claim() == [("1", 7)]
    assert followed.claim() == []


def test_what_comes_and_goes_while_the_list_is_under_way_is_kept() -> None:
    followed = Followed()
    followed.list(
        followed.event(ADDED, "a", "1", 0), followed.event(ADDED, "b", "2", 0), followed.event(DELETED, "a", "1", 3)
    )
    assert followed.claim() == [("1", 3)]
    assert [record["uid"] for record in followed.view.records.values()] == ["2"]


def test_what_a_new_list_no_longer_has_is_kept_as_it_last_was() -> None:
    followed = Followed()
    followed.list(*(followed.event(ADDED, name, uid, 1) for name, uid in (("a", "1"), ("b", "2"), ("c", "3"))))
    # While nobody watched, a went, and b was made again; c changed.
    followed.list(followed.event(ADDED, "b", "20", 1), followed.event(ADDED, "c", "3", 2))
    assert sorted(followed.claim()) == [("1", 1), ("2", 1)]


def test_a_list_that_broke_off_does_not_bring_back_an_older_state() -> None:
    followed = Followed()
    followed.list(followed.event(ADDED, "a", "1", 1))
    broken: Batch[dict[str, Any]] = Batch(followed.view, None)
    broken.take(followed.event(ADDED, "a", "1", 2))
    broken.take(followed.event(DELETED, "a", "1", 3))
    followed.list()
    assert followed.claim() == [("1", 3)]


def test_a_repeated_event_is_no_second_departure() -> None:
    followed = Followed()
    followed.list(followed.event(ADDED, "a", "1", 1))
    opened_at = followed.version
    deleted = followed.event(DELETED, "a", "1", 2)
    Batch(followed.view, opened_at).take(deleted)
    assert followed.claim() == [("1", 2)]
    Batch(followed.view, opened_at).take(deleted)  # a stream that was opened before the last one had been read
    assert followed.claim() == []


def test_a_deletion_that_cannot_be_read_is_garbage() -> None:
    followed = Followed()
    batch = followed.list(followed.event(ADDED, "a", "1", 1))
    broken = Event(DELETED, followed.version + 1, key_of("n", "a"), msgspec.Raw(b"{"))
    with pytest.raises(GarbageError, match="n/a"):
        batch.take(broken)


@given(
    st.lists(st.tuples(st.sampled_from([ADDED, MODIFIED, DELETED, "relist"]), st.sampled_from("abc")), max_size=40),
    st.randoms(use_true_random=False),
)
def test_every_object_is_there_or_was_told_of(steps: list[tuple[str, str]], random: Any) -> None:
    followed = Followed()
    server: dict[str, tuple[str, int]] = {}
    last: dict[str, int] = {}
    batch = followed.list()
    told: dict[str, int] = {}
    for number, (step, name) in enumerate(steps):
        if step == "relist":
            for gone in [name for name in server if random.random() < 0.3]:
                del server[gone]  # while the stream was broken
            batch = followed.list(*(followed.event(ADDED, name, *server[name]) for name in sorted(server)))
        elif step == DELETED and name in server:
            uid, _ = server.pop(name)
            last[uid] = number
            batch.take(followed.event(DELETED, name, uid, number))
        elif step != DELETED:
            uid = server[name][0] if name in server else f"{name}{number}"
            server[name], last[uid] = (uid, number), number
            batch.take(followed.event(step, name, uid, number))
        if random.random() < 0.5:
            claimed = followed.claim()
            assert not {uid for uid, _ in claimed} & told.keys()
            told.update(claimed)
    told.update(followed.claim())
    there = {record["uid"]: record["state"] for record in followed.view.records.values()}
    assert there == dict(server.values())
    assert told == {uid: state for uid, state in last.items() if uid not in there}
