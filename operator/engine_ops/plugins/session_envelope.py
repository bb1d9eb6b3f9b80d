"""What a plugin's dict says, as far as that can be told without the request. Importing it loads no numpy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from engine_ops.api.quantity import parse_quantity
from engine_ops.ml.scoring import RESOURCES, scored_values
from engine_ops.plugins.messages import MAX_SCORED, Replied
from engine_ops.plugins.session_guard import line

_MAX_NAME: Final = 253
_ENVELOPE: Final = frozenset({"success", "result", "error", "confidence", "model_id", "metadata"})


def replied_of(envelope: object, encoded: bytes) -> Replied:
    """Return what is to be told of a plugin's dict; see `engine_ops.plugins.answers.read_reply`, which reads it alike.

    Parameters
    ----------
    envelope
        JSON values: ``{success, result, confidence?, model_id?}``, ``{success: false, error}``, or the bare result.
    encoded
        Its JSON.
    """
    fault = _fault(envelope)
    if fault is not None or not isinstance(envelope, dict):
        return Replied(no=fault, failed=True)
    confidence, model_id = envelope.get("confidence"), envelope.get("model_id")
    claimed = None if confidence is None else float(confidence)
    if envelope.get("success") is False:
        return Replied(no=_reason(envelope.get("error")), model_id=model_id, claimed_confidence=claimed)
    result = envelope["result"] if "result" in envelope else bare_result(envelope)
    if result is None:
        return Replied(no="result: required with success, but absent", failed=True)
    return Replied(envelope=encoded, scored=_scored(result), model_id=model_id, claimed_confidence=claimed)


def _fault(envelope: object) -> str | None:
    """Return what is wrong with what stands around the result."""
    if not isinstance(envelope, dict):
        return f"what the plugin returned: must be a dict, not {_quoted(envelope)}"
    confidence, model_id, success = (envelope.get(name) for name in ("confidence", "model_id", "success"))
    if confidence is not None and not _is_share(confidence):
        return f"confidence: must be a number from 0 to 1, not {_quoted(confidence)}"
    if model_id is not None and not (isinstance(model_id, str) and 1 <= len(model_id) <= _MAX_NAME):
        return f"model_id: must be a text of 1 to {_MAX_NAME} characters, not {_quoted(model_id)}"
    if "success" in envelope and not isinstance(success, bool):
        return f"success: must be true or false, not {_quoted(success)}"
    return None


def _quoted(value: object) -> str:
    return line(repr(value), 80)


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _reason(error: object) -> str:
    said = "" if error is None else line(error if isinstance(error, str) else repr(error))
    return said or "the plugin said no and gave no reason"


def bare_result(envelope: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return what a dict without ``result`` has beside the names of the envelope; None where that is nothing."""
    return {name: value for name, value in envelope.items() if name not in _ENVELOPE} or None


def _scored(result: object) -> dict[str, float]:
    if not isinstance(result, dict):
        return {}
    resources = result.get(RESOURCES)
    return scored_values({**result, RESOURCES: _amounts(resources)} if isinstance(resources, dict) else result)


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
        if len(name) <= _MAX_NAME:
            amounts[name] = amount
    return amounts
