"""Errors of the REST API: problem details as RFC 9457 has them, with the path of each field at fault."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from starlette.responses import Response

MEDIA_TYPE: Final = "application/problem+json"

TITLES: Final[Mapping[str, tuple[int, str]]] = {
    "malformed": (400, "The request cannot be read"),
    "namespace-missing": (400, "It is not known in which namespace the request counts"),
    "unauthenticated": (401, "There is no token, or none that is good"),
    "forbidden": (403, "The caller may not do this"),
    "not-found": (404, "There is no such thing"),
    "method-not-allowed": (405, "This cannot be done with it"),
    "timeout": (408, "The request did not arrive in time"),
    "conflict": (409, "It is not in a state for this"),
    "managed": (409, "Another manager owns what is to be changed"),
    "too-large": (413, "The request is too large"),
    "unsupported-media-type": (415, "The body is not of a type that is read"),
    "invalid": (422, "The request is not valid"),
    "too-many-requests": (429, "The caller asks too often"),
    "headers-too-large": (431, "The headers are too large"),
    "internal": (500, "A defect of the operator"),
    "not-installed": (501, "What is needed for this is not installed"),
    "busy": (503, "All workers are at work"),
    "unavailable": (503, "What is needed to answer cannot be reached"),
}
"""By the last word of the problem's ``type``: the status and the title."""

TYPE_PREFIX: Final = "urn:engine-ops:problem:"


class ProblemError(Exception):
    """Ends a request with problem details.

    Parameters
    ----------
    kind
        One of `TITLES`.
    detail
        What happened here and what to do, in one or two sentences.
    errors
        Field path and sentence of each field at fault.
    headers
        Of the response, such as Retry-After.
    extra
        Further members of the details, JSON values.
    """

    def __init__(
        self,
        kind: str,
        detail: str,
        *,
        errors: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.status, self.title = TITLES[kind]
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})

    def response(self) -> Response:
        """Return the response."""
        body: dict[str, Any] = {
            "type": TYPE_PREFIX + self.kind,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        if self.errors:
            body["errors"] = [{"field": path, "detail": sentence} for path, sentence in self.errors]
        return Response(
            msgspec.json.encode(body | self.extra), self.status, media_type=MEDIA_TYPE, headers=self.headers
        )
