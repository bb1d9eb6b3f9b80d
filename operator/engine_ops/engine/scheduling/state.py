"""The cluster while tasks are placed: what is free, which nodes can hold a task, and which is best."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from engine_ops.engine.scheduling.company import Presence
from engine_ops.engine.scheduling.devices import DeviceLedger, Devices
from engine_ops.engine.scheduling.fragmentation import UNCHANGED, FragmentationScores
from engine_ops.engine.scheduling.model import FRAGMENTATION_AWARE, Strategy
from engine_ops.engine.scheduling.preferences import preference_points
from engine_ops.engine.scheduling.problem import BoolArray, FloatArray, Problem, TaskClass
from engine_ops.engine.scheduling.rulebook import Rule, Rulebook
from engine_ops.engine.scheduling.strategies import STRATEGIES

_GRAIN = 1e9
"""Scores are compared in billionths: what differs by less is equal, and the smaller id wins."""


class State:
    """Nothing placed at first; `place` changes it, `reset` goes back.

    Parameters
    ----------
    problem
        The problem.
    rulebook
        Its rules.
    """

    def __init__(self, problem: Problem, rulebook: Rulebook) -> None:
        self.problem = problem
        self._rulebook = rulebook
        self._size = len(problem.nodes)
        # A live node may offer nothing of a resource: it then counts as one unit, all of which is missing.
        capacity = np.maximum(problem.capacity[:2], 1).astype(np.float64)
        self._capacity = [row.tolist() for row in capacity]
        self._inverse = 1.0 / capacity
        self._capacity_array = capacity
        self._feasible: BoolArray = np.empty(self._size, bool)
        self._ranked: FloatArray = np.empty(self._size)
        rulebook.reset()
        self.free = list(problem.capacity - problem.load)
        """Units of each resource on each node; below 0 where a node is overcommitted."""
        self.places = problem.places.copy()
        """How many more tasks each node holds."""
        self.placed = 0
        """How many tasks have been placed."""
        self.ledgers = [DeviceLedger(pool) for pool in problem.devices]
        """What is free on each device, in the order of `Problem.devices`."""
        self._fragmentation: FragmentationScores | None = None
        self._fitted: tuple[TaskClass, Strategy] | None = None
        for number, node in problem.fixed:
            self._take(problem.classes[number], node)
        for ledger in self.ledgers:
            self._infer(ledger)
        rulebook.mark()
        self._marked = ([row.copy() for row in self.free], self.places.copy())
        self.reset()

    def reset(self) -> None:
        """Take every placed task away but those that are fixed."""
        self._rulebook.reset()
        self.free = [row.copy() for row in self._marked[0]]
        self.places = self._marked[1].copy()
        self.placed = 0
        self._free_share: FloatArray = np.maximum(np.stack(self.free[:2]), 0) / self._capacity_array
        # Nodes that changed since: brought up to date when all shares are asked for, which a repacking never does.
        self._stale: list[int] = []
        self._fitted = None
        for ledger in self.ledgers:
            ledger.reset()
        if self._fragmentation is not None:
            self._fragmentation.reset()

    def rule_of(self, task_class: TaskClass) -> Rule:
        """Return the rules of a class."""
        return self._rulebook.rules[task_class.rules]

    def choose(self, task_class: TaskClass, strategy: Strategy) -> int:
        """Return the best node for a task of a class; -1 if no node can hold it.

        Of equally good nodes it is the one with the smallest id.
        """
        rule = self.rule_of(task_class)
        fits, points = self._fit(task_class, strategy)
        feasible = np.logical_and(fits, rule.static, out=self._feasible)
        self._leave(rule, feasible)
        if rule.has_preferences:
            if not feasible.any():
                return -1
            points = np.rint((points / _GRAIN + preference_points(rule, feasible)) * _GRAIN)
        ranked = self._ranked
        ranked.fill(-np.inf)
        np.copyto(ranked, points, where=feasible)
        node = int(ranked.argmax())
        return node if feasible[node] else -1

    def feasible(self, task_class: TaskClass) -> BoolArray:
        """Return the nodes that can hold a task of a class."""
        rule = self.rule_of(task_class)
        feasible = rule.static & self.fits(task_class)
        self._leave(rule, feasible)
        return feasible

    def fits(self, task_class: TaskClass) -> BoolArray:
        """Return the nodes with room for a task of a class, whatever its rules."""
        fits: BoolArray = self.places >= 1
        for resource, units in task_class.needs:
            fits &= self.free[resource] >= units
        for ledger in self.ledgers:
            units = task_class.requests[ledger.pool.resource]
            if units:
                fits &= ledger.fits(units)
        return fits

    def score(self, task_class: TaskClass, node: int, strategy: Strategy) -> float:
        """Return the strategy's score, 0 to 1, of a node that can hold a task of a class."""
        if strategy == FRAGMENTATION_AWARE:
            return float(self._fragmentation_scores(task_class)[node])
        cpu, memory = task_class.requests[0], task_class.requests[1]
        free_cpu, free_memory = self._free_share_of(node)
        value = STRATEGIES[strategy](
            free_cpu, free_memory, cpu / self._capacity[0][node], memory / self._capacity[1][node]
        )
        return min(1.0, max(0.0, value))

    def devices_for(self, task_class: TaskClass, node: int, strategy: Strategy) -> Devices | None:
        """Return the devices that a strategy gives a task on a node; None where it leaves that to `place`."""
        if strategy != FRAGMENTATION_AWARE or not self.ledgers:
            return None
        pool = self.ledgers[0].pool
        if not 0 < task_class.requests[pool.resource] < pool.size:
            return None
        return (self._fragmented().device(task_class, node, self.free, self.places),)

    def place(self, task_class: TaskClass, node: int, devices: Sequence[int] | None = None) -> Devices:
        """Place a task of a class on a node, whether or not the node can hold it.

        Parameters
        ----------
        task_class, node
            What, and where.
        devices
            Which devices it takes, for each shared resource in turn that it asks for; by default the fullest that fit.

        Returns
        -------
        tuple of int
            The devices that it took; empty for a task without.
        """
        taken: Devices = ()
        if self.ledgers:
            for ledger, units, own in self._shares(task_class, devices):
                taken += ledger.place(node, units, own)
        self._take(task_class, node)
        self.placed += 1
        self._stale.append(node)
        self._refit(node)
        return taken

    def remove(self, task_class: TaskClass, node: int, devices: Sequence[int] | None = None) -> Devices:
        """Take a task of a class off a node that `place` put there, or that is fixed there.

        Parameters
        ----------
        task_class, node
            What, and where.
        devices
            The devices that it has, as `place` returned them; by default those of the last like task on the node.

        Returns
        -------
        tuple of int
            The devices that are free again.
        """
        taken: Devices = ()
        if self.ledgers:
            for ledger, units, own in self._shares(task_class, devices):
                taken += ledger.remove(node, units, own)
        for resource, units in task_class.needs:
            self.free[resource][node] += units
        self.places[node] += 1
        self.placed -= 1
        for tally, weight in self.rule_of(task_class).tallies:
            tally.remove(node, weight)
        self._stale.append(node)
        self._refit(node)
        return taken

    def _shares(
        self, task_class: TaskClass, devices: Sequence[int] | None
    ) -> Iterator[tuple[DeviceLedger, int, Sequence[int] | None]]:
        """Go through the ledgers that a task concerns, with its part of the devices."""
        start = 0
        for ledger in self.ledgers:
            units = task_class.requests[ledger.pool.resource]
            if units:
                end = start + ledger.pool.needed(units)
                yield ledger, units, None if devices is None else devices[start:end]
                start = end

    def _infer(self, ledger: DeviceLedger) -> None:
        """Give devices to the tasks that are there: each the tightest that fit, the largest first."""
        asked = (
            (self.problem.classes[number].requests[ledger.pool.resource], node) for number, node in self.problem.fixed
        )
        for units, node in sorted(((units, node) for units, node in asked if units), key=lambda pair: -pair[0]):
            ledger.place(node, units)
        ledger.mark()

    def _fragmented(self) -> FragmentationScores:
        """Return the scores of fragmentation, made when they are first asked for."""
        if self._fragmentation is None:
            accessible = [rule.static for rule in self._rulebook.rules]
            self._fragmentation = FragmentationScores(self.problem, self.ledgers[0], accessible)
        return self._fragmentation

    def _fragmentation_scores(self, task_class: TaskClass) -> FloatArray:
        if not self.ledgers:
            # Nobody asks for a device: nothing can be fragmented.
            return np.full(self._size, UNCHANGED)
        return self._fragmented().scores(task_class, self.free, self.places)

    def _take(self, task_class: TaskClass, node: int) -> None:
        for resource, units in task_class.needs:
            self.free[resource][node] -= units
        self.places[node] -= 1
        for tally, weight in self.rule_of(task_class).tallies:
            tally.add(node, weight)

    def _free_share_of(self, node: int) -> tuple[float, float]:
        """Return the shares of cpu and memory that are free on a node."""
        (cpu, memory), capacity = self.free[:2], self._capacity
        return max(int(cpu[node]), 0) / capacity[0][node], max(int(memory[node]), 0) / capacity[1][node]

    def _free_shares(self) -> FloatArray:
        """Return the shares of cpu and memory that are free, resources x nodes."""
        for node in self._stale:
            self._free_share[:, node] = self._free_share_of(node)
        self._stale.clear()
        return self._free_share

    def obstacles(self, task_class: TaskClass) -> Iterator[tuple[str, BoolArray]]:
        """Go through the filters in kube-scheduler's order.

        Yields
        ------
        tuple of str and array
            The reason, in the words of kube-scheduler 1.36, and the nodes removed for it. A node is removed by the
            first filter that it fails; the one on resources may give several reasons for a node.
        """
        rule = self.rule_of(task_class)
        index, written = self._rulebook.index, rule.written
        left = np.ones(self._size, bool)
        if self.problem.closed is not None:
            yield "node(s) were not selected by the request", self.problem.closed
            left &= ~self.problem.closed
        for reason, failed in (
            ("node(s) were unschedulable", index.cordon(written.tolerations)),
            ("node(s) had untolerated taint(s)", index.untolerated(written.tolerations)),
            ("node(s) didn't match Pod's node affinity/selector", ~index.affinity(written)),
        ):
            yield reason, left & failed
            left &= ~failed
        taken = self._any_of(rule.ports)
        yield "node(s) didn't have free ports for the requested pod ports", left & taken
        left &= ~taken
        yield "Too many pods", left & (self.places < 1)
        for resource, units in task_class.needs:
            yield f"Insufficient {self.problem.resources[resource]}", left & (self.free[resource] < units)
        yield from self._lacking_devices(task_class, left)
        left &= self.fits(task_class)
        for check in rule.spread:
            reason = "node(s) didn't match pod topology spread constraints"
            yield f"{reason} (missing required label)", left & ~check.has_key
            yield reason, left & check.has_key & ~check.nodes
            left &= check.nodes
        if rule.companions is not None:
            near = rule.companions.nodes()
            yield "node(s) didn't match pod affinity rules", left & ~near
            left &= near
        for reason, presences in (
            ("node(s) didn't match pod anti-affinity rules", rule.avoided),
            ("node(s) didn't satisfy existing pods anti-affinity rules", rule.avoiding),
        ):
            failed = self._any_of(presences)
            yield reason, left & failed
            left &= ~failed

    def _lacking_devices(self, task_class: TaskClass, left: BoolArray) -> Iterator[tuple[str, BoolArray]]:
        """Which nodes have enough of a shared resource in sum, but not on single devices."""
        for ledger in self.ledgers:
            resource = ledger.pool.resource
            units, name = task_class.requests[resource], self.problem.resources[resource]
            if not units:
                continue
            if ledger.pool.divides(units):
                reason = f"node(s) had no device with enough free {name}"
            else:
                reason = f"node(s) cannot give parts of several devices of {name}"
            yield reason, left & (self.free[resource] >= units) & ~ledger.fits(units)

    def _any_of(self, presences: Sequence[Presence]) -> BoolArray:
        nodes = np.zeros(self._size, bool)
        for presence in presences:
            if presence.any:
                nodes |= presence.nodes
        return nodes

    @staticmethod
    def _leave(rule: Rule, feasible: BoolArray) -> None:
        """Strike out the nodes that other tasks close to this one."""
        for check in rule.spread:
            feasible &= check.nodes
        if rule.companions is not None:
            feasible &= rule.companions.nodes()
        for presences in (rule.avoided, rule.avoiding, rule.ports):
            for presence in presences:
                if presence.any:
                    feasible &= presence.absent

    def _fit(self, task_class: TaskClass, strategy: Strategy) -> tuple[BoolArray, FloatArray]:
        """Which nodes have room, and their scores in grains; kept while tasks of one size follow each other."""
        if self._fitted is None or self._fitted[0].requests != task_class.requests or self._fitted[1] != strategy:
            self._room = self.fits(task_class)
            self._shares_asked = self._inverse * np.array(task_class.requests[:2], np.float64)[:, None]
            if strategy != FRAGMENTATION_AWARE:
                self._points: FloatArray = np.asarray(STRATEGIES[strategy](*self._free_shares(), *self._shares_asked))
                self._points *= _GRAIN
                np.rint(self._points, out=self._points)
        if strategy == FRAGMENTATION_AWARE:
            self._points = np.rint(self._fragmentation_scores(task_class) * _GRAIN)
        self._fitted = (task_class, strategy)
        return self._room, self._points

    def _refit(self, node: int) -> None:
        """Bring what is kept up to date after a change of one node."""
        if self._fragmentation is not None:
            self._fragmentation.changed(node)
        if self._fitted is None:
            return
        task_class, strategy = self._fitted
        self._room[node] = self.places[node] >= 1 and all(
            self.free[resource][node] >= units for resource, units in task_class.needs
        )
        if self.ledgers:
            self._room[node] &= all(ledger.fits_on(node, units) for ledger, units, _ in self._shares(task_class, None))
        if strategy == FRAGMENTATION_AWARE:
            return
        # The same arithmetic as over all nodes, number by number: the same result to the last bit.
        free_cpu, free_memory = self._free_share_of(node)
        cpu, memory = self._shares_asked[:, node].tolist()
        self._points[node] = round(STRATEGIES[strategy](free_cpu, free_memory, cpu, memory) * _GRAIN)
