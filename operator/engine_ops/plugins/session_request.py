"""What a plugin is given for a request: its own copy, each time."""

from __future__ import annotations

from typing import Any, Final, cast

import pydantic

from engine_ops.api.faults import InvalidDataError, faults_of
from engine_ops.engine.request import OptimizationRequest, RequestType
from engine_ops.plugins.messages import Ask
from engine_ops.workers.documents import read_json, read_json_or_yaml

_MAX_ID: Final = 253


def request_data_of(ask: Ask) -> dict[str, Any]:
    """Return what an `MLPluginInterface` is given.

    The request's data, and beside it ``type`` and ``constraints``, always as the request has them, and the fields of
    ``extra`` whose names the data does not use itself.

    Raises
    ------
    InvalidDataError
        If data or constraints cannot be read.
    """
    data, constraints, extra = _decoded(ask)
    return {**extra, **data, "type": ask.type, "constraints": constraints}


def request_of(ask: Ask, *, with_extra: bool) -> OptimizationRequest:
    """Return what a `BaseOptimizationPlugin` is given.

    Parameters
    ----------
    ask
        The request.
    with_extra
        Whether ``extra`` stands beside the data: models take their features of it, an algorithm may refuse fields that
        the user did not write.

    Raises
    ------
    InvalidDataError
        If data or constraints cannot be read, or there is no such type.
    """
    data, constraints, extra = _decoded(ask)
    try:
        return OptimizationRequest(
            id=ask.request_id[-_MAX_ID:] or "request",
            type=cast("RequestType", ask.type),
            data={**extra, **data} if with_extra else data,
            constraints=constraints or None,
        )
    except pydantic.ValidationError as error:
        raise InvalidDataError(faults_of(error)) from error


def empty_request(request_type: str) -> OptimizationRequest:
    """Return a request of a type with nothing in it."""
    return OptimizationRequest(id="request", type=cast("RequestType", request_type), data={})


def _decoded(ask: Ask) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    read = read_json if ask.data_format == "json" else read_json_or_yaml
    return (
        read(ask.data, "data"),
        read_json(ask.constraints, "constraints") if ask.constraints else {},
        read_json(ask.extra, "extra") if ask.extra else {},
    )
