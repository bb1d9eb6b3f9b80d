"""The picture of an answer about a cluster as a file, drawn with matplotlib (the extra ``plot``)."""

from __future__ import annotations

import collections
import importlib.util
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from engine_ops.cli.fills import Lot, NodeFill, Picture, describe
from engine_ops.cli.printing import safe, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES: Final = (".svg", ".png")
"""What a picture can be written as."""
MAX_NAMED: Final = 60
"""With more nodes than these, names have no room below the bars, and each panel has an order of its own."""
FEW: Final = 5
"""So many names have room side by side."""
MAX_NAME: Final = 30
"""Longer names of nodes are cut."""
LONG_HEADLINE: Final = 75
"""Longer ones are written smaller: beside them stands the legend."""
MAX_TYPES: Final = 8
"""Node types with a colour of their own; the others share one."""
INSTALL: Final = "--plot needs matplotlib: install it with `pip install 'engine-ops[plot]'`"

_OTHER: Final = "other types"
# Okabe and Ito's palette, which colour-blind people can tell apart, without its black; grey for the other types.
_PALETTE: Final = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#7d6bbf", "#b8a800")
_GREY, _FRAME, _EMPTY = "#8c8c8c", "#f0f0f0", "#fbf3d0"
_PINNED: Final = ("#6e6e6e", "#868686")
_MAX_FILL: Final = 1.3
"""A bar that reaches higher is cut."""
_MAX_VECTORS: Final = 1500
"""More shapes than these go into an SVG as one image: each would cost it 150 bytes."""
_SETTINGS: Final = {
    "svg.hashsalt": "engine-ops",  # else ids are random, and the same picture is another file
    "svg.fonttype": "none",  # text stays text: it can be searched, and needs no font here
    "font.family": ["DejaVu Sans"],
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


class PlotError(RuntimeError):
    """The picture cannot be drawn or written; the message is for the user."""


def check_target(path: Path) -> None:
    """Fail before any work is done for a picture that could not be written.

    Raises
    ------
    PlotError
        If the file's suffix is none of `SUFFIXES`, its directory is not there, or matplotlib is not installed.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise PlotError(f"--plot {path}: the name must end in {' or '.join(SUFFIXES)}")
    if not path.resolve().parent.is_dir():
        raise PlotError(f"--plot {path}: there is no directory {path.parent}")
    if importlib.util.find_spec("matplotlib") is None:
        raise PlotError(INSTALL)


def write_plot(pictures: Sequence[Picture], path: Path) -> None:
    """Draw pictures one below the other. The same pictures give the same bytes, with the same matplotlib.

    Parameters
    ----------
    pictures
        At least one.
    path
        A name that `check_target` takes.

    Raises
    ------
    PlotError
        If the file cannot be written.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    settings: Any = dict(_SETTINGS)
    with mpl.rc_context(settings), warnings.catch_warnings():
        # A name may be in a script that the font here does not have. The SVG has the text, whatever font shows it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=(12, 7 * len(pictures)), layout="constrained")
        FigureCanvasAgg(figure)
        parts: Any = figure.subfigures(len(pictures), 1, squeeze=False)
        for part, picture in zip(parts[:, 0], pictures, strict=True):
            _draw(part, picture)
        # A date in the file would make it another one each time.
        metadata: dict[str, Any] = {"Date": None} if path.suffix.lower() == ".svg" else {"Software": None}
        try:
            figure.savefig(path, dpi=160, metadata=metadata)
        except OSError as error:
            raise PlotError(f"--plot {path}: {(error.strerror or str(error)).lower()}") from error


def _draw(figure: Any, picture: Picture) -> None:
    before, after = picture.before, picture.after
    named = len(before) <= MAX_NAMED
    if not named:
        before, after = _by_fill(before), _by_fill(after)
    colours = _colours(before)
    size = 13 if len(picture.headline) <= LONG_HEADLINE else 10
    figure.suptitle(_plain(picture.headline), fontsize=size, fontweight="bold", x=0.01, ha="left")
    upper, lower = figure.subplots(2, 1, sharex=True, sharey=True)
    for axes, title, nodes in ((upper, "before", before), (lower, "after", after)):
        _panel(axes, nodes, colours)
        axes.set_title(f"{title}: {describe(nodes)}", loc="left", fontsize=10)
    if named:
        names = [_plain(shorten(node.name, MAX_NAME)) for node in after]
        slant: dict[str, Any] = {"rotation": 60, "ha": "right"} if len(names) > FEW else {}
        lower.set_xticks(range(len(names)), names, fontsize=7, **slant)
    else:
        lower.set_xlabel("nodes, by type, the fullest first")
    figure.legend(
        handles=_legend(picture, colours), loc="outside right upper", frameon=False, fontsize=8, handlelength=1.2
    )


def _by_fill(nodes: Iterable[NodeFill]) -> tuple[NodeFill, ...]:
    return tuple(sorted(nodes, key=lambda node: (node.type, not node.in_use, -node.fill, node.name)))


def _colours(nodes: Iterable[NodeFill]) -> dict[str, str]:
    """Give the most frequent types a colour each; the others share one."""
    counts = collections.Counter(node.type for node in nodes)
    ranked = sorted(counts, key=lambda name: (-counts[name], name))
    colours = dict.fromkeys(counts, _GREY)
    colours.update(zip(ranked[:MAX_TYPES], _PALETTE, strict=False))
    return colours


def _panel(axes: Axes, nodes: Sequence[NodeFill], colours: Mapping[str, str]) -> None:
    from matplotlib.collections import PolyCollection

    width = 0.84 if len(nodes) <= MAX_NAMED else 1.0
    frames = [_box(at, width, 0.0, 1.0) for at in range(len(nodes))]
    backs = [_FRAME if node.in_use else _EMPTY for node in nodes]
    boxes, faces = [], []
    for at, node in enumerate(nodes):
        for bottom, top, colour in _stack(node, colours[node.type]):
            boxes.append(_box(at, width, bottom, top))
            faces.append(colour)
    many = len(boxes) + len(frames) > _MAX_VECTORS
    # Without smoothing where bars touch: it would leave a pale line between each two.
    looks: dict[str, Any] = {"linewidths": 0, "rasterized": many, "antialiased": not many}
    for shapes, fillings, order in ((frames, backs, 1), (boxes, faces, 2)):
        axes.add_collection(PolyCollection(shapes, facecolors=fillings, zorder=order, **looks))
    axes.axhline(1.0, color="#444444", linewidth=0.6, zorder=3)
    axes.set_xlim(-0.6, max(len(nodes), 1) - 0.4)
    # Pods that ask for more than their node has reach above the line. The panels share the larger of their limits.
    axes.set_ylim(0.0, max([1.04, axes.get_ylim()[1], *(min(node.fill, _MAX_FILL) for node in nodes)]))
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    axes.set_ylabel("of the fullest resource")


def _box(at: float, width: float, bottom: float, top: float) -> list[tuple[float, float]]:
    left, right = at - width / 2, at + width / 2
    return [(left, bottom), (left, top), (right, top), (right, bottom)]


def _stack(node: NodeFill, colour: str) -> Iterator[tuple[float, float, str]]:
    """Yield the bottom, the top and the colour of each pod that asks for something."""
    bottom = 0.0
    for number, pod in enumerate(pod for pod in node.pods if pod.share > 0):
        yield bottom, bottom + pod.share, _shade(pod.lot, colour, number % 2)
        bottom += pod.share


def _shade(lot: Lot, colour: str, turn: int) -> str:
    """Return the colour of a pod: its node type's, pale if it was there before, by turns a little lighter."""
    if lot is Lot.PINNED:
        return _PINNED[turn]
    return _mix(colour, (0.45, 0.62)[turn] if lot is Lot.STAYS else (0.0, 0.16)[turn])


def _mix(colour: str, white: float) -> str:
    """Return a colour (``#rrggbb``) with a part of white in it, 0 to 1.

    >>> _mix("#0072b2", 0.5)
    '#80b8d8'
    """
    parts = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
    return "#" + "".join(f"{int(part + (255 - part) * white + 0.5):02x}" for part in parts)


def _legend(picture: Picture, colours: Mapping[str, str]) -> list[Any]:
    from matplotlib.patches import Patch

    counts = collections.Counter(node.type for node in picture.before)
    own = [name for name in sorted(counts) if colours[name] != _GREY]
    handles = [
        Patch(color=colours[name], label=f"{_plain(shorten(name, MAX_NAME))} ({counts[name]:,})") for name in own
    ]
    rest = sum(count for name, count in counts.items() if colours[name] == _GREY)
    if rest:
        handles.append(Patch(color=_GREY, label=f"{_OTHER} ({rest:,})"))
    lots = {pod.lot for node in picture.after for pod in node.pods}
    first = colours[own[0]] if own else _GREY
    if Lot.STAYS in lots or not lots:
        handles.append(Patch(color=_mix(first, 0.5), label="pale: there before"))
    if Lot.ARRIVED in lots:
        handles.append(Patch(color=first, label=f"full: {picture.arrived}"))
    if Lot.PINNED in lots:
        handles.append(Patch(color=_PINNED[0], label="belongs to its node"))
    handles.append(Patch(facecolor=_EMPTY, edgecolor="#999999", linewidth=0.5, label="empty node"))
    return handles


def _plain(text: str) -> str:
    """Return a text in which matplotlib finds no formula, and a reader of SVG no control character."""
    return safe(text).replace("$", r"\$")
