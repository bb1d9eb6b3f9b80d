"""The cluster while pods are moved about: where each one is, under all filters, and the way back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from engine_ops.engine.cluster.repack_question import RepackQuestion
from engine_ops.engine.scheduling.problem import BoolArray, FloatArray
from engine_ops.engine.scheduling.state import State

NOWHERE = -1
"""The node of a task that is lifted."""


class Arrangement:
    """Every task on a node, at first its home.

    Parameters
    ----------
    question
        What may move.
    state
        Of the question's problem; this object is the only one to change it.
    """

    def __init__(self, question: RepackQuestion, state: State) -> None:
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
        self.restore(question.home)

    @property
    def count(self) -> int:
        """How many nodes are in use."""
        return int(self.used.sum())

    @property
    def moves(self) -> int:
        """How many tasks are not at home."""
        return sum(node != home for node, home in zip(self.node_of, self.home, strict=True))

    def restore(self, node_of: Sequence[int]) -> None:
        """Put every task on the given node, whatever the filters say."""
        self.state.reset()
        nodes = len(self.question.problem.nodes)
        self.node_of = [NOWHERE] * len(self.home)
        self.tasks_on = [set() for _ in range(nodes)]
        self.used = self.question.held.copy()
        self.content = [0.0] * nodes
        free = np.maximum(np.stack(self.state.free), 0).astype(np.float64)
        self._slack = self.weights @ free
        for task, node in enumerate(node_of):
            if node >= 0:
                self.put(task, node)

    def lift(self, task: int) -> int:
        """Take a task off its node; return the node."""
        node = self.node_of[task]
        number = self.class_of[task]
        self.state.remove(self._classes[number], node)
        self.node_of[task] = NOWHERE
        here = self.tasks_on[node]
        here.discard(task)
        self.content[node] -= self.sizes[number]
        self._slack[node] += self.sizes[number]
        if not here:
            self.content[node] = 0.0
            self.used[node] = self.held[node]
        return node

    def put(self, task: int, node: int) -> None:
        """Put a task that is nowhere on a node."""
        number = self.class_of[task]
        self.state.place(self._classes[number], node)
        self.node_of[task] = node
        self.tasks_on[node].add(task)
        self.content[node] += self.sizes[number]
        self._slack[node] -= self.sizes[number]
        self.used[node] = True

    def feasible(self, task: int) -> BoolArray:
        """Return the nodes that can take a task that is nowhere; its home only on the same terms."""
        return self.state.feasible(self._classes[self.class_of[task]]) & self._receivers

    def has_room(self, task: int, node: int) -> bool:
        """Whether a node has what a task asks for, whatever the rules say."""
        state = self.state
        return state.places[node] >= 1 and all(
            state.free[resource][node] >= units for resource, units in self._classes[self.class_of[task]].needs
        )

    def may_stay_home(self, task: int, node: int) -> bool:
        """Whether a task that is nowhere may be on a node because it is its home, and there is room for it."""
        return self.home[task] == node and self.has_room(task, node)

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

    def take_back(self, moved: Iterable[tuple[int, int]]) -> None:
        """Put tasks back where they were.

        Parameters
        ----------
        moved
            Tasks with the nodes they were on; they may be nowhere or elsewhere.
        """
        moved = list(moved)
        for task, _ in moved:
            if self.node_of[task] != NOWHERE:
                self.lift(task)
        for task, node in moved:
            self.put(task, node)
