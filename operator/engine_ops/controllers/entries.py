"""What the reconciler holds of a request while something is under way for it."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping
from typing import Any

import msgspec

from engine_ops.api.optimizationrequest import OptimizationRequestSpec
from engine_ops.controllers.view import RequestView
from engine_ops.kube.target import Target


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """What is to be solved; inline data is held once, encoded."""

    spec: OptimizationRequestSpec
    data: bytes | None
    run: int
    previous: Mapping[str, Any]

    @classmethod
    def of(cls, spec: OptimizationRequestSpec, run: int, previous: Mapping[str, Any]) -> Question:
        """Return the question of a spec, its run and the status before it."""
        if spec.data is None:
            return cls(spec, None, run, previous)
        return cls(spec.model_copy(update={"data": None}), msgspec.json.encode(spec.data), run, previous)


@dataclasses.dataclass(slots=True)
class Entry:
    """What is under way for one object."""

    target: Target
    request_type: str = ""
    """Once it is known."""
    task: asyncio.Task[None] | None = None
    timer: asyncio.TimerHandle | None = None
    timer_is_retry: bool = False
    waits_for: str = ""
    """The reason of what is waited for; see `engine_ops.api.reasons.WAITING`."""
    retries: int = 0
    crashes: int = 0
    answered_run: int | None = None
    """The run whose final status is written, until the watch shows it."""
    missed: RequestView | None = None
    """The object as the watch last showed it while the task ran."""

    def stop(self) -> None:
        """Cancel what is under way. A cancelled solve kills its worker."""
        if self.task is not None:
            self.task.cancel()
        if self.timer is not None:
            self.timer.cancel()
