"""Which solver answers which type of request about a live cluster."""

from __future__ import annotations

import importlib

from engine_ops.api.faults import Fault, InvalidDataError
from engine_ops.engine.cluster.records import ClusterSnapshot
from engine_ops.engine.cluster.selection import ClusterSelection
from engine_ops.engine.contract import Solver

_HOMES = {
    "scheduling": ("engine_ops.engine.cluster.placement", "ClusterPlacementSolver"),
    "resource": ("engine_ops.engine.cluster.repacking", "RepackingSolver"),
}

CLUSTER_TYPES = tuple(_HOMES)
"""The types of request that can be about a live cluster."""


def cluster_solver_for(request_type: str, snapshot: ClusterSnapshot, selection: ClusterSelection) -> Solver:
    """Return the solver of a type for a cluster, importing it on first use.

    Parameters
    ----------
    request_type
        ``scheduling`` or ``resource``.
    snapshot
        The cluster.
    selection
        Which part of it the question is about.

    Raises
    ------
    InvalidDataError
        If no question of this type is about a cluster.
    """
    if request_type not in _HOMES:
        types = " and ".join(sorted(_HOMES, reverse=True))
        raise InvalidDataError([Fault("spec.dataFrom.cluster", f"answers the types {types}, not {request_type}")])
    module, name = _HOMES[request_type]
    solver: Solver = getattr(importlib.import_module(module), name)(snapshot, selection)
    return solver
