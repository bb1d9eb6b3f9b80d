"""What is wrong with a file that is imported."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TypeAlias

MAX_SHOWN = 60
"""Characters of a bad value that a message repeats."""


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """One thing that could not be read.

    Parameters
    ----------
    file
        As the user named it.
    line
        Counted from 1; a Parquet file has rows instead. None where it concerns the file.
    field
        The column, or the path in an object; empty where it concerns the whole row.
    why
        What is wrong, and where it helps, what to do.
    """

    file: str
    line: int | None
    field: str
    why: str

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        return ": ".join(part for part in (where, self.field, self.why) if part)


class FormatError(ValueError):
    """A file, or the rest of it, cannot be read at all.

    Parameters
    ----------
    fault
        Where and why.
    """

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        super().__init__(str(fault))


class FieldError(ValueError):
    """A value is not what its field must have; the reader adds the file and the line.

    Parameters
    ----------
    field
        Its name.
    why
        What is wrong.
    """

    def __init__(self, field: str, why: str) -> None:
        self.field = field
        self.why = why
        super().__init__(f"{field}: {why}")


OnFault: TypeAlias = Callable[[Fault], None]
"""Is told of a row that is left out; may raise to end the reading."""


def refuse(fault: Fault) -> None:
    """End the reading at the first row that cannot be read.

    Raises
    ------
    FormatError
        Always.
    """
    raise FormatError(fault)


def shown(value: object) -> str:
    """Return a bad value for a message, cut to a length that a line can hold.

    >>> shown("x" * 100)
    "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...'"
    """
    text = repr(value if not isinstance(value, str | bytes) else value[: MAX_SHOWN * 2])
    return text if len(text) <= MAX_SHOWN + 2 else f"{text[: MAX_SHOWN - 2]}...{text[-1]}"
