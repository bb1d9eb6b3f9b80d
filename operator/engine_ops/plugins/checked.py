"""An answer that was checked, and which of two is to be served."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final, Protocol

from engine_ops.engine.contract import Answer

_SAME: Final = 1e-9
"""Scores this close are equal: they are rounded to it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Checked:
    """A feasible answer.

    Parameters
    ----------
    answer
        As the built-in would have given it: the score and everything that follows from the placement is the engine's.
    value
        Of the type's objective, lexicographic; smaller is better. Comparable for answers to one request only; empty
        where the type has none.
    """

    answer: Answer
    value: tuple[Any, ...]


class Checker(Protocol):
    """Holds answers against the question that the built-in would have solved."""

    def check(self, result: Mapping[str, Any], algorithm: str) -> Checked:
        """Check a result in the type's shape.

        Parameters
        ----------
        result
            JSON values; see `engine_ops.plugins.json_values.json_value`.
        algorithm
            The name of what made it, for the answer.

        Raises
        ------
        RefusedError
            If it is infeasible, or not in the type's shape. The field is named.
        """
        ...


def holds_its_own(candidate: Checked, built_in: Checked) -> bool:
    """Whether a plugin's answer may be served in place of the built-in's: it is no worse, by objective and by score.

    The two differ where priorities count: the score is a share of all items, the objective looks at the important ones
    first.

    Parameters
    ----------
    candidate, built_in
        Answers to the same request, both from its checker.
    """
    if candidate.value > built_in.value:
        return False
    ours, theirs = candidate.answer.score, built_in.answer.score
    return ours is None or theirs is None or ours >= theirs - _SAME
