"""The operator's hold on the plugin host: one connection, kept up, and the processes of plugins on it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

from engine_ops.plugins.host.dialing import Dial, SocketDial, SubprocessDial
from engine_ops.plugins.host.errors import HostUnavailableError
from engine_ops.plugins.host.preload import LIBRARIES
from engine_ops.plugins.host.process import PluginProcess
from engine_ops.workers import control
from engine_ops.workers.control_link import ControlLink, Notice

__all__ = ["HostClient", "HostUnavailableError", "PluginProcess"]

logger = logging.getLogger(__name__)

_PATIENCE_SECONDS: Final = 15.0
"""How long a spawn waits for a host that is starting: it loads scikit-learn first."""

_FIRST_RETRY_SECONDS: Final = 0.05
_LAST_RETRY_SECONDS: Final = 5.0
_STEADY_SECONDS: Final = 5.0
"""A host that was there for so long is tried again at once, as if it had never failed."""


class HostClient:
    """Keeps a connection to a plugin host, and starts processes of plugins there.

    Parameters
    ----------
    dial
        The way to it.
    search_path
        The plugins' ``sys.path``; empty for the host's own.
    patience_seconds
        How long `spawn` waits for a host that is not there.
    """

    def __init__(
        self, dial: Dial, *, search_path: Sequence[str] = (), patience_seconds: float = _PATIENCE_SECONDS
    ) -> None:
        self._dial = dial
        self._search_path = tuple(search_path)
        self._patience_seconds = patience_seconds
        self._worker_ids = itertools.count(1)
        self._processes: dict[int, PluginProcess] = {}
        self._link: ControlLink | None = None
        self._ready = asyncio.Event()
        self._connecting: asyncio.Task[None] | None = None
        self._lost: asyncio.Future[None] | None = None
        self._trouble = "it has not been started"

    @classmethod
    def subprocess(
        cls,
        *,
        search_path: Sequence[str] | None = None,
        libraries: Sequence[str] = LIBRARIES,
        patience_seconds: float = _PATIENCE_SECONDS,
    ) -> Self:
        """Return a client that starts the host, as a subprocess with next to nothing of this process's environment.

        A plugin can then still read what the user can read: the docs say so.

        Parameters
        ----------
        search_path
            The plugins' ``sys.path``; None for this process's.
        libraries
            What the host loads in advance, so that plugins need not, as far as it is installed.
        patience_seconds
            See the class.
        """
        paths = sys.path if search_path is None else search_path
        # Plugins work in another directory.
        absolute = tuple(str(Path(path).absolute()) if path else os.getcwd() for path in paths)  # noqa: PTH109
        return cls(SubprocessDial(libraries), search_path=absolute, patience_seconds=patience_seconds)

    @classmethod
    def at(cls, path: Path, *, patience_seconds: float = _PATIENCE_SECONDS) -> Self:
        """Return a client of a host that listens on a Unix socket (``engine-ops plugin-host``).

        Parameters
        ----------
        path
            Of the socket.
        patience_seconds
            See the class.
        """
        return cls(SocketDial(path), patience_seconds=patience_seconds)

    @property
    def available(self) -> bool:
        """Whether the host is there."""
        return self._ready.is_set()

    @property
    def processes(self) -> tuple[PluginProcess, ...]:
        """Those that have not ended."""
        return tuple(self._processes.values())

    async def start(self) -> None:
        """Begin to connect, and to connect again whenever the host is lost. It does not wait for the host."""
        if self._connecting is None:
            self._trouble = "it is starting"
            self._connecting = asyncio.get_running_loop().create_task(self._stay_connected(), name="plugin host")

    async def close(self) -> None:
        """End all processes and the connection; a host that was started as a subprocess ends. May be called again."""
        connecting, self._connecting = self._connecting, None
        self._trouble = "it was closed"
        if connecting is not None:
            connecting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await connecting
        self._drop("the plugin host was closed")

    async def spawn(self, label: str, *, memory_limit_bytes: int) -> PluginProcess:
        """Start a process for a plugin.

        Parameters
        ----------
        label
            The plugin's name; in the host's log.
        memory_limit_bytes
            It is killed above; see `engine_ops.plugins.host.memory` for what counts. 0 for no limit.

        Raises
        ------
        HostUnavailableError
            If there is no host for some seconds, or it cannot start a process.
        """
        link = await self._connected()
        worker_id = next(self._worker_ids)
        process = PluginProcess(worker_id, kill=self._kill, forget=self._forget)
        self._processes[worker_id] = process
        command = control.Spawn(worker_id, label, memory_limit_bytes, self._search_path)
        try:
            await process.connect(lambda descriptors: link.spawn(command, descriptors))
        except OSError as error:  # no descriptor is left, or too many of this user's are on their way somewhere
            process.host_lost(f"it could not be started: {error}")
            raise HostUnavailableError(f"there is no process for plugin {label}: {error}") from error
        except BaseException:
            process.host_lost("it could not be started")
            raise
        try:
            # Shielded: whoever waits may be cancelled, and the process must still be able to say that it is there.
            async with asyncio.timeout(self._patience_seconds):
                spawned = await asyncio.shield(process.spawned)
        except TimeoutError:
            # It forks in milliseconds. One that does not has been stopped, perhaps by a plugin.
            self._give_up_host(link, "it did not start a process in time")
            raise HostUnavailableError(f"there is no process for plugin {label}: the plugin host hangs") from None
        except BaseException:
            process.kill()
            raise
        if not spawned:
            raise HostUnavailableError(f"there is no process for plugin {label}: {process.ended.result()}")
        return process

    def _give_up_host(self, link: ControlLink, trouble: str) -> None:
        """Connect to the host anew; one that was started as a subprocess is killed and started again."""
        if link is self._link and self._lost is not None and not self._lost.done():
            logger.error("the plugin host is given up: %s", trouble)
            self._lost.set_result(None)

    async def _connected(self) -> ControlLink:
        if self._connecting is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._patience_seconds):
                    await self._ready.wait()
        if self._link is None or not self._ready.is_set():
            raise HostUnavailableError(f"the plugin host is not available: {self._trouble}")
        return self._link

    def _kill(self, worker_id: int) -> None:
        if self._link is not None:
            self._link.kill(worker_id)

    def _forget(self, worker_id: int) -> None:
        self._processes.pop(worker_id, None)

    async def _stay_connected(self) -> None:
        loop = asyncio.get_running_loop()
        delay = _FIRST_RETRY_SECONDS
        while True:
            began = loop.time()
            try:
                await self._connect_once()
                logger.error("the plugin host ended unasked, and all plugins with it")
                self._trouble = "it ended"
            except OSError as error:
                self._trouble = str(error)
                logger.log(
                    logging.WARNING if delay <= _FIRST_RETRY_SECONDS else logging.DEBUG,
                    "the plugin host cannot be reached; it is tried again and again: %s",
                    error,
                )
            if loop.time() - began > _STEADY_SECONDS:
                delay = _FIRST_RETRY_SECONDS
            await asyncio.sleep(delay)
            delay = min(2 * delay, _LAST_RETRY_SECONDS)

    async def _connect_once(self) -> None:
        """Connect, and return when the connection is lost."""
        lost = self._lost = asyncio.get_running_loop().create_future()

        def on_lost() -> None:
            self._drop("the plugin host ended")
            if not lost.done():
                lost.set_result(None)

        try:
            sock = await self._dial.open()
            self._link = ControlLink(sock, on_notice=self._noticed, on_lost=on_lost, on_stuck=on_lost)
            await lost
        finally:
            self._drop("the plugin host was closed")
            await self._dial.close()

    def _noticed(self, notice: Notice) -> None:
        if isinstance(notice, control.Ready):
            self._ready.set()
        elif isinstance(notice, control.Spawned | control.Exited):
            process = self._processes.get(notice.worker_id)
            if process is not None:
                process.noticed(notice)

    def _drop(self, cause: str) -> None:
        """Give up the connection; the host, where it still is, kills its processes then."""
        self._ready.clear()
        link, self._link = self._link, None
        if link is not None:
            link.close()
        for process in list(self._processes.values()):
            process.host_lost(cause)
