"""The conditions of a status, and the moments in them.

Reconciling and Stalled are abnormal-true, as kstatus reads them: present only while they are true.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any, Final

READY: Final = "Ready"
RECONCILING: Final = "Reconciling"
STALLED: Final = "Stalled"

MAX_MESSAGE: Final = 2048
"""Messages are cut here: they are read in terminals, and the API server's limit is far above."""

Wanted = tuple[str, bool, str, str]
"""Type, whether it is so, reason, message."""


def conditions_of(
    wanted: Sequence[Wanted], previous: Mapping[str, Any], generation: int, now: datetime.datetime
) -> list[dict[str, Any]]:
    """Return a whole list of conditions. `lastTransitionTime` moves only where a status flips.

    Parameters
    ----------
    wanted
        In the order in which they are to stand.
    previous
        The status before.
    generation
        Of the object, as it was observed.
    now
        UTC.
    """
    conditions = []
    for type_, is_so, reason, message in wanted:
        status = "True" if is_so else "False"
        before = find(previous, type_)
        unchanged = before is not None and before.get("status") == status
        conditions.append(
            {
                "type": type_,
                "status": status,
                "reason": str(reason),
                "message": cut(message),
                "observedGeneration": generation,
                "lastTransitionTime": before["lastTransitionTime"] if before and unchanged else timestamp(now),
            }
        )
    return conditions


def find(status: Mapping[str, Any], type_: str) -> Mapping[str, Any] | None:
    """Return the condition of a type, or None."""
    for condition in status.get("conditions") or ():
        if condition.get("type") == type_:
            found: Mapping[str, Any] = condition
            return found
    return None


def is_true(status: Mapping[str, Any], type_: str) -> bool:
    """Whether the condition of a type is there and true."""
    condition = find(status, type_)
    return condition is not None and condition.get("status") == "True"


def timestamp(moment: datetime.datetime) -> str:
    """Write a moment as Kubernetes does: RFC 3339, UTC, whole seconds."""
    return moment.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_timestamp(text: str) -> datetime.datetime:
    """Read what `timestamp` wrote."""
    return datetime.datetime.fromisoformat(text)


def cut(message: str, limit: int = MAX_MESSAGE) -> str:
    """Return a message no longer than the limit."""
    return message if len(message) <= limit else message[: limit - 1] + "…"
