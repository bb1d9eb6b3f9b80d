from __future__ import annotations

import io
import sys
from itertools import groupby, pairwise

import pytest
from cli_pictures import kind, large, node, placed, pod, repacked, small
from hypothesis import given
from hypothesis import strategies as st

from engine_ops.cli.fills import Lot, NodeFill, PodShare, picture_of
from engine_ops.cli.picture import MAX_BARS, Canvas, bar, bucket_means, draw
from engine_ops.cli.printing import shorten
from engine_ops.engine.cluster.records import snapshot_of

PLAIN = Canvas(width=80, unicode=False)


def filled(*shares: float, lot: Lot = Lot.STAYS) -> NodeFill:
    pods = tuple(PodShare(f"n/{number}", share, lot) for number, share in enumerate(shares))
    return NodeFill("n", "t", pods, "cpu", in_use=bool(pods))


def test_pods_are_shares_of_the_fullest_resource() -> None:
    snapshot = snapshot_of(
        [node("a"), node("b")],
        [pod("x", "a", kind(1000, memory=12 * 2**30)), pod("y", "b", kind(1000)), pod("z", "b", kind(2000))],
        {},
    )
    first, second = picture_of(snapshot, placed(), {}).before
    assert (first.name, first.resource, first.fill) == ("a", "memory", 0.75)  # the fullest of a type stands first
    assert (second.name, second.resource, second.fill) == ("b", "cpu", 0.75)
    assert [share.share for share in second.pods] == [0.5, 0.25]


def test_a_placement_adds_pods() -> None:
    picture = picture_of(small(), placed(web_3="c"), {})
    assert [node.name for node in picture.before] == ["c", "a", "b"]  # by type
    assert [node.in_use for node in picture.before] == [False, True, True]
    assert [node.in_use for node in picture.after] == [True, True, True]
    assert picture.after[0].pods == (PodShare("shop/web-3", 0.25, Lot.ARRIVED),)
    assert [share.lot for share in picture.after[1].pods] == [Lot.PINNED, Lot.STAYS]
    assert picture.headline == "1 of 1 placed; 2 of 3 nodes in use now, 3 then"


def test_a_repacking_moves_them() -> None:
    picture = picture_of(small(), repacked(a=["web-1", "web-2"]), {})
    _, first, second = picture.after
    assert [(share.pod, share.lot) for share in first.pods] == [
        ("shop/agent-a", Lot.PINNED),
        ("shop/web-1", Lot.STAYS),
        ("shop/web-2", Lot.ARRIVED),
    ]
    assert first.fill == pytest.approx(0.6)
    assert [share.pod for share in second.pods] == ["shop/agent-b"]
    assert not second.in_use  # what belongs to a node does not keep it
    assert picture.headline == "3 nodes, 2 in use now, 1 after repacking; at least 1 are needed"


def test_tasks_that_are_not_in_the_cluster() -> None:
    result = {"placements": [{"taskId": "job", "nodeId": "c"}, {"taskId": "big", "reason": "no room"}]}
    picture = picture_of(small(), result, {"job": {"cpu": 3000}, "big": {"cpu": 9000}})
    assert picture.after[0].fill == 0.75
    assert picture.headline.startswith("1 of 2 placed; ")


def test_what_the_cluster_no_longer_has_is_left_out() -> None:
    picture = picture_of(small(), placed(web_3="gone", other="a"), {})
    assert [node.fill for node in picture.after] == [node.fill for node in picture.before]


def test_a_node_without_a_type_is_named_by_its_size() -> None:
    only = node("a", kind="", **{"nvidia.com/gpu": 8000, "hugepages-2Mi": 2**21})
    picture = picture_of(snapshot_of([only], [], {}), placed(), {})
    assert picture.before[0].type == "4 cpu, 16Gi, 8 gpu"


def test_a_node_that_offers_nothing() -> None:
    bare = node("a", cpu=0, memory=0, pods=0)
    picture = picture_of(snapshot_of([bare], [pod("x", "a", kind(1000))], {}), placed(), {})
    assert (picture.before[0].fill, picture.before[0].in_use) == (0, True)
    assert "   0 %" in draw(picture, PLAIN)


def test_few_nodes_are_bars() -> None:
    text = draw(picture_of(small(), placed(web_3="c"), {}), PLAIN)
    assert text.splitlines() == [
        "1 of 1 placed; 2 of 3 nodes in use now, 3 then",
        "",
        "NODE  TYPE  BEFORE                             AFTER",
        "c     c5    ..........................    0 %  ++++++....................   25 %",
        "a     m5    ###======.................   35 %  ###======.................   35 %",
        "b     m5    ###======.................   35 %  ###======.................   35 %",
        "",
        "#= there before   +o placed here   . free   (of each node's fullest resource)",
        "before: 3 nodes, 2 in use; after: 3 nodes, 3 in use",
    ]


def test_block_characters_where_they_can_be_printed() -> None:
    text = draw(picture_of(small(), placed(web_3="c"), {}), Canvas(width=80))
    assert "▒▒▒▒▒▒····" in text
    assert "███▓▓▓▓▓▓··" in text


@pytest.mark.parametrize("unicode", [True, False])
@pytest.mark.parametrize("width", [80, 100, 120])
@pytest.mark.parametrize("count", [1, 2, MAX_BARS, MAX_BARS + 1, 75, 1213])
def test_it_fits_the_width(count: int, width: int, unicode: bool) -> None:
    snapshot, result = large(count)
    text = draw(picture_of(snapshot, result, {}), Canvas(width, unicode))
    assert max(map(len, text.splitlines())) <= (width if count <= MAX_BARS else max(width, 105))
    assert text.isascii() is not unicode
    rows = [line for line in text.splitlines() if line.startswith("node-")]
    assert len(rows) == (count if count <= MAX_BARS else 0)


def test_many_nodes_are_columns() -> None:
    snapshot, result = large(1213)
    lines = draw(picture_of(snapshot, result, {}), Canvas(width=87)).splitlines()
    assert lines[0] == "1,213 nodes, 1,213 in use now, 304 after repacking; at least 1 are needed"
    before, after = (lines.index(f"{when}: 1,213 nodes, {used} in use") for when, used in PANELS)
    # All are a quarter full; then a quarter of them is full.
    assert [line[7:] for line in lines[before + 1 : before + 9]] == [""] * 6 + ["█" * 80] * 2
    assert lines[before + 9] == "  0 % └" + "─" * 80
    assert {line[7:27] for line in lines[after + 1 : after + 9]} == {"█" * 20}
    assert {line[28:] for line in lines[after + 1 : after + 9]} == {""}


PANELS = (("before", "1,213"), ("after", "304"))


def test_names_that_would_steer_a_terminal() -> None:
    evil = node("a\x1b[2J", kind="\x1b]0;t\x07")
    snapshot = snapshot_of([evil, node("b")], [pod("x", evil.name, kind(1000))], {})
    assert "\x1b" not in draw(picture_of(snapshot, placed(), {}), PLAIN)


def test_colours_only_where_they_are_wanted() -> None:
    picture = picture_of(small(), placed(web_3="c"), {})
    text = draw(picture, Canvas(width=80, unicode=False, colour=True))
    assert "\x1b[32m+\x1b[0m" in text
    assert "\x1b" not in draw(picture, PLAIN)


class Terminal(io.StringIO):
    encoding = "ISO-8859-1"

    def isatty(self) -> bool:
        return True


def test_the_canvas_is_what_standard_output_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("COLUMNS", "300")
    assert Canvas.of_stdout() == Canvas(width=120, unicode=False, colour=True)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "20")
    assert Canvas.of_stdout() == Canvas(width=80, unicode=False, colour=False)
    monkeypatch.setattr(Terminal, "encoding", "UTF-8")
    monkeypatch.setattr(Terminal, "isatty", lambda _: False)
    monkeypatch.delenv("NO_COLOR")
    assert Canvas.of_stdout() == Canvas(width=80, unicode=True, colour=False)


shares = st.lists(st.floats(0, 0.4), max_size=12)


@given(shares, st.integers(1, 60))
def test_a_bar_is_as_long_as_its_pods(parts: list[float], cells: int) -> None:
    drawn = bar(filled(*parts), cells, PLAIN)
    assert len(drawn) == cells
    used = drawn.rstrip(".")
    assert "." not in used
    assert abs(len(used) - min(sum(parts), 1) * cells) <= 0.5 + 1e-6


@given(st.lists(st.floats(0.1, 0.3), min_size=1, max_size=3))
def test_neighbours_can_be_told_apart(parts: list[float]) -> None:
    drawn = bar(filled(*parts), 40, PLAIN).rstrip(".")
    runs = [(char, len(list(run))) for char, run in groupby(drawn)]
    assert len(runs) == len(parts)
    for (_, length), part in zip(runs, parts, strict=True):
        assert abs(length - part * 40) <= 1


@given(st.lists(st.floats(0, 1), min_size=1, max_size=200), st.data())
def test_buckets_keep_the_mean_and_the_order(values: list[float], data: st.DataObject) -> None:
    buckets = data.draw(st.integers(1, len(values)))
    values.sort(reverse=True)
    means = bucket_means(values, buckets)
    assert len(means) == buckets
    assert all(left >= right - 1e-12 for left, right in pairwise(means))
    assert min(values) - 1e-12 <= min(means)
    assert max(means) <= max(values) + 1e-12
    assert bucket_means(values, len(values)) == values


@given(st.text(max_size=60), st.integers(8, 30))
def test_shortened_texts_fit(text: str, length: int) -> None:
    short = shorten(text, length)
    assert len(short) <= max(length, 0)
    assert short[:2] == text[:2]
    assert short[-2:] == text[-2:]
