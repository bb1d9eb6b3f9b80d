"""The workers of a pool: as many as there should be, each replaced when it is gone."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import socket
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Final, Literal, get_args

from engine_ops.workers import control
from engine_ops.workers.errors import WorkerDiedError, WorkerStartError, WorkerTimeoutError, death
from engine_ops.workers.frames import FrameError
from engine_ops.workers.launcher import Launcher, Notice
from engine_ops.workers.link import WorkerLink
from engine_ops.workers.wire import Wire

logger = logging.getLogger(__name__)

EndReason = Literal["recycled", "cancelled", "timeout", "memory", "crashed"]
"""Why a worker ended before its pool did: after its share of work, with a task that nobody wants any more, killed for
its time or its memory, or by itself and whatever else."""
END_REASONS: Final[tuple[EndReason, ...]] = get_args(EndReason)

_GRACE_SECONDS = 2.0
"""How long the end of a socket may wait for the end of its process, or the other way round."""

_FIRST_RETRY_SECONDS = 0.05
_LAST_RETRY_SECONDS = 5.0


class Crew:
    """Keeps ``size`` workers and their fork server alive.

    Parameters
    ----------
    wire
        What the workers speak.
    size
        How many.
    niceness
        Theirs, 0 to 19.
    on_idle
        Called when a new worker can be taken.
    on_reply
        Called with each reply, interim or final, and the worker that sent it.

    Attributes
    ----------
    started : int
        How many workers were ever asked for.
    ended : dict of EndReason to int
        How many of them have ended, and why, but for the pool's own end.
    """

    def __init__(
        self,
        wire: Wire[Any, Any, Any],
        size: int,
        *,
        niceness: int,
        on_idle: Callable[[], None],
        on_reply: Callable[[WorkerLink, Any], None],
    ) -> None:
        self._wire = wire
        self.size = size
        self._niceness = niceness
        self._on_idle = on_idle
        self._on_reply = on_reply
        self._open = False
        self._worker_ids = itertools.count(1)
        self._links: dict[int, WorkerLink] = {}
        self._idle: list[WorkerLink] = []
        self._launcher: Launcher | None = None
        self._starting: Launcher | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._refill: asyncio.TimerHandle | None = None
        self._early_deaths = 0
        self.started = 0
        self.ended: dict[EndReason, int] = dict.fromkeys(END_REASONS, 0)

    @property
    def busy(self) -> list[WorkerLink]:
        """The workers that are at a task."""
        return [link for link in self._links.values() if link.job is not None]

    @property
    def pids(self) -> tuple[int, ...]:
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

    async def close(self, error: Callable[[], Exception]) -> None:
        """End every process, at once. Each task that is under way gets an ``error()``."""
        self._open = False
        if self._refill is not None:
            self._refill.cancel()
        self._give_up_all(error)
        background = list(self._background)
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        for launcher in (self._starting, self._launcher):
            if launcher is not None:
                await launcher.close()
        self._starting = self._launcher = None

    @property
    def has_idle(self) -> bool:
        """Whether a worker can be taken."""
        return bool(self._idle)

    def take(self) -> WorkerLink:
        """Return an idle worker, the one that worked last: its caches are the warmest.

        Raises
        ------
        IndexError
            If there is none.
        """
        return self._idle.pop()

    def give_back(self, link: WorkerLink) -> None:
        """Have a worker that has done its task be taken again."""
        self._early_deaths = 0
        if not link.dismissed:
            self._idle.append(link)

    def replied(self, link: WorkerLink, reply: Any) -> None:
        """Pass on a reply; see `engine_ops.workers.link.LinkOwner`."""
        self._on_reply(link, reply)

    def garbled(self, link: WorkerLink, error: FrameError) -> None:
        """Give up a worker that sent no frame; see `engine_ops.workers.link.LinkOwner`."""
        if not link.dismissed:
            self.discard(link, WorkerDiedError(f"the worker sent what is no reply ({error}); it was killed"))

    def hung_up(self, link: WorkerLink) -> None:
        """Take notice that a worker is gone; see `engine_ops.workers.link.LinkOwner`."""
        if link.worker_id not in self._links:
            return
        if not link.dismissed:
            link.dismissed = True
            self.ended["crashed"] += 1
            if link in self._idle:
                self._idle.remove(link)
            if link.job is None and link.tasks_done == 0:
                self._early_deaths += 1
            self._fill()
        if link.exited is not None:
            self._forget(link)
        else:
            asyncio.get_running_loop().call_later(_GRACE_SECONDS, self._forget, link)

    def discard(self, link: WorkerLink, error: Exception | None = None) -> None:
        """Kill a worker; its task, if it has one, gets the error."""
        link.fail(error)
        if not link.dismissed:
            self.ended[_why(error)] += 1
        link.dismissed = True
        if link in self._idle:
            self._idle.remove(link)
        if self._launcher is not None:
            self._launcher.kill(link.worker_id)
        link.hang_up()
        self._fill()

    def retire(self, link: WorkerLink) -> None:
        """Let an idle worker end by itself."""
        if not link.dismissed:
            self.ended["recycled"] += 1
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
            link.fail(death(link.exited))
        link.release()

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
        for _ in range(self.size - in_use):
            link = WorkerLink(next(self._worker_ids), self._wire.replies, self)
            self.started += 1
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
                self._on_idle()
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
        logger.error("the fork server ended unasked; it is started again")
        self.ended["crashed"] += sum(not link.dismissed for link in self._links.values())
        pids = [link.pid for link in self._links.values() if link.pid is not None]
        self._give_up_all(lambda: WorkerDiedError("the fork server died, and its workers with it"))
        self._keep(self._restart(launcher, pids))

    def _give_up_all(self, error: Callable[[], Exception]) -> None:
        for link in self._links.values():
            link.dismissed = True
            link.fail(error())
            link.release()
        self._links.clear()
        self._idle.clear()

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


def _why(error: Exception | None) -> EndReason:
    if error is None:
        return "cancelled"
    if isinstance(error, WorkerTimeoutError):
        return "timeout"
    return "memory" if isinstance(error, WorkerDiedError) and error.oom else "crashed"


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
