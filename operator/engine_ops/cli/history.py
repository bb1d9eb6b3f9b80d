"""`engine-ops history`: what happened, from and to files, as numbers and as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine_ops.cli.history_options import HistoryPlace, filter_options, place_options, told_to_the_user
from engine_ops.cli.place import encode, output_option

if TYPE_CHECKING:
    from engine_ops.history.formats.detect import Reading

FORMATS = ("json", "jsonl", "parquet", "swf", "csv", "prometheus")
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group("history")
def command() -> None:
    """Show the history that answers are learned from; bring in the past that you have.

    The history is the operator's, in ConfigMaps of its namespace, or a directory (--store).
    """


@command.command("import")
@click.argument("files", nargs=-1, type=click.Path(dir_okay=False, allow_dash=True), metavar="FILE...")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["auto", *FORMATS]),
    default="auto",
    show_default=True,
    help="Of all FILEs; auto tells each by its first bytes. gzip is unpacked, whatever the format.",
)
@click.option(
    "--window",
    default="1d",
    show_default=True,
    metavar="TIME",
    help="Samples of usage become one point for each workload and so long a time: 30min, 6h, 1d.",
)
@click.option(
    "--capacity",
    type=_FILE,
    metavar="FILE",
    help="Of machines, for a usage CSV in MHz: columns id, cpu_count, cpu_capacity (MHz), mem_capacity (KiB).",
)
@click.option("--cpu", type=_FILE, multiple=True, metavar="FILE", help="Prometheus' answer with cores; repeatable.")
@click.option("--memory", type=_FILE, multiple=True, metavar="FILE", help="Prometheus' answer with bytes; repeatable.")
@click.option(
    "--as-type",
    metavar="TYPE",
    help="Type of points from SWF, CSV and Prometheus.  [default: observed-job, observed-usage]",
)
@click.option("--skip-faulty", is_flag=True, help="Leave out rows that cannot be read, and count them.")
@click.option(
    "--max-points",
    type=click.IntRange(1, 100_000_000),
    help="How many points the history may hold.  [default: 10000; 10000000 with --store]",
)
@place_options
def import_(
    files: Sequence[str],
    kind: str,
    window: str,
    capacity: Path | None,
    cpu: Sequence[Path],
    memory: Sequence[Path],
    as_type: str | None,
    skip_faulty: bool,
    max_points: int | None,
    place: HistoryPlace,
) -> None:
    """Add the points of FILEs to a history; - is standard input.

    Formats: points as JSON, JSON lines or Parquet, as `export` writes them; job logs in the Standard Workload Format
    (swf); samples of usage as CSV (id, timestamp, cpu in cores, memory in bytes; or in MHz, with --capacity); answers
    of Prometheus to range queries, by namespace, pod and container.

    A point that was imported before, or is twice in the files, is added once. A row that cannot be read is reported
    with its file, line and field; nothing is written then, unless --skip-faulty. Exit code 0 if everything was read, 2
    if not.
    """
    from engine_ops.cli.history_import import import_files
    from engine_ops.history.formats.detect import Reading
    from engine_ops.history.formats.source import Source

    if not files and not cpu and not memory:
        raise click.UsageError("name at least one FILE")
    reading: Reading = Reading(
        format=kind,
        window_ms=_window_ms(window),
        capacity=None if capacity is None else Source.of(capacity),
        cpu=[Source.of(path) for path in cpu],
        memory=[Source.of(path) for path in memory],
        request_type=as_type,
    )
    with told_to_the_user(place):
        import_files(files, reading, place, skip_faulty=skip_faulty, max_points=max_points)


@command.command()
@click.option(
    "--format",
    "kind",
    type=click.Choice(["json", "jsonl", "parquet"]),
    help="Default: by the file's name, else jsonl.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Default: standard output. Written whole or not at all.",
)
@filter_options
@place_options
def export(kind: str | None, output: Path | None, filters: dict[str, Any], place: HistoryPlace) -> None:
    """Write points as JSON lines, as a JSON array or as Parquet.

    Points that still wait for their outcome are not among them. What is exported can be imported again: identity and
    all numbers stay as they are. NaN and infinities are written as Python's json reads them.
    """
    from engine_ops.cli.history_export import export_points

    suffixes = {".json": "json", ".parquet": "parquet", ".pq": "parquet"}
    chosen = kind or suffixes.get(output.suffix.lower() if output else "", "jsonl")
    if chosen == "parquet" and output is None:
        raise click.UsageError("Parquet needs a file: -o FILE")
    view = place.read()
    count = export_points(view.select(**filters).points(), chosen, output)
    _warn(view)
    click.echo(f"{count:,} point{'' if count == 1 else 's'} written to {output or 'standard output'}", err=True)


@command.command()
@output_option
@filter_options
@place_options
def stats(shape: str, filters: dict[str, Any], place: HistoryPlace) -> None:
    """Count points by type: how many succeeded, how long they took, why they failed; and say how the store is."""
    from engine_ops.cli.history_stats import format_statistics, statistics

    view = place.read()
    found = statistics(view, **filters)
    click.echo(format_statistics(found, view) if shape == "table" else encode(found, shape), nl=False)


@command.command()
@click.argument("workload", required=False)
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Draw into this file too, an .svg or .png. Needs engine-ops[plot].",
)
@click.option("--picture/--no-picture", default=True, help="Whether it is drawn in the terminal.")
@filter_options
@place_options
def show(workload: str | None, plot: Path | None, picture: bool, filters: dict[str, Any], place: HistoryPlace) -> None:
    """Draw usage and durations over time.

    WORKLOAD is a name, kind/name, namespace/name or namespace/kind/name; without it everything is drawn together, and
    the workloads with the most points are listed.
    """
    from engine_ops.cli.history_picture import draw_history
    from engine_ops.cli.history_series import collect
    from engine_ops.cli.picture import Canvas
    from engine_ops.cli.plot import PlotError, check_target

    if plot is not None:
        try:
            check_target(plot)
        except PlotError as error:
            raise click.UsageError(str(error)) from error
    view = place.read()
    title = workload or filters.get("type") or "all"
    whole, workloads = collect(view.select(**filters).points(), title, workload)
    if not len(whole):
        asked = f" about {workload}" if workload else ""
        match = " that match" if filters else ""
        cure = ": `engine-ops history show` without a name lists the workloads" if workload else ""
        raise click.ClickException(f"the history in {view.where} holds no points{asked}{match}{cure}")
    if picture:
        click.echo(draw_history(whole, workloads, Canvas.of_stdout()), nl=False)
    _warn(view)
    if plot is not None:
        from engine_ops.cli.history_plot import write_history_plot

        try:
            write_history_plot(whole, workloads, plot)
        except PlotError as error:
            raise click.ClickException(str(error)) from error


def _warn(view: Any) -> None:
    """Say what of the history is not shown."""
    from engine_ops.cli.printing import report

    for name, why in view.damaged.items():
        report(f"left out: {name} is damaged: {why}")
    if view.missing:
        report(f"left out: {len(view.missing)} missing segments; see `engine-ops history stats`")
    if view.future:
        report(f"left out: {view.future}")


def _window_ms(text: str) -> int:
    units = {"min": 60_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
    number = text.rstrip("abcdefghijklmnopqrstuvwxyz")
    unit = units.get(text[len(number) :])
    if unit is None or not number.isdecimal() or not 0 < int(number) * unit <= 366 * units["d"]:
        raise click.BadParameter(f"{text!r} is no time such as 30min, 6h or 1d (up to 366d)", param_hint="--window")
    return int(number) * unit
