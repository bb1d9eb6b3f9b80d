"""Tables for terminals, as kubectl prints them, and objects as YAML and JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import click
import yaml

from engine_ops.cli.colours import show

_GAP: Final = "   "
# YAML 1.2, which other tools read, takes these for numbers; PyYAML does not, and would leave the quotes out.
_NUMBER_ELSEWHERE: Final = re.compile(r"[-+]?(0o[0-7]+|(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?)")


def format_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table: columns as wide as they must be, three spaces between them, no lines, no blanks at the ends.

    Parameters
    ----------
    headers
        In capitals.
    rows
        A text for each header; `engine_ops.cli.colours.Painted` ones have their colour. What a terminal would act on
        is escaped.
    """
    table = [tuple(headers), *(tuple(safe(cell) for cell in row) for row in rows)]
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    return "".join(_format_row(row, widths) + "\n" for row in table)


def _format_row(row: Sequence[str], widths: Sequence[int]) -> str:
    filled = len(row)
    while filled and not row[filled - 1].strip():
        filled -= 1
    # Blanks stay outside of the colours, so that there are none at the end.
    padded = [show(cell) + " " * (width - len(cell)) for cell, width in zip(row[:filled], widths, strict=False)]
    return _GAP.join(padded).rstrip()


def safe(text: str) -> str:
    r"""Return a text without what a terminal would act on: ids come from whoever wrote the manifest.

    >>> safe("a" + chr(27) + "[31mb")
    'a\\x1b[31mb'
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def shorten(text: str, length: int) -> str:
    """Cut a text in the middle: nodes of one pool differ at their ends, pools at their beginnings.

    >>> shorten("gke-prod-pool-1-6f2c9d77-x7k2", 16)
    'gke-prod..7-x7k2'
    """
    if len(text) <= length:
        return text
    tail = (length - 2) // 2
    return f"{text[: length - 2 - tail]}..{text[-tail:]}"


def report(line: str) -> None:
    """Print a note or a fault on standard error."""
    click.echo(safe(line), err=True)


def format_yaml(objects: Sequence[Mapping[str, Any]]) -> str:
    """Return a stream of YAML documents."""
    return "---\n".join(
        yaml.dump(item, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=2**30) for item in objects
    )


def format_json(objects: Sequence[Mapping[str, Any]]) -> str:
    """Return one object as it is, and several as a ``v1`` List."""
    if len(objects) == 1:
        whole = objects[0]
    else:
        whole = {"apiVersion": "v1", "kind": "List", "metadata": {}, "items": list(objects)}
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


class _Dumper(yaml.CSafeDumper):
    """Writes each value in full, and quotes whatever another reader might take for a number."""

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = "'" if _NUMBER_ELSEWHERE.fullmatch(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)
