"""A pool of worker processes: tasks in, replies out; a worker that is too slow, too large or dead is replaced."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Mapping
from typing import Any, Generic

from engine_ops.workers.crew import Crew, EndReason
from engine_ops.workers.errors import PoolClosedError, WorkerDiedError, WorkerTimeoutError
from engine_ops.workers.frames import FrameError, encode_frame
from engine_ops.workers.job_queue import JobQueue
from engine_ops.workers.link import Job, WorkerLink
from engine_ops.workers.wire import FinalT, InterimT, TaskT, Wire

logger = logging.getLogger(__name__)

WATCH_SECONDS = 0.25
"""How often the memory of busy workers is read."""


class ProcessPool(Generic[TaskT, InterimT, FinalT]):
    """Workers for one kind of task, first come, first served; long tasks leave one worker to the others.

    Parameters
    ----------
    wire
        What is spoken.
    size
        How many workers.
    niceness
        Of the workers, 0 to 19.
    memory_limit_bytes
        A worker whose resident memory is above it is killed. It is read every `WATCH_SECONDS` while the worker is
        busy: not an address space limit, since numerical libraries reserve far more than they use.
    recycle_after
        A worker is replaced after so many tasks, against slow leaks.
    recycle_above_bytes
        A worker whose resident memory is above it after a task is replaced; half the memory limit by default.
    is_long
        Whether a task may hold its worker for long; always the same for the same task. Such tasks hold all workers but
        one at most, and while they wait for room, others overtake them. A pool of one worker has none to spare: there
        they are as all others, as they are with None.

    Notes
    -----
    To be used from one event loop, which must outlive it: the kernel kills the processes when the loop's thread ends.
    """

    def __init__(
        self,
        wire: Wire[TaskT, InterimT, FinalT],
        size: int,
        *,
        niceness: int = 10,
        memory_limit_bytes: int = 2**30,
        recycle_after: int = 1000,
        recycle_above_bytes: int | None = None,
        is_long: Callable[[TaskT], bool] | None = None,
    ) -> None:
        self._interim = wire.interim
        self._memory_limit_bytes = memory_limit_bytes
        self._recycle_after = recycle_after
        self._recycle_above_bytes = memory_limit_bytes // 2 if recycle_above_bytes is None else recycle_above_bytes
        self._open = False
        self._crew = Crew(wire, size, niceness=niceness, on_idle=self._dispatch, on_reply=self._replied)
        self._is_long: Callable[[Any], bool] | None = is_long if size > 1 else None
        self._queue = JobQueue(self._is_long, self._has_room_for_long)
        self._watchdog: asyncio.TimerHandle | None = None

    @property
    def queued(self) -> int:
        """How many tasks await a worker."""
        return len(self._queue)

    @property
    def busy(self) -> int:
        """How many workers are at a task."""
        return len(self._crew.busy)

    @property
    def size(self) -> int:
        """How many workers there should be."""
        return self._crew.size

    @property
    def started(self) -> int:
        """How many workers were ever asked for: each beyond `size` stands in for one that has ended."""
        return self._crew.started

    @property
    def ended(self) -> Mapping[EndReason, int]:
        """How many workers have ended, and why, but for the pool's own end."""
        return self._crew.ended

    @property
    def worker_pids(self) -> tuple[int, ...]:
        """The processes of the workers in use."""
        return self._crew.pids

    @property
    def forkserver_pid(self) -> int | None:
        """The process of the fork server, be it loading still; None while there is none."""
        return self._crew.forkserver_pid

    async def start(self) -> None:
        """Start the fork server, and wait until it has loaded what workers need.

        Raises
        ------
        WorkerStartError
            If it cannot be loaded.
        """
        await self._crew.start()
        self._open = True

    async def close(self) -> None:
        """End every process, at once. Tasks that are not done get `PoolClosedError`."""
        self._open = False
        if self._watchdog is not None:
            self._watchdog.cancel()
        for job in self._queue.drain():
            job.fail(_closed())
        await self._crew.close(_closed)

    async def run(
        self,
        task: TaskT,
        *,
        timeout_seconds: float,
        on_interim: Callable[[InterimT], None] | None = None,
    ) -> FinalT:
        """Have a worker do a task.

        Cancelling the call kills the worker that is at it.

        Parameters
        ----------
        task
            The task.
        timeout_seconds
            When to kill the worker, counted from when it took the task; the wait in the queue is not limited.
        on_interim
            Called on the event loop with each interim reply.

        Returns
        -------
        FinalT
            The final reply.

        Raises
        ------
        WorkerTimeoutError
            If the time was up.
        WorkerDiedError
            If the worker died, or was killed for its memory.
        FrameTooLargeError
            If the task is too large to be sent.
        PoolClosedError
            If the pool is not open.
        """
        if not self._open:
            raise PoolClosedError("the pool of workers is not open")
        job = Job(task, timeout_seconds, on_interim, asyncio.get_running_loop().create_future())
        self._queue.put(job)
        self._dispatch()
        try:
            reply: FinalT = await job.future
        except asyncio.CancelledError:
            self._abandon(job)
            raise
        finally:
            # A long task that ended with its worker leaves room for the next, which may run on one that was idle.
            self._dispatch()
        return reply

    def _dispatch(self) -> None:
        """Give the tasks that are next to the workers that are free."""
        while self._crew.has_idle and (job := self._queue.take()) is not None:
            try:
                frame = encode_frame(job.task)
            except (FrameError, TypeError, ValueError) as error:
                job.fail(error)
                continue
            loop = asyncio.get_running_loop()
            link = self._crew.take()
            job.link = link
            job.timer = loop.call_later(job.timeout_seconds, self._expire, job)
            link.job = job
            link.send(frame)
            if self._watchdog is None:
                self._watchdog = loop.call_later(WATCH_SECONDS, self._watch_memory)

    def _has_room_for_long(self) -> bool:
        """Whether one worker at least is left to other tasks when one more long task begins."""
        jobs = [link.job for link in self._crew.busy]
        # Read from the workers, not kept: a task may leave its worker in many ways.
        under_way = sum(job is not None and self._is_long is not None and self._is_long(job.task) for job in jobs)
        return under_way < self._crew.size - 1

    def _abandon(self, job: Job) -> None:
        if job.timer is not None:
            job.timer.cancel()
        if job.link is None:
            self._queue.discard(job)
        elif job.link.job is job:
            self._crew.discard(job.link)

    def _expire(self, job: Job) -> None:
        if job.link is not None and job.link.job is job:
            self._crew.discard(job.link, WorkerTimeoutError(job.timeout_seconds))

    def _watch_memory(self) -> None:
        self._watchdog = None
        busy = self._crew.busy
        for link in busy:
            rss_bytes = link.rss_bytes()
            if rss_bytes > self._memory_limit_bytes:
                cause = f"the memory limit of {_mebibytes(self._memory_limit_bytes)} was exceeded"
                cause += f" ({_mebibytes(rss_bytes)} in use); the worker was killed"
                self._crew.discard(link, WorkerDiedError(cause, signal=signal.SIGKILL, oom=True))
        if busy:
            self._watchdog = asyncio.get_running_loop().call_later(WATCH_SECONDS, self._watch_memory)

    def _replied(self, link: WorkerLink, reply: Any) -> None:
        job = link.job
        if job is None:
            return  # killed in the meantime
        if isinstance(reply, self._interim):
            if job.on_interim is not None and not job.future.done():
                try:
                    job.on_interim(reply)
                except Exception:
                    logger.exception("the listener for interim replies failed")
            return
        link.job = None
        link.tasks_done += 1
        if job.timer is not None:
            job.timer.cancel()
        if not job.future.done():
            job.future.set_result(reply)
        if link.tasks_done >= self._recycle_after or link.rss_bytes() > self._recycle_above_bytes:
            self._crew.retire(link)
        else:
            self._crew.give_back(link)
        self._dispatch()


def _closed() -> PoolClosedError:
    return PoolClosedError("the pool of workers was closed")


def _mebibytes(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:.0f} MiB"
