"""What `engine-ops explain` looks at closely: single pods and nodes, by names that users type."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

from engine_ops.api.faults import Fault, InvalidDataError
from engine_ops.cli.cluster_question import ClusterQuestion
from engine_ops.engine.contract import Explanation, Solver

MAX_MATCHES = 3
"""Names that are offered in place of one that is not there."""


@dataclasses.dataclass(frozen=True, slots=True)
class Focus:
    """Pods (or tasks) and nodes to be explained, each by itself; none for the whole answer.

    Parameters
    ----------
    pods
        ``namespace/name``, or the name where only one pod has it.
    nodes
        Names.
    """

    pods: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether it is the answer as a whole."""
        return not (self.pods or self.nodes)


@runtime_checkable
class _LooksClosely(Protocol):
    """A solver that explains single tasks and nodes."""

    def explain_task(
        self, data: Mapping[str, Any], constraints: Mapping[str, Any], result: Mapping[str, Any], task_id: str
    ) -> Explanation: ...

    def explain_node(
        self, data: Mapping[str, Any], constraints: Mapping[str, Any], result: Mapping[str, Any], node_id: str
    ) -> Explanation: ...


def explanations(
    solver: Solver,
    data: Mapping[str, Any],
    constraints: Mapping[str, Any],
    result: Mapping[str, Any],
    question: ClusterQuestion | None,
    focus: Focus,
) -> list[Explanation]:
    """Explain an answer as a whole, or what is in focus.

    Parameters
    ----------
    solver, data, constraints, result
        See `engine_ops.engine.contract.Solver.explain`.
    question
        If the data is a cluster.
    focus
        What to explain.

    Raises
    ------
    InvalidDataError
        If something in focus is not there, with names that are like it, or if the answer is wrong.
    """
    if focus.whole:
        return [solver.explain(data, constraints, result)]
    if not isinstance(solver, _LooksClosely):
        option = "--pod" if focus.pods else "--node"
        raise InvalidDataError([Fault(option, "is for type scheduling, and for questions about a cluster")])
    pods, nodes = _known(question, data, result)
    faults: list[Fault] = []
    chosen_pods = list(_resolved(focus.pods, pods, "--pod", faults))
    chosen_nodes = list(_resolved(focus.nodes, nodes, "--node", faults))
    if faults:
        raise InvalidDataError(faults)
    return [
        *(solver.explain_task(data, constraints, result, name) for name in chosen_pods),
        *(solver.explain_node(data, constraints, result, name) for name in chosen_nodes),
    ]


def _known(
    question: ClusterQuestion | None, data: Mapping[str, Any], result: Mapping[str, Any]
) -> tuple[dict[str, None], dict[str, None]]:
    """Return the names of pods (or tasks) and of nodes that can be asked for, each in order."""
    if question is None:
        tasks = [*data.get("tasks", ()), *([data["task"]] if "task" in data else ())]
        return dict.fromkeys(task["id"] for task in tasks), dict.fromkeys(node["id"] for node in data.get("nodes", ()))
    snapshot = question.snapshot
    pods = dict.fromkeys(snapshot.pod_id(row) for row in snapshot.pods)
    pods |= dict.fromkeys(question.new_pods)
    pods |= dict.fromkeys(item["taskId"] for item in result.get("placements", ()))
    return pods, dict.fromkeys(node.name for node in snapshot.nodes)


def _resolved(names: Collection[str], known: Collection[str], option: str, faults: list[Fault]) -> Iterator[str]:
    for name in names:
        found = name if name in known else _the_one_called(name, known)
        if found is None:
            faults.append(Fault(option, _unknown(name, known, "pod or task" if option == "--pod" else "node")))
        else:
            yield found


def _the_one_called(name: str, known: Collection[str]) -> str | None:
    """Return the only pod of any namespace that has a name, if there is one."""
    ending = f"/{name}"
    found = [candidate for candidate in known if candidate.endswith(ending)]
    return found[0] if len(found) == 1 else None


def _unknown(name: str, known: Collection[str], kind: str) -> str:
    ending = f"/{name}"
    matches = [candidate for candidate in known if candidate.endswith(ending)]
    if not matches:
        # Names without their namespaces too: it is what people leave out, or get wrong.
        bare: dict[str, str] = {candidate.rpartition("/")[2]: candidate for candidate in known}
        near = difflib.get_close_matches(name, known, MAX_MATCHES)
        near += [bare[close] for close in difflib.get_close_matches(name.rpartition("/")[2], bare, MAX_MATCHES)]
        matches = list(dict.fromkeys(near))
    if not matches:
        return f"there is no {kind} {name}"
    more = len(matches) - MAX_MATCHES
    listed = ", ".join(matches[:MAX_MATCHES]) + (f" or {more} more" if more > 0 else "")
    return f"there is no {kind} {name}; did you mean {listed}?"
