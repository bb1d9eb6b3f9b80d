"""Faults in what a user wrote, each with the path of the field."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pydantic import ValidationError

MAX_FAULTS_IN_MESSAGE: Final = 8
"""A message lists at most this many faults, and counts the rest."""

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_KEY_MARKER: Final = "[key]"
"""What pydantic adds to a location when a mapping's key, not its value, is wrong."""


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong, and where.

    Parameters
    ----------
    path
        Where, as kubectl users write it: ``spec.data.items[3].cpu``.
    message
        What is wrong and what to do.
    """

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class InvalidDataError(ValueError):
    """The data, or a constraint, is wrong. Trying again is of no use until it is changed.

    Parameters
    ----------
    faults
        At least one fault.
    """

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__(self.summary())

    def summary(self) -> str:
        """Return one line naming the first few faults and counting the rest."""
        shown = "; ".join(str(fault) for fault in self.faults[:MAX_FAULTS_IN_MESSAGE])
        more = len(self.faults) - MAX_FAULTS_IN_MESSAGE
        return f"{shown}; and {more} more" if more > 0 else shown


class WaitingError(RuntimeError):
    """The request cannot be answered now, though nothing in it is wrong.

    Parameters
    ----------
    reason
        One of `engine_ops.api.reasons.WAITING`.
    message
        What is awaited, and from where.
    """

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        self.message = message
        super().__init__(message)


def format_path(location: Iterable[str | int], *, root: str = "") -> str:
    """Join the parts of a location the way Kubernetes writes a field path.

    A key that is no plain name, such as a label, stands in brackets.

    >>> format_path(("items", 3, "cpu"), root="spec.data")
    'spec.data.items[3].cpu'
    >>> format_path(("tasks", 0, "nodeSelector", "kubernetes.io/os"))
    'tasks[0].nodeSelector[kubernetes.io/os]'
    """
    path = root
    for part in location:
        if part == _KEY_MARKER:
            continue
        if isinstance(part, int) or not _NAME.fullmatch(part):
            path += f"[{part}]"
        else:
            path += f".{part}" if path else part
    return path


def is_no_object(item: Mapping[str, Any]) -> bool:
    """Whether one of pydantic's errors says that there is no JSON object where one has to be."""
    return item["type"] in {"dict_type", "mapping_type", "model_type", "model_attributes_type"}


def faults_of(error: ValidationError, *, root: str = "") -> list[Fault]:
    """Translate pydantic's errors into faults.

    Parameters
    ----------
    error
        What pydantic raised.
    root
        The path of the validated object in the resource, such as ``spec.data``.
    """
    faults = []
    for item in error.errors(include_url=False, include_context=True, include_input=False):
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = "unknown field"
        elif item["type"] == "missing":
            message = "required, but absent"
        elif is_no_object(item):
            message = "must be an object"
        faults.append(Fault(format_path(item["loc"], root=root), message))
    return faults
