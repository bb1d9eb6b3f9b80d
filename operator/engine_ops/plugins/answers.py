"""What a plugin's dict is: an answer in the type's shape, advice, a prediction, or a no."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Final

from engine_ops.plugins.advice import FIELDS, NOTHING_NAMED, Advice, Names, is_advice, read_advice
from engine_ops.plugins.checked import Checked, Checker
from engine_ops.plugins.fields import MAX_NAME, is_number
from engine_ops.plugins.json_values import RefusedError, json_value, quoted
from engine_ops.plugins.own_fields import has_own_field
from engine_ops.plugins.packing_answers import PackingChecker
from engine_ops.plugins.placement_answers import PlacementChecker
from engine_ops.plugins.session_envelope import bare_result
from engine_ops.plugins.sizing_answers import SizingChecker

MAX_ERROR: Final = 1024
"""Characters of a plugin's reason for a no; it is cut there."""


_ANSWER_FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "resource": ("nodes",),
    "scheduling": ("nodeId", "placements"),
    "performance": ("containers",),
}
"""The fields of ``result`` that make it an answer."""

_CHECKERS: Final[Mapping[str, Callable[[Mapping[str, Any], Mapping[str, Any]], Checker]]] = {
    "resource": PackingChecker.of,
    "scheduling": PlacementChecker.of,
    "performance": SizingChecker.of,
}


@dataclasses.dataclass(frozen=True, slots=True)
class Prediction:
    """A result that nothing can check: the built-in has no answer to such data.

    Parameters
    ----------
    result
        JSON values. What is no object is under the key ``prediction``.
    """

    result: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Refusal:
    """No result.

    Parameters
    ----------
    reason
        A sentence. Where the plugin's result is at fault, it begins with the field.
    by_plugin
        Whether the plugin said no itself (it is not at fault), rather than that what it returned cannot be used.
    """

    reason: str
    by_plugin: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
    """What a plugin said.

    Parameters
    ----------
    said
        A feasible answer, advice, a prediction, or why there is none.
    prediction
        The result as the plugin wrote it, with advised amounts as numbers: what can be scored is in it, if anything
        (`engine_ops.plugins.skill.SkillTracker.asked`). Empty for a refusal.
    model_id
        Of the model that it names.
    claimed_confidence
        0 to 1, as the plugin has it: shown, and not relied on.
    """

    said: Checked | Advice | Prediction | Refusal
    prediction: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    model_id: str | None = None
    claimed_confidence: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """A request, as far as a plugin's reply depends on it.

    Parameters
    ----------
    request_type
        Such as ``resource``.
    checker
        Holds answers against the problem; None where there is nothing that the built-in could solve, so that a
        prediction is the result.
    names
        What advice may speak of.
    """

    request_type: str
    checker: Checker | None = None
    names: Names = NOTHING_NAMED


def question_of(request_type: str, data: Mapping[str, Any], constraints: Mapping[str, Any]) -> Question:
    """Return the question that a request asks.

    Data with any field that the built-in reads is the built-in's to solve: where it is faulty, a reply cannot be
    checked and the request's author must be told. Data without such a field, and type ``ml-driven``, is the plugin's.

    Parameters
    ----------
    request_type
        One of `engine_ops.engine.solvers.TYPES`.
    data, constraints
        As the user wrote them.

    Raises
    ------
    InvalidDataError
        If the data has fields that the built-in reads, but a fault is in them or in the constraints.
    """
    if not has_own_field(request_type, data):
        return Question(request_type)
    checker = _CHECKERS[request_type](data, constraints)
    return question_for(request_type, checker)


def question_for(request_type: str, checker: Checker) -> Question:
    """Return the question of a type that a checker holds answers against."""
    return Question(request_type, checker, _names_of(checker))


def _names_of(checker: Checker) -> Names:
    if isinstance(checker, PackingChecker):
        problem = checker.problem
        return Names(frozenset(problem.item_ids), frozenset(name for name in problem.type_names if name))
    if isinstance(checker, PlacementChecker):
        tasks, nodes = checker.state.problem.tasks, checker.state.problem.nodes
        return Names(frozenset(task.id for task in tasks), frozenset(node.id for node in nodes))
    if isinstance(checker, SizingChecker):
        return Names(frozenset(checker.containers))
    return NOTHING_NAMED


def read_reply(returned: object, question: Question, *, algorithm: str) -> Reply:
    """Find out what a plugin said.

    A plugin returns ``{success, result, confidence?, model_id?}``, or ``{success: false, error}``; where ``result`` is
    absent, everything beside these names is the result. The result is an answer if it has a field of the type's
    answer, advice if it has one of `engine_ops.plugins.advice.FIELDS`.

    Parameters
    ----------
    returned
        Anything. It is neither changed nor kept.
    question
        What was asked.
    algorithm
        The plugin's name, for the answer.

    Returns
    -------
    Reply
        Never an exception, whatever the plugin returned.
    """
    try:
        envelope = json_value(returned)
        if not isinstance(envelope, dict):
            raise RefusedError("", f"must be a dict, not {quoted(envelope)}")
        confidence = _confidence(envelope.get("confidence"))
        model_id = _model_id(envelope.get("model_id"))
        result = _result(envelope)
        if isinstance(result, Refusal):
            return Reply(result, model_id=model_id, claimed_confidence=confidence)
        said = _said(result, question, algorithm)
        return Reply(said, _scorable(result, said), model_id, confidence)
    except RefusedError as error:
        return Reply(Refusal(str(error), by_plugin=False))


def _result(envelope: Mapping[str, Any]) -> Any:
    """Return the result, or the plugin's own refusal."""
    success = envelope.get("success", True)
    if not isinstance(success, bool):
        raise RefusedError("success", f"must be true or false, not {quoted(success)}")
    if not success:
        return Refusal(_error(envelope.get("error")), by_plugin=True)
    result = envelope["result"] if "result" in envelope else bare_result(envelope)
    if result is None:
        raise RefusedError("result", "required with success, but absent")
    return result


def _scorable(result: Any, said: Checked | Advice | Prediction) -> Mapping[str, Any]:
    if isinstance(said, Advice):
        return {**result, "recommended_resources": said.recommended_resources}
    return result if isinstance(result, dict) else {}


def _said(result: Any, question: Question, algorithm: str) -> Checked | Advice | Prediction:
    if question.checker is None:
        return Prediction(result if isinstance(result, dict) else {"prediction": result})
    if not isinstance(result, dict):
        raise RefusedError("result", f"must be an object, not {quoted(result)}")
    shape = _ANSWER_FIELDS[question.request_type]
    if any(name in result for name in shape):
        return question.checker.check(result, algorithm)
    if is_advice(result):
        return read_advice(result, question.names)
    raise RefusedError(
        "result", f"has neither {' nor '.join(shape)}, for an answer, nor any of {', '.join(FIELDS)}, for advice"
    )


def _error(error: object) -> str:
    text = "" if error is None else error if isinstance(error, str) else quoted(error)
    if not text.strip():
        return "the plugin said no and gave no reason"
    return text if len(text) <= MAX_ERROR else text[: MAX_ERROR - 3] + "..."


def _confidence(value: object) -> float | None:
    if value is None:
        return None
    if not is_number(value) or not 0 <= value <= 1:
        raise RefusedError("confidence", f"must be a number from 0 to 1, not {quoted(value)}")
    return float(value)


def _model_id(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_NAME:
        raise RefusedError("model_id", f"must be a text of 1 to {MAX_NAME} characters, not {quoted(value)}")
    return value
