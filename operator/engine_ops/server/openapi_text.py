"""The OpenAPI document as a file, for those who read it before there is a server."""

from __future__ import annotations

import json
from typing import Any, cast

from engine_ops.server.app import create_app
from engine_ops.server.openapi_document import document
from engine_ops.server.services import Services


def render() -> str:
    """Return the document as JSON text, the same each time."""
    nothing = cast("Any", None)  # of what the application works with nothing is in the document
    app = create_app(Services(engine=nothing, access=nothing, switch=None), version="")
    return json.dumps(document(app), indent=1, ensure_ascii=False) + "\n"
