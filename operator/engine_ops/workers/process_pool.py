"""A pool of worker processes: tasks in, replies out; a worker that is too slow, too large or dead is replaced."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import itertools
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Generic

from engine_ops.workers import control
from engine_ops.workers.errors import PoolClosedError, WorkerDiedError, WorkerStartError, WorkerTimeoutError
from engine_ops.workers.frames import FrameError, encode_frame
from engine_ops.workers.launcher import Launcher, Notice
from engine_ops.workers.link import Job, WorkerLink
from engine_ops.workers.wire import FinalT, InterimT, TaskT, Wire

logger = logging.getLogger(__name__)

WATCH_SECONDS = 0.25
"""How often the memory of busy workers is read."""

_GRACE_SECONDS = 2.0
"""How long the end of a socket may wait for the end of its process, or the other way round."""

_FIRST_RETRY_SECONDS = 0.05
_LAST_RETRY_SECONDS = 5.0


class ProcessPool(Generic[TaskT, InterimT, FinalT]):
    """Workers for one kind of task, first come, first served.

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
    ) -> None:
        self._wire = wire
        self._size = size
        self._niceness = niceness
        self._memory_limit_bytes = memory_limit_bytes
        self._recycle_after = recycle_after
        self._recycle_above_bytes = memory_limit_bytes // 2 if recycle_above_bytes is None else recycle_above_bytes
        self._open = False
        self._worker_ids = itertools.count(1)
        self._links: dict[int, WorkerLink] = {}
        self._idle: list[WorkerLink] = []
        self._queue: collections.deque[Job] = collections.deque()
        self._launcher: Launcher | None = None
        self._starting: Launcher | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._watchdog: asyncio.TimerHandle | None = None
        self._refill: asyncio.TimerHandle | None = None
        self._early_deaths = 0

    @property
    def queued(self) -> int:
        """How many tasks await a worker."""
        return len(self._queue)

    @property
    def busy(self) -> int:
        """How many workers are at a task."""
        return sum(link.job is not None for link in self._links.values())

    @property
    def worker_pids(self) -> tuple[int, ...]:
        """The processes of the workers in use."""
        return tuple(link.pid for link in self._links.values() if link.pid is not None and not link.dismissed)

    @property
    def forkserver_pid(self) -> int | None:
        """The process of the fork server, be it loading still; None while there is none."""
        launcher = self._starting or self._launcher
        return None if launcher is None else launcher.pid

    async def start(self) -> None:
        """Start the fork server, and wait until it has loaded what workers need.

        Raises
        ------
        WorkerStartError
            If it cannot be loaded.
        """
        self._open = True
        try:
            await self._launch()
        except BaseException:
            self._open = False
            raise

    async def close(self) -> None:
        """End every process, at once. Tasks that are not done get `PoolClosedError`."""
        self._open = False
        for timer in (self._watchdog, self._refill):
            if timer is not None:
                timer.cancel()
        jobs = [*self._queue, *(link.job for link in self._links.values() if link.job is not None)]
        self._queue.clear()
        self._idle.clear()
        for job in jobs:
            job.fail(PoolClosedError("the pool of workers was closed"))
        for link in self._links.values():
            link.job = None
            link.dismissed = True
            link.release()
        self._links.clear()
        background = list(self._background)
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        for launcher in (self._starting, self._launcher):
            if launcher is not None:
                await launcher.close()
        self._starting = self._launcher = None

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
        self._queue.append(job)
        self._dispatch()
        try:
            reply: FinalT = await job.future
        except asyncio.CancelledError:
            self._abandon(job)
            raise
        return reply

    # -- Tasks ---------------------------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        while self._idle and self._queue:
            job = self._queue.popleft()
            if job.future.done():
                continue
            try:
                frame = encode_frame(job.task)
            except (FrameError, TypeError, ValueError) as error:
                job.fail(error)
                continue
            # The one that worked last has the warmest caches.
            link = self._idle.pop()
            loop = asyncio.get_running_loop()
            job.link = link
            job.timer = loop.call_later(job.timeout_seconds, self._expire, job)
            link.job = job
            link.send(frame)
            if self._watchdog is None:
                self._watchdog = loop.call_later(WATCH_SECONDS, self._watch_memory)

    def _abandon(self, job: Job) -> None:
        if job.timer is not None:
            job.timer.cancel()
        if job.link is None:
            with contextlib.suppress(ValueError):
                self._queue.remove(job)
        elif job.link.job is job:
            self._discard(job.link)

    def _expire(self, job: Job) -> None:
        if job.link is not None and job.link.job is job:
            self._discard(job.link, WorkerTimeoutError(job.timeout_seconds))

    def _watch_memory(self) -> None:
        self._watchdog = None
        busy = [link for link in self._links.values() if link.job is not None]
        for link in busy:
            rss_bytes = link.rss_bytes()
            if rss_bytes > self._memory_limit_bytes:
                cause = f"the memory limit of {_mebibytes(self._memory_limit_bytes)} was exceeded"
                cause += f" ({_mebibytes(rss_bytes)} in use); the worker was killed"
                self._discard(link, WorkerDiedError(cause, signal=signal.SIGKILL, oom=True))
        if busy:
            self._watchdog = asyncio.get_running_loop().call_later(WATCH_SECONDS, self._watch_memory)

    # -- Workers: the links tell of replies and hang-ups ------------------------------------------------------------

    def replied(self, link: WorkerLink, reply: Any) -> None:
        """Take a reply; see `engine_ops.workers.link.LinkOwner`."""
        job = link.job
        if job is None:
            return  # killed in the meantime
        if isinstance(reply, self._wire.interim):
            if job.on_interim is not None and not job.future.done():
                try:
                    job.on_interim(reply)
                except Exception:
                    logger.exception("the listener for interim replies failed")
            return
        link.job = None
        link.tasks_done += 1
        self._early_deaths = 0
        if job.timer is not None:
            job.timer.cancel()
        if not job.future.done():
            job.future.set_result(reply)
        if link.tasks_done >= self._recycle_after or link.rss_bytes() > self._recycle_above_bytes:
            self._retire(link)
        elif not link.dismissed:
            self._idle.append(link)
        self._dispatch()

    def garbled(self, link: WorkerLink, error: FrameError) -> None:
        """Give up a worker that sent no frame; see `engine_ops.workers.link.LinkOwner`."""
        if not link.dismissed:
            self._discard(link, WorkerDiedError(f"the worker sent what is no reply ({error}); it was killed"))

    def hung_up(self, link: WorkerLink) -> None:
        """Take notice that a worker is gone; see `engine_ops.workers.link.LinkOwner`."""
        if link.worker_id not in self._links:
            return
        if not link.dismissed:
            link.dismissed = True
            if link in self._idle:
                self._idle.remove(link)
            if link.job is None and link.tasks_done == 0:
                self._early_deaths += 1
            self._fill()
        if link.exited is not None:
            self._forget(link)
        else:
            asyncio.get_running_loop().call_later(_GRACE_SECONDS, self._forget, link)

    def _discard(self, link: WorkerLink, error: Exception | None = None) -> None:
        """Kill a worker; its task, if it has one, gets the error."""
        job, link.job = link.job, None
        if job is not None and error is not None:
            job.fail(error)
        link.dismissed = True
        if link in self._idle:
            self._idle.remove(link)
        if self._launcher is not None:
            self._launcher.kill(link.worker_id)
        link.hang_up()
        self._fill()

    def _retire(self, link: WorkerLink) -> None:
        """Let an idle worker end by itself."""
        link.dismissed = True
        link.hang_up()
        self._fill()

    def _forget(self, link: WorkerLink) -> None:
        """Drop a worker that is gone. Its task, if it still has one, learns why."""
        if self._links.pop(link.worker_id, None) is None:
            return
        if link.exited is None and self._launcher is not None:
            self._launcher.kill(link.worker_id)
        if link.job is not None:
            job, link.job = link.job, None
            job.fail(_death(link.exited))
        link.release()

    # -- The fork server ---------------------------------------------------------------------------------------------

    async def _launch(self) -> None:
        configuration = control.Configure(
            handler=self._wire.handler,
            preload=self._wire.preload,
            search_path=tuple(sys.path),
            niceness=self._niceness,
        )
        launcher = Launcher(configuration, on_notice=self._noticed, on_lost=self._lost)
        self._starting = launcher
        try:
            await launcher.start()
        finally:
            self._starting = None
        self._launcher = launcher
        self._fill()

    def _fill(self) -> None:
        """See to it that there are as many workers as there should be."""
        if not self._open or self._launcher is None or self._refill is not None:
            return
        if self._early_deaths:
            # Workers that die before their first task would otherwise be forked as fast as they die.
            delay = min(_FIRST_RETRY_SECONDS * 2**self._early_deaths, _LAST_RETRY_SECONDS)
            self._refill = asyncio.get_running_loop().call_later(delay, self._fill_now)
        else:
            self._fill_now()

    def _fill_now(self) -> None:
        self._refill = None
        if not self._open or self._launcher is None:
            return
        in_use = sum(not link.dismissed for link in self._links.values())
        for _ in range(self._size - in_use):
            link = WorkerLink(next(self._worker_ids), self._wire.replies, self)
            self._links[link.worker_id] = link
            self._keep(self._spawn(link, self._launcher))

    async def _spawn(self, link: WorkerLink, launcher: Launcher) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            ours.setblocking(False)
            try:
                await asyncio.get_running_loop().create_unix_connection(lambda: link, sock=ours)
            except BaseException:
                ours.close()
                raise
            if not link.dismissed:
                launcher.spawn(link.worker_id, theirs)

    def _noticed(self, notice: Notice) -> None:
        link = self._links.get(notice.worker_id)
        if link is None:
            return
        if isinstance(notice, control.Spawned):
            link.watch(notice.pid)
            if not link.dismissed:
                self._idle.append(link)
                self._dispatch()
            return
        if notice.error is not None:
            logger.error("no new worker: %s", notice.error)
        link.exited = notice
        if link.open:
            # Its last words may still be unread; and something that it started may hold its socket open.
            asyncio.get_running_loop().call_later(_GRACE_SECONDS, link.hang_up)
        else:
            self._forget(link)

    def _lost(self) -> None:
        """Take notice that the fork server is gone; the kernel kills its workers."""
        launcher, self._launcher = self._launcher, None
        links = list(self._links.values())
        self._links.clear()
        self._idle.clear()
        logger.error("the fork server ended unasked; it is started again")
        for link in links:
            job, link.job = link.job, None
            link.dismissed = True
            if job is not None:
                job.fail(WorkerDiedError("the fork server died, and its workers with it"))
            link.release()
        pids = [link.pid for link in links if link.pid is not None]
        self._keep(self._restart(launcher, pids))

    async def _restart(self, launcher: Launcher | None, orphans: list[int]) -> None:
        if launcher is not None:
            await launcher.close()
        delay = _FIRST_RETRY_SECONDS
        while True:
            try:
                await self._launch()
                break
            except (WorkerStartError, OSError):
                logger.exception("the fork server does not start; trying again in %g s", delay)
            await asyncio.sleep(delay)
            delay = min(2 * delay, _LAST_RETRY_SECONDS)
        await _reap(orphans)

    def _keep(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._background.add(task)
        task.add_done_callback(self._kept)

    def _kept(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a task of the pool failed", exc_info=error)


async def _reap(pids: list[int]) -> None:
    """Reap processes whose parent died, where this process has inherited them: as pid 1 of a container it does."""
    left = set(pids)
    for _ in range(20):
        for pid in tuple(left):
            try:
                reaped, _ = os.waitpid(pid, os.WNOHANG)  # noqa: ASYNC222 -- WNOHANG: it does not wait
            except ChildProcessError:
                left.discard(pid)  # not ours
            else:
                left -= {reaped}
        if not left:
            return
        await asyncio.sleep(0.05)


def _death(exited: control.Exited | None) -> WorkerDiedError:
    if exited is None:
        return WorkerDiedError("the worker hung up in the middle of the task; it was killed")
    if exited.signal is not None:
        try:
            name = signal.Signals(exited.signal).name
        except ValueError:
            name = f"signal {exited.signal}"
        return WorkerDiedError(f"the worker was killed by {name}", signal=exited.signal)
    return WorkerDiedError(f"the worker exited with code {exited.exit_code}", exit_code=exited.exit_code)


def _mebibytes(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:.0f} MiB"
