"""What a plugin returned, made ready to be sent: checked for what can be checked without the problem."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from engine_ops.api.quantity import parse_quantity
from engine_ops.engine.request import OptimizationResult
from engine_ops.ml.scoring import RESOURCES, scored_values
from engine_ops.plugins.answers import Question, Refusal, Reply, read_reply
from engine_ops.plugins.fields import MAX_NAME
from engine_ops.plugins.json_values import RefusedError, json_value
from engine_ops.plugins.messages import MAX_REPLY_BYTES, Replied
from engine_ops.plugins.session_guard import line

MAX_ENVELOPE_BYTES: Final = MAX_REPLY_BYTES - 64 * 1024
"""Of a reply's JSON; the rest of its message is smaller than what is left."""

MAX_SCORED: Final = 64
"""Numbers of a prediction that are scored."""


def replied(returned: object, request_type: str) -> Replied:
    """Return what is sent for what a plugin returned.

    A dict is taken as it is, numpy's scalars and arrays in it as numbers and lists. Of an `OptimizationResult` the
    result is taken, also where it is not ``success``ful but has one, which is then a part of the answer.

    Parameters
    ----------
    returned
        Anything.
    request_type
        Of the request.
    """
    try:
        envelope = json_value(_envelope_of(returned), max_bytes=MAX_ENVELOPE_BYTES)
        encoded = msgspec.json.encode(envelope)
        if len(encoded) > MAX_ENVELOPE_BYTES:
            raise RefusedError("", f"is {len(encoded)} bytes long as JSON, and at most {MAX_ENVELOPE_BYTES} are taken")
    except RefusedError as error:
        return Replied(no=line(str(error)), failed=True)
    reply = read_reply(envelope, Question(request_type), algorithm="")
    if isinstance(reply.said, Refusal):
        return Replied(
            no=line(reply.said.reason),
            failed=not reply.said.by_plugin,
            model_id=reply.model_id,
            claimed_confidence=reply.claimed_confidence,
        )
    return Replied(
        envelope=encoded,
        scored=_scored(reply),
        model_id=reply.model_id,
        claimed_confidence=reply.claimed_confidence,
    )


def _envelope_of(returned: object) -> object:
    if inspect.iscoroutine(returned):
        returned.close()  # else Python warns that nobody awaited it
        raise RefusedError("", "is a coroutine: optimize must not be async")
    if not isinstance(returned, OptimizationResult):
        return returned
    if returned.success or returned.result:
        return {"success": True, "result": returned.result}
    return {"success": False, "error": returned.error}


def _scored(reply: Reply) -> dict[str, float]:
    prediction = reply.prediction
    resources = prediction.get(RESOURCES)
    if isinstance(resources, dict):
        prediction = {**prediction, RESOURCES: _amounts(resources)}
    return scored_values(prediction)


def _amounts(resources: Mapping[str, Any]) -> dict[str, float]:
    """Return the amounts by resource; those that are none, or are amounts of single items, are left out."""
    amounts: dict[str, float] = {}
    for name, value in resources.items():
        if len(amounts) == MAX_SCORED:
            break
        try:
            amount = parse_quantity(value)
        except ValueError:
            continue
        if len(name) <= MAX_NAME:
            amounts[name] = amount
    return amounts
