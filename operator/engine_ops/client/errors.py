"""What the API refuses, as exceptions with the fields of its problem details (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

SHOWN_CHARACTERS: Final = 200
"""So much of an answer that is no problem document is shown."""


class EngineOpsError(Exception):
    """The API did not do what it was asked.

    Attributes
    ----------
    status : int or None
        Of HTTP; None where no answer came.
    problem : dict
        The problem details as they came: ``type``, ``title``, ``status``, ``detail`` and what else the kind has. Empty
        where the answer had none, as that of a proxy.
    errors : tuple of (str, str)
        The path of each field at fault, such as ``data.items[0].cpu``, and what is wrong with it.
    retry_after_seconds : float or None
        When to come again, where the answer says it.
    """

    def __init__(
        self,
        message: str,
        status: int | None = None,
        problem: Mapping[str, Any] | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.problem: dict[str, Any] = dict(problem or {})
        self.errors = _faults(self.problem.get("errors"))
        self.retry_after_seconds = retry_after_seconds

    @property
    def kind(self) -> str:
        """The last word of the problem's ``type``, such as ``busy`` or ``managed``; empty where there is none."""
        return str(self.problem.get("type", "")).rpartition(":")[2]


class UnreachableError(EngineOpsError):
    """No answer came: no connection, no good certificate, or not in time."""


class BadRequestError(EngineOpsError):
    """What was sent cannot be read or is not valid (400, 413, 415, 422); `errors` names the fields."""


class UnauthenticatedError(EngineOpsError):
    """There was no token, or none that is good (401)."""


class ForbiddenError(EngineOpsError):
    """The caller may not do this (403)."""


class NotFoundError(EngineOpsError):
    """There is no such thing, or not for this caller (404)."""


class ConflictError(EngineOpsError):
    """It is not in a state for this, or another manager owns the field (409, `kind` ``managed``)."""


class BusyError(EngineOpsError):
    """Still too many requests, or no free worker, after all that the time limit allowed to try (429, 503)."""


_BY_STATUS: Final[Mapping[int, type[EngineOpsError]]] = {
    400: BadRequestError,
    401: UnauthenticatedError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    413: BadRequestError,
    415: BadRequestError,
    422: BadRequestError,
    429: BusyError,
    503: BusyError,
}


def error_of(status: int, body: bytes, headers: Mapping[str, str], retry_after_seconds: float | None) -> EngineOpsError:
    """Return the exception for an answer that is none of those expected.

    Parameters
    ----------
    status, body, headers
        The answer; header names in any case.
    retry_after_seconds
        What its Retry-After says; None where it has none.
    """
    if 300 <= status < 400:
        where = headers.get("Location", "elsewhere")
        return EngineOpsError(f"the API is not here: the answer points to {where}; give that as base_url", status)
    problem = _problem(body)
    if problem:
        message = str(problem.get("detail") or problem.get("title") or f"HTTP {status}")
        # Where there are few, the detail names them itself.
        named = [f"{path}: {sentence}" for path, sentence in _faults(problem.get("errors"))]
        message += "".join(f"\n  {fault}" for fault in named if fault not in message)
    else:
        said = " ".join(body[: 2 * SHOWN_CHARACTERS].decode(errors="replace").split())[:SHOWN_CHARACTERS]
        message = f"HTTP {status}" + (f": {said}" if said else "")
    return _BY_STATUS.get(status, EngineOpsError)(message, status, problem, retry_after_seconds)


def _problem(body: bytes) -> dict[str, Any]:
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return {}
    # A program between us and the API may answer in JSON of its own.
    return decoded if isinstance(decoded, dict) and ("title" in decoded or "detail" in decoded) else {}


def _faults(given: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(given, list):
        return ()
    return tuple(
        (str(fault.get("field", "")), str(fault.get("detail", ""))) for fault in given if isinstance(fault, dict)
    )
