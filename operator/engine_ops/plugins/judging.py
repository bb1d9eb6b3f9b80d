"""What is served of a plugin's reply: never what is infeasible, nor what is worse than the built-in's answer."""

from __future__ import annotations

import dataclasses
import gzip
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from engine_ops.api.faults import InvalidDataError, WaitingError
from engine_ops.api.reasons import Reason
from engine_ops.engine.cluster.describing import describe
from engine_ops.engine.cluster.placement import ClusterPlacementSolver
from engine_ops.engine.contract import Answer, Budget, Report, ignore_report
from engine_ops.engine.performance.backtest import score
from engine_ops.engine.performance.hold_out import older_data
from engine_ops.engine.solvers import solver_for
from engine_ops.plugins.advice import Advice
from engine_ops.plugins.answers import Prediction, Question, Refusal, Reply, question_for, question_of, read_reply
from engine_ops.plugins.checked import Checked, Checker, holds_its_own
from engine_ops.plugins.cluster_answers import ClusterPlacementChecker
from engine_ops.plugins.guided import guided_answer
from engine_ops.plugins.json_values import RefusedError
from engine_ops.plugins.sizing_answers import SizingChecker
from engine_ops.workers.messages import Outcome, PluginReply, PluginRole, Solved, SolveTask
from engine_ops.workers.solve import Labels, built_in, handle, solver_of
from engine_ops.workers.wire import Emit, Handler

logger = logging.getLogger(__name__)

_SAME: Final = 1e-9

_MAX_SUMMARY: Final = 16
"""Numbers and words of a prediction that stay in its summary."""

Solve = Callable[[], Answer]
"""Answers with the built-in algorithm."""


@dataclasses.dataclass(frozen=True, slots=True)
class Judged:
    """What is served.

    Parameters
    ----------
    answer
        To the request: the built-in's own where ``role`` is empty.
    role
        What of it is the plugin's.
    no
        Why the plugin's reply is not what is served, or not all of it; empty otherwise. Without the plugin's name.
    unusable
        Whether the reply is at fault: infeasible, or nonsense. Another plugin may be asked then.
    reply
        What the plugin said, as far as it was read.
    """

    answer: Answer
    role: PluginRole = ""
    no: str = ""
    unusable: bool = False
    reply: Reply | None = None


def judge(
    request_type: str,
    data: Mapping[str, Any],
    constraints: Mapping[str, Any],
    returned: object,
    solve: Solve,
    *,
    plugin: str,
    served: bool = True,
    backtest: object = None,
) -> Judged:
    """Decide what is served of what a plugin returned for a request.

    An *answer* is served where it is feasible and no worse than the built-in's, by objective and by score; for type
    ``performance`` its score is that of what the plugin returned for the older samples alone. *Advice* is followed
    where that makes the answer no worse; its recommended amounts and durations are told beside the answer, under
    ``advice``. A *prediction* is the result where the data has nothing that the built-in reads.

    Parameters
    ----------
    request_type, data, constraints
        The request, as its user wrote it. Neither is changed.
    returned
        Anything.
    solve
        The built-in's answer. It is not asked for where nothing can be better than the plugin's.
    plugin
        The plugin's name: the algorithm of its answers.
    served
        Whether anything of it may be served at all.
    backtest
        What the plugin returned for `engine_ops.engine.performance.hold_out.older_data`; None where it was not asked.

    Raises
    ------
    InvalidDataError
        If the request is at fault: its user is told as without plugins.
    WaitingError
        With NoPlugin, if the plugin has no result and there is no built-in for such a request.
    """
    if not served:
        return Judged(solve())
    return _judge_question(
        lambda: question_of(request_type, data, constraints), returned, solve, plugin, data, backtest
    )


def _judge_question(
    ask: Callable[[], Question],
    returned: object,
    solve: Solve,
    plugin: str,
    data: Mapping[str, Any],
    backtest: object,
) -> Judged:
    try:
        question = ask()
    except InvalidDataError:
        return Judged(solve(), no="the request is at fault")  # the built-in says so in its own words
    reply = read_reply(returned, question, algorithm=plugin)
    if question.checker is None:
        return _predicted(reply, plugin)
    try:
        judged = _judge(question.checker, reply, solve, data, backtest)
    except (InvalidDataError, WaitingError):
        raise
    except Exception as error:
        logger.exception("what plugin %s returned could not be held against the request", plugin)
        judged = Judged(solve(), no=f"holding it against the request failed with {type(error).__name__}", unusable=True)
    return dataclasses.replace(judged, reply=reply)


def _predicted(reply: Reply, plugin: str) -> Judged:
    if isinstance(reply.said, Prediction):
        return Judged(_prediction(reply.said.result, plugin), role="prediction", reply=reply)
    if isinstance(reply.said, Refusal):
        raise WaitingError(Reason.NO_PLUGIN, reply.said.reason)
    raise AssertionError("an answer or advice to a question that nothing can be held against")


def _prediction(result: Mapping[str, Any], plugin: str) -> Answer:
    scalars = [(name, value) for name, value in result.items() if isinstance(value, int | float | bool)]
    return Answer(
        result=result,
        algorithm=plugin,
        message=f"predicted by {plugin}",
        summary=dict(scalars[:_MAX_SUMMARY]),
    )


def _judge(checker: Checker, reply: Reply, solve: Solve, data: Mapping[str, Any], backtest: object) -> Judged:
    match reply.said:
        case Refusal(reason, by_plugin):
            return Judged(solve(), no=reason, unusable=not by_plugin)
        case Advice() as advice:
            return _advised(checker, advice, solve)
        case Checked() as candidate if isinstance(checker, SizingChecker):
            return _sized(checker, candidate, solve(), data, backtest)
        case Checked() as candidate:
            return _compared(checker, candidate, solve, "answer")
        case said:
            raise AssertionError(f"{type(said).__name__} to a question that the built-in can solve")


def _compared(checker: Checker, candidate: Checked, solve: Solve, role: PluginRole) -> Judged:
    if _is_best(candidate.answer):
        return Judged(candidate.answer, role)
    answer = solve()
    theirs = _checked(checker, answer)
    if theirs is None:
        return Judged(answer, no="it cannot be compared with the built-in's answer")
    if holds_its_own(candidate, theirs):
        return Judged(candidate.answer, role)
    return Judged(answer, no=_worse(candidate.answer, answer))


def _is_best(answer: Answer) -> bool:
    """Whether nothing can be better: all is placed, on as few nodes as any answer needs."""
    return answer.complete and answer.gap == 0 and "totalCost" not in answer.result


def _checked(checker: Checker, answer: Answer) -> Checked | None:
    try:
        checked = checker.check(answer.result, answer.algorithm)
    except RefusedError:
        logger.exception("the built-in's answer does not pass the check of plugins' answers")
        return None
    # Its score is the search's own, which may know a better bound.
    return dataclasses.replace(checked, answer=answer)


def _worse(ours: Answer, theirs: Answer) -> str:
    for name, mine, built in (("score", ours.score, theirs.score), ("objective", ours.objective, theirs.objective)):
        if mine is not None and built is not None and abs(mine - built) > _SAME:
            return f"worse than the built-in's answer: {name} {mine:.6g} against {built:.6g}"
    return "worse than the built-in's answer, though not by its score"


def _sized(
    checker: SizingChecker, candidate: Checked, answer: Answer, data: Mapping[str, Any], backtest: object
) -> Judged:
    """Compare how both would have done: each fitted on the older samples, tried on the newer ones."""
    if answer.score is None:
        return Judged(candidate.answer, "answer")  # there are too few samples for either to be tried
    older = older_data(data)
    if backtest is None or older is None:
        return Judged(answer, no="it was not tried on the newest samples, so that it cannot be compared")
    tried = read_reply(backtest, question_of("performance", older, {}), algorithm="")
    if isinstance(tried.said, Refusal):
        no = f"it cannot be compared: for the older samples alone, {tried.said.reason}"
        return Judged(answer, no=no, unusable=not tried.said.by_plugin)
    if not isinstance(tried.said, Checked):
        return Judged(answer, no="it cannot be compared: for the older samples alone it gave no answer")
    rule = solver_for("performance").solve(older, {}, Budget.of(0), ignore_report)
    ours, theirs = checker.losses(tried.said.answer.result), checker.losses(rule.result)
    scored = dataclasses.replace(candidate.answer, score=score(ours))
    # Not by the score: it ends at 0, however bad an answer is. What has no loss is None.
    if sum(loss or 0.0 for loss in ours) > sum(loss or 0.0 for loss in theirs) + _SAME:
        return Judged(answer, no=_worse(scored, answer))
    return Judged(scored, "answer")


def _advised(checker: Checker, advice: Advice, solve: Solve) -> Judged:
    told = advice.told()
    guided = guided_answer(advice, checker)
    if guided is None:
        return _beside(solve(), told, "there is nothing in its advice that could be followed or told")
    judged = _compared(checker, guided, solve, "advice")
    if judged.role:
        return dataclasses.replace(judged, answer=_with(judged.answer, told))
    return dataclasses.replace(_beside(judged.answer, told, ""), no=f"as it advises: {judged.no}")


def _beside(answer: Answer, told: Mapping[str, Any], otherwise: str) -> Judged:
    return Judged(_with(answer, told), "advice") if told else Judged(answer, no=otherwise)


def _with(answer: Answer, told: Mapping[str, Any]) -> Answer:
    return dataclasses.replace(answer, result={**answer.result, "advice": told}) if told else answer


def respond(
    task: SolveTask, data: Mapping[str, Any], constraints: Mapping[str, Any], report: Report
) -> tuple[Answer, Labels]:
    """Answer a task in the light of what a plugin said. See `engine_ops.workers.solve.Respond`.

    Incumbents of the built-in's search are reported as ever: the plugin's answer is served when it is held against the
    best of them.
    """
    if task.describe:
        return _described(task, data, constraints), {}
    reply = task.reply
    if reply is None:
        return built_in(task, data, constraints, report)

    def solve() -> Answer:
        if task.built_in is not None:
            return answer_of(task.built_in)
        return built_in(task, data, constraints, report)[0]

    try:
        returned, backtest = _decode(reply.envelope), _decode(reply.backtest) if reply.backtest else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return solve(), {"plugin_no": f"what the plugin returned is no JSON: {error}", "plugin_unusable": True}
    if task.cluster and reply.served:
        judged = _judge_question(
            lambda: _live_question(task, data, constraints), returned, solve, reply.plugin, data, backtest
        )
    else:
        judged = judge(
            task.type, data, constraints, returned, solve, plugin=reply.plugin, served=reply.served, backtest=backtest
        )
    return judged.answer, _labels(judged, reply)


def _live_question(task: SolveTask, data: Mapping[str, Any], constraints: Mapping[str, Any]) -> Question:
    solver = _live_solver(task)
    return question_for(task.type, ClusterPlacementChecker(solver, solver.question(data, constraints)))


def _described(task: SolveTask, data: Mapping[str, Any], constraints: Mapping[str, Any]) -> Answer:
    solver = _live_solver(task)
    return Answer(describe(solver.question(data, constraints), solver.snapshot), algorithm="", message="")


def _live_solver(task: SolveTask) -> ClusterPlacementSolver:
    solver = solver_of(task)
    if not isinstance(solver, ClusterPlacementSolver):
        raise TypeError(f"plugins are not asked about live clusters for type {task.type}")
    return solver


def _labels(judged: Judged, reply: PluginReply) -> Labels:
    labels: dict[str, Any] = {"plugin_role": judged.role, "plugin_no": judged.no, "plugin_unusable": judged.unusable}
    if judged.role:
        labels["version"] = reply.version
    if judged.reply is not None:
        labels |= {"model_id": judged.reply.model_id, "claimed_confidence": judged.reply.claimed_confidence}
    return labels


def _decode(text: bytes) -> Any:
    return msgspec.json.decode(text)


def answer_of(solved: Solved) -> Answer:
    """Return the answer that was encoded."""
    result = _decode(solved.result)
    whole = result if solved.compressed is None else _decode(gzip.decompress(solved.compressed))
    return Answer(
        result=whole,
        algorithm=solved.algorithm,
        message=solved.message,
        reason=Reason(solved.reason),
        score=solved.score,
        summary={} if solved.compressed is None else result,
        objective=solved.objective,
        lower_bound=solved.lower_bound,
        gap=solved.gap,
    )


def _handle(task: SolveTask, emit: Emit) -> Outcome:
    return handle(task, emit, respond)


HANDLER: Handler[SolveTask] = Handler(SolveTask, _handle)
"""What a worker does that solves requests and judges plugins' replies to them."""
