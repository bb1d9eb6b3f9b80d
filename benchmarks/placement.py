"""10,000 tasks on 1,000 nodes: the solver, beside a plain Python loop over nodes on a sample of the tasks.

    python benchmarks/placement.py [--tasks 10000] [--nodes 1000] [--sample 300] [--runs 3]

The loop filters and scores one node at a time, on dictionaries, with the same filters; it keeps its own counts, so a
task costs it one pass over the nodes whatever was placed before. Its time is scaled from the sample to all tasks.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections import Counter
from typing import Any

from engine_ops.engine.contract import Budget, ignore_report
from engine_ops.engine.scheduling.checks import load
from engine_ops.engine.scheduling.placer import place_all
from engine_ops.engine.scheduling.problem import build
from engine_ops.engine.scheduling.rulebook import Rulebook
from engine_ops.engine.scheduling.search import given_order
from engine_ops.engine.scheduling.solver import SchedulingSolver
from engine_ops.engine.scheduling.state import State

HOST, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
Document = dict[str, Any]


def make_problem(tasks: int, nodes: int, *, rules: bool, preferences: bool) -> Document:
    """Make a cluster of 10 zones, a seventh of it tainted, and 200 applications in turn."""
    draw = random.Random(1)
    node_list = []
    for i in range(nodes):
        node: Document = {
            "id": f"node-{i:04}",
            "cpuLoad": draw.choice(("0", "500m", "1")),
            "memoryLoad": "1Gi",
            "capacity": {"cpu": draw.choice((32, 64)), "memory": "128Gi", "pods": 110},
            "labels": {HOST: f"node-{i:04}", ZONE: f"zone-{i % 10}", "disk": draw.choice(("ssd", "hdd"))},
        }
        if rules and i % 7 == 0:
            node["taints"] = [{"key": "dedicated", "value": "batch", "effect": "NoSchedule"}]
        node_list.append(node)
    task_list = []
    for i in range(tasks):
        task: Document = {
            "id": f"task-{i}",
            "cpuRequired": draw.choice(("250m", "500m", "1", "2")),
            "memoryRequired": draw.choice(("256Mi", "1Gi", "2Gi")),
        }
        if rules:
            task |= make_rules(i, preferences=preferences)
        task_list.append(task)
    return {"tasks": task_list, "nodes": node_list}


def make_rules(i: int, *, preferences: bool) -> Document:
    selector = {"matchLabels": {"app": f"app-{i % 200}"}}
    rules: Document = {"labels": dict(selector["matchLabels"])}
    if i % 2:
        rules["nodeSelector"] = {"disk": "ssd"}
    if i % 4 == 0:
        rules["tolerations"] = [{"key": "dedicated", "operator": "Exists"}]
    spread = {"maxSkew": 1, "topologyKey": ZONE, "labelSelector": selector}
    if i % 200 % 3 == 0:
        term = {"topologyKey": HOST, "labelSelector": selector}
        rules["affinity"] = {"podAntiAffinity": {REQUIRED: [term]}}
        if preferences:
            rules["affinity"]["podAntiAffinity"][PREFERRED] = [
                {"weight": 50, "podAffinityTerm": {"topologyKey": ZONE, "labelSelector": selector}}
            ]
    elif i % 200 % 3 == 1:
        rules["topologySpreadConstraints"] = [{**spread, "whenUnsatisfiable": "DoNotSchedule"}]
    elif preferences:
        rules["topologySpreadConstraints"] = [{**spread, "whenUnsatisfiable": "ScheduleAnyway"}]
    return rules


class Loop:
    """The peer: one node at a time, for the rules that `make_rules` makes, without preferences."""

    def __init__(self, problem: Document) -> None:
        compiled = build(load(problem, {})[0], problem)
        self.tasks = problem["tasks"]
        self.requests = [compiled.classes[number].requests for number in compiled.class_of]
        self.nodes = sorted(problem["nodes"], key=lambda node: node["id"])
        self.capacity = compiled.capacity.T.tolist()
        self.free = (compiled.capacity - compiled.load).T.tolist()
        self.places = compiled.places.tolist()
        self.counts: Counter[tuple[str, str, str]] = Counter()

    def place(self, number: int) -> int:
        """Place the next task, and return its node."""
        task, (cpu, memory) = self.tasks[number], self.requests[number]
        app = task.get("labels", {}).get("app", "")
        spread = "topologySpreadConstraints" in task
        floor = 0
        if spread:
            admitted = {n["labels"][ZONE] for n in self.nodes if self.selected(task, n)}
            floor = min(self.counts[ZONE, zone, app] for zone in admitted)
        best, best_score = -1, -1.0
        for i, node in enumerate(self.nodes):
            free_cpu, free_memory = self.free[i]
            if node.get("taints") and not task.get("tolerations"):
                continue
            if not self.selected(task, node):
                continue
            if self.places[i] < 1 or cpu > free_cpu or memory > free_memory:
                continue
            if spread and self.counts[ZONE, node["labels"][ZONE], app] + 1 - floor > 1:
                continue
            if "affinity" in task and self.counts[HOST, node["labels"][HOST], app]:
                continue
            score = ((free_cpu - cpu) / self.capacity[i][0] + (free_memory - memory) / self.capacity[i][1]) / 2
            if score > best_score + 1e-9:
                best, best_score = i, score
        if best >= 0:
            self.free[best][0] -= cpu
            self.free[best][1] -= memory
            self.places[best] -= 1
            for key in (HOST, ZONE):
                self.counts[key, self.nodes[best]["labels"][key], app] += 1
        return best

    @staticmethod
    def selected(task: Document, node: Document) -> bool:
        """Whether the nodeSelector admits the node."""
        wanted = task.get("nodeSelector")
        return not wanted or all(node["labels"].get(key) == value for key, value in wanted.items())


def measure(name: str, problem: Document, *, runs: int, sample: int) -> None:
    count = len(problem["tasks"])
    seconds, cpu_seconds = [], []
    for _ in range(runs):
        started, cpu_started = time.perf_counter(), time.process_time()
        answer = SchedulingSolver().solve(problem, {}, Budget.of(0), ignore_report)
        seconds.append(time.perf_counter() - started)
        cpu_seconds.append(time.process_time() - cpu_started)
    parts = []
    started = time.perf_counter()
    model, _ = load(problem, {})
    parts.append(f"checks {time.perf_counter() - started:.2f} s")
    started = time.perf_counter()
    compiled = build(model, problem)
    state = State(compiled, Rulebook(compiled))
    parts.append(f"compile {time.perf_counter() - started:.2f} s")
    started = time.perf_counter()
    placement = place_all(state, given_order(compiled), strategy="least-loaded")
    placing = time.perf_counter() - started
    parts.append(f"placing {placing:.2f} s, {placing / count * 1e6:.0f} us a task")
    total = statistics.median(seconds)
    used = statistics.median(cpu_seconds)
    print(f"{name}: {total:.2f} s (median of {runs}; CPU {used:.2f} s), {total / count * 1e6:.0f} us a task")
    print(f"  {'; '.join(parts)}")
    print(f"  placed {answer.result['placedCount']} of {count}, score {answer.score:.3f}")
    if sample and placement is not None:
        loop = Loop(problem)
        started = time.perf_counter()
        same = sum(loop.place(i) == placement.nodes[i] for i in range(min(sample, count)))
        each = (time.perf_counter() - started) / min(sample, count)
        print(
            f"  plain loop: {each * 1e6:.0f} us a task on the first {sample}, the same node for {same}; "
            f"scaled to {count}: {each * count:.1f} s, {each * count / placing:.0f} times the placing above"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--nodes", type=int, default=1_000)
    parser.add_argument("--sample", type=int, default=300, help="tasks for the plain loop")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    print(f"{options.tasks} tasks on {options.nodes} nodes; the target is 1 s")
    for name, rules, preferences in (
        ("plain", False, False),
        ("selectors, taints, anti-affinity, spread", True, False),
        ("the same with preferred anti-affinity and soft spread", True, True),
    ):
        problem = make_problem(options.tasks, options.nodes, rules=rules, preferences=preferences)
        measure(name, problem, runs=options.runs, sample=0 if preferences else options.sample)


if __name__ == "__main__":
    main()
