"""One look at a namespace, and questions about single workloads, as few as will do."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from engine_ops.history.outcomes.jobs import JobIndex
from engine_ops.history.outcomes.pods import PodIndex
from engine_ops.history.outcomes.records import UsageSample, WorkloadRecord
from engine_ops.history.outcomes.source import OutcomeSource, SourceError

LOOKUPS_A_STEP: Final = 200
"""Single workloads asked for in one step; what is over waits for the next one."""

RETRY_MS: Final = 600_000
"""A workload that was not there, or has no pods, is asked for again after this, or when it has pods."""

SERVICE_KINDS: Final = frozenset({"Deployment", "StatefulSet", "DaemonSet"})
"""Kinds that `OutcomeSource.workload` is asked for."""


@dataclasses.dataclass(frozen=True, slots=True)
class Look:
    """What one look at a namespace showed.

    Parameters
    ----------
    now_ms
        When it began.
    jobs
        None if they were not asked for, or could not be read.
    pods
        Likewise.
    samples
        Usage by pod that is newer than at the last look; each value is one moment.
    """

    now_ms: int
    jobs: JobIndex | None = None
    pods: PodIndex | None = None
    samples: Mapping[str, Sequence[UsageSample]] = dataclasses.field(default_factory=dict)


class FreshSamples:
    """Leaves out samples that were seen before: metrics are renewed less often than anybody may ask."""

    def __init__(self) -> None:
        self._seen: dict[str, dict[str, int]] = {}

    def of(self, namespace: str, samples: Iterable[UsageSample]) -> dict[str, list[UsageSample]]:
        """Return the new samples by pod."""
        before = self._seen.get(namespace, {})
        moments: dict[str, list[UsageSample]] = {}
        for sample in samples:
            moments.setdefault(sample.pod, []).append(sample)
        self._seen[namespace] = {pod: moment[0].at_ms for pod, moment in moments.items()}
        return {pod: moment for pod, moment in moments.items() if before.get(pod) != moment[0].at_ms}

    def keep(self, namespaces: Iterable[str]) -> None:
        """Forget all other namespaces."""
        self._seen = {name: self._seen[name] for name in namespaces if name in self._seen}


class LaterError(SourceError):
    """It was not asked for, as others came first: nothing is wrong."""


class Lookups:
    """Asks for single workloads: each once a step, and few of them.

    Parameters
    ----------
    source
        Of the records.
    """

    def __init__(self, source: OutcomeSource) -> None:
        self._source = source
        self._left = LOOKUPS_A_STEP
        self._answers: dict[tuple[str, str, str], WorkloadRecord | None] = {}
        self._asked_ms: dict[tuple[str, str, str], int] = {}
        self._now_ms = 0

    def begin(self, now_ms: int) -> None:
        """Begin a step."""
        self._left = LOOKUPS_A_STEP
        self._answers.clear()
        self._asked_ms = {key: at_ms for key, at_ms in self._asked_ms.items() if abs(now_ms - at_ms) < RETRY_MS}
        self._now_ms = now_ms

    def rested(self, kind: str, namespace: str, name: str) -> bool:
        """Whether it was not asked for lately, or was in this step."""
        key = (kind, namespace, name)
        return key in self._answers or key not in self._asked_ms

    async def get(self, kind: str, namespace: str, name: str) -> WorkloadRecord | None:
        """Return a workload; None if it is not there.

        Raises
        ------
        LaterError
            If too many were asked for in this step.
        SourceError
            If it cannot be read.
        """
        key = (kind, namespace, name)
        if key in self._answers:
            return self._answers[key]
        if not self._left:
            raise LaterError(f"more than {LOOKUPS_A_STEP} workloads in one step; {kind} {name} waits for the next")
        self._left -= 1
        self._asked_ms[key] = self._now_ms
        self._answers[key] = await self._source.workload(kind, namespace, name)
        return self._answers[key]
