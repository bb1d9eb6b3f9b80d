"""What waits for a worker: first come, first served, but for long tasks, which must leave room for the others."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

from engine_ops.workers.link import Job


class JobQueue:
    """Two lines, one of long tasks, one of all others; within each the first that came is the first that is served.

    Between the lines it is the same, unless there is no room for a long task: then the others overtake those that wait.
    Nothing is counted here: room is asked for when a long task is next, so no death of a worker can upset a count.

    Parameters
    ----------
    is_long
        Whether a task counts as long; always the same for the same task. None where no task does.
    has_room
        Whether one more long task may begin.
    """

    def __init__(self, is_long: Callable[[Any], bool] | None, has_room: Callable[[], bool]) -> None:
        self._is_long = is_long
        self._has_room = has_room
        self._arrivals = itertools.count()
        # By when they came. Ordered dicts and not deques: leaving the middle of a line takes no search.
        self._short: OrderedDict[Job, int] = OrderedDict()
        self._long: OrderedDict[Job, int] = OrderedDict()

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._short) + len(self._long)

    def put(self, job: Job) -> None:
        """Have a task wait."""
        line = self._long if self._is_long is not None and self._is_long(job.task) else self._short
        line[job] = next(self._arrivals)

    def discard(self, job: Job) -> None:
        """Let a task wait no more, if it does."""
        self._short.pop(job, None)
        self._long.pop(job, None)

    def take(self) -> Job | None:
        """Return the task that is next, which then waits no more.

        Tasks that are done already, because nobody wants them any more, are dropped on the way.

        Returns
        -------
        Job or None
            None where none waits, or only long ones do and there is no room for another.
        """
        while (line := self._next_line()) is not None:
            job, _ = line.popitem(last=False)
            if not job.future.done():
                return job
        return None

    def drain(self) -> Iterator[Job]:
        """Take all tasks, whether there is room for them or not."""
        for line in (self._short, self._long):
            while line:
                yield line.popitem(last=False)[0]

    def _next_line(self) -> OrderedDict[Job, int] | None:
        if self._long and (not self._short or _first(self._long) < _first(self._short)) and self._has_room():
            return self._long
        return self._short or None


def _first(line: OrderedDict[Job, int]) -> int:
    return next(iter(line.values()))
