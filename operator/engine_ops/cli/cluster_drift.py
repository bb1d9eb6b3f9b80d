"""An answer about a cluster, and the same cluster at a later moment: pods have come, gone, and been scheduled."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any, Final

import msgspec

from engine_ops.api.faults import Fault, InvalidDataError
from engine_ops.cli.cluster_question import ClusterQuestion
from engine_ops.engine.cluster.problem import placement_problem, repacking_problem
from engine_ops.engine.cluster.records import ClusterSnapshot, PodRow

RESULT: Final = "result"
"""How faults name the answer."""


@dataclasses.dataclass(frozen=True, slots=True)
class Fitted:
    """A question and an answer that fit together.

    Parameters
    ----------
    question
        About the cluster of the later moment, as far as the answer is about it.
    result
        The answer, without pods that are gone.
    note
        A sentence on what was left out; empty for nothing.
    """

    question: ClusterQuestion
    result: Mapping[str, Any]
    note: str = ""


def fit(question: ClusterQuestion, result: Mapping[str, Any]) -> Fitted:
    """Fit an older answer and a cluster together.

    Pods that came later are left out of the cluster, and pods that are gone out of the answer. Pods that the answer
    places, and that are on nodes by now, are taken off them.

    Parameters
    ----------
    question
        About the cluster as it is.
    result
        The whole answer.

    Raises
    ------
    InvalidDataError
        If the answer names a node that the cluster does not have.
    """
    _check_nodes(question.snapshot, result)
    if question.selection.workload is not None:
        return _fit_workload(question, result)
    if question.spec.data:
        return Fitted(question, result)
    return _fit_repacking(question, result) if "currentNodeCount" in result else _fit_placements(question, result)


def _check_nodes(snapshot: ClusterSnapshot, result: Mapping[str, Any]) -> None:
    named = [
        *(node["id"] for node in result.get("nodes", ())),
        *(item.get("nodeId") for item in result.get("placements", ())),
        result.get("nodeId"),
    ]
    there = {node.name for node in snapshot.nodes}
    lost = list(dict.fromkeys(name for name in named if name is not None and name not in there))
    if lost:
        more = f" and {len(lost) - 1:,} more of its nodes are" if len(lost) > 1 else " is"
        raise InvalidDataError([Fault(RESULT, f"node {lost[0]}{more} not in it")])


def _fit_workload(question: ClusterQuestion, result: Mapping[str, Any]) -> Fitted:
    """Have as many pods placed as the answer places, whatever the workload has by now."""
    workload = question.selection.workload
    then = len(result.get("placements", ()))
    if workload is None or workload.count == then:
        return Fitted(question, result)
    selection = question.selection.model_copy(update={"workload": workload.model_copy(update={"count": then})})
    note = f"{workload.name} lacked {then:,} pods when the answer was made, and lacks {workload.count:,} by now."
    return Fitted(dataclasses.replace(question, selection=selection), result, note)


def _fit_placements(question: ClusterQuestion, result: Mapping[str, Any]) -> Fitted:
    snapshot = question.snapshot
    placements = result.get("placements", ())
    asked = {item["taskId"] for item in placements}
    rows, bound = [], 0
    for row in snapshot.pods:
        if (row.node or row.terminating) and snapshot.pod_id(row) in asked:
            bound += bool(row.node)
            rows.append(msgspec.structs.replace(row, node="", terminating=False))
        else:
            rows.append(row)
    then = msgspec.structs.replace(snapshot, pods=rows)
    problem = placement_problem(then, question.selection)
    there = {task.id for task in problem.problem.tasks} | {item.id for item in problem.unmodelled}
    kept = [item for item in placements if item["taskId"] in there]
    return _fitted(
        question,
        _without(then, there - asked),
        {**result, "placements": kept},
        bound=bound,
        gone=len(asked - there),
        new=len(there - asked),
    )


def _fit_repacking(question: ClusterQuestion, result: Mapping[str, Any]) -> Fitted:
    snapshot = question.snapshot
    asked = {item["id"] for node in result["nodes"] for item in node["items"]}
    problem = repacking_problem(snapshot, question.selection)
    new = {task.id for task in problem.problem.tasks} - asked
    there = {snapshot.pod_id(row) for row in snapshot.pods if row.node}
    return _fitted(question, _without(snapshot, new), result, bound=0, gone=len(asked - there), new=len(new))


def _without(snapshot: ClusterSnapshot, pods: Collection[str]) -> ClusterSnapshot:
    if not pods:
        return snapshot
    kept: list[PodRow] = [row for row in snapshot.pods if snapshot.pod_id(row) not in pods]
    return msgspec.structs.replace(snapshot, pods=kept)


def _fitted(
    question: ClusterQuestion,
    snapshot: ClusterSnapshot,
    result: Mapping[str, Any],
    *,
    bound: int,
    gone: int,
    new: int,
) -> Fitted:
    parts = []
    if bound:
        parts.append(f"{bound:,} of its pods {_are(bound)} on nodes by now, and taken off them here")
    if gone:
        parts.append(f"{gone:,} {_are(gone)} gone and left out")
    if new:
        parts.append(f"{new:,} came since and {_are(new)} left out")
    note = f"Since the answer: {'; '.join(parts)}." if parts else ""
    return Fitted(dataclasses.replace(question, snapshot=snapshot), result, note)


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
