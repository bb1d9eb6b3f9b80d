"""The plugin host's program.

In a cluster it is a container of its own beside the operator's, without its token: ``engine-ops plugin-host``. On a
laptop the operator starts it as a subprocess, without its environment: ``python -m engine_ops.plugins.host``.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import msgspec

from engine_ops.plugins.host.listener import accept, listen, refreshed, remove
from engine_ops.plugins.host.preload import LIBRARIES, preload
from engine_ops.workers.process import ONE_THREAD, adopt_orphans, die_with_parent, hide

if TYPE_CHECKING:
    from engine_ops.plugins.host.server import PluginForker

logger = logging.getLogger(__name__)


def serve_at(path: Path, libraries: Sequence[str] = LIBRARIES) -> NoReturn:
    """Serve one operator after another on a Unix socket, until SIGTERM or Ctrl-C.

    Parameters
    ----------
    path
        Of the socket.
    libraries
        See `engine_ops.plugins.host.preload.preload`.

    Raises
    ------
    OSError
        See `engine_ops.plugins.host.listener.listen`.
    SystemExit
        On the signal, when no process of a plugin is left.
    """
    _prepare()
    listener = listen(path)
    own_pid = os.getpid()
    try:
        # Listening comes first: an operator that starts meanwhile waits for us.
        forker = _load(libraries)
        logger.info("plugins are served on %s", path)
        while True:
            listener = refreshed(listener, path)
            with accept(listener) as sock:
                logger.info("the operator is connected")
                try:
                    forker(sock).serve()
                except (msgspec.DecodeError, ValueError) as error:
                    logger.warning("what connected is no operator: %s", error)
                logger.info("the operator is gone, and its plugins with it")
    finally:
        listener.close()
        if os.getpid() == own_pid:
            remove(path)


def serve_parent(sock: socket.socket, parent_pid: int, libraries: Sequence[str] = LIBRARIES) -> None:
    """Serve the process that started this one, until it closes the socket or ends.

    Parameters
    ----------
    sock
        The control socket.
    parent_pid
        Who started this process.
    libraries
        See `engine_ops.plugins.host.preload.preload`.
    """
    # A signal that lets it kill what plugins have started: that gets none when this process ends.
    die_with_parent(parent_pid, signal.SIGTERM)
    _prepare()
    # Ctrl-C at a terminal reaches the whole group; the operator decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _load(libraries)(sock).serve()


def _prepare() -> None:
    os.environ.update(ONE_THREAD)  # before anything is loaded that reads it
    adopt_orphans()
    hide(True)  # from plugins, which are of the same user: they could take the control socket
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    # What a plugin prints belongs to the log, each line when it is printed: a plugin may be killed at any time.
    os.dup2(2, 1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)


def _load(libraries: Sequence[str]) -> type[PluginForker]:
    # Imported here: numpy reads the environment that was prepared when it is loaded.
    from engine_ops.plugins.host.server import PluginForker

    preload(libraries)
    return PluginForker


def _end(_number: int, _frame: FrameType | None) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    sys.exit(0)
