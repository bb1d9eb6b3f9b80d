"""What a status says of a finished solve for the history, so that a crash loses no data point."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from engine_ops.api.base import ResourceModel
from engine_ops.api.fields import ATOMIC_LIST, Count, Flag, FreeForm, Share, Word
from engine_ops.api.workload_ref import WorkloadName

MAX_HISTORY_POINTS: Final = 16
"""So many solves can be in a status: the last one, and earlier ones that are not in the history yet."""


class HistoryPoint(ResourceModel):
    """One finished solve. The history is made of these; they are read again after a crash."""

    generation: Count
    """The metadata.generation that was answered."""
    run: Count
    """Which solve of that generation it was, from 1."""
    stamp: Count
    """Epoch milliseconds of the finish, made to rise from one solve of the operator to its next."""
    timestamp: Count
    """When the solve began, in epoch milliseconds."""
    type: Word
    """The request's type."""
    success: Flag
    """Whether the request was answered in full."""
    reason: Word
    """The reason of its condition Ready."""
    duration_ms: Count
    """How long the solve took, in milliseconds."""
    score: Share | None = None
    """How good the answer is, as in metrics."""
    algorithm: Word | None = None
    """What made the answer."""
    workload: WorkloadName | None = None
    """The workload that the answer was for, whose outcome is joined."""
    workload_selector: FreeForm | None = None
    """The label selector of the pods that the answer was for, whose outcome is joined."""
    request: FreeForm | None = None
    """The numeric and categorical fields of the request, as a model may learn from them."""


HistoryPoints = Annotated[list[HistoryPoint], Field(max_length=MAX_HISTORY_POINTS, json_schema_extra=ATOMIC_LIST)]
