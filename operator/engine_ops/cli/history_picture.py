"""Usage and durations over time, in a terminal."""

from __future__ import annotations

import datetime
import math
import statistics
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import click

from engine_ops.api.quantity import format_bytes
from engine_ops.cli.history_series import CPU, DURATION, MEMORY, Series, format_share, rank
from engine_ops.cli.picture import Canvas
from engine_ops.cli.printing import format_table, safe, shorten

MAX_WORKLOADS: Final = 12
"""So many workloads are listed, those that use most first, else those with the most points."""

_HEIGHT: Final = 6
_LABEL: Final = 9
"""Columns of the scale at the left."""
_EIGHTHS: Final = " ▁▂▃▄▅▆▇█"
_ASCII: Final = " .:|#"
_SPARK, _SHORT_SPARK, _WIDE_TERMINAL = 24, 12, 100
_MIN_NAME: Final = 12
_SHORT_MS: Final = 3_600_000
_WIDE: Final = 50.0
"""Where the largest value is so many times the median, the scale is logarithmic."""


def draw_history(whole: Series, workloads: Mapping[str, Series], canvas: Canvas) -> str:
    """Return a chart of each quantity that is known, and a list of the workloads if there are several.

    Parameters
    ----------
    whole
        All points, at least one.
    workloads
        The same points by workload.
    canvas
        What is drawn on.
    """
    lines = [*textwrap.wrap(headline(whole, len(workloads)), canvas.width, break_on_hyphens=False), ""]
    start, end = whole.span
    for quantity, title in ((CPU, "cpu, cores"), (MEMORY, "memory"), (DURATION, "duration")):
        known = whole.known(quantity)
        # The length of windows is no news.
        if not known or (quantity == DURATION and whole.window_ms):
            continue
        lines += [*_chart(known, quantity, title, (start, end), canvas), ""]
    text = "".join(f"{line.rstrip()}\n" for line in lines)
    if len(workloads) > 1:
        text += _listed(workloads, (start, end), canvas)
    return text


def headline(whole: Series, workloads: int) -> str:
    """Say what is shown, how much of it, and from when to when."""
    first, last = _dates(whole.span)
    span = first if first == last else f"{first} to {last}"
    parts = [f"{len(whole):,} point{'' if len(whole) == 1 else 's'}"]
    if workloads > 1:
        parts.append(f"{workloads:,} workloads")
    parts.append(span)
    if (rate := whole.success_rate) is not None:
        parts.append(f"{format_share(rate)} succeeded")
    if whole.unknown:
        parts.append(f"outcome of {whole.unknown:,} unknown")
    if workloads == 1 and whole.requested:
        asked = {CPU: format_number, MEMORY: format_bytes}
        amounts = [f"{asked[name](whole.requested[name])} {name}" for name in asked if name in whole.requested]
        if amounts:
            parts.append(f"asks for {', '.join(amounts)}")
    return safe(f"{whole.name}: {', '.join(parts)}")


def _chart(
    known: Sequence[tuple[int, float]], quantity: str, title: str, span: tuple[int, int], canvas: Canvas
) -> list[str]:
    if len(known) == 1:
        return [f"{title}: {_format(quantity, known[0][1])}"]
    room = canvas.width - _LABEL - 3
    buckets = min(room, max(1, len({at for at, _ in known})))
    wide = room // buckets
    heights, each_ms = bucketed(known, span, buckets, max if quantity != DURATION else statistics.median)
    of = "the highest" if quantity != DURATION else "the median"
    shown = [value for value in heights if value is not None]
    top = max(shown)
    least = min((value for value in shown if value > 0), default=0.0)
    logarithmic = quantity == DURATION and least > 0 and top > _WIDE * statistics.median(shown)
    scaled = [_share(value, least, top, logarithmic) for value in heights]
    scale = ", logarithmic" if logarithmic else ""
    step = f" of each {format_duration(each_ms)}" if buckets > 1 else ""
    steps = _EIGHTHS if canvas.unicode else _ASCII
    vertical, corner, line = ("┤", "└", "─") if canvas.unicode else ("|", "+", "-")
    parts = len(steps) - 1
    levels = [0 if share is None else max(1, round(share * _HEIGHT * parts)) for share in scaled]
    rows = [f"{title}: {of}{step}{scale}"]
    middle = math.sqrt(least * top) if logarithmic else top / 2
    labels = {_HEIGHT - 1: _format(quantity, top), _HEIGHT // 2 - 1: _format(quantity, middle)}
    for row in range(_HEIGHT - 1, -1, -1):
        cells = "".join(steps[min(max(level - row * parts, 0), parts)] * wide for level in levels)
        rows.append(f"{labels.get(row, ''):>{_LABEL}} {vertical}{_paint(cells.rstrip(), quantity, canvas)}")
    rows.append(f"{_format(quantity, least if logarithmic else 0.0):>{_LABEL}} {corner}{line * (buckets * wide)}")
    first, last = _dates(span)
    gap = buckets * wide - len(first) - len(last)
    rows.append(" " * (_LABEL + 2) + (first if gap < 1 or first == last else first + " " * gap + last))
    return rows


def bucketed(
    known: Sequence[tuple[int, float]],
    span: tuple[int, int],
    buckets: int,
    reduce: Callable[[list[float]], float],
) -> tuple[list[float | None], float]:
    """Return one value for each of equal parts of a span of time, None where nothing is known, and a part's length.

    Parameters
    ----------
    known
        Moments within the span, and values.
    span
        First and last moment, both included.
    buckets
        At least 1.
    reduce
        Makes one value of those of a part.
    """
    start, end = span
    each = (end - start + 1) / buckets
    held: list[list[float]] = [[] for _ in range(buckets)]
    for at, value in known:
        held[min(int((at - start) / each), buckets - 1)].append(value)
    return [reduce(values) if values else None for values in held], each


def _listed(workloads: Mapping[str, Series], span: tuple[int, int], canvas: Canvas) -> str:
    ranked = rank(workloads)
    spark = _SPARK if canvas.width >= _WIDE_TERMINAL else _SHORT_SPARK
    shown = ranked[:MAX_WORKLOADS]
    of_cpu = any(series.known(CPU) for series in shown)
    # The length of windows is no news.
    durations = [[value for _, value in series.known(DURATION)] if not series.window_ms else [] for series in shown]
    columns = {
        "POINTS": [f"{len(series):,}" for series in shown],
        "SUCCESS": [format_share(series.success_rate) for series in shown],
    }
    if any(durations):
        columns["P50 DURATION"] = [format_duration(statistics.median(values)) if values else "" for values in durations]
    if of_cpu:
        columns["PEAK CPU"] = [format_number(series.peak(CPU)) if series.known(CPU) else "" for series in shown]
    if of_cpu or any(durations):
        quantity, drawn = (CPU, "CPU OVER TIME") if of_cpu else (DURATION, "DURATION OVER TIME")
        columns[drawn] = [sparkline(series, quantity, span, spark, canvas) for series in shown]
    taken = sum(max(map(len, (header, *cells))) + 3 for header, cells in columns.items())
    names = [shorten(safe(series.name), max(_MIN_NAME, canvas.width - taken)) for series in shown]
    text = format_table(("WORKLOAD", *columns), list(zip(names, *columns.values(), strict=True)))
    more = len(ranked) - len(shown)
    return text if more <= 0 else f"{text}and {more:,} more\n"


def sparkline(series: Series, quantity: str, span: tuple[int, int], width: int, canvas: Canvas) -> str:
    """Return a line of small bars: the highest values of a quantity over the span, as parts of their highest."""
    known = series.known(quantity)
    steps = _EIGHTHS if canvas.unicode else _ASCII
    if not known:
        return ""
    heights, _ = bucketed(known, span, width, max)
    top = max(value for value in heights if value is not None)
    parts = len(steps) - 1
    return "".join(
        " " if value is None else steps[max(1, round(value / top * parts)) if top > 0 else 1] for value in heights
    )


def _share(value: float | None, least: float, top: float, logarithmic: bool) -> float | None:
    if value is None:
        return None
    if top <= 0:
        return 0.0
    if not logarithmic:
        return max(value, 0.0) / top
    return 0.0 if value <= least else math.log(value / least) / math.log(top / least)


def _paint(text: str, quantity: str, canvas: Canvas) -> str:
    if not canvas.colour or not text.strip():
        return text
    return click.style(text, fg={CPU: "blue", MEMORY: "green", DURATION: "yellow"}[quantity])


def _format(quantity: str, value: float) -> str:
    if quantity == CPU:
        return format_number(value)
    return format_bytes(round(value)) if quantity == MEMORY else format_duration(value)


def format_number(value: float) -> str:
    """Return a number with three digits that count.

    >>> format_number(0.012345), format_number(12), format_number(4096)
    ('0.0123', '12', '4,096')
    """
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def format_duration(duration_ms: float) -> str:
    """Return a duration in the largest unit of which there is at least one and a half, except whole ones.

    >>> format_duration(250), format_duration(1500), format_duration(86_400_000), format_duration(5_400_000)
    ('250 ms', '1.5 s', '1 d', '1.5 h')
    """
    if not math.isfinite(duration_ms):
        return "unknown"
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000)):
        if abs(duration_ms) >= size:
            return f"{duration_ms / size:.3g} {unit}"
    return f"{duration_ms:.3g} ms"


def _dates(span: tuple[int, int]) -> tuple[str, str]:
    """Return both ends of a span as text, with seconds where it is short."""
    shape = "%Y-%m-%d %H:%M" if span[1] - span[0] > _SHORT_MS else "%Y-%m-%d %H:%M:%S"
    return _date(span[0], shape), _date(span[1], shape)


def _date(at_ms: int, shape: str) -> str:
    try:
        return datetime.datetime.fromtimestamp(at_ms / 1000, datetime.UTC).strftime(shape)
    except (ValueError, OverflowError, OSError):
        return f"{at_ms} ms"
