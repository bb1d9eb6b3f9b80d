"""What placed tasks do to the nodes left to others: affinity, anti-affinity and spread as running masks and counts.

Everything here changes only when a task is placed, and then only for the domain it was placed in, so that asking is
one operation on a vector. ``reset`` goes back to the state in which nothing is placed.
"""

from __future__ import annotations

import numpy as np

from engine_ops.engine.scheduling.nodes import Topology
from engine_ops.engine.scheduling.problem import BoolArray, FloatArray


class Presence:
    """The nodes whose domain holds a task of some kind.

    Parameters
    ----------
    topology
        The domains.
    """

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._counts: dict[int, int] = {}
        self._marked: tuple[dict[int, int], BoolArray, BoolArray] | None = None
        self.nodes: BoolArray
        """Whether each node's domain holds one. The masks exist from the first on: most never come to it."""
        self.absent: BoolArray
        """The opposite, kept because it is what anti-affinity asks for."""
        self._has_masks = False

    @property
    def any(self) -> bool:
        """Whether any such task is in any domain."""
        return bool(self._counts)

    def mark(self) -> None:
        """Make what is known now what `reset` goes back to."""
        self._marked = (dict(self._counts), self.nodes.copy(), self.absent.copy()) if self._counts else None

    def reset(self) -> None:
        """Forget every task placed after `mark`."""
        if self._marked is not None:
            self._counts = dict(self._marked[0])
            self.nodes, self.absent = self._marked[1].copy(), self._marked[2].copy()
        elif self._counts:
            self._counts = {}
            self._has_masks = False

    def add(self, node: int, _amount: float) -> None:
        """Take note of a task placed on ``node``."""
        domain = int(self._topology.domain_of[node])
        if domain < 0:
            return
        count = self._counts.get(domain, 0)
        self._counts[domain] = count + 1
        if count:
            return
        if not self._has_masks:
            self.nodes = np.zeros(len(self._topology.domain_of), bool)
            self.absent = np.ones(len(self._topology.domain_of), bool)
            self._has_masks = True
        members = self._topology.members[domain]
        self.nodes[members] = True
        self.absent[members] = False

    def remove(self, node: int, _amount: float) -> None:
        """Take a task off ``node`` that `add` was told of."""
        domain = int(self._topology.domain_of[node])
        if domain < 0:
            return
        self._counts[domain] -= 1
        if self._counts[domain] == 0:
            del self._counts[domain]
            members = self._topology.members[domain]
            self.nodes[members] = False
            self.absent[members] = True


class Counts:
    """How many tasks of some kind, or the sum of their weights, in each domain.

    Parameters
    ----------
    topology
        The domains.
    eligible
        Nodes on which tasks count; None for all.
    """

    def __init__(self, topology: Topology, eligible: BoolArray | None = None) -> None:
        self.topology = topology
        self._eligible = eligible
        # One place more, which stays 0: the domain -1 of nodes without the label is the last.
        self._counts: FloatArray = np.zeros(len(topology.members) + 1)
        self.any = False
        """Whether anything was counted."""
        self._marked: FloatArray | None = None

    def mark(self) -> None:
        """Make what is counted now what `reset` goes back to."""
        self._marked = self._counts.copy() if self.any else None

    def reset(self) -> None:
        """Forget every task placed after `mark`."""
        self.any = self._marked is not None
        self._counts[:] = 0 if self._marked is None else self._marked

    def add(self, node: int, amount: float) -> None:
        """Count a task placed on ``node``."""
        domain = self.topology.domain_of[node]
        if domain >= 0 and (self._eligible is None or self._eligible[node]):
            self._counts[domain] += amount
            self.any = True

    def remove(self, node: int, amount: float) -> None:
        """Take a task off ``node`` that `add` was told of."""
        domain = self.topology.domain_of[node]
        if domain >= 0 and (self._eligible is None or self._eligible[node]):
            self._counts[domain] -= amount

    def on_nodes(self) -> FloatArray:
        """Return the count of each node's domain; 0 for nodes without the label."""
        taken: FloatArray = self._counts.take(self.topology.domain_of, mode="wrap")
        return taken


class SpreadCounts:
    """Tasks in each domain for a hard spread constraint, and the emptiest domain.

    Parameters
    ----------
    topology
        The domains.
    eligible
        Nodes on which tasks count, and whose domains must be filled evenly.
    """

    def __init__(self, topology: Topology, eligible: BoolArray) -> None:
        self.topology = topology
        self.eligible = eligible
        self.checks: dict[tuple[bool, int, int], SpreadCheck] = {}
        """Who wants to know."""
        domains = np.zeros(len(topology.members), bool)
        domains[topology.domain_of[eligible & topology.has_key]] = True
        self._domains = domains
        self.domain_count = int(domains.sum())
        """How many domains have an eligible node."""
        self.counts = np.zeros(len(topology.members), np.int64)
        """Tasks in each domain."""
        self.least = 0
        """Tasks in the emptiest of them."""
        self._at_least = self.domain_count
        self.mark()

    def check(self, *, self_match: bool, max_skew: int, min_domains: int) -> SpreadCheck:
        """Return the check of a constraint, one for all that are alike."""
        key = (self_match, max_skew, min_domains)
        found = self.checks.get(key)
        if found is None:
            found = self.checks[key] = SpreadCheck(
                self, self_match=self_match, max_skew=max_skew, min_domains=min_domains
            )
        return found

    def mark(self) -> None:
        """Make what is counted now what `reset` goes back to."""
        self._marked = (self.counts.copy(), self.least, self._at_least)

    def reset(self) -> None:
        """Forget every task placed after `mark`."""
        counts, self.least, self._at_least = self._marked
        self.counts[:] = counts
        for check in self.checks.values():
            check.refresh()

    def add(self, node: int, _amount: float) -> None:
        """Count a task placed on ``node``."""
        if not self.eligible[node]:
            return
        domain = int(self.topology.domain_of[node])
        self.counts[domain] += 1
        if self.counts[domain] - 1 == self.least:
            self._at_least -= 1
            if self._at_least == 0:
                counts = self.counts[self._domains]
                self.least = int(counts.min())
                self._at_least = int((counts == self.least).sum())
                for check in self.checks.values():
                    check.refresh()
                return
        for check in self.checks.values():
            check.refresh_domain(domain)

    def remove(self, node: int, _amount: float) -> None:
        """Take a task off ``node`` that `add` was told of."""
        if not self.eligible[node]:
            return
        domain = int(self.topology.domain_of[node])
        self.counts[domain] -= 1
        count = int(self.counts[domain])
        if count > self.least:
            for check in self.checks.values():
                check.refresh_domain(domain)
            return
        self._at_least = 1 if count < self.least else self._at_least + 1
        if count < self.least:
            self.least = count
            for check in self.checks.values():
                check.refresh()
        else:
            for check in self.checks.values():
                check.refresh_domain(domain)


class SpreadCheck:
    """The nodes that one hard spread constraint of one kind of task leaves.

    Parameters
    ----------
    counts
        Where the constraint's tasks are.
    self_match
        Whether the task counts itself.
    max_skew, min_domains
        As in the constraint.
    """

    def __init__(self, counts: SpreadCounts, *, self_match: bool, max_skew: int, min_domains: int) -> None:
        self._counts = counts
        self._room = max_skew - int(self_match)
        self._floor_is_zero = counts.domain_count < min_domains
        # One place more, which stays False: the domain -1 of nodes without the label is the last.
        self._passes: BoolArray = np.zeros(len(counts.counts) + 1, bool)
        self.nodes: BoolArray = np.zeros(len(counts.eligible), bool)
        """Whether each node passes; one without the label never does."""
        self.has_key = counts.topology.has_key
        self.refresh()

    def refresh(self) -> None:
        """Decide every domain anew."""
        limit = self._room + (0 if self._floor_is_zero else self._counts.least)
        np.less_equal(self._counts.counts, limit, out=self._passes[:-1])
        self._passes.take(self._counts.topology.domain_of, mode="wrap", out=self.nodes)

    def refresh_domain(self, domain: int) -> None:
        """Decide one domain anew."""
        limit = self._room + (0 if self._floor_is_zero else self._counts.least)
        members = self._counts.topology.members[domain]
        passes = bool(self._counts.counts[domain] <= limit)
        if self.nodes[members[0]] != passes:
            self.nodes[members] = passes


class Companions:
    """Tasks that match all terms of a required affinity, in every term's topology.

    Parameters
    ----------
    topologies
        The distinct topologies of the terms.
    self_match
        Whether the task matches its own terms: then the first of its kind may go anywhere that has the labels.
    """

    def __init__(self, presences: list[Presence], topologies: list[Topology], *, self_match: bool) -> None:
        self._presences = presences
        self._self_match = self_match
        self._has_keys: BoolArray = np.logical_and.reduce([topology.has_key for topology in topologies])

    def nodes(self) -> BoolArray:
        """Return the nodes that pass."""
        if self._self_match and not any(presence.any for presence in self._presences):
            return self._has_keys
        if not all(presence.any for presence in self._presences):
            return np.zeros(len(self._has_keys), bool)
        found: BoolArray = np.logical_and.reduce([presence.nodes for presence in self._presences])
        return found
