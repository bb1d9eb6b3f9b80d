"""The trial of a plugin's models by outcomes: who is promoted, who goes back to shadow."""

from __future__ import annotations

import dataclasses

from engine_ops.plugins.skill import paired_losses
from engine_ops.plugins.trained_model import Passed, TrainedModel

_FIRST_LOOK = 30
_LAST_LOOK = 3840


@dataclasses.dataclass(slots=True)
class _Watch:
    """When the losses are looked at next.

    Parameters
    ----------
    of
        The models that are compared, and from which outcome on.
    look
        How many outcomes the last look was at.
    at
        How many of the first model there must be before it is worth while to pair them.
    message
        What came of the last look.
    """

    of: tuple[object, ...] = ()
    look: int = 0
    at: int = _FIRST_LOOK
    message: str = ""


class Trials:
    """Looks at losses at 30, 60, 120, ... outcomes, and at no other time: see `engine_ops.plugins.promotion`."""

    def __init__(self) -> None:
        self._promotion = _Watch()
        self._demotion = _Watch()
        self.message = ""
        """Why the last verdict was as it was, for people."""

    def verdict(self, candidate: TrainedModel, active: TrainedModel | None) -> Passed:
        """Return which gate a candidate has passed by now; empty for none.

        Parameters
        ----------
        candidate
            The model in shadow.
        active
            The one that is served. One of whose replies nothing can be scored is no rival.
        """
        if candidate.is_unscored:
            self.message = f"{candidate.replies} replies, nothing in which can be scored"
            return "unscored"
        rival = (
            active if active is not None and not (active.passed == "unscored" and not active.tracker.total) else None
        )
        tracker = candidate.tracker
        watch = self._promotion = _watch_of(self._promotion, candidate, rival)
        if tracker.count_since_mark < watch.at:
            return ""
        losses, baseline, current = paired_losses(
            tracker.since_mark, rival.tracker.scored if rival is not None else None
        )
        if not _is_new(watch, len(losses), tracker.count_since_mark):
            return ""
        from engine_ops.plugins.promotion import decide_promotion

        decision = decide_promotion(losses, baseline, current)
        self.message = watch.message = decision.message
        return "proven" if decision.passed else ""

    def is_refuted(self, active: TrainedModel) -> bool:
        """Return whether the baseline is better than the model that is served, by its outcomes since its promotion."""
        tracker = active.tracker
        watch = self._demotion = _watch_of(self._demotion, active, None)
        if tracker.count_since_mark < watch.at:
            return False
        losses, baseline, _ = paired_losses(tracker.since_mark)
        if not _is_new(watch, len(losses), tracker.count_since_mark):
            return False
        from engine_ops.plugins.promotion import decide_demotion

        decision = decide_demotion(losses, baseline)
        if decision.passed:
            self.message = decision.message
        elif watch.look >= _LAST_LOOK:
            # No more is looked at in one comparison.
            tracker.mark()
        return decision.passed

    def standing(self, candidate: TrainedModel) -> str:
        """Return how a candidate does, for people; some outcomes ago, as it is looked at now and then."""
        outcomes = candidate.tracker.count_since_mark
        if outcomes < _FIRST_LOOK:
            since = "its demotion" if candidate.tracker.total > outcomes else "its training"
            return f"{outcomes} of {_FIRST_LOOK} outcomes since {since}"
        watch = self._promotion
        return watch.message if watch.of[:1] == (candidate,) and watch.message else f"{outcomes} outcomes"


def _watch_of(watch: _Watch, model: TrainedModel, rival: TrainedModel | None) -> _Watch:
    of = (model, rival, model.tracker.marks)
    return watch if watch.of == of else _Watch(of)


def _is_new(watch: _Watch, paired: int, mine: int) -> bool:
    """Return whether there is more to look at than the last time; takes note of it, and of when to count again."""
    wanted = max(_FIRST_LOOK, 2 * watch.look)
    if paired < wanted:
        watch.at = mine + wanted - paired
        return False
    while 2 * wanted <= paired:
        wanted *= 2
    watch.look = wanted
    watch.at = mine + 2 * wanted - paired
    return True
