"""What can go wrong between us and the API server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine_ops.api.faults import WaitingError
from engine_ops.api.reasons import Reason


class ConnectError(RuntimeError):
    """No usable credentials, or nobody answers at the address they name."""


class ApiError(RuntimeError):
    """The API server answered with an error.

    Parameters
    ----------
    status
        The HTTP status.
    body
        The decoded ``v1.Status`` object; empty where the body was no JSON.
    """

    def __init__(self, status: int, body: Mapping[str, Any]) -> None:
        self.status = status
        self.reason: str = body.get("reason") or ""
        self.message: str = body.get("message") or f"HTTP {status}"
        self.details: Mapping[str, Any] = body.get("details") or {}
        super().__init__(f"{status} {self.reason}: {self.message}")

    @property
    def retriable(self) -> bool:
        """Whether the same request may succeed later by itself."""
        return self.status in (408, 429) or self.status >= 500

    @property
    def too_large_to_store(self) -> bool:
        """Whether the object would outgrow etcd's limit. The API server calls it a 500, yet no retry helps."""
        return self.status == 413 or (self.status == 500 and "request is too large" in self.message)

    @property
    def retry_after_seconds(self) -> float | None:
        """What the server asked us to wait, if it did."""
        seconds = self.details.get("retryAfterSeconds")
        return float(seconds) if isinstance(seconds, int | float) else None

    @property
    def namespace_is_terminating(self) -> bool:
        """Whether it was refused because its namespace is on its way out."""
        causes = self.details.get("causes") or ()
        return any(cause.get("reason") == "NamespaceTerminating" for cause in causes)


class UnavailableError(RuntimeError):
    """The API server could not be reached, or did not answer in time."""


def to_waiting(error: ApiError | UnavailableError, where: str) -> WaitingError:
    """Return what a request waits for when its source could not be read.

    Parameters
    ----------
    error
        What reading it raised.
    where
        The source in words, such as ``ConfigMap default/data``.
    """
    if isinstance(error, ApiError) and error.status == 404:
        return WaitingError(Reason.DATA_NOT_FOUND, f"{where} does not exist")
    if isinstance(error, ApiError) and error.status == 403:
        return WaitingError(Reason.FORBIDDEN, f"the operator may not read {where}")
    return WaitingError(Reason.SOURCE_UNAVAILABLE, f"{where}: {error}")
