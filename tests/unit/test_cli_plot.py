from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from cli_pictures import kind as pod_kind
from cli_pictures import large, node, placed, pod, repacked, small

from engine_ops.cli.fills import Picture, picture_of
from engine_ops.cli.plot import PlotError, check_target, write_plot
from engine_ops.engine.cluster.records import snapshot_of

drawn = pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="matplotlib is not installed")


def svg_of(tmp_path: Path, *pictures: Picture, name: str = "p.svg") -> str:
    path = tmp_path / name
    check_target(path)
    write_plot(pictures, path)
    return path.read_text(encoding="utf-8")


def texts(svg: str) -> list[str]:
    return [
        "".join(element.itertext()).strip()
        for element in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")  # noqa: S314 -- our own file
    ]


@drawn
def test_before_above_after_with_the_numbers(tmp_path: Path) -> None:
    words = texts(svg_of(tmp_path, picture_of(small(), repacked(a=["web-1", "web-2"]), {})))
    for expected in (
        "3 nodes, 2 in use now, 1 after repacking; at least 1 are needed",
        "before: 3 nodes, 2 in use",
        "after: 3 nodes, 1 in use",
        "m5 (2)",
        "c5 (1)",
        "full: moved here",
        "belongs to its node",
        "empty node",
        "100 %",
    ):
        assert expected in words
    assert [word for word in words if word in {"a", "b", "c"}] == ["c", "a", "b"]  # once, below both panels


@drawn
def test_a_shape_for_each_node_and_pod(tmp_path: Path) -> None:
    def shapes(picture: Picture) -> int:
        collections = re.findall(r'<g id="PolyCollection_\d+">(.*?)</g>', svg_of(tmp_path, picture), re.DOTALL)
        assert len(collections) == 4  # two panels, each with frames and pods
        return sum(len(re.findall(r"<(?:path|use)\b(?![^>]*\bid=)", found)) for found in collections)

    before = shapes(picture_of(small(), placed(), {}))
    assert shapes(picture_of(small(), placed(web_3="c"), {})) == before + 1


@drawn
def test_the_same_picture_is_the_same_file(tmp_path: Path) -> None:
    picture = picture_of(small(), placed(web_3="c"), {})
    first = svg_of(tmp_path, picture)
    assert svg_of(tmp_path, picture, name="q.svg") == first
    assert "<dc:date>" not in first
    assert svg_of(tmp_path, picture_of(small(), placed(web_3="b"), {})) != first


@drawn
def test_a_large_cluster_makes_a_small_file(tmp_path: Path) -> None:
    snapshot, result = large(1213)
    svg = svg_of(tmp_path, picture_of(snapshot, result, {}))
    assert len(svg) < 200_000
    assert "<image" in svg
    assert "nodes, by type, the fullest first" in texts(svg)
    assert "node-0000" not in svg


@drawn
def test_more_types_than_colours(tmp_path: Path) -> None:
    nodes = [node(f"n{number}", kind=f"type-{number % 10}") for number in range(19)]
    words = texts(svg_of(tmp_path, picture_of(snapshot_of(nodes, [], {}), placed(), {})))
    assert "type-0 (2)" in words
    assert "type-9 (1)" not in words
    assert "other types (3)" in words


@drawn
@pytest.mark.parametrize(
    "name",
    ["$x^2$", "a_b$\\frac{$", "<script>", "&amp;", "\x1b[2J", "日本"],
    ids=["math", "half", "xml", "amp", "esc", "cjk"],
)
def test_any_name_can_be_drawn(name: str, tmp_path: Path) -> None:
    snapshot = snapshot_of([node("a", kind=name)], [pod("x", "a", pod_kind(100))], {})
    assert texts(svg_of(tmp_path, picture_of(snapshot, placed(), {})))


@drawn
def test_no_nodes_at_all(tmp_path: Path) -> None:
    svg = svg_of(tmp_path, picture_of(snapshot_of([], [], {}), placed(), {}))
    assert "before: 0 nodes, 0 in use" in texts(svg)


@drawn
def test_png_and_several_pictures(tmp_path: Path) -> None:
    picture = picture_of(small(), placed(web_3="c"), {})
    path = tmp_path / "p.PNG"
    check_target(path)
    write_plot([picture], path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert texts(svg_of(tmp_path, picture, picture)).count(picture.headline) == 2


@drawn
def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    target = tmp_path / "p.svg"
    target.mkdir()
    with pytest.raises(PlotError, match="is a directory"):
        write_plot([picture_of(small(), placed(), {})], target)


def test_targets_are_checked_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PlotError, match=r"must end in \.svg or \.png"):
        check_target(tmp_path / "p.jpeg")
    with pytest.raises(PlotError, match="there is no directory"):
        check_target(tmp_path / "no" / "p.svg")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(PlotError, match=r"pip install 'engine-ops\[plot\]'"):
        check_target(tmp_path / "p.svg")


def test_nothing_is_imported_before_it_is_drawn() -> None:
    code = "import sys, engine_ops.cli.plot, engine_ops.cli.picture; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
