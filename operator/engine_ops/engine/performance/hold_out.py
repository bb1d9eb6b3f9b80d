"""Which samples a rule is fitted on, and which it is tried on. Importing it loads no numpy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

FEW_SAMPLES: Final = 20
"""Below this an answer is called thin, and there is no back-test."""

_OLDER_SHARE = 0.7


def older_count(samples: int) -> int:
    """Return how many of the samples, the oldest, a rule is fitted on; it is tried on the others."""
    return int(samples * _OLDER_SHARE)


def older_data(data: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the question with the newest samples cut away, as a rule is asked it that is to be tried on them.

    Series of fewer than `FEW_SAMPLES` stay whole: nothing is tried on them. The bounds are left out, as a rule's own
    back-test does without them.

    Parameters
    ----------
    data
        Of a ``performance`` request, as the user wrote it; never changed.

    Returns
    -------
    dict or None
        None where nothing can be tried, or the data is not in that shape.
    """
    samples = data.get("samples")
    containers = samples.get("containers") if isinstance(samples, Mapping) else samples
    if not isinstance(containers, list) or not all(isinstance(container, Mapping) for container in containers):
        return None
    cut = [{name: _older(name, value) for name, value in container.items()} for container in containers]
    if cut == containers:
        return None
    objective = data.get("objective")
    older = {**data, "samples": {**samples, "containers": cut} if isinstance(samples, Mapping) else cut}
    if isinstance(objective, Mapping):
        older["objective"] = {name: value for name, value in objective.items() if name != "bounds"}
    return older


def _older(name: str, value: Any) -> Any:
    if name not in ("cpu", "memory") or not isinstance(value, list) or len(value) < FEW_SAMPLES:
        return value
    return value[: older_count(len(value))]
