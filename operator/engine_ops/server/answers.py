"""Answers on their way out: JSON, put together from parts that are encoded once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from engine_ops.api.reasons import Reason
from engine_ops.server.problems import ProblemError
from engine_ops.server.questions import Improvement, Reply

_UNREADABLE: Final = frozenset({Reason.INVALID_DATA, Reason.INVALID_SPEC})
_NULL: Final = msgspec.Raw(b"null")


class _Metrics(msgspec.Struct, rename="camel", omit_defaults=True):
    duration_ms: int
    score: float | None = None


class _Field(msgspec.Struct):
    field: str
    detail: str


class _Tail(msgspec.Struct, rename="camel", omit_defaults=True):
    success: bool
    reason: str
    result: msgspec.Raw
    metrics: _Metrics
    error: str | None = None
    errors: list[_Field] | None = None
    solved_by: msgspec.Raw | None = None
    cut_off: str | None = None


class _Progress(msgspec.Struct, rename="camel"):
    objective: float | None
    lower_bound: float | None
    gap: float | None


_ENCODER: Final = msgspec.json.Encoder()


def tail_of(reply: Reply) -> bytes:
    """Encode what of a response does not depend on who asked: everything but ``requestId`` and ``warnings``."""
    solved_by = reply.solved_by
    return _ENCODER.encode(
        _Tail(
            success=reply.success,
            reason=reply.reason,
            result=_NULL if reply.result is None else msgspec.Raw(reply.result),
            metrics=_Metrics(reply.duration_ms, reply.score),
            error=None if reply.success else reply.message,
            errors=[_Field(path, sentence) for path, sentence in reply.faults] or None,
            solved_by=None
            if solved_by is None
            else msgspec.Raw(solved_by.model_dump_json(by_alias=True, exclude_none=True).encode()),
            cut_off=reply.cut_off,
        )
    )


def tail_without_reply(reason: str, error: str, *, duration_ms: int, cut_off: str | None = None) -> bytes:
    """Encode the same where the engine gave no reply."""
    return _ENCODER.encode(
        _Tail(False, reason=reason, result=_NULL, metrics=_Metrics(duration_ms), error=error, cut_off=cut_off)
    )


def response_of(request_id: str, tail: bytes, warnings: Sequence[str] = ()) -> bytes:
    """Return a whole response."""
    return b"".join(parts_of(request_id, tail, warnings))


def parts_of(request_id: str, tail: bytes, warnings: Sequence[str] = ()) -> tuple[memoryview, memoryview]:
    """Return a whole response in two parts, of which the long one is no copy."""
    head = b'{"requestId":' + _ENCODER.encode(request_id) + b","
    if warnings:
        head += b'"warnings":' + _ENCODER.encode(warnings) + b","
    return memoryview(head), memoryview(tail)[1:]


def progress_of(improvement: Improvement) -> bytes:
    """Encode an improvement; what is no finite number is null."""
    return _ENCODER.encode(_Progress(improvement.objective, improvement.lower_bound, improvement.gap))


def problem_of(request_id: str, reply: Reply) -> ProblemError | None:
    """Return what is wrong with a question; None where nothing is."""
    if not reply.faults and reply.reason not in _UNREADABLE:
        return None
    return ProblemError(
        "invalid",
        reply.message,
        errors=reply.faults or [("data", reply.message)],
        extra={"requestId": request_id, "reason": reply.reason},
    )
