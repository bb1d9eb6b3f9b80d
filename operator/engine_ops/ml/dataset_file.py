"""Data sets as JSON files."""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from engine_ops.ml.data_point import WorkloadDataPoint

VERSION: Final = 1
_POINT_KEYS: Final = ("dataPoints", "data_points", "points", "data")


def write(path: Path, points: Iterable[WorkloadDataPoint], further: Mapping[str, Any]) -> None:
    """Write points as an object with ``version`` and ``dataPoints``, in one step: the old file or the new one, whole.

    NaN and infinities are written as ``NaN``, ``Infinity`` and ``-Infinity``, as Python's ``json`` reads them; JSON
    itself has no word for them.

    Parameters
    ----------
    path
        The file; a link is followed.
    points
        What to write.
    further
        Further keys of the object.

    Raises
    ------
    TypeError, ValueError
        If something is no JSON value; the message names the place, and the file is as it was.
    OSError
        If it cannot be written; the file is as it was.
    """
    head = [*((json.dumps(key), _encode(key, value)) for key, value in further.items())]
    path = Path(os.path.realpath(path))
    aside = path.with_name(f".{path.name[:200]}.{secrets.token_hex(8)}.tmp")
    try:
        with aside.open("x", encoding="ascii") as file:
            if path.exists():
                aside.chmod(path.stat().st_mode & 0o7777)
            file.write(f'{{"version": {VERSION},\n')
            file.writelines(f"{key}: {value},\n" for key, value in head)
            file.write('"dataPoints": [')
            for index, point in enumerate(points):
                file.write(",\n" if index else "\n")
                file.write(_encode(f"dataPoints[{index}]", point.to_dict()))
            file.write("\n]}\n")
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def read(path: Path) -> tuple[list[WorkloadDataPoint], dict[str, Any]]:
    """Read what `write` wrote, or a plain array of points.

    Returns
    -------
    tuple
        The points, and the object's further keys.

    Raises
    ------
    ValueError
        If the file is no data set; the message names the file and the place in it.
    OSError
        If it cannot be read.
    """
    try:
        content = json.loads(path.read_bytes())
    except RecursionError:
        raise ValueError(f"{path}: is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{path}: is no JSON: {error}") from None
    further: dict[str, Any] = {}
    name = ""
    if isinstance(content, dict):
        version = content.get("version", VERSION)
        if version != VERSION or isinstance(version, bool):
            raise ValueError(f"{path}: version: {version!r} is not understood; this release reads version {VERSION}")
        name = next((key for key in _POINT_KEYS if key in content), "")
        if not name:
            raise ValueError(f"{path}: dataPoints is missing: this is no data set")
        further = {key: value for key, value in content.items() if key not in ("version", name)}
        content = content[name]
    if not isinstance(content, list):
        raise ValueError(f"{path}: {name or 'the file'} must hold a list of data points, not {_said(content)}")
    return [_point(f"{path}: {name}[{index}]", data) for index, data in enumerate(content)], further


def _point(place: str, data: Any) -> WorkloadDataPoint:
    try:
        return WorkloadDataPoint.from_dict(_numbered(data))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{place}: {error}") from None


def _numbered(data: Any) -> Any:
    # What other writers make of NaN.
    if not isinstance(data, dict):
        return data
    if data.get("duration", 0) is None:
        data["duration"] = math.nan
    for name in ("resourceUsage", "resource_usage"):
        usage = data.get(name)
        if isinstance(usage, dict):
            data[name] = {key: math.nan if amount is None else amount for key, amount in usage.items()}
    return data


def _encode(place: str, value: Any) -> str:
    try:
        for fault in _faults(place, value):
            raise TypeError(fault)
        return json.dumps(value)
    except RecursionError:
        raise ValueError(f"{place}: is nested too deeply, or holds itself") from None
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None


def _faults(place: str, value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if isinstance(key, str):
                yield from _faults(f"{place}.{key}", inner)
            else:
                yield f"{place}: has the key {key!r}; keys must be strings"
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _faults(f"{place}[{index}]", inner)
    elif value is not None and not isinstance(value, str | int | float):
        yield f"{place}: {_said(value)} is no JSON value"


def _said(value: object) -> str:
    names: dict[type, str] = {dict: "an object", list: "a list", str: "a string", type(None): "null"}
    return names.get(type(value), type(value).__name__)


def _sync_directory(directory: Path) -> None:
    # Some file systems refuse it; the file itself is on the disk then.
    with contextlib.suppress(OSError):
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
