"""Why a repacking is as it is: by type of node, for one node, for one pod."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engine_ops.api.faults import Fault, InvalidDataError
from engine_ops.api.quantity import format_bytes, format_cpu
from engine_ops.engine.cluster.repack_answer import RepackContext
from engine_ops.engine.cluster.repack_arrangement import Arrangement
from engine_ops.engine.cluster.repack_bound import lower_bound
from engine_ops.engine.cluster.repack_devices import devices_there
from engine_ops.engine.cluster.repack_wording import plural
from engine_ops.engine.contract import Explanation
from engine_ops.engine.scheduling.devices import Devices
from engine_ops.engine.scheduling.problem import BoolArray, IntArray
from engine_ops.engine.scheduling.state import State
from engine_ops.engine.scheduling.wording import count_list, reasons_by_node, removed_counts
from engine_ops.engine.units import base_amount, scale_of

_NONE = "-"
_DEVICES_TAKEN = "its devices are overcommitted, or taken"
_BINDS_FROM = 0.05
"""A resource binds where less than this share of it is free."""


def explain_all(context: RepackContext, state: State, result: Mapping[str, Any]) -> Explanation:
    """Return a row for each type of node: how many are in use now and after, how full, and what is short.

    Raises
    ------
    InvalidDataError
        If the result does not belong to the cluster, or is a summary.
    """
    question, problem = context.question, context.cluster.problem
    node_of = nodes_in_result(context, result)
    now, after = question.in_use(question.home), question.in_use(node_of)
    free = context.free(node_of)
    of_type: dict[str, list[int]] = {}
    for node in range(len(problem.nodes)):
        if problem.closed is None or not problem.closed[node]:
            of_type.setdefault(context.type_of(node), []).append(node)
    rows = []
    for name in sorted(of_type):
        nodes = of_type[name]
        used = [node for node in nodes if after[node]]
        shares = _taken(context, free, used)
        rows.append(
            (
                name,
                str(len(nodes)),
                str(int(now[nodes].sum())),
                str(len(used)),
                *(_percent(shares.get(resource)) for resource in problem.resources[:2]),
                _binds(shares),
            )
        )
    bound = lower_bound(question, state)
    count, current = int(after.sum()), int(now.sum())
    moves = sum(node != home for node, home in zip(node_of, question.home, strict=True))
    staying = f"{plural(len(problem.fixed), 'pod')} {'stays' if len(problem.fixed) == 1 else 'stay'}"
    notes = [
        f"{moves:,} of {plural(len(node_of), 'pod')} that may move {'does' if moves == 1 else 'do'}; {staying} in any "
        f"case, and {'holds' if len(problem.fixed) == 1 else 'hold'} {plural(int(question.held.sum()), 'node')}.",
        f"At least {plural(bound.nodes, 'node')} whatever moves: {bound.basis}.",
        f"The answer has {count}: no answer is better."
        if count == bound.nodes
        else f"The answer has {count}: {count - bound.nodes} above the bound.",
    ]
    return Explanation(
        title=f"repacking: {count:,} of {plural(current, 'node')} in use would do",
        headers=("TYPE", "NODES", "IN-USE", "AFTER", "CPU-AFTER", "MEMORY-AFTER", "FULLEST"),
        rows=rows,
        notes=notes,
    )


def explain_one_node(context: RepackContext, state: State, result: Mapping[str, Any], name: str) -> Explanation:
    """Return a row for each pod that is on a node before or after.

    Raises
    ------
    InvalidDataError
        If there is no such node, or the result does not belong to the cluster.
    """
    snapshot, question = context.snapshot, context.question
    names = context.cluster.node_names
    if name not in names:
        raise InvalidDataError([Fault("node", f"there is no node {name!r} in the cluster")])
    node = names.index(name)
    node_of = nodes_in_result(context, result)
    before, after = context.pods_on(question.home)[node], context.pods_on(node_of)[node]
    tasks = {row: task for task, row in enumerate(context.cluster.task_rows)}
    rows = []
    for row in sorted({*before, *after}):
        kind = snapshot.kinds[snapshot.pods[row].kind]
        task = tasks.get(row)
        if task is None:
            what = _why_fixed(context, row)
        elif question.home[task] != node:
            what = f"comes from {names[question.home[task]]}"
        elif node_of[task] != node:
            what = f"goes to {names[node_of[task]]}"
        else:
            what = "stays, though it may move"
        requests = (kind.requests.get("cpu", 0), kind.requests.get("memory", 0))
        rows.append(
            (
                snapshot.pod_id(snapshot.pods[row]),
                "yes" if row in before else _NONE,
                "yes" if row in after else _NONE,
                *(_amount(resource, units) for resource, units in zip(("cpu", "memory"), requests, strict=True)),
                what,
            )
        )
    in_use = ["in use" if question.in_use(where)[node] else "empty" for where in (question.home, node_of)]
    notes = [f"Free before: {_free(context, question.home, node)}.", f"Free after: {_free(context, node_of, node)}."]
    closed = context.cluster.problem.closed
    if closed is not None and closed[node]:
        notes.append("The request leaves this node out: its pods stay, and no others come.")
    elif snapshot.nodes[node].unschedulable:
        notes.append("The node is cordoned: nothing is moved there.")
    if question.held[node]:
        notes.append("It is in use in any case, for a pod that stays.")
    del state
    return Explanation(
        title=f"node {name} ({context.type_of(node)}): {in_use[0]} before, {in_use[1]} after",
        headers=("POD", "BEFORE", "AFTER", "CPU", "MEMORY", "WHY"),
        rows=rows,
        notes=notes,
    )


def explain_one_task(context: RepackContext, state: State, result: Mapping[str, Any], name: str) -> Explanation:
    """Return a row for each node: can it hold the pod while all others are where the answer has them, and why not.

    Raises
    ------
    InvalidDataError
        If no such pod is on a node, or the result does not belong to the cluster.
    """
    snapshot, cluster, question = context.snapshot, context.cluster, context.question
    node_of = nodes_in_result(context, result)
    names = cluster.node_names
    task = next((place for place, ref in enumerate(cluster.problem.tasks) if ref.id == name), None)
    if task is None:
        for row, (_, node) in zip(cluster.fixed_rows, cluster.problem.fixed, strict=True):
            if snapshot.pod_id(snapshot.pods[row]) == name:
                return Explanation(
                    title=f"pod {name}: stays on node {names[node]}",
                    headers=("NODE", "WHY"),
                    rows=[(names[node], _why_fixed(context, row))],
                )
        raise InvalidDataError([Fault("task", f"there is no pod {name!r} on a node of the cluster")])
    after = question.in_use(node_of)
    arrangement = Arrangement(question, state, node_of, _devices_in_result(context, result, node_of))
    arrangement.lift(task)
    task_class = cluster.problem.classes[cluster.problem.class_of[task]]
    feasible = arrangement.feasible(task)
    reasons = reasons_by_node(state, task_class)
    receivers = question.receivers()
    for node in (state.feasible(task_class) & ~feasible).nonzero()[0].tolist():
        reasons[node] = [_DEVICES_TAKEN if receivers[node] else "cordoned: tolerated, but nothing is moved there"]
    home, there = question.home[task], node_of[task]
    rows = [
        _task_row(names[node], node, feasible, after, reasons[node], home=home, there=there)
        for node in sorted(range(len(names)), key=lambda node: (node != there, node != home, not feasible[node], node))
    ]
    moved = f"goes from node {names[home]} to {names[there]}" if there != home else f"stays on node {names[home]}"
    notes = [
        f"{int(feasible.sum()):,} of {plural(len(names), 'node')} could take it, {int((feasible & after).sum()):,} of "
        "them in use.",
        "* is where the answer has it; all other pods are where the answer has them, too.",
    ]
    removed = count_list(removed_counts(state, task_class))
    if removed:
        notes.append(f"The others: {removed}.")
    return Explanation(
        title=f"pod {name}: {moved}", headers=("NODE", "IN-USE", "FEASIBLE", "WHY"), rows=rows, notes=notes
    )


def _task_row(
    name: str, node: int, feasible: BoolArray, after: BoolArray, reasons: Sequence[str], *, home: int, there: int
) -> tuple[str, ...]:
    why = ", ".join(reasons)
    if node == home:
        why = f"it is there now{'; anew: ' + why if why else ''}"
    elif not why and not after[node]:
        why = "would be empty"
    return (
        name + ("*" if node == there else ""),
        "yes" if after[node] else "no",
        "yes" if feasible[node] else "no",
        why or _NONE,
    )


def nodes_in_result(context: RepackContext, result: Mapping[str, Any]) -> list[int]:
    """Return the node of each task in a result.

    Raises
    ------
    InvalidDataError
        If the result does not belong to the cluster, or is a summary.
    """
    index = {name: number for number, name in enumerate(context.cluster.node_names)}
    tasks = {ref.id: number for number, ref in enumerate(context.cluster.problem.tasks)}
    node_of = [-1] * len(tasks)
    try:
        for place, node in enumerate(result["nodes"]):
            number = index.get(node["id"])
            if number is None:
                raise _foreign(f"result.nodes[{place}].id", f"{node['id']!r} is no node of the cluster")
            for item in node["items"]:
                task = tasks.get(item["id"])
                if task is not None:
                    node_of[task] = number
    except (KeyError, TypeError) as error:
        raise _foreign("result", "not the whole result of a repacking") from error
    missing = [ref.id for ref, node in zip(context.cluster.problem.tasks, node_of, strict=True) if node < 0]
    if missing:
        raise _foreign("result.nodes", f"{plural(len(missing), 'pod')} on none, such as {missing[0]!r}")
    return node_of


def _devices_in_result(context: RepackContext, result: Mapping[str, Any], node_of: Sequence[int]) -> list[Devices]:
    """Return the devices of each task in a result; those of tasks at home are known."""
    problem, home = context.cluster.problem, context.question.home
    devices = list(context.question.devices.of_task)
    if not any(devices):
        return devices
    named = {item["id"]: item.get("devices", ()) for node in result["nodes"] for item in node["items"]}
    for task, ref in enumerate(problem.tasks):
        if not devices[task] or node_of[task] == home[task]:
            continue
        found = named[ref.id]
        task_class = problem.classes[problem.class_of[task]]
        if (
            len(found) != len(devices[task])
            or not all(isinstance(device, int) and device >= 0 for device in found)
            or devices_there(problem, task_class, node_of[task], tuple(found)) != list(found)
        ):
            raise _foreign("result.nodes", f"pod {ref.id!r} has not the devices that it needs")
        devices[task] = tuple(found)
    return devices


def _foreign(path: str, message: str) -> InvalidDataError:
    return InvalidDataError([Fault(path, f"{message}: the result does not belong to this cluster")])


def _why_fixed(context: RepackContext, row: int) -> str:
    pod = context.snapshot.pods[row]
    kind = context.snapshot.kinds[pod.kind]
    closed = context.cluster.problem.closed
    if kind.daemon:
        return "stays: a DaemonSet's pod belongs to its node"
    if kind.static:
        return "stays: a static pod belongs to its node"
    if pod.terminating:
        return "stays: it is terminating"
    if kind.not_modelled:
        return f"stays: not modelled: {', '.join(kind.not_modelled)}"
    if closed is not None and bool(closed[context.cluster.node_names.index(pod.node)]):
        return "stays: the request leaves its node out"
    return "stays: the request does not select it, or not all of it is modelled"


def _taken(context: RepackContext, free: IntArray, nodes: Sequence[int]) -> dict[str, float]:
    """Return the share of each resource, and of the places for pods, that is taken on some nodes together."""
    problem = context.cluster.problem
    if not nodes:
        return {}
    shares = {}
    for place, resource in enumerate(problem.resources):
        offered = sum(problem.capacity[place, nodes].tolist())
        if offered:
            shares[resource] = 1.0 - sum(free[place, nodes].tolist()) / offered
    return shares


def _binds(shares: Mapping[str, float]) -> str:
    if not shares:
        return _NONE
    full = [name for name, share in shares.items() if share > 1.0 - _BINDS_FROM]
    chosen = full or [max(shares, key=lambda name: shares[name])]
    return ", ".join(f"{name} {100 * shares[name]:.0f} %" for name in chosen)


def _percent(share: float | None) -> str:
    return _NONE if share is None else f"{100 * share:.0f} %"


def _free(context: RepackContext, node_of: Sequence[int], node: int) -> str:
    free = context.free(node_of)[:, node].tolist()
    amounts = zip(context.cluster.problem.resources, free, strict=True)
    return ", ".join(f"{name} {_amount(name, units)}" for name, units in amounts)


def _amount(resource: str, units: int) -> str:
    sign, units = ("-", -units) if units < 0 else ("", units)
    if resource == "cpu":
        return sign + format_cpu(units / 1000)
    if scale_of(resource) == 1:
        return sign + format_bytes(units)
    return f"{sign}{base_amount(resource, units):g}"
