"""What a plugin returned, made ready to be sent."""

from __future__ import annotations

import inspect
from typing import Final

import msgspec

from engine_ops.engine.request import OptimizationResult
from engine_ops.plugins.json_values import RefusedError, json_value
from engine_ops.plugins.messages import MAX_REPLY_BYTES, Replied
from engine_ops.plugins.session_envelope import replied_of
from engine_ops.plugins.session_guard import line

MAX_ENVELOPE_BYTES: Final = MAX_REPLY_BYTES - 256 * 1024
"""Of a reply's JSON; the rest of its message is smaller than what is left."""


def replied(returned: object) -> Replied:
    """Return what is sent for what a plugin returned.

    A dict is taken as it is, numpy's scalars and arrays in it as numbers and lists, tuples as lists. Of an
    `OptimizationResult` the result is taken, also of one without ``success``: it is then a part of the answer.

    Parameters
    ----------
    returned
        Anything.
    """
    try:
        envelope = json_value(_envelope_of(returned), max_bytes=MAX_ENVELOPE_BYTES)
    except RefusedError as error:
        return Replied(no=line(str(error)), failed=True)
    encoded = msgspec.json.encode(envelope)
    if len(encoded) > MAX_ENVELOPE_BYTES:
        size = f"is {len(encoded)} bytes long as JSON, and at most {MAX_ENVELOPE_BYTES} are taken"
        return Replied(no=f"what the plugin returned: {size}", failed=True)
    return replied_of(envelope, encoded)


def _envelope_of(returned: object) -> object:
    if inspect.iscoroutine(returned):
        returned.close()  # else Python warns that nobody awaited it
        raise RefusedError("", "is a coroutine: optimize must not be async")
    if not isinstance(returned, OptimizationResult):
        return returned
    if returned.success or returned.result:
        return {"success": True, "result": returned.result}
    return {"success": False, "error": returned.error}
