"""What is said of an answer that a plugin had a part in: predictions, and who was asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
from pydantic import ValidationError

from engine_ops.api.optimizationrequest import OptimizationRequestSpec, RequestType, SolvedBy
from engine_ops.engine.contract import Explanation

MAX_ROWS: Final = 100
"""Values of a prediction that are shown."""

_MAX_VALUE: Final = 80
_UNITS: Final = {"expected_duration": " ms"}


def solved_by_of(status: Mapping[str, Any]) -> SolvedBy:
    """Return what made the answer, as its status says; nothing where that cannot be read, for it may be in a file."""
    try:
        return SolvedBy.model_validate(status.get("solvedBy") or {})
    except ValidationError:
        return SolvedBy()


def is_prediction(spec: OptimizationRequestSpec, solved_by: SolvedBy) -> bool:
    """Whether the result is a prediction: no built-in algorithm can say anything of it."""
    return spec.type is RequestType.ML_DRIVEN or solved_by.role == "prediction"


def explain_prediction(request_type: str, result: Mapping[str, Any], solved_by: SolvedBy) -> Explanation:
    """Explain a prediction: all of it, and how far it can be relied on.

    Parameters
    ----------
    request_type
        Such as ``ml-driven``.
    result
        JSON values.
    solved_by
        What made it.
    """
    values = list(_values(result))
    notes = [f"and {len(values) - MAX_ROWS} more"] if len(values) > MAX_ROWS else []
    if solved_by.confidence is not None:
        notes.append(f"It was close enough in {solved_by.confidence:.0%} of its last predictions that were scored.")
    if solved_by.claimed_confidence is not None:
        notes.append(f"It claims a confidence of {solved_by.claimed_confidence:.0%} itself.")
    notes.append("Nothing can check a prediction before it has come true.")
    if solved_by.fallback_reason is not None:
        notes.append(_others(solved_by.fallback_reason))
    title = f"{request_type}: predicted by {_who(solved_by)}"
    if solved_by.model_id not in {None, solved_by.name}:
        title += f", model {solved_by.model_id}"
    return Explanation(title=title, headers=("FIELD", "VALUE"), rows=tuple(values[:MAX_ROWS]), notes=tuple(notes))


def notes_of(solved_by: SolvedBy) -> tuple[str, ...]:
    """Return last sentences for an answer that was checked: what plugins had to do with it; none where no one did."""
    notes = []
    if solved_by.role == "answer":
        notes.append(f"Plugin {_who(solved_by)} gave this answer; the engine checked and scored it.")
    elif solved_by.role == "advice":
        notes.append(f"The algorithm had the advice of plugin {_who(solved_by)}.")
    if solved_by.fallback_reason is not None:
        notes.append(_others(solved_by.fallback_reason))
    return tuple(notes)


def _who(solved_by: SolvedBy) -> str:
    name = solved_by.name or "a plugin"
    return f"{name} {solved_by.version}" if solved_by.version is not None else name


def _others(fallback_reason: str) -> str:
    return f"Not served: {fallback_reason}."


def _values(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for name, part in value.items():
            yield from _values(part, f"{path}.{name}" if path else str(name))
        return
    if isinstance(value, float):
        value = round(value, 3) if abs(value) >= 1 else float(f"{value:.4g}")
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    shown = text if len(text) <= _MAX_VALUE else f"{text[: _MAX_VALUE - 3]}..."
    yield path or "result", shown + _UNITS.get(path, "")
