"""Which model of a plugin follows which: a new one comes in, and outcomes promote or demote."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final

from engine_ops.plugins.hosting import Edition
from engine_ops.plugins.model_shelf import Roles
from engine_ops.plugins.plugin_state import PluginState
from engine_ops.plugins.trained_model import TrainedModel

logger = logging.getLogger(__name__)

MEASURED_OUTCOMES: Final = 50
"""After so many outcomes, drift of a model that was served without any is measured against these."""


class Succession:
    """Gives the models of one plugin their roles.

    Parameters
    ----------
    state
        The plugin.
    on_change
        Called when other models are served, or in shadow, than before.
    wake
        Called when there may be something to do: a process to open, or a training.
    """

    def __init__(self, state: PluginState, *, on_change: Callable[[], None], wake: Callable[[], None]) -> None:
        self._state = state
        self._on_change = on_change
        self._wake = wake
        self._is_over = False

    def end(self) -> None:
        """Leave the roles as they are from now on: the plugin is being closed."""
        self._is_over = True

    def settle(self) -> None:
        """Give out the roles as the models and the spec have it now."""
        state = self._state
        if state.edition is None or self._is_over:
            return
        before = state.lineup.roles
        if state.lineup.settle(state.wanted_roles(state.edition)):
            state.keeper.changed(soon=True)
            self._on_change()
        if before != state.lineup.roles:
            logger.info("plugin %s: %s", state.name, _told(state.lineup.roles))

    def outcome(self, point: str, values: Mapping[str, float]) -> None:
        """Score what the models said of a point, and see what follows from it.

        Parameters
        ----------
        point
            Its key as hexadecimal digits.
        values
            `engine_ops.ml.scoring.actual_values` of its outcome.
        """
        state = self._state
        scored = False
        for model in state.lineup.roles:
            if model is None or model.tracker.known(point, values) is None:
                continue
            scored = True
            tracker = model.tracker
            if model is state.lineup.roles.active and tracker.total >= MEASURED_OUTCOMES and not tracker.knows_its_loss:
                tracker.promoted()
        if scored:
            state.keeper.changed(soon=False)
            self._judge()

    def has_replied(self, model: TrainedModel) -> None:
        """Take note that a model has replied."""
        self._state.keeper.changed(soon=False)
        if model is self._state.lineup.roles.candidate and model.is_unscored:
            self._judge()

    def models_lost(self) -> None:
        """Take note that a model was lost with its process."""
        self._state.lineup.drop_lost()
        self.settle()
        self._wake()
        self._on_change()

    def has_trained(self, model: TrainedModel, edition: Edition) -> None:
        """Take a new model, in the process that it was trained in.

        Parameters
        ----------
        model
            The model.
        edition
            Of its process.
        """
        state = self._state
        instance = model.instance
        shelf = state.lineup.shelf
        same = next((each for each in shelf if each.digest == model.digest and each.instance is not None), None)
        if instance is None:
            return
        if edition != state.edition or self._is_over or (same is not None and same.instance is not instance):
            # Settings have changed since; or nothing that the model learns from has.
            if instance not in state.lineup.instances():
                state.lineup.discard(instance)
            return
        for each in shelf:
            # A service has one model at a time: the new one stands where the old one stood.
            if each.instance is instance:
                model.record = each.standing_of(model.record)
                each.instance = None
        shelf.add(model)
        state.keeper.changed(soon=True)
        self.settle()
        self._wake()
        self._on_change()

    def _judge(self) -> None:
        """Promote, or demote, if the outcomes say so."""
        state = self._state
        active, candidate = state.lineup.roles
        if state.spec.training.pinned_model is not None or not state.is_gated:
            return
        if candidate is not None and (passed := state.trials.verdict(candidate, active)):
            logger.info("plugin %s: model %s is promoted: %s", state.name, candidate.digest, state.trials.message)
            state.lineup.shelf.promote(candidate, passed)
        elif active is not None and state.trials.is_refuted(active):
            logger.warning("plugin %s: model %s is demoted: %s", state.name, active.digest, state.trials.message)
            state.lineup.shelf.demote(active)
        else:
            return
        self.settle()
        self._wake()


def _told(roles: Roles) -> str:
    active = "no model is served" if roles.active is None else f"model {roles.active.digest} is served"
    return active if roles.candidate is None else f"{active}, {roles.candidate.digest} is in shadow"
