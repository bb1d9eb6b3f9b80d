"""The fork server: loads what workers need once, then forks a worker in milliseconds whenever the pool asks.

Run by `engine_ops.workers.launcher`. It has one thread, since only such a process can be forked safely, and it ends
when its control socket does, or when the pool's process dies, killing its workers.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import sys
import traceback
from types import FrameType
from typing import Any, NoReturn

import msgspec

from engine_ops.workers import control
from engine_ops.workers.child import work
from engine_ops.workers.process import confine, die_with_parent
from engine_ops.workers.wire import Handler, resolve

_GC_THRESHOLDS = (50_000, 20, 50)


class ForkServer:
    """Forks, kills and reaps workers.

    Parameters
    ----------
    sock
        The control socket, blocking.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._pid = os.getpid()
        self._pids: dict[int, int] = {}
        self._worker_ids: dict[int, int] = {}

    def serve(self) -> int:
        """Serve until the pool closes the control socket.

        Returns
        -------
        int
            The exit code.
        """
        packet = self._sock.recv(control.MAX_PACKET_BYTES)
        if not packet:
            return 0
        configuration = control.COMMANDS.decode(packet)
        if not isinstance(configuration, control.Configure):
            raise TypeError(f"the first message must be Configure, not {type(configuration).__name__}")
        try:
            handler = _load(configuration)
        except BaseException as error:  # noqa: BLE001 -- whatever a module does when it is imported
            traceback.print_exc()
            self._tell(control.Broken(f"{type(error).__name__}: {error}"[:4096]))
            return 1
        # What is loaded now lives for ever: out of the collector's sight, its pages stay shared with the workers.
        gc.collect()
        gc.freeze()
        # Solvers make many objects that stay until the answer is there, and few cycles.
        gc.set_threshold(*_GC_THRESHOLDS)
        self._tell(control.Ready())
        woken, waker = socket.socketpair()
        with woken, waker:
            self._loop(woken, waker, configuration.niceness, handler)
            signal.set_wakeup_fd(-1)
        self._end_all()
        return 0

    def _loop(self, woken: socket.socket, waker: socket.socket, niceness: int, handler: Handler[Any]) -> None:
        woken.setblocking(False)
        waker.setblocking(False)
        signal.signal(signal.SIGCHLD, _ignore_signal)
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        poll.register(woken, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll()}
            if woken.fileno() in ready:
                with contextlib.suppress(BlockingIOError):
                    woken.recv(4096)
                self._reap()
            if self._sock.fileno() not in ready:
                continue
            try:
                packet, fds, _, _ = socket.recv_fds(self._sock, control.MAX_PACKET_BYTES, 1)
            except ConnectionResetError:  # the parent ended before it had read all that we told it
                return
            if not packet:
                return
            command = control.COMMANDS.decode(packet)
            if isinstance(command, control.Kill):
                self._kill(command.worker_id)
            elif isinstance(command, control.Spawn):
                with socket.socket(fileno=fds[0]) as worker_socket:
                    pid = self._fork(command.worker_id)
                    if pid == 0:
                        for inherited in (self._sock, woken, waker):
                            inherited.close()
                        _be_worker(worker_socket, self._pid, niceness, handler)

    def _fork(self, worker_id: int) -> int | None:
        """Fork; return 0 in the worker, its pid here, and None if there is no worker."""
        try:
            pid = os.fork()
        except OSError as error:
            self._tell(control.Exited(worker_id, error=f"cannot fork: {error}"))
            return None
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            return 0
        # Both sides set it: whoever comes first, a kill of the group that follows finds it.
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)
        self._pids[worker_id] = pid
        self._worker_ids[pid] = worker_id
        self._tell(control.Spawned(worker_id, pid))
        return pid

    def _kill(self, worker_id: int) -> None:
        pid = self._pids.get(worker_id)
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)

    def _reap(self, *, block: bool = False) -> None:
        while self._pids:
            try:
                pid, status = os.waitpid(-1, 0 if block else os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            worker_id = self._worker_ids.pop(pid, None)
            if worker_id is None:
                continue
            del self._pids[worker_id]
            code = os.waitstatus_to_exitcode(status)
            self._tell(
                control.Exited(worker_id, exit_code=code) if code >= 0 else control.Exited(worker_id, signal=-code)
            )

    def _end_all(self) -> None:
        for worker_id in list(self._pids):
            self._kill(worker_id)
        self._reap(block=True)

    def _tell(self, notice: msgspec.Struct) -> None:
        # Where the pool is gone, the next read says so.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._sock.send(control.encode(notice))


def _load(configuration: control.Configure) -> Handler[Any]:
    sys.path[:] = configuration.search_path
    for entry in configuration.preload:
        loaded = resolve(entry)
        if ":" in entry:
            loaded()
    handler = resolve(configuration.handler)
    if not isinstance(handler, Handler):
        raise TypeError(f"{configuration.handler} is no Handler")
    return handler


def _ignore_signal(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: a handler must exist for the wake-up descriptor to be written."""


def _be_worker(sock: socket.socket, parent_pid: int, niceness: int, handler: Handler[Any]) -> NoReturn:
    """Be a worker until the end of the process; nothing of the fork server's stack is returned to."""
    code = 1
    try:
        die_with_parent(parent_pid)
        confine(niceness)
        work(sock, handler)
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except (BrokenPipeError, ConnectionResetError):
        pass  # the pool closed the socket while we were speaking
    except BaseException:  # noqa: BLE001 -- it ends here, and the log must say why
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def main() -> int:
    """Serve on the control socket whose descriptor and owner's pid are the two arguments."""
    descriptor, parent_pid = (int(argument) for argument in sys.argv[1:])
    # Ctrl-C at a terminal reaches the whole group; the pool decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent(parent_pid)
    with socket.socket(fileno=descriptor) as sock:
        return ForkServer(sock).serve()


if __name__ == "__main__":
    sys.exit(main())
