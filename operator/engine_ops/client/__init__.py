"""The REST API from Python: `EngineOpsClient` and `AsyncEngineOpsClient`. Loaded on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine_ops.lazy import lazy_names

if TYPE_CHECKING:
    from engine_ops.client.aio import AsyncEngineOpsClient
    from engine_ops.client.errors import (
        BadRequestError,
        BusyError,
        ConflictError,
        EngineOpsError,
        ForbiddenError,
        NotFoundError,
        UnauthenticatedError,
        UnreachableError,
    )
    from engine_ops.client.messages import Improvement, OptimizationState
    from engine_ops.client.sync import EngineOpsClient

__all__ = [
    "AsyncEngineOpsClient",
    "BadRequestError",
    "BusyError",
    "ConflictError",
    "EngineOpsClient",
    "EngineOpsError",
    "ForbiddenError",
    "Improvement",
    "NotFoundError",
    "OptimizationState",
    "UnauthenticatedError",
    "UnreachableError",
]

_ERRORS = "engine_ops.client.errors"
_HOMES = {
    "AsyncEngineOpsClient": "engine_ops.client.aio",
    "BadRequestError": _ERRORS,
    "BusyError": _ERRORS,
    "ConflictError": _ERRORS,
    "EngineOpsClient": "engine_ops.client.sync",
    "EngineOpsError": _ERRORS,
    "ForbiddenError": _ERRORS,
    "Improvement": "engine_ops.client.messages",
    "NotFoundError": _ERRORS,
    "OptimizationState": "engine_ops.client.messages",
    "UnauthenticatedError": _ERRORS,
    "UnreachableError": _ERRORS,
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES, __all__)
