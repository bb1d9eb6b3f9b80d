"""The plugins that the operator is measured with: they must be served, or the built-in is measured twice."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine_ops import OptimizationRequest
from engine_ops.engine.contract import Answer, Budget, ignore_report
from engine_ops.engine.solvers import solver_for
from engine_ops.plugins.base import BaseOptimizationPlugin
from engine_ops.plugins.judging import judge
from engine_ops.plugins.packing_answers import PackingChecker

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
sys.path.append(str(Path(__file__).parents[2] / "benchmarks" / "plugins"))
from load_plugins import Advises, Packs, amounts, first_fit_decreasing

from lib.questions import small

CAPACITY = {"cpu": "4", "memory": "8Gi", "pods": 5}
ITEM = st.fixed_dictionaries(
    {
        "cpu": st.sampled_from(["100m", 1, "1500m", 0.3, "4"]),
        "memory": st.sampled_from(["1Gi", "700Mi", 1e9]),
        "count": st.integers(1, 6),
    }
)


@pytest.mark.parametrize(("plugin", "role"), [(Packs(), "answer"), (Advises(), "advice")])
def test_what_they_say_to_the_load_is_served(plugin: BaseOptimizationPlugin, role: str) -> None:
    data = msgspec.json.decode(small("a"))["spec"]["data"]
    said = plugin.optimize(OptimizationRequest(id="a", type="resource", data=data))

    def solve() -> Answer:
        return solver_for("resource").solve(data, {}, Budget.of(0), ignore_report)

    judged = judge("resource", data, {}, said.result, solve, plugin="p")
    assert (judged.role, judged.no) == (role, "")
    assert judged.answer.objective == solve().objective


@given(items=st.lists(ITEM, min_size=1, max_size=8))
def test_the_packer_places_all_within_every_limit(items: list[dict[str, Any]]) -> None:
    named = [{"id": f"i{number}", **item} for number, item in enumerate(items)]
    nodes = first_fit_decreasing(named, amounts(CAPACITY))
    checker = PackingChecker.of({"items": named, "nodeCapacity": CAPACITY}, {})
    checked = checker.check({"nodes": nodes}, "packs")  # raises where a node is too full
    assert checked.answer.complete
