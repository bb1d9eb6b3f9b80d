"""Nodes as bars filled with pods, before and after, in a terminal."""

from __future__ import annotations

import dataclasses
import itertools
import os
import shutil
import sys
from collections.abc import Sequence
from typing import Final

import click

from engine_ops.cli.fills import Lot, NodeFill, Picture, describe
from engine_ops.cli.printing import safe, shorten

MAX_BARS: Final = 40
"""More nodes than these are drawn as columns, several nodes to each."""
MIN_WIDTH, MAX_WIDTH = 80, 120
"""Columns of a terminal that are used at least and at most."""

_HEIGHT: Final = 8
"""Lines of a column chart."""
_MAX_NAME: Final = 24
_MAX_TYPE: Final = 13
_EIGHTHS: Final = " ▁▂▃▄▅▆▇█"
_HALVES: Final = " .:|#"
_COLOURS: Final = {Lot.PINNED: "bright_black", Lot.STAYS: "blue", Lot.ARRIVED: "green"}


@dataclasses.dataclass(frozen=True, slots=True)
class Canvas:
    """What can be drawn on.

    Parameters
    ----------
    width
        In columns.
    unicode
        Whether block characters can be printed; else plain ASCII.
    colour
        Whether colours are wanted.
    """

    width: int = MAX_WIDTH
    unicode: bool = True
    colour: bool = False

    @classmethod
    def of_stdout(cls) -> Canvas:
        """Return what standard output is: colours only on a terminal, and not where ``NO_COLOR`` is set."""
        encoding = (getattr(sys.stdout, "encoding", None) or "ascii").lower().replace("_", "-")
        columns = shutil.get_terminal_size((100, 24)).columns
        return cls(
            width=min(max(columns, MIN_WIDTH), MAX_WIDTH),
            unicode=encoding in {"utf-8", "utf8"},
            colour=sys.stdout.isatty() and not os.environ.get("NO_COLOR"),
        )

    @property
    def shades(self) -> dict[Lot, str]:
        """Two characters for each lot, by turns, so that a pod can be told from its neighbour."""
        there, arrived = ("█▓", "▒░") if self.unicode else ("#=", "+o")
        return {Lot.PINNED: there, Lot.STAYS: there, Lot.ARRIVED: arrived}

    @property
    def free(self) -> str:
        """What stands for room that nobody asks for."""
        return "·" if self.unicode else "."

    def paint(self, text: str, lot: Lot | None) -> str:
        """Return a text in the colour of a lot; None for what is free."""
        if not self.colour or not text:
            return text
        return click.style(text, dim=True) if lot is None else click.style(text, fg=_COLOURS[lot])


def draw(picture: Picture, canvas: Canvas) -> str:
    """Return the picture as lines of text, none wider than the canvas.

    Few nodes are a line each; more become columns, sorted by how full they are.
    """
    lines = [safe(picture.headline), ""]
    if len(picture.before) <= MAX_BARS:
        lines += _bars(picture, canvas)
    else:
        lines += _columns(picture, canvas)
    return "".join(f"{line.rstrip()}\n" for line in lines)


def bar(node: NodeFill, cells: int, canvas: Canvas) -> str:
    """Return a node as a bar: for each cell the pod that has its middle, else free room.

    A pod smaller than half a cell may be nowhere; one that is twice as large as a cell is somewhere.
    """
    ends = list(itertools.accumulate(pod.share * cells for pod in node.pods))
    text, at, turn, last = "", 0, 1, -1
    for cell in range(cells):
        while at < len(ends) and ends[at] <= cell + 0.5:
            at += 1
        if at == len(ends):
            return text + canvas.paint(canvas.free * (cells - cell), None)
        if at != last:
            turn, last = 1 - turn, at
        lot = node.pods[at].lot
        text += canvas.paint(canvas.shades[lot][turn], lot)
    return text


def _bars(picture: Picture, canvas: Canvas) -> list[str]:
    pairs = list(zip(picture.before, picture.after, strict=True))
    typed = len({node.type for node in picture.before}) > 1
    names = [shorten(safe(node.name), _MAX_NAME) for node in picture.before]
    types = [shorten(safe(node.type), _MAX_TYPE) if typed else "" for node in picture.before]
    heads = [_left("NODE", names)]
    if typed:
        heads.append(_left("TYPE", types))
    # Each bar is followed by a blank, four columns for the percentage, and " %".
    room = canvas.width - sum(len(head) + 2 for head in heads) - 2
    cells = room // 2 - 7
    lines = ["  ".join((*heads, "BEFORE".ljust(cells + 7), "AFTER"))]
    for (before, after), name, kind in zip(pairs, names, types, strict=True):
        parts = [name.ljust(len(heads[0]))]
        if typed:
            parts.append(kind.ljust(len(heads[1])))
        parts += [f"{bar(node, cells, canvas)} {_percent(node.fill)}" for node in (before, after)]
        lines.append("  ".join(parts))
    return [*lines, "", *_legend(picture, canvas)]


def _legend(picture: Picture, canvas: Canvas) -> list[str]:
    there, arrived = canvas.shades[Lot.STAYS], canvas.shades[Lot.ARRIVED]
    parts = [canvas.paint(there, Lot.STAYS) + " there before"]
    if any(pod.lot is Lot.ARRIVED for node in picture.after for pod in node.pods):
        parts.append(f"{canvas.paint(arrived, Lot.ARRIVED)} {picture.arrived}")
    parts.append(f"{canvas.paint(canvas.free, None)} free")
    used = f"before: {describe(picture.before)}; after: {describe(picture.after)}"
    return [f"{'   '.join(parts)}   (of each node's fullest resource)", used]


def _columns(picture: Picture, canvas: Canvas) -> list[str]:
    columns = min(len(picture.before), canvas.width - 7)
    lines = []
    for title, nodes in (("before", picture.before), ("after", picture.after)):
        heights = bucket_means(sorted((min(node.fill, 1.0) for node in nodes), reverse=True), columns)
        lines += [f"{title}: {describe(nodes)}", *_chart(heights, canvas), ""]
    each = len(picture.before) / columns
    step = "a column is a node" if each == 1 else f"a column is the mean of {each:.3g} nodes"
    return [*lines, f"{step}, the fullest first; height: the share of the fullest resource"]


def bucket_means(values: Sequence[float], buckets: int) -> list[float]:
    """Return the means of so many runs of values, in order, whose lengths differ by at most one.

    Parameters
    ----------
    values
        At least as many as there are buckets.
    buckets
        At least 1.
    """
    cuts = [round(number * len(values) / buckets) for number in range(buckets + 1)]
    return [sum(values[start:end]) / (end - start) for start, end in itertools.pairwise(cuts)]


def _chart(heights: Sequence[float], canvas: Canvas) -> list[str]:
    """Draw columns of heights from 0 to 1, with a scale at the left."""
    steps = _EIGHTHS if canvas.unicode else _HALVES
    vertical, corner, line = ("┤", "└", "─") if canvas.unicode else ("|", "+", "-")
    parts = len(steps) - 1
    levels = [_level(height, _HEIGHT * parts) for height in heights]
    lines = []
    for row in range(_HEIGHT - 1, -1, -1):
        cells = "".join(steps[min(max(level - row * parts, 0), parts)] for level in levels)
        label = {_HEIGHT - 1: "100 %", _HEIGHT // 2 - 1: " 50 %"}.get(row, "")
        lines.append(f"{label:5} {vertical}{canvas.paint(cells.rstrip(), Lot.STAYS)}")
    return [*lines, f"  0 % {corner}{line * len(heights)}"]


def _level(height: float, top: int) -> int:
    """Return a height in steps; what is not empty is at least one step high."""
    return max(round(height * top), 1 if height > 0 else 0)


def _percent(share: float) -> str:
    return f"{min(round(share * 100), 9999):4d} %"


def _left(head: str, cells: Sequence[str]) -> str:
    return head.ljust(max((len(cell) for cell in cells), default=0))
