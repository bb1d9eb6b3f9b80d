"""Two ways to a plugin host: one that runs beside the operator, and one that the operator starts."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

from engine_ops.plugins.host.preload import LIBRARIES
from engine_ops.workers.process import ONE_THREAD

_END_SECONDS: Final = 5.0

KEPT_ENVIRONMENT: Final = ("PATH", "LANG", "LANGUAGE", "PYTHONPATH", "TMPDIR", "TZ")
"""What a subprocess sees of the operator's environment, beside LC_*: enough to find its modules and to print."""


class Dial(Protocol):
    """A way to a plugin host."""

    async def open(self) -> socket.socket:
        """Return a new control socket.

        Raises
        ------
        OSError
            If there is none to be had.
        """

    async def close(self) -> None:
        """Give back what the last `open` took; its socket is closed already."""


class SocketDial:
    """Connects to a plugin host that listens.

    Parameters
    ----------
    path
        Of its socket.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    async def open(self) -> socket.socket:
        """Connect; see `Dial`."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            # A Unix socket connects at once or not at all.
            sock.setblocking(False)
            sock.connect(str(self._path))
        except BaseException:
            sock.close()
            raise
        return sock

    async def close(self) -> None:
        """Do nothing: the host goes on."""


class SubprocessDial:
    """Starts a plugin host, with next to nothing of the operator's environment.

    Parameters
    ----------
    libraries
        What it loads in advance; see `engine_ops.plugins.host.preload.preload`.
    """

    def __init__(self, libraries: Sequence[str] = LIBRARIES) -> None:
        self._libraries = tuple(libraries)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The host's process; None between two."""
        return None if self._process is None else self._process.pid

    async def open(self) -> socket.socket:
        """Start the host; see `Dial`."""
        # The kernel kills the host when the *thread* that started it ends: it is started on the thread of the event
        # loop, never in an executor.
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                # -P: a file in the working directory must not be imported in place of a library.
                arguments = [sys.executable, "-P", "-m", "engine_ops.plugins.host"]
                level = logging.getLogger("engine_ops").getEffectiveLevel()
                self._process = subprocess.Popen(  # noqa: ASYNC220 -- it takes a millisecond, and see above
                    [*arguments, str(theirs.fileno()), str(os.getpid()), str(level), *self._libraries],
                    env=host_environment(os.environ),
                    pass_fds=(theirs.fileno(),),
                    stdin=subprocess.DEVNULL,
                    stdout=2,  # what a plugin prints belongs to the log, never to the output of a command
                )
        except BaseException:
            ours.close()
            raise
        return ours

    async def close(self) -> None:
        """Wait until the host has ended its plugins and itself; kill it if that takes too long."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(process.wait, _END_SECONDS)
        if process.returncode is None:
            process.kill()
            await asyncio.to_thread(process.wait)


def host_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a plugin host that the operator starts.

    Parameters
    ----------
    environment
        The operator's. Its credentials, proxies and settings are no plugin's business; nor is the user's home.
    """
    kept = {name: value for name, value in environment.items() if name in KEPT_ENVIRONMENT or name.startswith("LC_")}
    return kept | {"HOME": "/nonexistent"} | ONE_THREAD
