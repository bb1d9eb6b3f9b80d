"""The published allocation experiment: arrivals, the check GPU by GPU, and a short run of every policy."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
from openb.arrivals import allocation, arrivals, gpu_milli_of, read_published
from openb.experiment import BEST_FIT, STRATEGIES, run, table, verdicts
from openb.trace import NODE_FILE, TraceNode, TracePod, read_nodes, read_pods
from openb.verify_gpus import check_gpus

DATA = Path(__file__).parents[3] / "shared" / "data" / "openb"
NODES = [TraceNode("a", 8000, 1024, 2, "T4"), TraceNode("b", 8000, 1024, 1, "V100")]
PODS = [
    TracePod("0", 1000, 64, 1, 600, frozenset()),
    TracePod("1", 1000, 64, 1, 600, frozenset({"T4"})),
    TracePod("2", 1000, 64, 1, 1000, frozenset()),
]


def placed(*entries: tuple[str, str, list[int]]) -> dict[str, Any]:
    return {"placements": [{"taskId": pod, "nodeId": node, "devices": gpus} for pod, node, gpus in entries]}


def test_arrivals_ask_for_so_much_and_differ_by_seed() -> None:
    stream = arrivals(NODES, PODS, seed=1, load=3.0)
    assert sorted(pod.gpu_milli for pod in stream[:3]) == [600, 600, 1000]
    assert 3.0 * gpu_milli_of(NODES) - 1000 < sum(pod.gpu_milli_total for pod in stream) <= 3.0 * gpu_milli_of(NODES)
    assert len({pod.name for pod in stream}) == len(stream)
    assert stream == arrivals(NODES, PODS, seed=1, load=3.0)
    assert stream != arrivals(NODES, PODS, seed=2, load=3.0)


def test_allocation_is_read_when_all_gpus_are_asked_for() -> None:
    whole = TracePod("", 0, 0, 1, 1000, frozenset())
    reached = allocation(NODES, [whole] * 6, [True, False, True, False, False, True])
    assert reached.at_100 == pytest.approx(200 / 3)
    assert reached.at_end == 100.0


def test_a_good_placement_has_no_faults() -> None:
    assert check_gpus(placed(("0", "b", [0]), ("1", "a", [0]), ("2", "a", [1])), NODES, PODS) == []


@pytest.mark.parametrize(
    ("result", "fault"),
    [
        (placed(("0", "a", [0]), ("1", "a", [0]), ("2", "b", [0])), "1: GPU 0 of a is 200 thousandths over"),
        (placed(("0", "a", [1]), ("1", "b", [0]), ("2", "a", [0])), "1: on b with V100, allowed ['T4']"),
        (placed(("0", "a", [1]), ("1", "a", [0]), ("2", "b", [1])), "2: b has no GPU 1"),
        (placed(("0", "a", [1]), ("1", "a", [0]), ("2", "b", [])), "2: has GPUs [] on b, asks for 1"),
        (placed(("0", "a", [1]), ("1", "a", [0])), "2: no placement"),
        (placed(("0", "a", [1]), ("1", "a", [0]), ("2", "c", [0])), "2: there is no node c"),
        (placed(("0", "a", [1]), ("1", "a", [0]), ("2", "b", [0]), ("2", "b", [0])), "2: unknown, or told of twice"),
    ],
)
def test_the_check_finds_what_is_wrong(result: dict[str, Any], fault: str) -> None:
    assert check_gpus(result, NODES, PODS) == [fault]


def test_the_check_counts_cpu_and_memory() -> None:
    pods = [TracePod("0", 9000, 2000, 0, 0, frozenset())]
    result = {"placements": [{"taskId": "0", "nodeId": "a"}]}
    assert check_gpus(result, NODES, pods) == ["0: a is 1000 over its CPU", "0: a is 976 over its memory"]


@pytest.mark.parametrize("policy", [BEST_FIT, *STRATEGIES])
def test_a_short_run_on_the_recorded_cluster(policy: str) -> None:
    if not (DATA / NODE_FILE).exists():
        pytest.skip(f"there is no {DATA}")
    nodes, pods = read_nodes(DATA)[::40], read_pods(DATA, "gpuspec10")[::30]
    done = run(nodes, pods, "gpuspec10", policy, seed=42)
    assert done.faults == ()
    assert 0 < done.reached.at_100 <= done.reached.at_end <= 100
    published = read_published(DATA)
    text = table([done], published, "gpuspec10")
    assert all(name in text for name in (policy, "measured", "published", "FGD", "GpuPacking"))
    assert bool(verdicts([done], published, "gpuspec10")) == (policy in {BEST_FIT, "fragmentation-aware"})
