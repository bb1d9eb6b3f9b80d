"""Points of a history into a file."""

from __future__ import annotations

import contextlib
import secrets
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import click

from engine_ops.history.formats.json_points import write_json, write_jsonl
from engine_ops.history.formats.parquet import MissingParquetError, write_parquet
from engine_ops.ml.data_point import WorkloadDataPoint


def export_points(points: Iterable[WorkloadDataPoint], kind: str, output: Path | None) -> int:
    """Write points and return how many.

    Parameters
    ----------
    points
        What to write.
    kind
        ``json``, ``jsonl`` or ``parquet``.
    output
        The file, which is replaced at the end; None for standard output, which takes no Parquet.

    Raises
    ------
    ClickException
        If it cannot be written.
    """
    write = write_json if kind == "json" else write_jsonl
    if output is None:
        try:
            count = write(points, sys.stdout.buffer.write)
            sys.stdout.buffer.flush()
        except BrokenPipeError:  # whoever reads has had enough, as `head` does
            raise click.exceptions.Exit(1) from None
        return count
    try:
        with _replaced(output) as aside:
            if kind == "parquet":
                return write_parquet(points, aside)
            return _write_file(write, points, aside)
    except MissingParquetError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"{output}: {(error.strerror or str(error)).lower()}") from error


def _write_file(
    write: Callable[[Iterable[WorkloadDataPoint], Callable[[bytes], object]], int],
    points: Iterable[WorkloadDataPoint],
    path: Path,
) -> int:
    with path.open("wb") as file:
        return write(points, file.write)


@contextlib.contextmanager
def _replaced(path: Path) -> Iterator[Path]:
    """Yield a file beside another one whose place it takes at the end. A device or pipe is written to as it is."""
    if path.exists() and not path.is_file():
        yield path
        return
    target = path.resolve()
    aside = target.with_name(f".{target.name[:200]}.{secrets.token_hex(4)}.tmp")
    try:
        yield aside
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)
