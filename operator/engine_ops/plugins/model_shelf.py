"""The models of one plugin that are kept, and which of them is served."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from engine_ops.ml.scoring import TOLERANCE, RecentOutcomes
from engine_ops.plugins.model_store import KEPT, SavedModels
from engine_ops.plugins.skill import SkillTracker
from engine_ops.plugins.trained_model import Passed, TrainedModel


class Roles(NamedTuple):
    """Who does what.

    Parameters
    ----------
    active
        The model that is served.
    candidate
        A newer one that is in shadow.
    """

    active: TrainedModel | None = None
    candidate: TrainedModel | None = None


class ModelShelf:
    """The last three models, newest first.

    Who is served follows from what stands here alone, so that a restart, and settings that are taken back, come to the
    same: the newest that has passed the gate, and a newer one as its candidate.
    """

    def __init__(self) -> None:
        self._models: list[TrainedModel] = []

    def __iter__(self) -> Iterator[TrainedModel]:
        return iter(tuple(self._models))

    def add(self, model: TrainedModel) -> None:
        """Put the newest model on the shelf. The oldest that is neither served nor in shadow falls off."""
        self._models = [model, *(each for each in self._models if each.digest != model.digest)]
        while len(self._models) > KEPT:
            spare = [each for each in self._models if each.instance is None] or self._models[1:]
            self._models.remove(spare[-1])

    def remove(self, model: TrainedModel) -> None:
        """Take a model off, if it is there."""
        self._models = [each for each in self._models if each is not model]

    def drop_lost(self) -> list[TrainedModel]:
        """Take off the models of which nothing is left, and return them."""
        lost = [model for model in self._models if model.is_lost]
        self._models = [model for model in self._models if not model.is_lost]
        return lost

    def pinned(self, made_with: str, digest: str) -> TrainedModel | None:
        """Return the model whose digest begins so, if it was made so and has a saved form."""
        return next(
            (
                model
                for model in self._models
                if model.state and model.record.made_with == made_with and model.digest.startswith(digest)
            ),
            None,
        )

    def roles(self, made_with: str, *, pinned: str | None = None, gated: bool = True) -> Roles:
        """Return which model is served, and which is in shadow.

        Parameters
        ----------
        made_with
            `engine_ops.plugins.model_store.circumstances` of the plugin now: models made otherwise have no role.
        pinned
            The beginning of the digest of the one to be served, whatever is known of it. Where it is not here, the
            others are, as if nothing were pinned.
        gated
            Whether there is any type of request for which a model must pass a gate. The newest is served otherwise.
        """
        models = [model for model in self._models if model.record.made_with == made_with]
        chosen = self.pinned(made_with, pinned) if pinned else None
        if chosen is not None:
            return Roles(chosen)
        if not models:
            return Roles()
        if not gated:
            return Roles(models[0])
        active = next((model for model in models if model.passed), None)
        return Roles(active, models[0] if models[0] is not active else None)

    def promote(self, model: TrainedModel, passed: Passed) -> None:
        """Have a model served in place of others that were made with the same."""
        for each in self._models:
            if each is not model and each.record.made_with == model.record.made_with:
                each.passed = ""
        model.passed = passed
        model.tracker.promoted()

    def demote(self, model: TrainedModel) -> None:
        """Have a model served no longer. It can prove itself again, by outcomes from now on."""
        model.passed = ""
        model.tracker.mark()

    def saved(self, roles: Roles, points_since: int) -> SavedModels:
        """Return it all as a store keeps it."""
        states = {model.digest: model.state for model in self._models if model.state}
        kept = [model for model in self._models if model.state]
        in_use = [model for model in roles if model is not None and model.state]
        return SavedModels(
            records=tuple(model.record for model in kept),
            active=_digest_of(roles.active),
            candidate=_digest_of(roles.candidate),
            states=states,
            trackers={model.digest: model.tracker.to_state() for model in in_use},
            points_since=points_since,
        )

    def restore(
        self,
        saved: SavedModels,
        baseline: RecentOutcomes,
        *,
        tolerance: float = TOLERANCE,
        told: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Put what was saved behind what is here.

        Parameters
        ----------
        saved
            The models. Those without a saved form are gone.
        baseline, tolerance
            For their trackers.
        told
            Is told what could not be restored.
        """
        here = {model.digest for model in self._models}
        for record in saved.records:
            state = saved.states.get(record.digest, b"")
            if not state or record.digest in here or len(self._models) >= KEPT:
                continue
            tracker = SkillTracker(baseline, tolerance=tolerance)
            if kept := saved.trackers.get(record.digest):
                try:
                    tracker = SkillTracker.of_state(kept, baseline, tolerance=tolerance)
                except ValueError as error:
                    told(f"{record.digest}: {error}")
            self._models.append(TrainedModel(record, tracker, state=state))


def _digest_of(model: TrainedModel | None) -> str:
    return model.digest if model is not None and model.state else ""
