"""The cluster while pods are moved about: where each one is, under all filters, and the way back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from engine_ops.engine.cluster.repack_devices import holds, parts_of
from engine_ops.engine.cluster.repack_question import RepackQuestion
from engine_ops.engine.scheduling.devices import Devices
from engine_ops.engine.scheduling.problem import BoolArray, FloatArray
from engine_ops.engine.scheduling.state import State

NOWHERE = -1
"""The node of a task that is lifted."""


class Arrangement:
    """Every task on a node.

    A task at home has the devices that it always had. A task elsewhere has devices that can hold it, and no node takes
    a task that asks for devices while one of these is overcommitted: so no node gets worse than it was.

    Parameters
    ----------
    question
        What may move.
    state
        Of the question's problem, its fixed tasks on their devices; this object is the only one to change it.
    node_of, devices
        As for `restore`; by default every task is at home.
    """

    def __init__(
        self,
        question: RepackQuestion,
        state: State,
        node_of: Sequence[int] | None = None,
        devices: Sequence[Devices] | None = None,
    ) -> None:
        self.question = question
        self.state = state
        self._classes = question.problem.classes
        self.class_of = question.problem.class_of
        self.weights = question.weights()
        self.sizes = question.class_sizes().tolist()
        """Of each class; see `RepackQuestion.class_sizes`."""
        self.home = list(question.home)
        self._receivers = question.receivers()
        self.node_of: list[int] = []
        self.tasks_on: list[set[int]] = []
        """The tasks on each node."""
        self.held = question.held.tolist()
        self.used: BoolArray = question.held.copy()
        """The nodes in use."""
        self.content: list[float] = []
        """The sum of the sizes of the tasks on each node."""
        self._slack: FloatArray = np.zeros(len(question.problem.nodes))
        self.home_devices = question.devices.of_task
        self.devices: list[Devices] = []
        """The devices of each task; what a task that is lifted had."""
        self._overcommitted = question.devices.overcommitted
        self.restore(question.home if node_of is None else node_of, devices)

    @property
    def count(self) -> int:
        """How many nodes are in use."""
        return int(self.used.sum())

    @property
    def moves(self) -> int:
        """How many tasks are not at home."""
        return sum(node != home for node, home in zip(self.node_of, self.home, strict=True))

    def restore(self, node_of: Sequence[int], devices: Sequence[Devices] | None = None) -> None:
        """Put every task on the given node, whatever the filters say.

        Parameters
        ----------
        node_of
            The node of each task.
        devices
            The devices of each task that is not at home; by default the tightest.
        """
        self.state.reset()
        nodes = len(self.question.problem.nodes)
        self.node_of = [NOWHERE] * len(self.home)
        self.devices = list(self.home_devices)
        self.tasks_on = [set() for _ in range(nodes)]
        self.used = self.question.held.copy()
        self.content = [0.0] * nodes
        free = np.maximum(np.stack(self.state.free), 0).astype(np.float64)
        self._slack = self.weights @ free
        for task, node in enumerate(node_of):
            if node >= 0:
                self.put(task, node, None if devices is None else devices[task])

    def lift(self, task: int) -> int:
        """Take a task off its node; return the node."""
        node = self.node_of[task]
        number = self.class_of[task]
        self.state.remove(self._classes[number], node, self.devices[task])
        self.node_of[task] = NOWHERE
        here = self.tasks_on[node]
        here.discard(task)
        self.content[node] -= self.sizes[number]
        self._slack[node] += self.sizes[number]
        if not here:
            self.content[node] = 0.0
            self.used[node] = self.held[node]
        return node

    def lift_all(self, tasks: Iterable[int]) -> list[tuple[int, int, Devices]]:
        """Take tasks off their nodes; return each with its node and devices, for `take_back`."""
        return [(task, self.lift(task), self.devices[task]) for task in tasks]

    def put(self, task: int, node: int, devices: Devices | None = None) -> None:
        """Put a task that is nowhere on a node.

        Parameters
        ----------
        task, node
            What, and where.
        devices
            Its devices, unless it is at home; by default the tightest.
        """
        number = self.class_of[task]
        if node == self.home[task]:
            devices = self.home_devices[task]
        self.devices[task] = self.state.place(self._classes[number], node, devices)
        self.node_of[task] = node
        self.tasks_on[node].add(task)
        self.content[node] += self.sizes[number]
        self._slack[node] -= self.sizes[number]
        self.used[node] = True

    def put_where_devices_hold(self, task: int, node: int) -> bool:
        """Put a task that is nowhere on a node if single devices hold it; return whether they do."""
        task_class = self._classes[self.class_of[task]]
        for ledger in self.state.ledgers:
            units = task_class.requests[ledger.pool.resource]
            if units and not ledger.fits_on(node, units):
                return False
        self.put(task, node)
        return True

    def feasible(self, task: int) -> BoolArray:
        """Return the nodes that can take a task that is nowhere; its home only on the same terms."""
        feasible: BoolArray = self.state.feasible(self._classes[self.class_of[task]]) & self._receivers
        if self.home_devices[task]:
            self._rule_out(task, feasible)
        return feasible

    def _rule_out(self, task: int, feasible: BoolArray) -> None:
        """Strike out nodes that are overcommitted already, and the home where its devices are taken."""
        home = self.home[task]
        may_return = bool(feasible[home]) and self.finds_its_devices(task)
        for place, _ in parts_of(self.question.problem, self._classes[self.class_of[task]], self.home_devices[task]):
            nodes = self._overcommitted[place]
            if len(nodes):
                feasible[nodes[self.state.ledgers[place].free[nodes].min(axis=1) < 0]] = False
        feasible[home] = may_return

    def is_held(self, task: int, node: int, devices: Devices) -> bool:
        """Whether certain devices of a node hold a task that is nowhere."""
        task_class = self._classes[self.class_of[task]]
        return all(
            holds(self.state.ledgers[place], node, task_class.requests[self.state.ledgers[place].pool.resource], own)
            for place, own in parts_of(self.question.problem, task_class, devices)
        )

    def finds_its_devices(self, task: int) -> bool:
        """Whether a task that is nowhere can have its devices again: they hold it, or nobody came to them since."""
        home = self.home[task]
        task_class = self._classes[self.class_of[task]]
        for place, own in parts_of(self.question.problem, task_class, self.home_devices[task]):
            ledger = self.state.ledgers[place]
            resource = ledger.pool.resource
            if not holds(ledger, home, task_class.requests[resource], own) and any(
                self.home[other] != home and self._classes[self.class_of[other]].requests[resource]
                for other in self.tasks_on[home]
            ):
                return False
        return True

    def has_room_at_home(self, task: int) -> bool:
        """Whether the home of a task that is nowhere has what it asks for, whatever the rules say."""
        state, home = self.state, self.home[task]
        return (
            state.places[home] >= 1
            and all(state.free[resource][home] >= units for resource, units in self._classes[self.class_of[task]].needs)
            and self.finds_its_devices(task)
        )

    def may_stay_home(self, task: int, node: int) -> bool:
        """Whether a task that is nowhere may be on a node because it is its home, and there is room for it."""
        return self.home[task] == node and self.has_room_at_home(task)

    def best(self, candidates: BoolArray, noise: FloatArray | None = None) -> int:
        """Return the fullest of the candidates, `NOWHERE` if there is none; equal ones by their order.

        Parameters
        ----------
        candidates
            (nodes,).
        noise
            (nodes,) factors of what each node has free.
        """
        numbers = candidates.nonzero()[0]
        if not len(numbers):
            return NOWHERE
        slack = self._slack[numbers]
        if noise is not None:
            slack = slack * noise[numbers]
        return int(numbers[slack.argmin()])

    def largest_first(self, tasks: Iterable[int]) -> list[int]:
        """Sort tasks by size, the largest first."""
        return sorted(tasks, key=lambda task: (-self.sizes[self.class_of[task]], task))

    def largest_request_first(self, tasks: Iterable[int]) -> list[int]:
        """Sort tasks by what they ask of devices, the largest first."""
        resources = [ledger.pool.resource for ledger in self.state.ledgers]

        def key(task: int) -> tuple[list[int], int]:
            requests = self._classes[self.class_of[task]].requests
            return [-requests[resource] for resource in resources], task

        return sorted(tasks, key=key)

    def take_back(self, moved: Sequence[tuple[int, int, Devices]]) -> None:
        """Put tasks back where they were.

        Parameters
        ----------
        moved
            From `lift_all`; the tasks may be nowhere or elsewhere.
        """
        for task, _, _ in moved:
            if self.node_of[task] != NOWHERE:
                self.lift(task)
        for task, node, devices in moved:
            self.put(task, node, devices)
