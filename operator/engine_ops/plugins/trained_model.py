"""One trained model of a plugin: its process, and how well it predicts."""

from __future__ import annotations

import collections
import datetime
import math
from typing import Final, Literal

import msgspec

from engine_ops.ml.scoring import nested
from engine_ops.plugins.instance import Instance
from engine_ops.plugins.messages import Ask, Replied
from engine_ops.plugins.model_store import ModelRecord
from engine_ops.plugins.skill import Skill, SkillTracker
from engine_ops.plugins.snapshot import ModelInfo

CLAIMS_KEPT: Final = 100

UNSCORED_REPLIES: Final = 5
"""A model whose first so many replies hold nothing that can be scored is unscored."""

Passed = Literal["", "proven", "unscored"]


class TrainedModel:
    """A model, served or in shadow or kept for later.

    Parameters
    ----------
    record
        What is known of it.
    tracker
        Scores its predictions.
    state
        Its saved form; empty where it has none: then it lives as long as the process it was trained in.
    instance
        The process that it is in; None where it is not asked.
    """

    def __init__(
        self, record: ModelRecord, tracker: SkillTracker, *, state: bytes = b"", instance: Instance | None = None
    ) -> None:
        self.record = record
        self.tracker = tracker
        self.state = state
        self._instance: Instance | None = None
        self._restarts = 0
        self.instance = instance
        self.replies = 0
        self._scorable = 0
        self._claims: collections.deque[float] = collections.deque(maxlen=CLAIMS_KEPT)
        self._skill: Skill | None = None
        self._skill_of = 0

    @property
    def instance(self) -> Instance | None:
        """The process that it is in."""
        return self._instance

    @instance.setter
    def instance(self, instance: Instance | None) -> None:
        self._instance = instance
        self._restarts = 0 if instance is None else instance.counters.restarts

    @property
    def digest(self) -> str:
        """Its name: ``sha256:...``."""
        return self.record.digest

    @property
    def passed(self) -> str:
        """Which gate it has passed; see `ModelRecord.passed`."""
        return self.record.passed

    @passed.setter
    def passed(self, passed: Passed) -> None:
        self.record = msgspec.structs.replace(self.record, passed=passed)

    def standing_of(self, record: ModelRecord) -> ModelRecord:
        """Return the record of a model that takes this one's place, with what this one has passed."""
        return msgspec.structs.replace(record, passed=self.record.passed)

    @property
    def is_lost(self) -> bool:
        """Whether nothing is left of it: it has no saved form, and its process is gone or another."""
        if self.state:
            return False
        return self._instance is None or self._instance.counters.restarts != self._restarts

    @property
    def is_unscored(self) -> bool:
        """Whether it has replied often enough to tell that nothing in its replies can be scored."""
        return not self._scorable and not self.tracker.total and self.replies >= UNSCORED_REPLIES

    def heard(self, ask: Ask, reply: Replied, point: str | None, workload: str | None) -> None:
        """Take note of a reply with a result.

        Parameters
        ----------
        ask, reply
            The request, and what the model said.
        point
            The request's key, under which its outcome will be told; None where there will be none.
        workload
            Its `engine_ops.ml.keys.workload_key`.
        """
        self.replies += 1
        claimed = reply.claimed_confidence
        if claimed is not None and math.isfinite(claimed):
            self._claims.append(claimed)
        if reply.scored:
            self._scorable += 1
        if point is not None and reply.scored:
            self.tracker.asked(point, workload, ask.type, nested(reply.scored))

    @property
    def claimed_confidence(self) -> float | None:
        """The mean of what the plugin claimed for its last replies."""
        return math.fsum(self._claims) / len(self._claims) if self._claims else None

    @property
    def skill(self) -> Skill | None:
        """How well it predicts the key with the most outcomes, durations before all; None without an outcome.

        With many outcomes it is of a moment ago: of at least 49 of 50 of them.
        """
        total = self.tracker.total
        if total and (self._skill is None or total - self._skill_of > total // 50):
            self._skill = next(iter(self.tracker.skills()), None)
            self._skill_of = total
        return self._skill

    @property
    def confidence(self) -> float | None:
        """The measured one; None below 30 outcomes."""
        skill = self.skill
        return skill.confidence if skill is not None else None

    def info(self) -> ModelInfo:
        """Return it as a snapshot shows it."""
        record = self.record
        moment = datetime.datetime.fromtimestamp(record.trained_at_ms / 1000, datetime.UTC)
        return ModelInfo(record.model_id, record.digest, moment, record.samples)
