"""The plugin host's forking half: one operator's plugins, each in a process."""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import Sequence

import msgspec

from engine_ops.plugins.host.child import Pipes, become_a_plugins_own, work
from engine_ops.plugins.host.memory import children
from engine_ops.plugins.host.watchdog import Watchdog
from engine_ops.workers import control
from engine_ops.workers.forker import Forker, kill_group
from engine_ops.workers.process import hide

logger = logging.getLogger(__name__)

NICENESS = 10
"""Of plugins, as of solvers."""


class PluginForker(Forker):
    """Forks, watches and kills the processes of one operator's plugins.

    The host must be a child subreaper (`engine_ops.workers.process.adopt_orphans`): whatever a plugin starts ends up as
    a child of the host when its own parent has ended, also what left the plugin's process group, and is killed as soon
    as it is seen. A child's pid is its own until it is reaped, so that nothing else can be hit.

    Parameters
    ----------
    sock
        The operator's control socket, blocking.
    """

    DESCRIPTORS = 2
    """What the plugin reads from, and what it writes to."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock, niceness=NICENESS)
        self._watchdog = Watchdog()
        self._labels: dict[int, str] = {}

    def serve(self) -> None:
        """Say that everything is loaded, and serve until the operator closes the control socket; then end all."""
        self._tell(control.Ready())
        super().serve()

    def _fork(self, command: control.Spawn) -> int | None:
        pid = super()._fork(command)
        if pid == 0:
            hide(False)  # the host is; a plugin must be able to look at itself, and the host at it
        elif pid is not None:
            self._labels[command.worker_id] = command.label
            self._watchdog.watch(pid, self._pid, command.memory_limit_bytes)
            logger.debug("plugin %s: started as process %d", command.label, pid)
        return pid

    def _work(self, descriptors: Sequence[int], command: control.Spawn) -> None:
        reading, writing = descriptors
        become_a_plugins_own((reading, writing), command.search_path)
        work(Pipes(reading, writing))

    def _tick(self) -> int | None:
        if self._watchdog.is_due():
            for pid in self._watchdog.look():
                kill_group(pid)
            self._kill_strays()
        return self._watchdog.wait_ms()

    def _reap(self) -> None:
        super()._reap()
        self._kill_strays()

    def _exited(self, worker_id: int, pid: int, exit_code: int) -> control.Exited:
        # Before it is told, so that what holds the plugin's socket open ends with it.
        self._kill_strays()
        exited = super()._exited(worker_id, pid, exit_code)
        oom_bytes = self._watchdog.forget(pid)
        if exited.signal == signal.SIGKILL and oom_bytes is not None:
            exited = msgspec.structs.replace(exited, oom_bytes=oom_bytes)
        logger.debug("plugin %s: process %d ended: %s", self._labels.pop(worker_id, ""), pid, exited)
        return exited

    def _kill_strays(self) -> None:
        """Kill what plugins have left behind. What those leave behind is seen when they are reaped."""
        for pid in children(self._pid):
            if pid not in self._worker_ids:
                kill_group(pid)

    def _end_all(self) -> None:
        for worker_id in list(self._pids):
            self._kill(worker_id)
        # Every child that there is now is dying, so that waiting for one ends; and whatever lives beside them descends
        # from one of them.
        self._kill_strays()
        while self._reap_one():
            self._kill_strays()
