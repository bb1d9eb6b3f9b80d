"""Empty nodes one at a time, into the others that are in use."""

from __future__ import annotations

import heapq

from engine_ops.engine.cluster.repack_arrangement import NOWHERE, Arrangement
from engine_ops.engine.scheduling.problem import BoolArray


def empty_node(arrangement: Arrangement, node: int, targets: BoolArray) -> bool:
    """Move every task of a node to others, or none.

    Parameters
    ----------
    arrangement
        Is changed.
    node
        The node, which holds no pod that stays.
    targets
        (nodes,) where the tasks may go, the node itself not among them.
    """
    tasks = arrangement.largest_first(arrangement.tasks_on[node])
    moved = arrangement.lift_all(tasks)
    for task in tasks:
        feasible = arrangement.feasible(task) & targets
        home = arrangement.home[task]
        chosen = home if feasible[home] else arrangement.best(feasible)
        if chosen == NOWHERE:
            arrangement.take_back(moved)
            return False
        arrangement.put(task, chosen)
    return True


def empty_nodes(arrangement: Arrangement) -> int:
    """Empty whatever can be emptied into other nodes in use, nodes with little on them first.

    Nothing becomes free on the nodes that remain, so that no node need be tried twice.

    Returns
    -------
    int
        How many nodes were emptied.
    """
    held = arrangement.question.held
    queue = [(arrangement.content[node], node) for node in (arrangement.used & ~held).nonzero()[0].tolist()]
    heapq.heapify(queue)
    emptied = 0
    targets = arrangement.used.copy()
    while queue:
        content, node = heapq.heappop(queue)
        if arrangement.content[node] > content * (1 + 1e-9):
            # It has taken in others since: those with less come first.
            heapq.heappush(queue, (arrangement.content[node], node))
            continue
        targets[node] = False
        if empty_node(arrangement, node, targets):
            emptied += 1
        else:
            targets[node] = True
    return emptied
