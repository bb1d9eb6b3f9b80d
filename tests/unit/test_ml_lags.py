"""Lags that were kept up with a history are those of the history."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine_ops.ml import lag_series
from engine_ops.ml.data_point import WorkloadDataPoint
from engine_ops.ml.lags import Key, Lag, Lags, keys_of
from engine_ops.ml.request import Request

OUTCOMES = ("success", "duration", "usage:cpu", "usage:memory")

relaxed = settings(max_examples=80)


def point(
    timestamp: int,
    duration: float = 1.0,
    *,
    success: bool = True,
    name: str = "a",
    closed_at: float | None = None,
    usage: dict[str, float] | None = None,
    state: str = "succeeded",
) -> WorkloadDataPoint:
    metadata: dict[str, Any] = {"workload": {"name": name, "namespace": "shop"}, "outcome": {"state": state}}
    if closed_at is not None:
        metadata["outcome"]["closedAt"] = closed_at
    return WorkloadDataPoint(timestamp, "resource", usage or {}, duration, success, metadata)


# Few instants and few workloads: ties, and outcomes that are known in another order than they come in.
instants = st.integers(0, 12)
amounts = st.floats(0, 100) | st.sampled_from([0.0, -0.0, 1e300])
points = st.builds(
    point,
    instants,
    amounts | st.just(math.nan),
    success=st.booleans(),
    name=st.sampled_from(["a", "b"]),
    closed_at=st.none() | instants.map(float),
    usage=st.dictionaries(st.sampled_from(["cpu", "memory"]), amounts, max_size=2),
    state=st.sampled_from(["succeeded", "failed", "unknown"]),
)


def everything(lags: Lags, keys: Iterable[Key]) -> dict[tuple[float, Key, str], Lag]:
    moments = (*range(0, 15, 2), 1e301)
    return {where: lags.at(*where) for where in product(moments, keys, OUTCOMES)}


def keys(points: Iterable[WorkloadDataPoint]) -> set[Key]:
    return {key for each in points for key in keys_of(Request.of_point(each)).values()}


def same(left: Any, right: Any) -> None:
    # As texts, NaN is NaN, and one number another only where all digits are the same.
    assert repr(left) == repr(right)


@pytest.mark.parametrize("few", [0, 3, 1_000], ids=["series", "mixed", "no series"])
@relaxed
@given(st.lists(st.lists(points, max_size=6), max_size=5), st.booleans())
def test_extended_lags_are_the_lags_of_all(few: int, batches: list[list[WorkloadDataPoint]], ask: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lag_series, "_FEW", few)
        lags = Lags(())
        so_far: list[WorkloadDataPoint] = []
        for batch in batches:
            lags.extend(batch)
            so_far += batch
            if ask:
                everything(lags, keys(so_far))
        same(everything(lags, keys(so_far)), everything(Lags(so_far), keys(so_far)))


steps = st.lists(st.tuples(st.lists(points, max_size=6), st.integers(0, 6), st.booleans()), max_size=8)


@pytest.mark.parametrize(("few", "least_moved"), [(0, 1), (3, 3), (1_000, 64)])
@relaxed
@given(steps)
def test_forgotten_points_are_as_if_they_had_never_been(
    few: int, least_moved: int, steps: list[tuple[list[WorkloadDataPoint], int, bool]]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lag_series, "_FEW", few)
        patch.setattr(lag_series, "_LEAST_MOVED", least_moved)
        lags = Lags(())
        seen: list[WorkloadDataPoint] = []
        left: list[WorkloadDataPoint] = []
        for new, gone, ask in steps:
            lags.extend(new)
            seen += new
            left = (left + new)[gone:]
            lags.forget(gone)
            if ask:
                everything(lags, keys(seen))
        same(everything(lags, keys(seen)), everything(Lags(left), keys(seen)))
    lags.forget(len(left) + 1)
    assert not lags._entries
    assert not lags._groups, "something is kept of what is gone"


@pytest.mark.parametrize("disorder", [0, 40])
def test_what_was_forgotten_fades_from_long_series(disorder: int) -> None:
    """Levels are not worked out anew where what was removed weighs less than their rounding."""
    count, ring = 2_000, 900
    made = [
        point(0, float((n * 7_919) % 100_003), closed_at=float(n + (n * 31) % (disorder + 1))) for n in range(count)
    ]
    lags = Lags(made[:ring])
    for start in range(0, count - ring, 10):
        lags.extend(made[ring + start : ring + start + 10])
        lags.forget(10)
        ours = lags.at(1e9, ("type", "resource"), "duration")
        fresh = Lags(made[start + 10 : ring + start + 10]).at(1e9, ("type", "resource"), "duration")
        assert ours._replace(level=0) == fresh._replace(level=0)
        assert ours.level == pytest.approx(fresh.level, rel=1e-12)
    for instant in (count - ring + 50.0, count - ring + 300.0, count - 300.0):  # among few values it is exact
        fresh_lags = Lags(made[count - ring :])
        ours, fresh = (each.at(instant, ("type", "resource"), "duration") for each in (lags, fresh_lags))
        assert ours._replace(level=0) == fresh._replace(level=0)
        assert ours.level == pytest.approx(fresh.level, rel=1e-12)


def test_a_value_without_a_logarithm_is_forgotten_with_its_point() -> None:
    made = [point(0, -2.0, closed_at=0.0), *(point(0, 5.0, closed_at=float(n)) for n in range(1, 800))]
    lags = Lags(made)
    assert math.isnan(lags.at(1e9, ("type", "resource"), "duration").level)
    lags.forget(1)
    assert lags.at(1e9, ("type", "resource"), "duration").level == pytest.approx(5.0)


def test_a_point_that_fails_leaves_the_lags_as_they_were() -> None:
    made = [point(n) for n in range(5)]
    lags = Lags(made)
    broken: Sequence[Any] = [point(9), object()]
    with pytest.raises(AttributeError):
        lags.extend(broken)
    same(everything(lags, keys(made)), everything(Lags(made), keys(made)))
    lags.extend([point(9)])
    same(everything(lags, keys(made)), everything(Lags([*made, point(9)]), keys(made)))
