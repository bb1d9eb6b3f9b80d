"""Usage and durations over time as a file, drawn with matplotlib (the extra ``plot``)."""

from __future__ import annotations

import datetime
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from engine_ops.api.quantity import format_bytes
from engine_ops.cli.history_picture import format_duration, headline
from engine_ops.cli.history_series import CPU, DURATION, MEMORY, Series, rank
from engine_ops.cli.plot import PlotError
from engine_ops.cli.printing import safe, shorten

MAX_COLOURED: Final = 6
"""So many workloads have a colour of their own; the others are grey."""

# Okabe and Ito's palette, which colour-blind people can tell apart.
_PALETTE: Final = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
_GREY: Final = "#b0b0b0"
_TITLES: Final = {CPU: "cpu (cores), peak", MEMORY: "memory, peak", DURATION: "duration"}
_SETTINGS: Final = {
    "svg.hashsalt": "engine-ops",
    "svg.fonttype": "none",
    "font.family": ["DejaVu Sans"],
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
}
_TICKS_MS: Final = (1e3, 1e4, 6e4, 6e5, 3.6e6, 3.6e7, 8.64e7, 8.64e8, 3.1536e10)
"""One and ten seconds, minutes, hours and days; a year."""
_MAX_VECTORS: Final = 3000
_MAX_NAME: Final = 40


def write_history_plot(whole: Series, workloads: Mapping[str, Series], path: Path) -> None:
    """Draw each quantity that is known in a panel of its own. The same points give the same bytes.

    Parameters
    ----------
    whole
        All points, at least one.
    workloads
        The same points by workload; the first of `rank` have a colour of their own.
    path
        A name that `engine_ops.cli.plot.check_target` takes.

    Raises
    ------
    PlotError
        If the file cannot be written, or nothing is known that could be drawn.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    quantities = [quantity for quantity in _TITLES if whole.known(quantity)]
    if whole.window_ms and DURATION in quantities:
        quantities.remove(DURATION)  # the length of windows is no news
    if not quantities:
        raise PlotError(f"--plot {path}: the points hold neither usage nor durations of workloads")
    settings: Any = dict(_SETTINGS)
    with mpl.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=(12, 1 + 3 * len(quantities)), layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle(_plain(headline(whole, len(workloads))), fontsize=11, fontweight="bold", x=0.01, ha="left")
        panels: Any = figure.subplots(len(quantities), 1, sharex=True, squeeze=False)
        ranked = rank(workloads)
        for axes, quantity in zip(panels[:, 0], quantities, strict=True):
            _panel(axes, quantity, ranked)
        if len(ranked) > 1:
            handles, labels = panels[0, 0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=8)
        metadata: dict[str, Any] = {"Date": None} if path.suffix.lower() == ".svg" else {"Software": None}
        try:
            figure.savefig(path, dpi=160, metadata=metadata)
        except OSError as error:
            raise PlotError(f"--plot {path}: {(error.strerror or str(error)).lower()}") from error


def _panel(axes: Any, quantity: str, ranked: list[Series]) -> None:
    from matplotlib.ticker import FuncFormatter

    many = sum(len(series) for series in ranked) > _MAX_VECTORS
    values: list[float] = []
    for place, series in enumerate(ranked):
        known = series.known(quantity)
        if not known:
            continue
        coloured = place < MAX_COLOURED
        label = shorten(series.name, _MAX_NAME) if coloured else "others" if place == MAX_COLOURED else None
        values += [value for _, value in known]
        looks: dict[str, Any] = {
            "color": _PALETTE[place] if coloured else _GREY,
            "label": None if label is None else _plain(label),
            "zorder": 3 if coloured else 2,
            "rasterized": many,
        }
        times = [_moment(at) for at, _ in known]
        amounts = [value for _, value in known]
        if quantity == DURATION:
            # Runs are single events: a line between them would show what was not there.
            axes.plot(times, amounts, ".", markersize=3, alpha=0.6, **looks)
        else:
            axes.plot(times, amounts, "-", linewidth=1.2 if coloured else 0.6, marker=".", markersize=3, **looks)
        if len(ranked) == 1 and quantity in series.requested:
            axes.axhline(series.requested[quantity], color="#444444", linestyle="--", linewidth=0.8, label="requested")
    axes.set_title(_TITLES[quantity], loc="left", fontsize=10)
    positive = [value for value in values if value > 0]
    if quantity == DURATION and positive and max(positive) > 50 * sorted(positive)[len(positive) // 2]:
        axes.set_yscale("symlog", linthresh=1000)
        axes.set_yticks([0, *(tick for tick in _TICKS_MS if tick <= max(positive))])
        axes.minorticks_off()
    else:
        axes.set_ylim(bottom=0)
    formats = {MEMORY: lambda value, _: format_bytes(round(value)), DURATION: lambda value, _: format_duration(value)}
    if quantity in formats:
        axes.yaxis.set_major_formatter(FuncFormatter(formats[quantity]))


def _moment(at_ms: int) -> datetime.datetime:
    # The years that a datetime can hold; points beyond them are drawn at the edge.
    seconds = min(max(at_ms / 1000, -62_135_596_800.0), 253_402_300_799.0)
    return datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(seconds=seconds)


def _plain(text: str) -> str:
    return safe(text).replace("$", r"\$")
