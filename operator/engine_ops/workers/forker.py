"""What forks, kills and reaps workers for whoever holds the other end of a control socket.

It has one thread, since only such a process can be forked safely.
"""

from __future__ import annotations

import abc
import contextlib
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Sequence
from types import FrameType
from typing import ClassVar, NoReturn

import msgspec

from engine_ops.workers import control
from engine_ops.workers.process import confine, die_with_parent


class Forker(abc.ABC):
    """Forks workers, each with the descriptors that came with the command, and tells how each ended.

    Parameters
    ----------
    sock
        The control socket, blocking.
    niceness
        Of workers, 0 to 19.
    """

    DESCRIPTORS: ClassVar[int] = 1
    """How many come with a `Spawn`."""

    def __init__(self, sock: socket.socket, *, niceness: int) -> None:
        self._sock = sock
        self._niceness = niceness
        self._pid = os.getpid()
        self._pids: dict[int, int] = {}
        self._worker_ids: dict[int, int] = {}

    def serve(self) -> None:
        """Serve until the other end closes the control socket; then end all workers.

        Raises
        ------
        msgspec.DecodeError, ValueError
            If the other end says what is no command.
        """
        woken, waker = socket.socketpair()
        try:
            try:
                with woken, waker:
                    self._loop(woken, waker)
            finally:
                signal.set_wakeup_fd(-1)
                self._end_all()
        except SystemExit:
            # A signal that says what the closed socket has said already may come in the middle of the end.
            self._end_all()
            raise

    @abc.abstractmethod
    def _work(self, descriptors: Sequence[int], command: control.Spawn) -> None:
        """Be a worker on the descriptors that came with the command.

        Called in the new process, which ends when this returns or raises.
        """

    def _tick(self) -> int | None:
        """Do what is due from time to time; return the longest wait until the next time, ms, or None for any."""
        return None

    def _exited(self, worker_id: int, pid: int, exit_code: int) -> control.Exited:
        """Return what is told of a worker that ended.

        Parameters
        ----------
        worker_id
            Its number.
        pid
            Of its process, which is reaped.
        exit_code
            Minus the number of the signal that killed it, if one did.
        """
        del pid
        if exit_code >= 0:
            return control.Exited(worker_id, exit_code=exit_code)
        return control.Exited(worker_id, signal=-exit_code)

    def _loop(self, woken: socket.socket, waker: socket.socket) -> None:
        woken.setblocking(False)
        waker.setblocking(False)
        signal.signal(signal.SIGCHLD, _ignore_signal)
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        poll.register(woken, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll(self._tick())}
            if woken.fileno() in ready:
                with contextlib.suppress(BlockingIOError):
                    woken.recv(4096)
                self._reap()
            if self._sock.fileno() not in ready:
                continue
            try:
                packet, fds, _, _ = socket.recv_fds(self._sock, control.MAX_PACKET_BYTES, self.DESCRIPTORS)
            except ConnectionResetError:  # the other end was closed before it had read all that we told it
                return
            if not packet:
                return
            command = control.COMMANDS.decode(packet)
            if isinstance(command, control.Kill):
                self._kill(command.worker_id)
            elif isinstance(command, control.Spawn):
                try:
                    if len(fds) != self.DESCRIPTORS:
                        raise ValueError(f"a Spawn came with {len(fds)} descriptors")
                    if self._fork(command) == 0:
                        for inherited in (self._sock, woken, waker):
                            inherited.close()
                        self._be_worker(fds, command)
                finally:
                    for fd in fds:
                        os.close(fd)

    def _fork(self, command: control.Spawn) -> int | None:
        """Fork; return 0 in the worker, its pid here, and None if there is no worker."""
        try:
            pid = os.fork()
        except OSError as error:
            self._tell(control.Exited(command.worker_id, error=f"cannot fork: {error}"))
            return None
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            return 0
        # Both sides set it: whoever comes first, a kill of the group that follows finds it.
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)
        self._pids[command.worker_id] = pid
        self._worker_ids[pid] = command.worker_id
        self._tell(control.Spawned(command.worker_id, pid))
        return pid

    def _be_worker(self, descriptors: Sequence[int], command: control.Spawn) -> NoReturn:
        """Be a worker until the end of the process; nothing further up the stack is returned to."""
        code = 1
        try:
            die_with_parent(self._pid)
            confine(self._niceness)
            self._work(descriptors, command)
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        except (BrokenPipeError, ConnectionResetError):
            pass  # the other end closed the socket while we were speaking
        except BaseException:  # noqa: BLE001 -- it ends here, and the log must say why
            traceback.print_exc()
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def _kill(self, worker_id: int) -> None:
        pid = self._pids.get(worker_id)
        if pid is not None:
            kill_group(pid)

    def _reap(self) -> None:
        while self._reap_one(os.WNOHANG):
            pass

    def _reap_one(self, options: int = 0) -> bool:
        """Reap a child, waiting for one unless the options say otherwise; return whether there was one."""
        try:
            pid, status = os.waitpid(-1, options)
        except ChildProcessError:
            return False
        if pid == 0:
            return False
        worker_id = self._worker_ids.pop(pid, None)
        if worker_id is not None:
            del self._pids[worker_id]
            self._tell(self._exited(worker_id, pid, os.waitstatus_to_exitcode(status)))
        return True

    def _end_all(self) -> None:
        for worker_id in list(self._pids):
            self._kill(worker_id)
        while self._pids and self._reap_one():
            pass

    def _tell(self, notice: msgspec.Struct) -> None:
        # Where the other end is gone, the next read says so.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._sock.send(control.encode(notice))


def kill_group(pid: int) -> None:
    """Kill a child that is not reaped yet, wherever it has gone, and the group that it was made the leader of."""
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)


def _ignore_signal(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: a handler must exist for the wake-up descriptor to be written."""
