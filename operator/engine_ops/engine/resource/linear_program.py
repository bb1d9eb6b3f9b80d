"""A small dense simplex, for the dual of the bound's linear program."""

from __future__ import annotations

import numpy as np

from engine_ops.engine.resource.problem import FloatArray

_TOLERANCE = 1e-11
_GREEDY_PIVOTS = 100  # After so many, Bland's rule: it cannot cycle.
_MAX_PIVOTS = 1_000


def maximise(objective: FloatArray, matrix: FloatArray, limits: FloatArray) -> FloatArray:
    """Maximise ``objective @ x`` where ``matrix @ x <= limits`` and ``x >= 0``.

    Dantzig's tableau simplex; the origin is the first vertex. What it returns is a good point, not a proof: a caller
    who needs certainty checks the point in exact numbers.

    Parameters
    ----------
    objective
        (n,) any sign.
    matrix
        (m, n).
    limits
        (m,) at least 0.

    Returns
    -------
    FloatArray
        (n,) the best vertex reached; where the program is unbounded, the last one before the ray.
    """
    rows, columns = matrix.shape
    tableau = np.hstack([matrix, np.eye(rows), limits[:, None]])
    gain = np.concatenate([objective, np.zeros(rows + 1)])
    basis = np.arange(columns, columns + rows)
    for pivot in range(_MAX_PIVOTS):
        improving = np.flatnonzero(gain[:-1] > _TOLERANCE)
        if not len(improving):
            break
        entering = int(improving[np.argmax(gain[improving])] if pivot < _GREEDY_PIVOTS else improving[0])
        column = tableau[:, entering]
        candidates = np.flatnonzero(column > _TOLERANCE)
        if not len(candidates):
            break
        ratios = tableau[candidates, -1] / column[candidates]
        ties = candidates[ratios <= ratios.min() + _TOLERANCE]
        leaving = int(ties[np.argmin(basis[ties])])
        tableau[leaving] /= tableau[leaving, entering]
        others = tableau[:, entering].copy()
        others[leaving] = 0.0
        tableau -= others[:, None] * tableau[leaving]
        gain = gain - gain[entering] * tableau[leaving]
        basis[leaving] = entering
    point = np.zeros(columns + rows)
    point[basis] = np.maximum(tableau[:, -1], 0.0)
    result: FloatArray = point[:columns]
    return result
