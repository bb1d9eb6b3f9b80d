"""The pool's hold on its fork server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable

from engine_ops.workers import control
from engine_ops.workers.control_link import ControlLink
from engine_ops.workers.errors import WorkerStartError
from engine_ops.workers.process import ONE_THREAD

START_SECONDS = 60.0
"""How long loading may take."""

_END_SECONDS = 5.0

Notice = control.Spawned | control.Exited


class Launcher:
    """Starts a fork server, speaks with it, and ends it. Used once: another fork server needs another launcher.

    Parameters
    ----------
    configuration
        Sent to it first.
    on_notice
        Called with every `Spawned` and `Exited`.
    on_lost
        Called once if it ends without having been asked to.
    """

    def __init__(
        self,
        configuration: control.Configure,
        *,
        on_notice: Callable[[Notice], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._configuration = configuration
        self._on_notice = on_notice
        self._on_lost = on_lost
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._link: ControlLink | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The fork server's process; None before the start."""
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        """Start it, and wait until everything is loaded.

        Raises
        ------
        WorkerStartError
            If something cannot be loaded.
        """
        self._launch()
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._ready
        except TimeoutError:
            await self.close()
            raise WorkerStartError(f"the fork server was not ready after {START_SECONDS:g} s") from None
        except BaseException:
            await self.close()
            raise

    def _launch(self) -> None:
        # The kernel kills the fork server when the *thread* that started it ends: it is started on the thread of the
        # event loop, never in an executor.
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                # -P: a file in the working directory must not be imported in place of a library.
                self._process = subprocess.Popen(
                    [
                        sys.executable,
                        "-P",
                        "-m",
                        "engine_ops.workers.forkserver",
                        str(theirs.fileno()),
                        str(os.getpid()),
                    ],
                    env=os.environ | ONE_THREAD,
                    pass_fds=(theirs.fileno(),),
                    stdin=subprocess.DEVNULL,
                    stdout=2,  # what a solver prints belongs to the log, never to the output of a command
                )
        except BaseException:
            ours.close()
            raise
        self._link = ControlLink(ours, on_notice=self._noticed, on_lost=self._lost, on_stuck=self._stuck)
        self._link.tell(self._configuration)

    def spawn(self, worker_id: int, sock: socket.socket) -> None:
        """Ask for a worker that serves ``sock``, which the caller closes afterwards."""
        if self._link is not None:
            self._link.spawn(control.Spawn(worker_id), [sock.fileno()])

    def kill(self, worker_id: int) -> None:
        """Kill a worker and all that it started."""
        if self._link is not None:
            self._link.kill(worker_id)

    def _noticed(self, notice: Notice | control.Ready | control.Broken) -> None:
        if isinstance(notice, control.Ready):
            self._settle(None)
        elif isinstance(notice, control.Broken):
            self._settle(WorkerStartError(f"the workers cannot be loaded: {notice.message}"))
        else:
            self._on_notice(notice)

    def _stuck(self) -> None:
        # Its workers die with it, and the pool starts another.
        if self._process is not None:
            self._process.kill()

    def _settle(self, error: WorkerStartError | None) -> None:
        if self._ready.done():
            return
        if error is None:
            self._ready.set_result(None)
        else:
            self._ready.set_exception(error)

    def _lost(self) -> None:
        if self._ready.done():
            self._on_lost()
        else:
            self._settle(WorkerStartError("the fork server ended before it was ready; its log says why"))

    async def close(self) -> None:
        """End it with all its workers, and reap it. Calling it again is harmless."""
        if self._link is not None:
            self._link.close()
        loading = not self._ready.done()
        self._settle(WorkerStartError("the pool was closed before the fork server was ready"))
        process = self._process
        if process is None:
            return
        if loading:
            process.kill()  # it has no workers yet, and would hear of the end only after loading
        with contextlib.suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(process.wait, _END_SECONDS)
        if process.returncode is None:
            process.kill()
            await asyncio.to_thread(process.wait)
