"""Expected fragmentation of shared devices, and how much a placement would add to it.

Free units of devices are fragmented for a kind of task if it cannot use them: all of a node that cannot hold the task,
and on a node that can, those on devices with less left than the task takes of one. A node's expected fragmentation is
the mean over the tasks that are to be expected, and a task goes where it adds least. This is fragmentation gradient
descent (Weng et al., 'Beware of Fragmentation', USENIX ATC'23) with these differences:

- A kind of task weighs its number divided by the devices that it takes. Small tasks are those that can use what is left
  over, so that fragments they cannot use are the ones that stay.
- A node holds a task if everything that it asks for is there, not only cpu and devices.
- Of equal nodes those come first that have a device in use: nodes with only free devices are kept for large tasks.
- Among devices of a node the exact gradient decides, not the rounded one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from engine_ops.engine.scheduling.devices import DeviceLedger, DevicePool
from engine_ops.engine.scheduling.problem import BoolArray, FloatArray, IntArray, Problem, TaskClass

POPULAR_SHARE = 0.95
"""The most frequent kinds of task that make up this share of all tasks stand for all of them, as in the paper."""
MAX_KINDS = 200
"""At most so many kinds are looked at."""
SCORE_STEPS = 100.0
"""Scores are cut to whole hundredths, as published: nodes that differ by less are equal."""
IN_USE = 0.5
"""What a node with a device in use has ahead, in steps: it decides among equal nodes only."""
UNCHANGED = 0.5
"""The score of a node on which nothing can be fragmented."""

_CELLS = 2_000_000
_NEVER = np.inf
_TIE = 1e-6


class Workload:
    """The tasks that are to be expected: those of the request, and those that run.

    Parameters
    ----------
    problem
        Whose classes are counted.
    pool
        The devices.
    accessible
        Of each index of rules, the nodes that the rules leave.
    """

    def __init__(self, problem: Problem, pool: DevicePool, accessible: Sequence[BoolArray]) -> None:
        kinds, numbers = _popular(problem)
        requests = np.array([problem.classes[number].requests for number in kinds], np.int64)
        units = requests[:, pool.resource]
        self.fits_devices = units > 0
        count = np.array([pool.needed(int(amount)) for amount in units])
        weights = numbers / np.where(self.fits_devices, np.maximum(units, 1) / pool.size, 1.0)
        weights /= weights.sum()
        asking = self.fits_devices & np.array([pool.divides(int(amount)) for amount in units])
        self.idle = float(weights[~asking].sum())
        """Weight of tasks that can use no device at all."""
        self.weights: FloatArray = weights[asking]
        self.of_one: IntArray = np.minimum(units, pool.size)[asking]
        """Units that a task takes of one device."""
        self.count: IntArray = count[asking]
        """Devices that a task takes."""
        self.others = [r for r in range(len(problem.resources)) if r != pool.resource and requests[asking, r].any()]
        self.needs: IntArray = requests[asking][:, self.others]
        """Units of other resources, kinds x `others`."""
        rules = [problem.classes[number].rules for number, holds in zip(kinds, asking, strict=True) if holds]
        self.accessible: BoolArray = (
            np.stack([accessible[rule] for rule in rules], axis=1) if rules else np.empty((len(problem.nodes), 0), bool)
        )
        """Nodes x kinds."""


def _popular(problem: Problem) -> tuple[list[int], FloatArray]:
    counts = Counter(problem.class_of)
    counts.update(number for number, _ in problem.fixed)
    # Equally frequent kinds in the order of what they ask for: the order of the tasks makes no difference.
    ranked = sorted(counts.items(), key=lambda item: (-item[1], problem.classes[item[0]].requests, item[0]))
    numbers = np.array([number for _, number in ranked], np.float64)
    enough = int(np.searchsorted(np.cumsum(numbers), POPULAR_SHARE * numbers.sum() - 1e-9)) + 1
    kept = min(enough, MAX_KINDS)
    return [kind for kind, _ in ranked[:kept]], numbers[:kept]


class Nodes(NamedTuple):
    """Some nodes as they are, or would be."""

    numbers: IntArray
    """Which nodes of the problem."""
    others: IntArray
    """Free units of `Workload.others`, nodes x others."""
    places: IntArray
    """How many more tasks they hold."""
    devices: IntArray
    """Free units of each device, nodes x devices."""

    def after(self, needs: IntArray, devices: IntArray) -> Nodes:
        """Return the nodes with one more task that takes ``needs`` of the others and leaves ``devices``."""
        return Nodes(self.numbers, self.others - needs, self.places - 1, devices)


def expected_fragmentation(nodes: Nodes, workload: Workload) -> FloatArray:
    """Return the units of each node that the expected tasks cannot use, in the mean."""
    free = np.maximum(nodes.devices, 0)
    small = free[:, None, :] < workload.of_one[:, None]
    left = np.where(small, free[:, None, :], 0).sum(axis=2)
    holding = free.shape[1] - small.sum(axis=2)
    return _mean(free.sum(axis=1), left, _open(nodes, workload) & (holding >= workload.count), workload)


def _open(nodes: Nodes, workload: Workload) -> BoolArray:
    """Which nodes have all that each kind of task asks for but devices, nodes x kinds."""
    fits: BoolArray = workload.accessible[nodes.numbers] & (nodes.places >= 1)[:, None]
    for other in range(len(workload.others)):
        fits &= nodes.others[:, other, None] >= workload.needs[:, other]
    return fits


def _mean(total: IntArray, left: IntArray, holds: BoolArray, workload: Workload) -> FloatArray:
    result: FloatArray = np.where(holds, left, total[:, None]) @ workload.weights + workload.idle * total
    return result


def gradient(
    nodes: Nodes, workload: Workload, pool: DevicePool, needs: IntArray, units: int
) -> tuple[FloatArray, IntArray]:
    """Return what a task would add to the expected fragmentation of each node, and the device where it adds least.

    Parameters
    ----------
    nodes
        As they are.
    workload
        The expected tasks.
    pool
        The devices.
    needs
        What the task asks for of `Workload.others`.
    units
        What it asks for of the devices.

    Returns
    -------
    tuple of array and array
        Units, inf where no device can hold the task; the device for a task of less than one, else 0.
    """
    device = np.zeros(len(nodes.numbers), np.int64)
    before = expected_fragmentation(nodes, workload)
    if units == 0:
        return expected_fragmentation(nodes.after(needs, nodes.devices), workload) - before, device
    if not pool.divides(units):
        return np.full(len(nodes.numbers), _NEVER), device
    if units >= pool.size:
        whole = nodes.devices == pool.size
        rank = whole.cumsum(axis=1)
        taken = whole & (rank <= pool.needed(units))
        rest = nodes.after(needs, np.where(taken, 0, nodes.devices))
        added = expected_fragmentation(rest, workload) - before
        return np.where(rank[:, -1] >= pool.needed(units), added, _NEVER), device
    return _gradient_of_part(nodes, workload, needs, units, before)


def _gradient_of_part(
    nodes: Nodes, workload: Workload, needs: IntArray, units: int, before: FloatArray
) -> tuple[FloatArray, IntArray]:
    """Try each device in turn; only its part of the sums changes."""
    free = np.maximum(nodes.devices, 0)
    small = free[:, None, :] < workload.of_one[:, None]
    left = np.where(small, free[:, None, :], 0).sum(axis=2)
    holding = free.shape[1] - small.sum(axis=2)
    total = free.sum(axis=1) - units
    fits = _open(nodes.after(needs, free), workload)
    best = np.full(len(free), _NEVER)
    chosen = np.zeros(len(free), np.int64)
    for device in range(free.shape[1]):
        can = free[:, device] >= units
        if not can.any():
            continue
        was, now = free[:, device, None], free[:, device, None] - units
        was_small, now_small = small[:, :, device], now < workload.of_one
        rest = left - np.where(was_small, was, 0) + np.where(now_small, now, 0)
        holds = fits & (holding + was_small - now_small.astype(np.int64) >= workload.count)
        added = np.where(can, _mean(total, rest, holds, workload) - before, _NEVER)
        better = added < best - _TIE
        best = np.where(better, added, best)
        chosen = np.where(better, device, chosen)
    return best, chosen


def score_of(added: FloatArray, size: int, in_use: BoolArray) -> FloatArray:
    """Return the score, 0 to 1, of placements: 0.5 where the expected fragmentation stays as it is.

    It is the logistic function of the fragmentation taken away, in devices, cut to hundredths; half a hundredth more on
    nodes with a device in use.

    Parameters
    ----------
    added
        Units; inf gives 0.
    size
        Units of one device.
    in_use
        Whether anything is taken of the node's devices.

    Examples
    --------
    >>> score_of(np.array([0.0, -1000.0, 10.0, np.inf]), 1000, np.array([False, True, False, False])).tolist()
    [0.5, 0.735, 0.49, 0.0]
    """
    bounded = np.clip(np.round(added / size, 9), -500.0, 500.0)
    steps = np.floor(SCORE_STEPS / (1.0 + np.exp(bounded))) + IN_USE * in_use
    scores: FloatArray = np.minimum(steps / SCORE_STEPS, 1.0)
    return scores


class FragmentationScores:
    """Scores of all nodes for each size of task, kept and brought up to date where nodes have changed.

    Parameters
    ----------
    problem
        The problem.
    ledger
        Its devices, live.
    accessible
        Of each index of rules, the nodes that the rules leave.
    """

    def __init__(self, problem: Problem, ledger: DeviceLedger, accessible: Sequence[BoolArray]) -> None:
        self.workload = Workload(problem, ledger.pool, accessible)
        self._ledger = ledger
        self._size = len(problem.nodes)
        self._kept: dict[tuple[int, ...], _Kept] = {}
        self._changed: list[int] = []

    def reset(self) -> None:
        """Forget everything that is kept."""
        self._kept.clear()
        self._changed.clear()

    def changed(self, node: int) -> None:
        """Take note that a node has changed; one without devices keeps its score."""
        if self._ledger.pool.counts[node]:
            self._changed.append(node)

    def scores(self, task_class: TaskClass, free: Sequence[IntArray], places: IntArray) -> FloatArray:
        """Return the score of each node; what has room is for others to say.

        Parameters
        ----------
        task_class
            The task's.
        free, places
            Of all nodes, as they are.
        """
        return self._of(task_class, free, places).scores

    def device(self, task_class: TaskClass, node: int, free: Sequence[IntArray], places: IntArray) -> int:
        """Return the device of a node on which a task of less than one device adds least."""
        return int(self._of(task_class, free, places).devices[node])

    def _of(self, task_class: TaskClass, free: Sequence[IntArray], places: IntArray) -> _Kept:
        kept = self._kept.get(task_class.requests)
        if kept is None:
            kept = _Kept(np.full(self._size, UNCHANGED), np.zeros(self._size, np.int64), 0)
            self._kept[task_class.requests] = kept
            # Where there are no devices nothing can be fragmented.
            stale = self._ledger.pool.counts.nonzero()[0]
        else:
            stale = np.unique(np.array(self._changed[kept.seen :], np.int64))
        kept.seen = len(self._changed)
        step = max(1, _CELLS // max(1, self.workload.weights.size * self._ledger.free.shape[1]))
        for start in range(0, len(stale), step):
            self._update(kept, stale[start : start + step], task_class, free, places)
        return kept

    def _update(
        self, kept: _Kept, index: IntArray, task_class: TaskClass, free: Sequence[IntArray], places: IntArray
    ) -> None:
        others = self.workload.others
        amounts = np.array([free[other][index] for other in others], np.int64).reshape(len(others), len(index)).T
        nodes = Nodes(index, amounts, places[index], self._ledger.free[index])
        needs = np.array([task_class.requests[other] for other in others], np.int64)
        units = task_class.requests[self._ledger.pool.resource]
        added, device = gradient(nodes, self.workload, self._ledger.pool, needs, units)
        pool = self._ledger.pool
        in_use = nodes.devices.sum(axis=1) < pool.counts[index] * pool.size
        kept.scores[index] = score_of(added, pool.size, in_use)
        kept.devices[index] = device


class _Kept:
    """Scores and devices of one size of task, as of so many changes."""

    __slots__ = ("devices", "scores", "seen")

    def __init__(self, scores: FloatArray, devices: IntArray, seen: int) -> None:
        self.scores, self.devices, self.seen = scores, devices, seen
