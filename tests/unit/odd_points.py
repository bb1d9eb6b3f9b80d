"""Points with all that a point may hold, for property tests."""

from __future__ import annotations

import struct
from typing import Any

from hypothesis import strategies as st

from engine_ops.ml.data_point import WorkloadDataPoint

# Every pattern of 64 bits is a float: NaNs with payloads, both zeros and infinities are among them.
any_float = st.floats() | st.integers(0, 2**64 - 1).map(lambda bits: struct.unpack("<d", struct.pack("<Q", bits))[0])
decimals = st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**6), max_value=10**6).map(float)
int64 = st.integers(-(2**63), 2**63 - 1)
moments = st.integers(1_700_000_000_000, 1_800_000_000_000)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
uuids = st.uuids().map(str)
keys = st.sampled_from(["cpu", "memory", "a.b", "a/b", "", "uid", "generation", "run", "namespace", "name"]) | text
scalars = st.none() | st.booleans() | int64 | moments | any_float | decimals | text | uuids
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=8,
)
identity = st.fixed_dictionaries({"uid": uuids | text, "generation": st.integers(0, 5), "run": st.integers(0, 5)})
metadata = st.dictionaries(keys, values, max_size=5) | st.builds(
    lambda known, rest: rest | known, identity, st.dictionaries(keys, values, max_size=3)
)
plain_points = st.builds(
    WorkloadDataPoint,
    int64 | moments,
    st.sampled_from(["resource", "scheduling", ""]) | text,
    st.dictionaries(keys, any_float | decimals, max_size=3),
    any_float | st.integers(0, 10**6).map(float),
    st.booleans(),
    metadata,
)
# Keys beside the known ones, as JSON of later versions may have them.
known = {"timestamp", "requestType", "request_type", "resourceUsage", "resource_usage", "duration", "success"}
points = plain_points | st.builds(
    lambda point, more: WorkloadDataPoint.from_dict(more | point.to_dict()),
    plain_points,
    st.dictionaries(keys.filter(lambda key: key not in known), values, max_size=2),
)


def exact(value: Any) -> Any:
    """The value with its kind, and floats by their bits: so 1 is not 1.0 and every NaN equals itself only."""
    if isinstance(value, dict):
        return {key: exact(item) for key, item in value.items()}
    if isinstance(value, list):
        return [exact(item) for item in value]
    if isinstance(value, float):
        return ("float", struct.pack("<d", value))
    return (type(value).__name__, value)
