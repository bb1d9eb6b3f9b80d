"""From a question over HTTP to what solvers and plugins are given, and from an outcome to the reply."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import uuid
from collections.abc import Callable
from typing import Any, Final

from engine_ops.api import status as statuses
from engine_ops.api.conditions import cut
from engine_ops.api.optimizationrequest import OptimizationRequestSpec, RequestType
from engine_ops.api.reasons import Reason
from engine_ops.api.status import Attempt
from engine_ops.controllers.posed import Posed
from engine_ops.controllers.solving import Answered, progress_of, solution_of
from engine_ops.controllers.turns import Turn
from engine_ops.engine.request import SolvedBy
from engine_ops.history.answer_point import answer_point
from engine_ops.kube.target import Target
from engine_ops.ml.data_point import WorkloadDataPoint
from engine_ops.server.questions import Improvement, Question, Reply
from engine_ops.workers.frames import MAX_FRAME_BYTES
from engine_ops.workers.messages import Failed, Solved, SolveTask

MAX_RESULT_BYTES: Final = MAX_FRAME_BYTES // 4
"""Of a result's JSON. Beside the data, the constraints and a plugin's reply it must fit one frame again."""

GENERATION: Final = 1
RUN: Final = 1
"""A question is asked once: with a uid of its own, its point in the history has a key as a resource's has."""

_FINAL: Final = (Reason.SOLVED, Reason.UNPLACEABLE)


@dataclasses.dataclass(frozen=True, slots=True)
class Once:
    """A question that is asked once.

    Parameters
    ----------
    question
        As it came.
    target, attempt
        As if it were a resource that was made just now.
    """

    question: Question
    target: Target
    attempt: Attempt

    @classmethod
    def of(cls, question: Question) -> Once:
        """Return a question that comes now."""
        name = question.id if question.id.isprintable() else question.id.encode("unicode_escape").decode()  # for logs
        target = Target(question.namespace, name, str(uuid.uuid4()), GENERATION)
        return cls(question, target, Attempt({}, GENERATION, RUN, datetime.datetime.now(datetime.UTC)))

    def posed(self, turn: Turn, on_incumbent: Callable[[Solved], None]) -> Posed:
        """Return it as it is posed to plugins and solvers.

        Raises
        ------
        ValueError
            If there is no such type.
        """
        question = self.question
        spec = _spec(question.type, question.plugin, question.search_seconds, question.timeout_seconds)
        task = SolveTask(
            task_id=str(self.target),
            type=question.type,
            data=question.data,
            constraints=question.constraints,
            search_seconds=question.search_seconds,
            data_path="data",
            constraints_path="constraints",
            inline_limit_bytes=MAX_RESULT_BYTES,
            stored_limit_bytes=MAX_RESULT_BYTES,
        )
        return Posed(self.target, self.attempt, spec, task, turn, on_incumbent, root="")

    def reply(self, outcome: Answered | Failed, *, duration_ms: int, reproducible: bool) -> Reply:
        """Return the reply, in the words that the status of a resource would have.

        Parameters
        ----------
        outcome
            What became of the question.
        duration_ms
            From the question to now.
        reproducible
            Whether nothing got in the way that may be otherwise the next time.
        """
        if isinstance(outcome, Failed):
            return Reply(
                success=False,
                reason=Reason(outcome.reason),
                message=cut(outcome.message),
                duration_ms=duration_ms,
                faults=outcome.faults,
                waiting=outcome.waiting,
            )
        solved, cut_off = outcome.solved, outcome.cut_off
        if solved.compressed is not None:
            message = (
                f"the result is {solved.size_bytes} bytes long, the limit is {MAX_RESULT_BYTES}: split the request"
            )
            return Reply(success=False, reason=Reason.RESULT_TOO_LARGE, message=message, duration_ms=duration_ms)
        solution = solution_of(solved, cut_off=cut_off, share=outcome.share, fallback_reason=outcome.fallback_reason)
        complete, reason, message = statuses.verdict(solution)
        # The name repeats who it is: a plugin, else the algorithm.
        told = {field: value for field, value in solution.solved_by.items() if field != "name"}
        return Reply(
            success=complete,
            reason=Reason(reason),
            message=cut(message),
            duration_ms=duration_ms,
            result=solved.result,
            score=solution.metrics.get("score"),
            solved_by=SolvedBy.model_validate(told),
            cut_off=cut_off,
            cacheable=reproducible and cut_off is None and reason in _FINAL,
        )

    def point(self, outcome: Answered | Failed, reply: Reply) -> WorkloadDataPoint:
        """Return the point of the history that a reply is. Whoever asked is not in it."""
        identity = {
            "uid": self.target.uid,
            "generation": GENERATION,
            "run": RUN,
            "namespace": self.target.namespace,
            "requestId": self.question.id,
        }
        return answer_point(
            identity,
            request_type=self.question.type,
            asked_ms=round(self.attempt.started.timestamp() * 1000),
            duration_ms=reply.duration_ms,
            success=reply.success,
            reason=reply.reason,
            score=reply.score,
            solved_by=reply.solved_by,
            fields=outcome.request_fields if isinstance(outcome, Failed) else outcome.solved.request_fields,
        )


@functools.lru_cache(maxsize=256)
def _spec(request_type: str, plugin: str | None, search_seconds: float, timeout_seconds: float) -> Any:
    """Return what a resource of the same question would have beside its data; nobody changes it."""
    return OptimizationRequestSpec.model_construct(
        type=RequestType(request_type),
        plugin=plugin,
        search_seconds=_seconds(search_seconds),
        timeout_seconds=_seconds(timeout_seconds),
    )


def _seconds(seconds: float) -> Any:
    """Return a number of seconds as the spec has it where it is whole; over HTTP it may have a fraction."""
    return int(seconds) if float(seconds).is_integer() else seconds


def improvement_of(solved: Solved) -> Improvement:
    """Return what is told of a better answer."""
    progress = progress_of(solved)
    return Improvement(progress.get("objective"), progress.get("lowerBound"), progress.get("gap"))
