"""Which solver answers which type."""

from __future__ import annotations

import importlib

from engine_ops.engine.contract import Solver

_HOMES = {
    "resource": ("engine_ops.engine.resource.solver", "ResourceSolver"),
    "scheduling": ("engine_ops.engine.scheduling.solver", "SchedulingSolver"),
    "performance": ("engine_ops.engine.performance.solver", "PerformanceSolver"),
    "ml-driven": ("engine_ops.engine.ml_driven", "MLDrivenSolver"),
}

TYPES = tuple(_HOMES)
"""Every type of request, in the order of the documentation."""


def solver_for(request_type: str) -> Solver:
    """Return the solver of a type, importing it on first use.

    Raises
    ------
    KeyError
        If there is no such type.
    """
    module, name = _HOMES[request_type]
    solver: Solver = getattr(importlib.import_module(module), name)()
    return solver
