"""The data point of a question that was answered at once, by the library or over HTTP, and stands in no status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine_ops.engine.request import SolvedBy
from engine_ops.ml.data_point import WorkloadDataPoint


def answer_point(
    identity: Mapping[str, Any],
    *,
    request_type: str,
    asked_ms: int,
    duration_ms: int,
    success: bool,
    reason: str,
    score: float | None,
    solved_by: SolvedBy | None,
    fields: Mapping[str, float | str | bool],
) -> WorkloadDataPoint:
    """Return what is known of a question by itself: its own time and whether it was answered.

    Parameters
    ----------
    identity
        The first members of the point's metadata: what tells it from others, and where it counts.
    request_type
        The question's type.
    asked_ms
        When it was asked, in epoch milliseconds.
    duration_ms
        From the question to the answer.
    success, reason, score, solved_by
        Of the answer.
    fields
        `engine_ops.ml.request_fields.request_fields` of its data.
    """
    solve: dict[str, Any] = {"durationMs": duration_ms, "reason": str(reason)}
    if score is not None:
        solve["score"] = score
    if solved_by is not None and solved_by.algorithm is not None:
        solve["algorithm"] = solved_by.algorithm
    if solved_by is not None and solved_by.plugin is not None:
        solve["plugin"] = solved_by.plugin
    metadata: dict[str, Any] = {**identity, "solve": solve}
    if fields:
        metadata["request"] = dict(fields)
    metadata["outcome"] = {
        "of": "request",
        "state": "succeeded" if success else "failed",
        "reason": str(reason),
        "closedAt": asked_ms + duration_ms,
    }
    return WorkloadDataPoint(asked_ms, request_type, {}, duration_ms, success, metadata)
