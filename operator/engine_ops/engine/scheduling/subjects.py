"""Tasks and nodes as the rules see them, without the arrays of a problem. Importing it loads no numpy."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from engine_ops.engine.scheduling.model import Task
from engine_ops.engine.scheduling.rules import Affinity, Toleration, TopologySpreadConstraint


class TaintLike(Protocol):
    """A taint, as a user wrote it or as a node has it."""

    @property
    def key(self) -> str:
        """Its name."""

    @property
    def value(self) -> str:
        """Its value."""

    @property
    def effect(self) -> str:
        """NoSchedule, PreferNoSchedule or NoExecute."""


class TaskRef(NamedTuple):
    """A task by its name; what it asks for is in its class."""

    id: str
    priority: int


class NodeRef(NamedTuple):
    """What the rules look at in a node."""

    id: str
    labels: Mapping[str, str]
    taints: Sequence[TaintLike] = ()
    unschedulable: bool = False


class Port(NamedTuple):
    """A port taken on the node; ``ip`` is ``0.0.0.0`` for all addresses."""

    ip: str
    protocol: str
    port: int


@dataclasses.dataclass(frozen=True, slots=True)
class Rules:
    """Where tasks of one kind may go, as it was written.

    Parameters
    ----------
    namespace
        Of the tasks; the same for all tasks that a user wrote.
    labels
        What the selectors of affinity and spread see.
    node_selector, affinity, tolerations, topology_spread_constraints
        As in a pod's spec.
    ports
        Taken on the node.
    terminating
        On its way out: topology spread does not count it.
    """

    namespace: str = ""
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    node_selector: Mapping[str, str] = dataclasses.field(default_factory=dict)
    affinity: Affinity | None = None
    tolerations: Sequence[Toleration] = ()
    topology_spread_constraints: Sequence[TopologySpreadConstraint] = ()
    ports: Sequence[Port] = ()
    terminating: bool = False

    @classmethod
    def of(cls, task: Task) -> Rules:
        """Return the rules of a task that a user wrote."""
        return cls(
            labels=task.labels,
            node_selector=task.node_selector,
            affinity=task.affinity,
            tolerations=task.tolerations,
            topology_spread_constraints=task.topology_spread_constraints,
        )


# Models take snake_case names too.
_RULE_FIELDS = (
    "labels", "nodeSelector", "affinity", "tolerations", "topologySpreadConstraints",
    "node_selector", "topology_spread_constraints",
)  # fmt: skip


def rules_key(written: Mapping[str, Any]) -> str:
    """Return a text that is the same for tasks with the same rules, from what the user wrote.

    Two spellings of one rule have two texts: that only makes two classes of it.
    """
    return repr([written.get(name) for name in _RULE_FIELDS])
