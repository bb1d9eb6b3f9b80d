"""From a spec to a worker's task, and from a worker's answer to what the status says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from engine_ops.api.faults import WaitingError
from engine_ops.api.optimizationrequest import NO_PLUGIN, OptimizationRequestSpec
from engine_ops.api.reasons import Reason
from engine_ops.api.status import Solution
from engine_ops.workers.messages import Solved, SolveTask

INLINE_LIMIT_BYTES = 32 * 1024
"""A larger result goes to a ConfigMap, and a summary of it to status."""

MAX_RESULT_BYTES = 700 * 1024
"""Of a compressed result; in base64 and with its metadata it stays below the 1 MiB of a ConfigMap."""


def task_for(
    spec: OptimizationRequestSpec, data: bytes, *, task_id: str, inline_limit_bytes: int = INLINE_LIMIT_BYTES
) -> SolveTask:
    """Return the task that answers a spec.

    Parameters
    ----------
    spec
        The question.
    data
        Its data: JSON, or what the ConfigMap holds.
    task_id
        For logs.
    inline_limit_bytes
        Results whose JSON is larger are compressed, and summarised.

    Raises
    ------
    WaitingError
        With NoPlugin, if the spec asks for a plugin that is not there.
    """
    if spec.plugin is not None and spec.plugin != NO_PLUGIN:
        raise WaitingError(Reason.NO_PLUGIN, f"spec.plugin: no enabled plugin has the name {spec.plugin!r}")
    path = "spec.data"
    if spec.data_from is not None:
        ref = spec.data_from.config_map_key_ref
        path = f"spec.dataFrom.configMapKeyRef({ref.name}/{ref.key})"
    return SolveTask(
        task_id=task_id,
        type=spec.type.value,
        data=data,
        constraints=msgspec.json.encode(spec.constraints or {}),
        search_seconds=float(spec.search_seconds),
        data_format="json" if spec.data_from is None else "json-or-yaml",
        data_path=path,
        inline_limit_bytes=inline_limit_bytes,
        stored_limit_bytes=MAX_RESULT_BYTES,
    )


def solution_of(solved: Solved, *, result_ref: Mapping[str, Any] | None = None, cut_off: str | None = None) -> Solution:
    """Return what the status says of a worker's answer. The result stays encoded."""
    metrics: dict[str, Any] = {"durationMs": solved.duration_ms}
    if solved.score is not None:
        metrics["score"] = round(solved.score, 4)
    return Solution(
        result=msgspec.Raw(solved.result),
        reason=solved.reason,
        message=solved.message,
        metrics=metrics,
        solved_by={"name": solved.algorithm, "algorithm": solved.algorithm, "version": solved.version},
        result_ref=result_ref,
        cut_off=cut_off,
    )


def progress_of(latest: Solved) -> dict[str, Any]:
    """Return ``status.progress`` for an incumbent."""
    fields = {"objective": latest.objective, "lowerBound": latest.lower_bound, "gap": latest.gap}
    return {name: value for name, value in fields.items() if value is not None}
