"""Tasks that are no pods of the cluster: those that a request gives itself, and those that a workload lacks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from engine_ops.api.faults import Fault, InvalidDataError
from engine_ops.engine.cluster.decode import RecordDecoder, UndecodableObjectError
from engine_ops.engine.cluster.live_rules import read_rules
from engine_ops.engine.cluster.problem import GivenTask, Unmodelled
from engine_ops.engine.cluster.selection import WorkloadPods
from engine_ops.engine.scheduling.model import Task
from engine_ops.engine.scheduling.subjects import Port, Rules, TaskRef, rules_key


def given_tasks(tasks: Sequence[Task], written: Sequence[Mapping[str, Any]], namespace: str) -> list[GivenTask]:
    """Return tasks that a user wrote. Like tasks share their rules.

    Parameters
    ----------
    tasks
        The checked models.
    written
        What they were made from: equal rules are found by comparing what the user wrote.
    namespace
        Where they count.
    """
    known: dict[str, Rules] = {}
    given = []
    for task, fields in zip(tasks, written, strict=True):
        key = rules_key(fields)
        rules = known.get(key)
        if rules is None:
            rules = known[key] = dataclasses.replace(Rules.of(task), namespace=namespace)
        given.append(GivenTask.of_task(task, rules))
    return given


def workload_tasks(workload: WorkloadPods) -> tuple[list[GivenTask], list[Unmodelled]]:
    """Return the pods that a workload is to have beyond those on nodes, and those of them that cannot be placed.

    Raises
    ------
    InvalidDataError
        If the template is no pod.
    """
    try:
        record = RecordDecoder().pod(msgspec.json.encode(workload.pod))
    except UndecodableObjectError as error:
        raise InvalidDataError([Fault("spec.dataFrom.cluster.workload", f"its template is no pod: {error}")]) from error
    names = [f"{workload.name}-new-{number + 1}" for number in range(workload.count)]
    if record is None:
        raise InvalidDataError([Fault("spec.dataFrom.cluster.workload", "its template is a pod that has ended")])
    kind = record.kind
    read = read_rules(kind.rules)
    features = tuple(sorted({*kind.not_modelled, *read.unread}))
    if features:
        return [], [Unmodelled(name, features) for name in names]
    rules = Rules(
        namespace=kind.namespace,
        labels=kind.labels,
        node_selector=read.node_selector,
        affinity=read.affinity,
        tolerations=read.tolerations,
        topology_spread_constraints=read.topology_spread_constraints,
        ports=[Port(port.ip, port.protocol, port.port) for port in kind.host_ports],
    )
    return [GivenTask(TaskRef(name, kind.priority), kind.requests, rules) for name in names], []
