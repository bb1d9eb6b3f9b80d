"""What is known of one plugin at the moment; its parts share it."""

from __future__ import annotations

import dataclasses
from typing import Literal

from engine_ops.api.optimizerplugin import OptimizerPluginSpec
from engine_ops.api.reasons import Reason
from engine_ops.plugins.hosting import Edition, Hosting
from engine_ops.plugins.lineup import Lineup
from engine_ops.plugins.messages import Opened
from engine_ops.plugins.model_keeper import ModelKeeper
from engine_ops.plugins.model_shelf import Roles
from engine_ops.plugins.snapshot import Counts
from engine_ops.plugins.trainer import Trainer
from engine_ops.plugins.training import is_ever_gated
from engine_ops.plugins.trials import Trials

Fate = Literal["answers", "failures", "declined", "left_out"]
"""What comes of a request; see `Counts`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """Why a plugin is not as its spec wants it.

    Parameters
    ----------
    reason
        `Reason.INVALID_CONFIG`, `Reason.LOAD_FAILED` or `Reason.PLUGIN_UNAVAILABLE`.
    message
        One sentence.
    faults
        See `PluginSnapshot`.
    """

    reason: Reason
    message: str
    faults: tuple[tuple[str, str], ...] = ()


@dataclasses.dataclass(slots=True, eq=False)
class PluginState:
    """A plugin, as it stands.

    Parameters
    ----------
    name
        Of the OptimizerPlugin.
    spec, wanted
        What was applied last, and the edition that it asks for.
    hosting
        What it shares with the others.
    lineup, trainer, trials, keeper
        Its processes, and what makes, judges and keeps its models.
    edition
        What its processes are made of; None while there are none.
    problem
        What is wrong, if anything is.
    counts
        See `Counts`.
    """

    name: str
    spec: OptimizerPluginSpec
    wanted: Edition
    hosting: Hosting
    lineup: Lineup
    trainer: Trainer
    trials: Trials
    keeper: ModelKeeper
    edition: Edition | None = None
    problem: Problem | None = None
    counts: Counts = dataclasses.field(default_factory=Counts)

    @property
    def opened(self) -> Opened | None:
        """What the plugin says of itself; None while it cannot be asked."""
        instance = self.lineup.instance
        return instance.opened if instance is not None else None

    @property
    def points(self) -> int | None:
        """Points of history; None where none is kept."""
        return self.hosting.points() if self.hosting.history is not None else None

    @property
    def is_gated(self) -> bool:
        """Whether there is any type of request for which a model must pass a gate. It is, before more is known."""
        opened = self.opened
        return opened is None or is_ever_gated(self.spec, opened.types)

    def wanted_roles(self, edition: Edition) -> Roles:
        """Return the roles that the models of an edition are to have."""
        pinned = self.spec.training.pinned_model
        return self.lineup.shelf.roles(edition.made_with, pinned=pinned, gated=self.is_gated)

    @property
    def is_behind(self) -> bool:
        """Whether what answers is not what the spec asks for by now: that is being made ready, or could not be."""
        return self.edition != self.wanted or self.awaits_model

    @property
    def awaits_model(self) -> bool:
        """Whether another model than the one that is served is being made ready to be."""
        return self.edition is not None and self.wanted_roles(self.edition).active is not self.lineup.roles.active

    def reason_to_train(self) -> str | None:
        """Return why a model is to be trained now; None where none is."""
        opened = self.opened
        if not self.spec.enabled or opened is None or not opened.has_model or self.hosting.history is None:
            return None
        if self.edition != self.wanted or self.trainer.is_busy:
            return None
        return self.trainer.why(self.spec.training, self.lineup.roles)

    def count(self, fate: Fate) -> None:
        """Count a request, and what came of it."""
        counts = self.counts
        self.counts = dataclasses.replace(counts, requests=counts.requests + 1, **{fate: getattr(counts, fate) + 1})

    def count_unusable(self) -> None:
        """Take note that what was counted as an answer is none."""
        counts = self.counts
        self.counts = dataclasses.replace(counts, answers=counts.answers - 1, failures=counts.failures + 1)

    def count_fallback(self) -> None:
        """Count a request that somebody else has answered."""
        self.counts = dataclasses.replace(self.counts, fallbacks=self.counts.fallbacks + 1)
