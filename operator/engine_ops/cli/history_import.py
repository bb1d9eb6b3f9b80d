"""Files into a history: first they are read, then points are added."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import click

from engine_ops.cli.history_options import HistoryPlace
from engine_ops.cli.printing import report
from engine_ops.cli.stdin import STDIN
from engine_ops.history.driving import run_sync
from engine_ops.history.file_store import FileStore
from engine_ops.history.formats.detect import Reading
from engine_ops.history.formats.faults import Fault
from engine_ops.history.formats.identity import identify
from engine_ops.history.formats.parquet import MissingParquetError
from engine_ops.history.formats.source import Source
from engine_ops.history.formats.swf import NOT_RECORDED
from engine_ops.history.importing import Imported, import_points
from engine_ops.ml.data_point import WorkloadDataPoint

MAX_REPORTED: Final = 20
"""So many faults are printed; the others are counted."""
CLUSTER_POINTS: Final = 10_000
"""The operator's own default."""
DIRECTORY_POINTS: Final = 10_000_000


class _Faults:
    """Prints the first faults and counts all of them."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, fault: Fault) -> None:
        self.count += 1
        if self.count <= MAX_REPORTED:
            report(str(fault))

    def finish(self) -> None:
        """Say how many were not printed."""
        if self.count > MAX_REPORTED:
            report(f"and {self.count - MAX_REPORTED:,} more")


def import_files(
    files: Sequence[str], reading: Reading, place: HistoryPlace, *, skip_faulty: bool, max_points: int | None
) -> Imported:
    """Import files and say what became of their points.

    Parameters
    ----------
    files
        Names, ``-`` for standard input.
    reading
        How they are read.
    place
        Where the history is.
    skip_faulty
        Whether rows that cannot be read are left out. Else everything is read before anything is written.
    max_points
        How many the history may hold.

    Raises
    ------
    ClickException
        If something is missing that is needed to read a format.
    Exit
        With 2 if there are faults, which were printed.
    StoreError
        If the history cannot be read or written.
    """
    faults = _Faults()
    notes: collections.Counter[str] = collections.Counter()
    try:
        with _sources(files) as sources:
            if not skip_faulty:
                reading.check(sources, faults)
                if faults.count:
                    faults.finish()
                    report(
                        f"{faults.count:,} fault{'' if faults.count == 1 else 's'}: nothing was written; "
                        "--skip-faulty leaves out what cannot be read"
                    )
                    raise click.exceptions.Exit(2)
            points = _noted(reading.points(sources, faults), notes)
            imported = _import(points, place, max_points)
    except MissingParquetError as error:
        raise click.ClickException(str(error)) from error
    faults.finish()
    _say(imported, faults.count, notes)
    if faults.count and not skip_faulty:
        report("the files changed while they were imported")
        raise click.exceptions.Exit(2)
    return imported


def _import(points: Iterable[WorkloadDataPoint], place: HistoryPlace, max_points: int | None) -> Imported:
    # What the log of the history would say speaks of an operator that goes on; here, the error is the message.
    logging.getLogger("engine_ops.history").addHandler(logging.NullHandler())
    if place.store is not None:
        return run_sync(import_points(FileStore(place.store), points, capacity=max_points or DIRECTORY_POINTS))
    return asyncio.run(_import_into_cluster(points, place, max_points or CLUSTER_POINTS))


async def _import_into_cluster(points: Iterable[WorkloadDataPoint], place: HistoryPlace, capacity: int) -> Imported:
    from engine_ops.cli.live_cluster import connect
    from engine_ops.kube.history_store import ConfigMapStore

    async with connect(place.kubeconfig, place.context) as connection:
        return await import_points(ConfigMapStore(connection, place.operator_namespace), points, capacity=capacity)


def _noted(points: Iterable[WorkloadDataPoint], notes: collections.Counter[str]) -> Iterator[WorkloadDataPoint]:
    for point in points:
        identify(point)
        notes["points"] += 1
        if point.metadata["outcome"].get("reason") == NOT_RECORDED:
            notes[NOT_RECORDED] += 1
        yield point


def _say(imported: Imported, faults: int, notes: collections.Counter[str]) -> None:
    parts = [f"{imported.added:,} added", f"{imported.known:,} there already"]
    if imported.no_room:
        parts.append(f"{imported.no_room:,} left out for lack of room (--max-points), the oldest ones")
    if faults:
        parts.append(f"{faults:,} faulty")
    click.echo(f"{notes['points']:,} points read: {', '.join(parts)}")
    if notes[NOT_RECORDED]:
        report(f"{notes[NOT_RECORDED]:,} jobs whose log does not say how they ended are taken to have succeeded")


@contextlib.contextmanager
def _sources(files: Sequence[str]) -> Iterator[list[Source]]:
    """Yield the files; standard input as a file, since it is read twice."""
    if list(files).count(STDIN) > 1:
        raise click.UsageError("standard input can be read only once")
    with contextlib.ExitStack() as stack:
        sources = []
        for name in files:
            if name != STDIN:
                sources.append(Source.of(name))
                continue
            spooled = stack.enter_context(tempfile.NamedTemporaryFile())
            shutil.copyfileobj(sys.stdin.buffer, spooled)
            spooled.flush()
            sources.append(Source(Path(spooled.name), "standard input"))
        yield sources
