"""Questions that are being answered, and those of asynchronous requests that have been."""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Any, Final

from engine_ops.server.answers import parts_of, progress_of, response_of
from engine_ops.server.optimize_models import JobStatus
from engine_ops.server.problems import ProblemError
from engine_ops.server.questions import Improvement
from engine_ops.server.stop_signal import StopSignal

MAX_IMPROVEMENTS: Final = 1000
"""Of one job; of more than that the newest are kept: each makes those before it pointless."""

_OBJECT_BYTES: Final = 100
"""What a small object takes beside what is in it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Ended:
    """What became of a job.

    Parameters
    ----------
    status
        ``done`` or ``cancelled``.
    tail
        See `engine_ops.server.answers.tail_of`.
    problem
        What a synchronous caller is told in its place; None where it is an answer.
    """

    status: JobStatus
    tail: bytes
    problem: ProblemError | None = None


class Job:
    """A question from its beginning to its one answer, and what was found on the way.

    Everything of it happens on one event loop.

    Parameters
    ----------
    id, namespace, username
        As in the question.
    warnings
        Of the response.

    Attributes
    ----------
    stop
        Set to ask for the best answer so far.
    ended
        What became of it; None while it runs.
    cancel_asked
        Whether its user has cancelled it.
    run
        Differs from that of any other job of this process: the user may give an id again.
    """

    def __init__(self, id: str, *, namespace: str, username: str, warnings: tuple[str, ...] = ()) -> None:  # noqa: A002
        self.id = id
        self.namespace = namespace
        self.username = username
        self.warnings = warnings
        self.stop = StopSignal()
        self.ended: Ended | None = None
        self.cancel_asked = False
        self.run = secrets.token_hex(6)
        self.size_bytes = 0
        self._improvements: deque[bytes] = deque(maxlen=MAX_IMPROVEMENTS)
        self._found = 0
        self._waiters: set[asyncio.Future[None]] = set()

    @property
    def status(self) -> JobStatus:
        """Where it is."""
        return "running" if self.ended is None else self.ended.status

    @property
    def found(self) -> int:
        """How many improvements there have been; they are numbered from 1."""
        return self._found

    @property
    def progress(self) -> bytes | None:
        """JSON of the last improvement."""
        return self._improvements[-1] if self._improvements else None

    @property
    def response(self) -> bytes | None:
        """JSON of the response; None while it runs."""
        return None if self.ended is None else response_of(self.id, self.ended.tail, self.warnings)

    @property
    def response_parts(self) -> tuple[memoryview, ...]:
        """The same in parts, of which the long one is shared by all who look at it."""
        return () if self.ended is None else parts_of(self.id, self.ended.tail, self.warnings)

    def improvements(self, after: int) -> Iterator[tuple[int, bytes]]:
        """Return number and JSON of the improvements after one of them, as far as they are kept."""
        first = self._found - len(self._improvements) + 1
        start = max(after + 1, first)
        for number in range(start, self._found + 1):
            yield number, self._improvements[number - first]

    def improve(self, improvement: Improvement) -> None:
        """Take a better answer down. One that comes after the end is late, and of no use."""
        if self.ended is None:
            self._improvements.append(progress_of(improvement))
            self._found += 1
            self._wake()

    def end(self, ended: Ended) -> None:
        """End it. Only the first end counts."""
        if self.ended is None:
            self.ended = ended
            self.size_bytes = (
                len(ended.tail) + sum(len(each) + _OBJECT_BYTES for each in self._improvements) + 10 * _OBJECT_BYTES
            )
            self._wake()

    async def changed(self) -> None:
        """Wait until something has happened after this call. What has happened before it is to be looked at first."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)

    async def finished(self) -> Ended:
        """Wait for the end."""
        while self.ended is None:
            await self.changed()
        return self.ended

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)


class Jobs:
    """Asynchronous requests by user and id: those that run, and the last of those that have ended.

    Where there are too many, or they are too large together, the user gives the oldest up who has most of it: nobody
    can push out what others have not fetched yet.

    Parameters
    ----------
    max_kept, max_bytes
        How many that have ended are kept, and how large they are together; the last one of all stays in any case.
    seconds
        For how long.
    clock
        Seconds that only go up.
    """

    def __init__(
        self, *, max_kept: int, max_bytes: int, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_kept = max_kept
        self._max_bytes = max_bytes
        self._seconds = seconds
        self._clock = clock
        self._running: dict[tuple[str, str], Job] = {}
        self._kept: dict[str, _OfUser] = {}
        self._number = 0
        self._bytes = 0

    def check_free(self, username: str, request_id: str) -> None:
        """Refuse an id that runs.

        Raises
        ------
        ProblemError
            409.
        """
        if (username, request_id) in self._running:
            raise ProblemError(
                "conflict",
                f"A request with the id {request_id} is running: wait for it, cancel it, or take another id.",
            )

    def add(self, job: Job) -> None:
        """Take a job in. One of the same user and id that has ended is forgotten.

        Raises
        ------
        ProblemError
            409 if one of the same user and id runs.
        """
        self.check_free(job.username, job.id)
        self._forget(job.username, job.id)
        if job.ended is None:
            self._running[job.username, job.id] = job
        else:
            self._keep(job)

    def settle(self, job: Job) -> None:
        """Keep a job that has ended, if it is one of these."""
        if self._running.get((job.username, job.id)) is job:
            del self._running[job.username, job.id]
            self._keep(job)

    def get(self, username: str, request_id: str) -> Job:
        """Return a user's job.

        Raises
        ------
        ProblemError
            404 if there is none of this user with this id, or no longer.
        """
        job = self._running.get((username, request_id))
        if job is None:
            self._drop_expired()
            of_user = self._kept.get(username)
            if of_user is not None and request_id in of_user.jobs:
                job = of_user.jobs[request_id][1]
        if job is None:
            raise ProblemError(
                "not-found",
                "You have no asynchronous request with this id. One that has ended is kept for "
                f"{self._seconds:g} s, less where there are many; none outlives the operator.",
            )
        return job

    def numbers(self) -> dict[str, Any]:
        """Return ``running``, ``kept`` and ``keptBytes``."""
        return {"running": len(self._running), "kept": self._number, "keptBytes": self._bytes}

    def _keep(self, job: Job) -> None:
        self._drop_expired()
        of_user = self._kept.setdefault(job.username, _OfUser())
        of_user.jobs[job.id] = (self._clock() + self._seconds, job)
        of_user.size_bytes += job.size_bytes
        self._number += 1
        self._bytes += job.size_bytes
        while self._number > max(1, self._max_kept):
            self._forget_oldest(job, lambda of_user: len(of_user.jobs))
        while self._bytes > self._max_bytes and self._number > 1:
            self._forget_oldest(job, lambda of_user: of_user.size_bytes)

    def _forget_oldest(self, newest: Job, most: Callable[[_OfUser], int]) -> None:
        """Forget the oldest job of the user who has most, but not the newest: its user is about to fetch it."""
        others = (
            username for username, of_user in self._kept.items() if username != newest.username or len(of_user.jobs) > 1
        )
        username = max(others, key=lambda name: most(self._kept[name]))
        self._forget(username, next(iter(self._kept[username].jobs)))

    def _drop_expired(self) -> None:
        now = self._clock()
        for username, of_user in list(self._kept.items()):
            for request_id, (until, _) in list(of_user.jobs.items()):
                if until > now:
                    break
                self._forget(username, request_id)

    def _forget(self, username: str, request_id: str) -> None:
        of_user = self._kept.get(username)
        if of_user is None or request_id not in of_user.jobs:
            return
        _, job = of_user.jobs.pop(request_id)
        of_user.size_bytes -= job.size_bytes
        self._number -= 1
        self._bytes -= job.size_bytes
        if not of_user.jobs:
            del self._kept[username]


@dataclasses.dataclass(slots=True)
class _OfUser:
    jobs: OrderedDict[str, tuple[float, Job]] = dataclasses.field(default_factory=OrderedDict)
    size_bytes: int = 0
