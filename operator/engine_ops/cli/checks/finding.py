"""What a check has found."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any

from engine_ops.kube.errors import ApiError


class Level(enum.StrEnum):
    """How it is."""

    OK = "ok"
    NOTE = "note"
    """Nothing is wrong; something that is optional is not there, or good to know."""
    FINDING = "finding"
    UNKNOWN = "unknown"
    """It could not be looked at."""


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Parameters
    ----------
    check
        What was looked at: one of a fixed list of words.
    level
        How it is.
    message
        What was found.
    fix
        What to do; empty where there is nothing to do.
    """

    check: str
    level: Level
    message: str
    fix: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"check": self.check, "level": self.level.value, "message": self.message, "fix": self.fix or None}


def ok(check: str, message: str) -> Finding:
    """Return a line that all is well."""
    return Finding(check, Level.OK, message)


def note(check: str, message: str, fix: str = "") -> Finding:
    """Return a line of what is good to know."""
    return Finding(check, Level.NOTE, message, fix)


def finding(check: str, message: str, fix: str) -> Finding:
    """Return a line of what is wrong."""
    return Finding(check, Level.FINDING, message, fix)


def unknown(check: str, error: ApiError) -> Finding:
    """Return a line of what may not be looked at."""
    fix = "ask somebody who may, or run this as an administrator of the cluster" if error.status == 403 else ""
    return Finding(check, Level.UNKNOWN, f"cannot be looked at: {error.message}", fix)
