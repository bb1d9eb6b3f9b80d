"""Replies of the REST API."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import Response

JSON: str = "application/json"


def json_reply(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return a reply of JSON values; NaN and infinities, for which JSON has no word, become null."""
    return Response(msgspec.json.encode(value), status, media_type=JSON, headers=headers)
