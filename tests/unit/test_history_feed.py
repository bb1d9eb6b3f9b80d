"""A receiver has the collector's newest points, whatever happens to the ring in between."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine_ops.history import block as blocks
from engine_ops.history.block import Block
from engine_ops.history.codec import SegmentHeader, decode_segment, encode_segment
from engine_ops.history.feed import Cursor, HistoryFeed, HistoryUpdate
from engine_ops.history.ring import LogCollector
from engine_ops.history.view import HistoryView
from engine_ops.ml.data_point import WorkloadDataPoint
from engine_ops.workers.frames import FrameDecoder, encode_frame

HEADER = SegmentHeader(1, 0, 0, 0)
DECODER = msgspec.msgpack.Decoder(HistoryUpdate)


def point(number: int, text: str = "") -> WorkloadDataPoint:
    metadata: dict[str, Any] = {"number": number, "text": text}
    if number % 3:
        metadata |= {"uid": f"uid-{number}", "generation": 1, "run": 1, "namespace": f"team-{number % 4}"}
    made = WorkloadDataPoint(1_000 * number, f"t{number % 2}", {"cpu": 0.5}, float(number), number % 5 > 0, metadata)
    if number % 7 == 0:
        made = WorkloadDataPoint.from_dict({**made.to_dict(), "later": number})
    return made


def sent(update: HistoryUpdate) -> HistoryUpdate:
    """The update as it arrives in another process."""
    (received,) = FrameDecoder(DECODER).feed(bytes(encode_frame(update)))
    return received


@dataclasses.dataclass
class Receiver:
    """Somebody who is told now and then."""

    feed: HistoryFeed
    view: HistoryView = dataclasses.field(default_factory=HistoryView)
    cursor: Cursor = dataclasses.field(default_factory=Cursor)
    seen: list[int] = dataclasses.field(default_factory=list)
    added: int = 0

    def update(self) -> list[HistoryUpdate]:
        updates = [sent(update) for update in self.feed.updates_for(self.cursor)]
        for update in updates:
            self.view.apply(update)
        return updates

    def look(self) -> None:
        """Take in what is new, as a model does."""
        new = self.view.since(self.added)
        if new is None:
            self.seen = numbers(list(self.view))
        else:
            self.seen += numbers(list(new))
            self.seen = self.seen[len(self.seen) - len(self.view) :]
        self.added = self.view.added


def numbers(points: Sequence[WorkloadDataPoint]) -> list[int]:
    return [each.metadata["number"] for each in points]


def written(block: Block) -> Block:
    """The block as it is after it was read of a store."""
    return decode_segment(encode_segment(block, HEADER))[1]


actions = st.lists(
    st.one_of(
        st.tuples(st.just("record"), st.integers(1, 9)),
        st.tuples(st.just("update"), st.integers(0, 1)),
        st.tuples(st.just("look"), st.integers(0, 1)),
        st.tuples(st.sampled_from(["seal", "drop", "evict", "write", "rebuild", "split", "halve"]), st.just(0)),
    ),
    max_size=40,
)


@settings(max_examples=150)
@given(actions, st.integers(1, 30), st.sampled_from([1, 400, 2_000, 1 << 20]), st.integers(2, 6))
def test_the_view_is_what_the_collector_holds(
    steps: list[tuple[str, int]], capacity: int, limit_bytes: int, chunk: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "CHUNK_POINTS", chunk)
        collector = LogCollector(capacity, block_points=10, auto_seal=False)
        feed = HistoryFeed(collector, limit_bytes=limit_bytes)
        receivers = [Receiver(feed), Receiver(feed)]
        count = 0
        for action, argument in steps:
            sealed = collector.blocks[:-1]
            if action == "record":
                for _ in range(argument):
                    assert collector.record(point(count))
                    count += 1
            elif action == "update":
                receivers[argument].update()
                check(receivers[argument], collector)
            elif action == "look":
                receivers[argument].look()
            elif action == "seal":
                collector.seal()
            elif action == "drop" and sealed:
                collector.drop_oldest()
            elif action == "evict":
                for _ in range(collector.evictable()):
                    collector.drop_oldest()
            elif action == "write":
                for each in sealed:
                    list(each.chunks())
            elif action == "rebuild":
                collector.rebuild(map(written, sealed), collector.head)
            elif action == "halve" and sealed:
                collector.rebuild(sealed[len(sealed) // 2 :], Block())
            elif action == "split" and sealed:
                whole = sealed[-1]
                parts = [whole.take(range(len(whole) // 2)), whole.take(range(len(whole) // 2, len(whole)))]
                collector.split(whole, [part for part in parts if len(part)])
        for receiver in receivers:
            receiver.update()
            check(receiver, collector)
            receiver.look()
            assert receiver.seen == numbers(list(collector.select().points()))
            assert receiver.update() == []


def check(receiver: Receiver, collector: LogCollector) -> None:
    expected = list(collector.select().points())
    assert list(receiver.view) == expected
    assert len(receiver.view) == len(expected) == len(collector)


def test_nothing_new_is_nothing() -> None:
    collector = LogCollector(auto_seal=False)
    receiver = Receiver(HistoryFeed(collector))
    (empty,) = receiver.update()  # there is a history, and nothing in it
    assert (empty.size, empty.reset, empty.runs) == (0, True, ())
    assert receiver.update() == []
    collector.record(point(1))
    (first,) = receiver.update()
    assert [len(run) for run in first.runs] == [1]
    assert receiver.update() == []
    collector.record(point(2))
    (second,) = receiver.update()
    assert not second.reset
    assert [len(run) for run in second.runs] == [1]


def test_a_history_that_is_gone_is_forgotten() -> None:
    collector = LogCollector(auto_seal=False)
    receiver = Receiver(HistoryFeed(collector))
    collector.record(point(1))
    receiver.update()
    collector.rebuild([], Block())
    (update,) = receiver.update()
    assert update == HistoryUpdate(0, reset=True)
    assert len(receiver.view) == 0
    assert receiver.update() == []


def test_blocks_go_in_the_form_in_which_they_are_kept() -> None:
    collector = LogCollector(auto_seal=False)
    for number in range(30):
        collector.record(point(number))
        if number % 10 == 9:
            collector.seal()
    list(collector.blocks[0].chunks())
    collector.record(point(30))
    (update,) = Receiver(HistoryFeed(collector)).update()
    forms = [(bool(run.chunk), bool(run.squeezed), len(run.packed)) for run in update.runs]
    assert forms == [(True, False, 0), (False, True, 0), (False, True, 0), (False, False, 1)]
    assert collector.blocks[1].kept()[0].squeezed, "a block was encoded for it"


def test_what_was_sealed_meanwhile_needs_no_decompressing(monkeypatch: pytest.MonkeyPatch) -> None:
    collector = LogCollector(auto_seal=False)
    receiver = Receiver(HistoryFeed(collector))
    for number in range(4):
        collector.record(point(number))
    receiver.update()
    for number in range(4, 8):
        collector.record(point(number))
    collector.seal()
    collector.record(point(8))
    monkeypatch.setattr(blocks, "unsqueezed", None)
    (update,) = receiver.update()
    assert [len(run.packed) for run in update.runs] == [4, 1]
    assert numbers(list(receiver.view)) == list(range(9))


@pytest.mark.parametrize("write", [False, True])
def test_a_block_of_which_a_part_is_there_goes_whole(write: bool) -> None:
    """Somebody was told of a part, and the points are no longer there one by one."""
    collector = LogCollector(auto_seal=False)
    receiver = Receiver(HistoryFeed(collector))
    for number in range(4):
        collector.record(point(number))
    receiver.update()
    for number in range(4, 8):
        collector.record(point(number))
    sealed = collector.seal()
    if write:
        list(sealed.chunks())
    receiver.cursor.block = None
    (update,) = receiver.update()
    assert [(run.skip, len(run)) for run in update.runs] == [(4, 4)]
    assert numbers(list(receiver.view)) == list(range(8))
    assert numbers([receiver.view[4], receiver.view[-1]]) == [4, 7]


def test_much_comes_in_several_updates() -> None:
    collector = LogCollector(auto_seal=False)
    for number in range(60):
        collector.record(point(number, "x" * 200))
        if number % 20 == 19 and number < 50:
            list(collector.seal().chunks())
    receiver = Receiver(HistoryFeed(collector, limit_bytes=2_500))
    updates = receiver.update()
    assert len(updates) > 3
    assert [update.reset for update in updates] == [True] + [False] * (len(updates) - 1)
    assert all(len(encode_frame(update)) <= 2_600 for update in updates)
    assert numbers(list(receiver.view)) == list(range(60))


def test_a_block_over_the_limit_goes_point_by_point() -> None:
    collector = LogCollector(auto_seal=False)
    for number in range(40):
        collector.record(point(number, "".join(chr(33 + (number * k * k) % 90) for k in range(200))))
    list(collector.seal().chunks())
    assert len(collector.blocks[0].kept()[0].chunk) > 1_500
    receiver = Receiver(HistoryFeed(collector, limit_bytes=1_500))
    assert all(len(encode_frame(update)) <= 1_600 for update in receiver.update())
    assert list(receiver.view) == list(collector.select().points())


def test_the_ring_may_change_between_two_updates() -> None:
    collector = LogCollector(25, auto_seal=False)
    for number in range(20):
        collector.record(point(number))
    receiver = Receiver(HistoryFeed(collector, limit_bytes=1_000))
    updates = receiver.feed.updates_for(receiver.cursor)
    receiver.view.apply(next(updates))
    for number in range(20, 60):
        collector.record(point(number))
    receiver.view.apply(next(updates))
    collector.seal()
    collector.rebuild([written(collector.blocks[0])], collector.head)
    for update in updates:
        receiver.view.apply(update)
    assert numbers(list(receiver.view)) == list(range(35, 60))


def test_messages_need_no_numpy() -> None:
    code = "import sys, engine_ops.history.feed; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
