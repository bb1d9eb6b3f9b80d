"""See to it that every pod that has moved may be where it is in the end, and that no more move than must."""

from __future__ import annotations

from collections.abc import Sequence

from engine_ops.engine.cluster.repack_arrangement import NOWHERE, Arrangement
from engine_ops.engine.scheduling.rulebook import Rule

_ROUNDS = 4


def has_company(rule: Rule) -> bool:
    """Whether other tasks have a say in where tasks with these rules may be."""
    return bool(rule.spread or rule.companions is not None or rule.avoided or rule.avoiding or rule.ports)


def misplaced(arrangement: Arrangement) -> list[int]:
    """Return the tasks that are not at home and that the filters would not take where they are, all others in place.

    Moves may lead there one by one where each was allowed: the topology spread of a task is broken when others leave
    another domain, its affinity when its company goes. Room and node rules hold by themselves; single devices, which
    hold by themselves too, are looked at all the same.
    """
    found = []
    classes = arrangement.question.problem.classes
    bound = [has_company(arrangement.state.rule_of(task_class)) for task_class in classes]
    devices = arrangement.devices
    # Tasks of one class on one node are all alike, unless they have devices.
    known: dict[tuple[int, int], bool] = {}
    for task, (node, home) in enumerate(zip(arrangement.node_of, arrangement.home, strict=True)):
        number = arrangement.class_of[task]
        if node == home or not (bound[number] or devices[task]):
            continue
        holds = None if devices[task] else known.get((number, node))
        if holds is None:
            arrangement.lift(task)
            holds = known[number, node] = bool(arrangement.feasible(task)[node]) and arrangement.is_held(
                task, node, devices[task]
            )
            arrangement.put(task, node, devices[task])
        if not holds:
            found.append(task)
    return found


def settle(arrangement: Arrangement) -> bool:
    """Move tasks that are misplaced elsewhere until none is; False where that does not come to an end.

    Each goes to a node in use that will have it, else home, else to any node that will have it.
    """
    for _ in range(_ROUNDS):
        wrong = misplaced(arrangement)
        if not wrong:
            return True
        for task in wrong:
            node, devices = arrangement.lift(task), arrangement.devices[task]
            feasible = arrangement.feasible(task)
            home = arrangement.home[task]
            chosen = arrangement.best(feasible & arrangement.used)
            if chosen == NOWHERE and arrangement.has_room_at_home(task):
                chosen = home
            if chosen == NOWHERE:
                chosen = arrangement.best(feasible)
            if chosen == NOWHERE:
                arrangement.put(task, node, devices)
            else:
                arrangement.put(task, chosen)
    return not misplaced(arrangement)


def shorten(arrangement: Arrangement) -> None:
    """Let tasks stay where they can: those of one class change places, and what its home still has room for returns.

    The nodes in use remain the same.
    """
    _swap_names(arrangement)
    moved = [
        task
        for task, home in enumerate(arrangement.home)
        if arrangement.node_of[task] != home and arrangement.used[home]
    ]
    for task in arrangement.largest_first(moved):
        home = arrangement.home[task]
        node = arrangement.node_of[task]
        if len(arrangement.tasks_on[node]) == 1 and not arrangement.held[node]:
            continue
        devices = arrangement.devices[task]
        arrangement.lift(task)
        returns = arrangement.feasible(task)[home]
        if not returns and _make_way(arrangement, task):
            returns = arrangement.feasible(task)[home]
        if returns:
            arrangement.put(task, home)
        else:
            arrangement.put(task, node, devices)


def _swap_names(arrangement: Arrangement) -> None:
    """Give each place of a class to the task of that class which was there from the first, where there is one."""
    places: dict[int, dict[int, int]] = {}
    members: dict[int, list[int]] = {}
    for task, number in enumerate(arrangement.class_of):
        members.setdefault(number, []).append(task)
        here = places.setdefault(number, {})
        here[arrangement.node_of[task]] = here.get(arrangement.node_of[task], 0) + 1
    for number, tasks in members.items():
        if arrangement.home_devices[tasks[0]]:
            _change_places(arrangement, tasks)
            continue
        left = places[number]
        waiting = []
        for task in tasks:
            home = arrangement.home[task]
            if left.get(home, 0) > 0:
                left[home] -= 1
                _rename(arrangement, task, home)
            else:
                waiting.append(task)
        free = [node for node, count in left.items() for _ in range(count)]
        # Who can keep the place it was moved to does.
        open_places = sorted(free, reverse=True)
        for task in waiting:
            _rename(arrangement, task, open_places.pop())


def _change_places(arrangement: Arrangement, tasks: Sequence[int]) -> None:
    """Bring tasks of one class home, each in exchange for one that is a guest there, where devices allow it."""
    guests: dict[int, list[int]] = {}
    for task in tasks:
        if arrangement.node_of[task] != arrangement.home[task]:
            guests.setdefault(arrangement.node_of[task], []).append(task)
    for task in tasks:
        node, home = arrangement.node_of[task], arrangement.home[task]
        if node == home or not guests.get(home):
            continue
        guest = guests[home][-1]
        moved = arrangement.lift_all((task, guest))
        if (arrangement.home[guest] == node and not arrangement.finds_its_devices(guest)) or not (
            arrangement.finds_its_devices(task) or _make_way(arrangement, task)
        ):
            arrangement.take_back(moved)
            continue
        arrangement.put(task, home)
        arrangement.put(guest, node, moved[0][2])
        guests[home].pop()
        guests[node].remove(task)
        if arrangement.home[guest] != node:
            guests[node].append(guest)


def _make_way(arrangement: Arrangement, task: int) -> bool:
    """Give those that came to a home other devices there, so that a task that is nowhere finds its own.

    Returns
    -------
    bool
        Whether it does; if not, nothing is changed.
    """
    home = arrangement.home[task]
    if not arrangement.home_devices[task]:
        return False
    guests = [
        other
        for other in arrangement.tasks_on[home]
        if arrangement.home[other] != home and arrangement.home_devices[other]
    ]
    moved = arrangement.lift_all(arrangement.largest_request_first(guests))
    if guests and arrangement.finds_its_devices(task):
        arrangement.put(task, home)
        if all(arrangement.put_where_devices_hold(other, home) for other, _, _ in moved):
            arrangement.lift(task)
            return True
        arrangement.lift(task)
    arrangement.take_back(moved)
    return False


def _rename(arrangement: Arrangement, task: int, node: int) -> None:
    """Say that a task is on a node, where one of its class is: nothing changes but the name."""
    arrangement.tasks_on[arrangement.node_of[task]].discard(task)
    arrangement.node_of[task] = node
    arrangement.tasks_on[node].add(task)
