"""From a spec to a worker's task, and from a worker's answer to what the status says."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from engine_ops.api.faults import WaitingError
from engine_ops.api.optimizationrequest import NO_PLUGIN, OptimizationRequestSpec
from engine_ops.api.reasons import Reason
from engine_ops.api.status import Solution
from engine_ops.controllers.cluster_input import ClusterInput
from engine_ops.ml.request_fields import request_fields
from engine_ops.workers.errors import WorkerDiedError, WorkerError, WorkerTimeoutError
from engine_ops.workers.frames import FrameTooLargeError
from engine_ops.workers.messages import Failed, Outcome, Solved, SolveTask

INLINE_LIMIT_BYTES = 32 * 1024
"""A larger result goes to a ConfigMap, and a summary of it to status."""

MAX_RESULT_BYTES = 700 * 1024
"""Of a compressed result; in base64 and with its metadata it stays below the 1 MiB of a ConfigMap."""


class Solvers(Protocol):
    """Who solves: `engine_ops.workers.pool.WorkerPool` is one."""

    async def run(
        self,
        task: SolveTask,
        *,
        timeout_seconds: float,
        on_incumbent: Callable[[Solved], None] | None = None,
    ) -> Outcome:
        """Solve a task; see `engine_ops.workers.pool.WorkerPool.run`."""


def task_for(
    spec: OptimizationRequestSpec,
    data: bytes,
    *,
    task_id: str,
    cluster: ClusterInput | None = None,
    inline_limit_bytes: int = INLINE_LIMIT_BYTES,
    asks_plugins: bool = False,
) -> SolveTask:
    """Return the task that answers a spec.

    Parameters
    ----------
    spec
        The question.
    data
        Its data: JSON, or what the ConfigMap holds; ``{}`` for a live cluster with no given tasks.
    task_id
        For logs.
    cluster
        The live cluster, if that is the source.
    inline_limit_bytes
        Results whose JSON is larger are compressed, and summarised.
    asks_plugins
        Whether somebody will look for the plugin that the spec names.

    Raises
    ------
    WaitingError
        With NoPlugin, if the spec names a plugin and nobody will look for it.
    """
    if not asks_plugins and spec.plugin is not None and spec.plugin != NO_PLUGIN:
        raise WaitingError(Reason.NO_PLUGIN, f"spec.plugin: no enabled plugin has the name {spec.plugin!r}")
    return SolveTask(
        task_id=task_id,
        type=spec.type.value,
        data=data,
        constraints=msgspec.json.encode(spec.constraints or {}),
        search_seconds=float(spec.search_seconds),
        data_format="json" if spec.config_map_key_ref is None else "json-or-yaml",
        data_path=data_path(spec),
        inline_limit_bytes=inline_limit_bytes,
        stored_limit_bytes=MAX_RESULT_BYTES,
        cluster=cluster.snapshot if cluster is not None else b"",
        selection=cluster.selection if cluster is not None else b"",
    )


@dataclasses.dataclass(frozen=True, slots=True)
class PluginShare:
    """Of whom an answer is, beside the built-in algorithm.

    Parameters
    ----------
    plugin
        The plugin that made it or gave the advice; None for a built-in model that is no plugin.
    version
        Of the plugin.
    model_id
        Of the model behind it.
    confidence
        As measured, 0 to 1.
    claimed_confidence
        As the plugin has it.
    """

    plugin: str | None
    version: str
    model_id: str | None = None
    confidence: float | None = None
    claimed_confidence: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Answered:
    """An answer.

    Parameters
    ----------
    solved
        As a worker gave it.
    cut_off
        Why the search ended before its budget, if it did.
    share
        Of a plugin, if there is one.
    fallback_reason
        Why plugins that were asked did not answer.
    """

    solved: Solved
    cut_off: str | None = None
    share: PluginShare | None = None
    fallback_reason: str | None = None


def solution_of(
    solved: Solved,
    *,
    result_ref: Mapping[str, Any] | None = None,
    cut_off: str | None = None,
    share: PluginShare | None = None,
    fallback_reason: str | None = None,
) -> Solution:
    """Return what the status says of a worker's answer. The result stays encoded.

    Parameters
    ----------
    solved
        The answer.
    result_ref
        Where the whole result is, if it is not in the status.
    cut_off, share, fallback_reason
        See `Answered`.
    """
    metrics: dict[str, Any] = {"durationMs": solved.duration_ms}
    if solved.score is not None:
        metrics["score"] = round(solved.score, 4)
    return Solution(
        result=msgspec.Raw(solved.result),
        reason=solved.reason,
        message=solved.message,
        metrics=metrics,
        solved_by=_solved_by(solved, share, fallback_reason),
        result_ref=result_ref,
        cut_off=cut_off,
    )


def _solved_by(solved: Solved, share: PluginShare | None, fallback_reason: str | None) -> dict[str, Any]:
    by: dict[str, Any] = {"name": solved.algorithm, "algorithm": solved.algorithm, "version": solved.version}
    if share is not None:
        if share.plugin is not None:
            by = {"name": share.plugin, "plugin": share.plugin, "role": solved.plugin_role, "version": share.version}
            if solved.plugin_role == "advice":
                by["algorithm"] = solved.algorithm  # that followed the advice, or has it told beside its answer
        model_id = share.model_id or solved.model_id
        claimed = solved.claimed_confidence if share.claimed_confidence is None else share.claimed_confidence
        numbers = {"confidence": share.confidence, "claimedConfidence": claimed}
        by |= {name: round(value, 4) for name, value in numbers.items() if value is not None}
        if model_id:
            by["modelId"] = model_id
    if fallback_reason:
        by["fallbackReason"] = fallback_reason
    return by


def progress_of(latest: Solved) -> dict[str, Any]:
    """Return ``status.progress`` for an incumbent."""
    fields = {"objective": latest.objective, "lowerBound": latest.lower_bound, "gap": latest.gap}
    return {name: value for name, value in fields.items() if value is not None}


def data_path(spec: OptimizationRequestSpec) -> str:
    """Return how messages name the data: the field, or the ConfigMap and key that it is read from."""
    ref = spec.config_map_key_ref
    if ref is None:
        return "spec.data"
    return f"spec.dataFrom.configMapKeyRef({ref.name}/{ref.key})"


async def run_task(
    pool: Solvers,
    task: SolveTask,
    spec: OptimizationRequestSpec,
    on_incumbent: Callable[[Solved], None] | None = None,
    *,
    timeout_seconds: float | None = None,
    root: str = "spec.",
) -> Answered | Failed:
    """Have a worker solve a task, and say in the words of a status what became of it.

    Parameters
    ----------
    pool
        The workers.
    task, spec
        The task, and the spec that it was made of.
    on_incumbent
        Told of each better answer.
    timeout_seconds
        In place of the spec's.
    root
        What the fields' names begin with where who asks has written them; see `engine_ops.controllers.posed.Posed`.

    Returns
    -------
    Answered or Failed
        When the worker dies or its time is up, the best answer until then, if there is one. ``Failed.waiting`` says
        that the request is to be tried again though its spec does not change.
    """
    limit_seconds = float(spec.timeout_seconds) if timeout_seconds is None else timeout_seconds
    try:
        outcome = await pool.run(task, timeout_seconds=limit_seconds, on_incumbent=on_incumbent)
    except WorkerTimeoutError as error:
        message = f"{no_answer_within(spec, root)}; raise it"
        failed = Failed(Reason.TIMED_OUT, message, request_fields=_fields_of(task))
        return _best_of(error, f"timeoutSeconds ({spec.timeout_seconds}) passed", failed)
    except WorkerDiedError as error:
        cut_off = f"the worker died ({error.cause})"
        message = f"{cut_off} before there was an answer"
        failed = Failed(Reason.WORKER_DIED, message, waiting=True, request_fields=_fields_of(task))
        return _best_of(error, cut_off, failed)
    except FrameTooLargeError as error:
        return Failed(Reason.INVALID_DATA, str(error), faults=((task.data_path, str(error)),))
    if isinstance(outcome, Solved):
        return Answered(outcome)
    if outcome.reason == Reason.INVALID_DATA and spec.config_map_key_ref is not None:
        # Not the spec but the ConfigMap must change, and nobody tells us when it does.
        return msgspec.structs.replace(outcome, waiting=True)
    return outcome


def no_answer_within(spec: OptimizationRequestSpec, root: str) -> str:
    """Say that the time of a request is over, naming the field as who asks has written it."""
    return f"no answer within {root}timeoutSeconds ({spec.timeout_seconds} s)"


def _fields_of(task: SolveTask) -> dict[str, float | str | bool]:
    """Return what the worker would have found in the data, as far as that is JSON, had it lived to tell."""
    try:
        data = msgspec.json.decode(task.data)
    except msgspec.DecodeError:
        return {}
    return request_fields(task.type, data) if isinstance(data, dict) else {}


def _best_of(error: WorkerError, cut_off: str, failed: Failed) -> Answered | Failed:
    return failed if error.incumbent is None else Answered(error.incumbent, cut_off)
