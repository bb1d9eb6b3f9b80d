"""Asks one plugin: whichever of its models may be served for a request, and the others in shadow."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Final, NamedTuple

from engine_ops.api.optimizerplugin import PluginMode
from engine_ops.api.reasons import Reason
from engine_ops.plugins.instance import Instance, Unanswered
from engine_ops.plugins.messages import Ask, Replied
from engine_ops.plugins.plugin_state import Fate, PluginState
from engine_ops.plugins.said import Said
from engine_ops.plugins.trained_model import TrainedModel
from engine_ops.plugins.training import is_gated

MAX_ASIDE: Final = 4
"""Requests of a plugin in shadow at a time; more are left out."""

_TRIES: Final = 3
_FAULTS: Final = ("timeout", "crashed", "broken")


class Question(NamedTuple):
    """A request, and what is needed to score the answer.

    Parameters
    ----------
    ask
        The request.
    point
        The key under which its outcome will be told, as hexadecimal digits; None where it is not to be scored.
    workload
        Its `engine_ops.ml.keys.workload_key`.
    """

    ask: Ask
    point: str | None
    workload: str | None


class Asker:
    """Asks a plugin.

    Parameters
    ----------
    state
        The plugin.
    lost
        Called when a model was found to be lost with its process.
    heard
        Called with each model that has replied, after its tracker was told.
    """

    def __init__(self, state: PluginState, *, lost: Callable[[], None], heard: Callable[[TrainedModel], None]) -> None:
        self._state = state
        self._lost = lost
        self._has_heard = heard
        self._aside: set[asyncio.Task[None]] = set()
        self._closed = False
        self.last_ask: Ask | None = None

    async def ask(self, question: Question, *, needs_prediction: bool, timeout_seconds: float | None = None) -> Said:
        """Ask; see `engine_ops.plugins.hosted.HostedPlugin.ask`."""
        fate: Fate = "left_out"
        try:
            said = await self._ask(question, needs_prediction, timeout_seconds)
            fate = _fate_of(said)
        finally:
            if question.point is not None:
                self._state.count(fate)
        return said

    async def _ask(self, question: Question, needs_prediction: bool, timeout_seconds: float | None) -> Said:
        state = self._state
        self.last_ask = question.ask
        if state.spec.mode is PluginMode.SHADOW:
            self.ask_aside(question)
            return self._no("it is in shadow, by its mode", shadow=True)
        for tries_left in reversed(range(_TRIES)):
            choice = self._choose(question.ask, needs_prediction)
            if isinstance(choice, Said):
                self.ask_aside(question)
                return choice
            instance, model = choice
            self.ask_aside(question, but=model)
            answer = await instance.ask(question.ask, timeout_seconds=timeout_seconds)
            if isinstance(answer, Replied):
                said = self._read(answer, model, question)
                break
            waiting = {"unavailable": Reason.PLUGIN_UNAVAILABLE, "closing": Reason.STARTING}.get(answer.kind)
            said = dataclasses.replace(self._no(answer.reason, waiting=waiting), fault=answer.kind in _FAULTS)
            # It was replaced before the request's turn came: whoever has replaced it is there already.
            if answer.kind != "closing" or self._closed or not tries_left:
                break
        return said

    def ask_aside(self, question: Question, *, but: TrainedModel | None = None) -> None:
        """Ask every model but one in the background, to score what it says."""
        for model in self._state.lineup.roles:
            if model is None or model is but or model.instance is None:
                continue
            if question.point is None or len(self._aside) >= MAX_ASIDE or self._closed:
                continue
            task = asyncio.get_running_loop().create_task(self._ask_model(model.instance, model, question))
            self._aside.add(task)
            task.add_done_callback(self._aside.discard)

    async def close(self) -> None:
        """Ask no more in the background."""
        self._closed = True
        aside = tuple(self._aside)
        for task in aside:
            task.cancel()
        await asyncio.gather(*aside, return_exceptions=True)

    async def _ask_model(self, instance: Instance, model: TrainedModel, question: Question) -> None:
        answer = await instance.ask(question.ask)
        if not isinstance(answer, Unanswered) and _has_result(answer) and not model.is_lost:
            self._heard(answer, model, question)

    def _choose(self, ask: Ask, needs_prediction: bool) -> tuple[Instance, TrainedModel | None] | Said:
        """Return whom to ask, or why nobody is."""
        state = self._state
        if state.lineup.drop_lost():
            self._lost()
        active, candidate = state.lineup.roles
        for model in (active, candidate):
            if model is None or model.instance is None:
                continue
            if model is candidate and is_gated(state.spec, ask.type, needs_prediction=needs_prediction):
                return self._no(f"its model is in shadow: {state.trials.standing(model)}", shadow=True)
            return model.instance, model
        return self._choose_untrained()

    def _choose_untrained(self) -> tuple[Instance, None] | Said:
        state = self._state
        base = state.lineup.base
        opened = base.opened if base is not None else None
        if base is None or opened is None:
            if state.problem is not None:
                unavailable = state.problem.reason is Reason.PLUGIN_UNAVAILABLE
                return self._no(state.problem.message, waiting=state.problem.reason if unavailable else None)
            return self._no("it is being started", waiting=Reason.STARTING)
        enough = (state.points or 0) >= state.spec.training.min_samples
        if opened.has_model and opened.is_trained is not True and enough and state.spec.enabled:
            # It would train itself in the request, and be killed for it.
            if state.trainer.failure is not None and not state.trainer.is_busy:
                return self._no(f"its training failed: {state.trainer.failure}")
            return self._no("it is being trained", waiting=Reason.TRAINING)
        return base, None

    def _read(self, reply: Replied, model: TrainedModel | None, question: Question) -> Said:
        if model is not None and model.is_lost:
            # Its process was started anew in the meantime, without what it had learned.
            self._lost()
            return self._no("its model was lost with its process, and is trained again", waiting=Reason.TRAINING)
        if not _has_result(reply):
            no, waiting = reply.no or "it returned nothing", self._waits_for_data(reply, model)
            if waiting is not None:
                wanted = self._state.spec.training.min_samples
                no = f"{no} (the history has {self._state.points} of the {wanted} points that training needs)"
            return dataclasses.replace(self._no(no, waiting=waiting), fault=reply.failed, declined=not reply.failed)
        if model is not None:
            self._heard(reply, model, question)
        return Said(
            self._state.name,
            self._version,
            envelope=reply.envelope,
            model_id=reply.model_id,
            scored=reply.scored,
            confidence=model.confidence if model is not None else None,
            claimed_confidence=reply.claimed_confidence,
        )

    def _waits_for_data(self, reply: Replied, model: TrainedModel | None) -> Reason | None:
        opened = self._state.opened
        untrained = model is None and reply.is_trained is not True and opened is not None and opened.has_model
        return Reason.NOT_ENOUGH_DATA if untrained and not reply.failed and self._state.points is not None else None

    def _heard(self, reply: Replied, model: TrainedModel, question: Question) -> None:
        model.heard(question.ask, reply, question.point, question.workload)
        self._has_heard(model)

    def _no(self, reason: str, *, waiting: Reason | None = None, shadow: bool = False) -> Said:
        return Said(self._state.name, self._version, no=reason, waiting=waiting, shadow=shadow)

    @property
    def _version(self) -> str:
        opened = self._state.opened
        return opened.version if opened is not None else ""


def _fate_of(said: Said) -> Fate:
    if said.envelope is not None:
        return "answers"
    if said.fault:
        return "failures"
    return "declined" if said.declined else "left_out"


def _has_result(reply: Replied) -> bool:
    return bool(reply.envelope) and reply.no is None and not reply.failed
