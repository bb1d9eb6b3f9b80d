"""A request as it is known before its outcome: the only thing that features are made of."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Self

from engine_ops.ml.data_point import WorkloadDataPoint
from engine_ops.ml.keys import key_of_workload, mapping_of
from engine_ops.ml.request_fields import amount_of, finite, request_fields

_OWN_KEYS: Final = frozenset(
    {"type", "requestType", "request_type", "timestamp", "namespace", "owner", "workload", "request", "requested"}
)
_INT64: Final = 2**63


class Request(NamedTuple):
    """What is known of a request when it is made.

    Parameters
    ----------
    timestamp
        Epoch milliseconds.
    type
        The request's type.
    workload
        ``namespace/kind/name`` of the workload that the answer is for, or None.
    owner
        The broader key: who asked, where the caller says so (``owner``), else the workload's namespace, else the
        request's own; None where none is known.
    fields
        Numeric and categorical fields of its data.
    requested
        Amounts that one pod of the workload asks for.
    """

    timestamp: int
    type: str
    workload: str | None
    owner: str | None
    fields: Mapping[str, float | str]
    requested: Mapping[str, float]

    @classmethod
    def of_point(cls, point: WorkloadDataPoint) -> Self:
        """Return the request behind a point. No outcome of the point is looked at."""
        return cls._of(point.timestamp, point.request_type, point.metadata, mapping_of(point.metadata, "request"))

    @classmethod
    def of_data(cls, data: Mapping[str, Any]) -> Self:
        """Return the request that ``data`` describes; see `WorkloadDataset.features`.

        Raises
        ------
        TypeError, ValueError
            If ``type`` is missing, or it or ``timestamp`` is of the wrong kind; the message names it.
        """
        if not isinstance(data, Mapping):
            raise TypeError(f"request_data must be a mapping, not {type(data).__name__}")
        kind = next((data[name] for name in ("type", "requestType", "request_type") if name in data), None)
        if not isinstance(kind, str):
            raise TypeError(f"request_data['type'] must be a string, not {type(kind).__name__}")
        timestamp = data.get("timestamp")
        if timestamp is None:
            timestamp = time.time_ns() // 1_000_000
        if isinstance(timestamp, bool) or not isinstance(timestamp, int | float):
            raise TypeError(f"request_data['timestamp'] must be epoch milliseconds, not {type(timestamp).__name__}")
        if not -_INT64 <= timestamp < _INT64:
            raise ValueError(f"request_data['timestamp'] must be epoch milliseconds of 64 bits, is {timestamp}")
        fields = data.get("request")
        if not isinstance(fields, Mapping):
            # A workload without a name is no reference: some types have a field of this name in their data.
            own = _OWN_KEYS if key_of_workload(mapping_of(data, "workload")) else _OWN_KEYS - {"workload"}
            fields = request_fields(kind, {key: value for key, value in data.items() if key not in own})
        return cls._of(int(timestamp), kind, data, fields)

    @classmethod
    def _of(cls, timestamp: int, kind: str, source: Mapping[Any, Any], fields: Mapping[Any, Any]) -> Self:
        workload = mapping_of(source, "workload")
        owners = (source.get("owner"), workload.get("namespace"), source.get("namespace"))
        values = {name: _value(value) for name, value in fields.items() if isinstance(name, str)}
        amounts = {name: amount_of(amount) for name, amount in mapping_of(source, "requested").items()}
        return cls(
            timestamp,
            kind,
            key_of_workload(workload),
            next((owner for owner in owners if isinstance(owner, str) and owner), None),
            {name: value for name, value in values.items() if value is not None},
            {name: amount for name, amount in amounts.items() if isinstance(name, str) and not math.isnan(amount)},
        )


def _value(value: Any) -> float | str | None:
    if isinstance(value, str):
        return value
    return finite(value) if isinstance(value, int | float) else None
