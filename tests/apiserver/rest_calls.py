"""Calls of an operator's REST API, where the operator runs as `operator_process` starts it."""

from __future__ import annotations

import http.client
import json
from typing import Any

from operator_process import OperatorProcess


def ask_api(operator: OperatorProcess, method: str, path: str, token: str, body: Any = None) -> tuple[int, Any]:
    """Return the status and the JSON of an answer; the operator was started with ``--api=http://127.0.0.1:0``."""
    address = operator.wait_for_line("REST API at http").rpartition("://")[2].strip()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    connection = http.client.HTTPConnection(address, timeout=30)
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()
